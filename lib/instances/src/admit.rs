//! The admission table: what may be asked of an instance in which state, beside what is in progress. Pure.
//!
//! A delete is not in it: it always wins.

use crate::{InstanceState, OpKind};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is begun.
    Go,
    /// The instance is so already.
    AlreadyThere,
    /// The same is in progress: its end is this request's end.
    Joined,
    /// Something else is in progress.
    Busy(OpKind),
    /// It would discard the snapshot, and does not say that it may.
    HasSnapshot,
    /// There is no snapshot.
    NoSnapshot,
    /// The state does not allow it.
    Denied(InstanceState),
}

/// Judges a request for an operation; `discard` says that a snapshot in the way may be thrown away.
pub(crate) fn admit(in_progress: Option<OpKind>, state: InstanceState, wanted: OpKind, discard: bool) -> Verdict {
    use InstanceState::{Created, Paused, Running, Shutdown, Standby, Stopped};
    if let Some(kind) = in_progress {
        return if kind == wanted { Verdict::Joined } else { Verdict::Busy(kind) };
    }
    match (wanted, state) {
        (OpKind::Start | OpKind::Restore, Running | Paused)
        | (OpKind::Stop, Stopped)
        | (OpKind::Pause, Paused)
        | (OpKind::Resume, Running)
        | (OpKind::Standby, Standby) => Verdict::AlreadyThere,
        (OpKind::Start, Shutdown | Stopped)
        | (OpKind::Stop, Created | Running | Paused | Shutdown)
        | (OpKind::Reboot | OpKind::Standby | OpKind::Resize, Running | Paused)
        | (OpKind::Resize, Shutdown | Stopped)
        | (OpKind::Pause, Running)
        | (OpKind::Resume, Paused)
        | (OpKind::Restore, Standby)
        | (OpKind::Delete, _) => Verdict::Go,
        (OpKind::Start | OpKind::Stop, Standby) if discard => Verdict::Go,
        (OpKind::Start | OpKind::Stop, Standby) => Verdict::HasSnapshot,
        (OpKind::Restore, Stopped) => Verdict::NoSnapshot,
        (OpKind::Start, Created)
        | (OpKind::Reboot | OpKind::Pause | OpKind::Resume, Created | Shutdown | Stopped | Standby)
        | (OpKind::Standby, Created | Shutdown | Stopped)
        | (OpKind::Restore, Created | Shutdown)
        | (OpKind::Resize, Created | Standby)
        // Nobody asks for these: they begin an instance, or its guest begins them.
        | (OpKind::Create | OpKind::Restart, _) => Verdict::Denied(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, a row for each operation: Created, Running, Paused, Shutdown, Stopped, Standby.
    #[test]
    fn the_table_is_exactly_this() {
        use InstanceState::{Created, Paused, Running, Shutdown, Standby, Stopped};
        let states = [Created, Running, Paused, Shutdown, Stopped, Standby];
        let table = [
            (OpKind::Start, ["no", "already", "already", "go", "go", "has"]),
            (OpKind::Stop, ["go", "go", "go", "go", "already", "has"]),
            (OpKind::Reboot, ["no", "go", "go", "no", "no", "no"]),
            (OpKind::Pause, ["no", "go", "already", "no", "no", "no"]),
            (OpKind::Resume, ["no", "already", "go", "no", "no", "no"]),
            (OpKind::Standby, ["no", "go", "go", "no", "no", "already"]),
            (OpKind::Restore, ["no", "already", "already", "no", "none", "go"]),
            (OpKind::Resize, ["no", "go", "go", "go", "go", "no"]),
            (OpKind::Delete, ["go", "go", "go", "go", "go", "go"]),
            (OpKind::Create, ["no", "no", "no", "no", "no", "no"]),
            (OpKind::Restart, ["no", "no", "no", "no", "no", "no"]),
        ];
        for (wanted, row) in table {
            for (state, expected) in states.into_iter().zip(row) {
                for discard in [false, true] {
                    let expected = if discard && expected == "has" { "go" } else { expected };
                    let verdict = match admit(None, state, wanted, discard) {
                        Verdict::Go => "go",
                        Verdict::AlreadyThere => "already",
                        Verdict::Denied(_) => "no",
                        Verdict::HasSnapshot => "has",
                        Verdict::NoSnapshot => "none",
                        other @ (Verdict::Joined | Verdict::Busy(_)) => panic!("{other:?}"),
                    };
                    assert_eq!(verdict, expected, "{wanted:?} of {state:?}, discard {discard}");
                }
            }
        }
    }

    #[test]
    fn the_same_joins_and_another_waits() {
        for (running, wanted, verdict) in [
            (OpKind::Stop, OpKind::Stop, Verdict::Joined),
            (OpKind::Stop, OpKind::Pause, Verdict::Busy(OpKind::Stop)),
            (OpKind::Standby, OpKind::Restore, Verdict::Busy(OpKind::Standby)),
        ] {
            assert_eq!(admit(Some(running), InstanceState::Running, wanted, true), verdict);
        }
    }
}
