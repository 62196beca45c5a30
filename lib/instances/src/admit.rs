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
    /// The state does not allow it.
    Denied(InstanceState),
}

/// Judges a request for an operation.
pub(crate) fn admit(in_progress: Option<OpKind>, state: InstanceState, wanted: OpKind) -> Verdict {
    if let Some(kind) = in_progress {
        return if kind == wanted { Verdict::Joined } else { Verdict::Busy(kind) };
    }
    match (wanted, state) {
        (OpKind::Start, InstanceState::Running | InstanceState::Paused)
        | (OpKind::Stop, InstanceState::Stopped)
        | (OpKind::Pause, InstanceState::Paused)
        | (OpKind::Resume, InstanceState::Running) => Verdict::AlreadyThere,
        (OpKind::Start, InstanceState::Shutdown | InstanceState::Stopped)
        | (
            OpKind::Stop,
            InstanceState::Created | InstanceState::Running | InstanceState::Paused | InstanceState::Shutdown,
        )
        | (OpKind::Reboot, InstanceState::Running | InstanceState::Paused)
        | (OpKind::Pause, InstanceState::Running)
        | (OpKind::Resume, InstanceState::Paused)
        | (OpKind::Delete, _) => Verdict::Go,
        (OpKind::Start, InstanceState::Created)
        | (OpKind::Reboot, InstanceState::Created | InstanceState::Shutdown | InstanceState::Stopped)
        | (OpKind::Pause, InstanceState::Created | InstanceState::Shutdown | InstanceState::Stopped)
        | (OpKind::Resume, InstanceState::Created | InstanceState::Shutdown | InstanceState::Stopped)
        // Nobody asks for these: they begin an instance, or its guest begins them.
        | (OpKind::Create | OpKind::Restart | OpKind::Standby | OpKind::Restore | OpKind::Resize, _)
        | (OpKind::Start | OpKind::Stop | OpKind::Reboot | OpKind::Pause | OpKind::Resume, InstanceState::Standby) => Verdict::Denied(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, a row for each operation: Created, Running, Paused, Shutdown, Stopped.
    #[test]
    fn the_table_is_exactly_this() {
        use InstanceState::{Created, Paused, Running, Shutdown, Stopped};
        let states = [Created, Running, Paused, Shutdown, Stopped];
        let table = [
            (OpKind::Start, ["no", "already", "already", "go", "go"]),
            (OpKind::Stop, ["go", "go", "go", "go", "already"]),
            (OpKind::Reboot, ["no", "go", "go", "no", "no"]),
            (OpKind::Pause, ["no", "go", "already", "no", "no"]),
            (OpKind::Resume, ["no", "already", "go", "no", "no"]),
            (OpKind::Delete, ["go", "go", "go", "go", "go"]),
        ];
        for (wanted, row) in table {
            for (state, expected) in states.into_iter().zip(row) {
                let verdict = match admit(None, state, wanted) {
                    Verdict::Go => "go",
                    Verdict::AlreadyThere => "already",
                    Verdict::Denied(_) => "no",
                    other @ (Verdict::Joined | Verdict::Busy(_)) => panic!("{other:?}"),
                };
                assert_eq!(verdict, expected, "{wanted:?} of {state:?}");
            }
        }
    }

    #[test]
    fn the_same_joins_and_another_waits() {
        assert_eq!(admit(Some(OpKind::Stop), InstanceState::Running, OpKind::Stop), Verdict::Joined);
        assert_eq!(admit(Some(OpKind::Stop), InstanceState::Running, OpKind::Pause), Verdict::Busy(OpKind::Stop));
    }
}
