//! The plan: from what the record wants and what is there, the one next step. Pure and total: no clock, no I/O.
//!
//! A fresh request, a retry and recovery after a crash all run through it. Three rules hold everywhere: a VMM that
//! stands beside a committed snapshot is never resumed; a snapshot is spent before its VM can touch a disk again; and
//! nothing is spawned beside a living VMM.

use dataplane_vmm::VmState;

use crate::{OpKind, Record};

/// What was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The VMM.
    pub(crate) vmm: SeenVmm,
    /// The link in the kernel.
    pub(crate) link: SeenLink,
    /// Whether a committed snapshot is there.
    pub(crate) snapshot: bool,
    /// What a snapshot has left behind.
    pub(crate) leavings: Leavings,
    /// How far the operation in progress has come.
    pub(crate) progress: Progress,
    /// Whether the guest's kernel panicked, or it resets faster than is allowed.
    pub(crate) hopeless: bool,
}

/// What is known of the VMM process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeenVmm {
    /// No process.
    Gone,
    /// A process that does not answer.
    Unresponsive,
    /// A process in a state.
    Alive(VmState),
}

/// What is known of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeenLink {
    /// This daemon has neither made nor removed it.
    Unknown,
    /// Made.
    Up,
    /// Made, and the record says since then that its guest may do something else.
    Stale,
    /// Removed, or never wanted.
    Down,
}

/// Directories of snapshots that are no committed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leavings {
    /// None.
    None,
    /// A snapshot that was being taken, or is used up.
    Some,
    /// The one that the standby in progress has taken and verified.
    Draft,
}

/// How far the operation in progress has come, as far as that cannot be seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The guest has been asked to stop, and had its grace.
    pub(crate) asked: bool,
    /// The VM has been booted.
    pub(crate) booted: bool,
    /// Guest and disks have written what can be written while the VM runs.
    pub(crate) quiesced: bool,
    /// It cannot be done, or was cut short before its commit: what it did is undone.
    pub(crate) undo: bool,
}

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing, until something happens.
    Rest,
    /// Make the TAP, or have it as the record says now.
    EnsureLink,
    /// Start a VMM process.
    Spawn,
    /// Give it the VM.
    CreateVm,
    /// Boot the VM.
    Boot,
    /// The VM has been started: record it, and that the operation is over.
    Finish,
    /// Stop the vCPUs.
    PauseVm,
    /// Let the vCPUs go on.
    ResumeVm,
    /// Change the VM's sizes; the operation is over then.
    ResizeVm,
    /// The operation is over, and nothing else has changed.
    Done,
    /// What the operation needs is not there any more: undo it.
    GiveUp,
    /// Have guest and disks write what they hold, while the VM still runs.
    Quiesce,
    /// Write the paused VM into a new snapshot, and verify it.
    TakeSnapshot,
    /// Make the snapshot durable and give it its name: standby begins.
    CommitSnapshot,
    /// Load the snapshot into the new VMM, paused.
    RestoreVm,
    /// Take the name from the snapshot, durably: standby is over.
    SpendSnapshot,
    /// Throw the committed snapshot away.
    DiscardSnapshot,
    /// Remove what snapshots have left.
    Sweep,
    /// Ask the guest to end, and wait for it as long as the grace lasts.
    AskGuest,
    /// End the VMM process.
    EndVmm,
    /// Remove the TAP.
    RemoveLink,
    /// Record that there is no VMM.
    Settle,
    /// Take the instance's directory away: the end.
    Discard,
}

/// What to do next.
pub(crate) fn plan(record: &Record, seen: Seen) -> Step {
    match record.op.as_ref().map(|op| op.kind) {
        // None of these is ever admitted beside a snapshot.
        Some(OpKind::Create | OpKind::Reboot | OpKind::Restart | OpKind::Pause | OpKind::Resume | OpKind::Resize)
            if seen.snapshot =>
        {
            Step::Done
        }
        Some(OpKind::Create) => start(record, seen),
        // Admitted beside a snapshot only by one who said that it may go.
        Some(OpKind::Start) if seen.snapshot => without_vmm(record, seen).unwrap_or(Step::DiscardSnapshot),
        Some(OpKind::Start) => match seen.vmm {
            SeenVmm::Alive(VmState::Shutdown) if !seen.progress.booted => Step::Boot,
            SeenVmm::Gone | SeenVmm::Unresponsive | SeenVmm::Alive(_) => start(record, seen),
        },
        Some(OpKind::Reboot | OpKind::Restart) => replace(record, seen),
        Some(OpKind::Stop) => ended(record, seen, Step::Done),
        Some(OpKind::Pause) if seen.vmm == SeenVmm::Alive(VmState::Running) => Step::PauseVm,
        Some(OpKind::Resume) if seen.vmm == SeenVmm::Alive(VmState::Paused) => Step::ResumeVm,
        Some(OpKind::Resize) => match seen.vmm {
            SeenVmm::Alive(VmState::Running | VmState::Paused) => Step::ResizeVm,
            SeenVmm::Alive(_) | SeenVmm::Gone | SeenVmm::Unresponsive => Step::Done,
        },
        // Paused or resumed, or the guest has ended meanwhile: then what follows is not this operation's.
        Some(OpKind::Pause | OpKind::Resume) => Step::Done,
        Some(OpKind::Standby) => standby(record, seen),
        Some(OpKind::Restore) => restore(record, seen),
        Some(OpKind::Delete) => ended(record, seen, Step::Discard),
        None => settle(record, seen),
    }
}

fn start(record: &Record, seen: Seen) -> Step {
    match seen.vmm {
        SeenVmm::Gone if record.spec.link.is_some() && seen.link != SeenLink::Up => Step::EnsureLink,
        SeenVmm::Gone => Step::Spawn,
        SeenVmm::Unresponsive => Step::EndVmm,
        SeenVmm::Alive(VmState::Empty) => Step::CreateVm,
        SeenVmm::Alive(VmState::Created) => Step::Boot,
        SeenVmm::Alive(VmState::Running | VmState::Paused | VmState::Shutdown) => Step::Finish,
    }
}

/// A new VM in place of the one of the generation in which this began: that one goes first. A guest that reset itself
/// is not asked.
fn replace(record: &Record, seen: Seen) -> Step {
    let old = record.vmm.as_ref().is_some_and(|vmm| record.restart_from == Some(vmm.generation));
    let is_reboot = record.op.as_ref().is_some_and(|op| op.kind == OpKind::Reboot);
    match seen.vmm {
        SeenVmm::Alive(state) if old && is_reboot && !seen.progress.asked => ask(state),
        SeenVmm::Alive(_) | SeenVmm::Unresponsive if old => Step::EndVmm,
        SeenVmm::Gone | SeenVmm::Alive(_) | SeenVmm::Unresponsive => start(record, seen),
    }
}

/// A guest is asked while it runs; a paused one must run to hear it.
fn ask(state: VmState) -> Step {
    match state {
        VmState::Running => Step::AskGuest,
        VmState::Paused => Step::ResumeVm,
        VmState::Empty | VmState::Created | VmState::Shutdown => Step::EndVmm,
    }
}

/// Before the commit everything is undone when it fails; after it, only forward.
fn standby(record: &Record, seen: Seen) -> Step {
    let from_paused = record.op.as_ref().is_some_and(|op| op.from_paused);
    if seen.snapshot {
        return without_vmm(record, seen).unwrap_or(Step::Done);
    }
    match seen.vmm {
        _ if seen.progress.undo && seen.leavings != Leavings::None => Step::Sweep,
        SeenVmm::Alive(VmState::Paused) if seen.progress.undo && !from_paused => Step::ResumeVm,
        _ if seen.progress.undo => Step::Done,
        SeenVmm::Alive(VmState::Running) if !seen.progress.quiesced => Step::Quiesce,
        SeenVmm::Alive(VmState::Running) => Step::PauseVm,
        SeenVmm::Alive(VmState::Paused) => match seen.leavings {
            Leavings::None => Step::TakeSnapshot,
            Leavings::Some => Step::Sweep,
            Leavings::Draft => Step::CommitSnapshot,
        },
        SeenVmm::Gone
        | SeenVmm::Unresponsive
        | SeenVmm::Alive(VmState::Empty | VmState::Created | VmState::Shutdown) => Step::GiveUp,
    }
}

/// Before the commit the VMM is one that nobody needs; after it, it is the instance.
fn restore(record: &Record, seen: Seen) -> Step {
    if seen.snapshot && seen.progress.undo {
        return without_vmm(record, seen).unwrap_or(Step::Done);
    }
    match seen.vmm {
        SeenVmm::Gone if seen.snapshot => start(record, seen),
        SeenVmm::Alive(VmState::Empty) if seen.snapshot => Step::RestoreVm,
        SeenVmm::Alive(VmState::Paused) if seen.snapshot => Step::SpendSnapshot,
        SeenVmm::Alive(_) | SeenVmm::Unresponsive if seen.snapshot => Step::GiveUp,
        SeenVmm::Alive(VmState::Paused) => Step::ResumeVm,
        SeenVmm::Alive(VmState::Running | VmState::Shutdown) => Step::Finish,
        SeenVmm::Alive(VmState::Empty | VmState::Created) => Step::EndVmm,
        SeenVmm::Unresponsive => Step::Done,
        SeenVmm::Gone if !seen.progress.undo => Step::GiveUp,
        SeenVmm::Gone => without_vmm(record, seen).unwrap_or(Step::Done),
    }
}

/// Everything that makes the VM go away, and what comes then. Beside a committed snapshot the guest is not asked: it
/// would have to run.
fn ended(record: &Record, seen: Seen, last: Step) -> Step {
    match seen.vmm {
        SeenVmm::Alive(state) if !seen.progress.asked && !seen.snapshot => return ask(state),
        SeenVmm::Gone | SeenVmm::Unresponsive | SeenVmm::Alive(_) => {}
    }
    match without_vmm(record, seen) {
        Some(Step::Settle) if last == Step::Discard => last,
        Some(step) => step,
        None if seen.snapshot && last == Step::Done => Step::DiscardSnapshot,
        None => last,
    }
}

/// The next step towards no VMM, no link and a record that says so; `None` there.
fn without_vmm(record: &Record, seen: Seen) -> Option<Step> {
    match seen.vmm {
        SeenVmm::Alive(_) | SeenVmm::Unresponsive => Some(Step::EndVmm),
        SeenVmm::Gone if record.spec.link.is_some() && seen.link != SeenLink::Down => Some(Step::RemoveLink),
        SeenVmm::Gone if record.vmm.is_some() => Some(Step::Settle),
        SeenVmm::Gone => None,
    }
}

fn settle(record: &Record, seen: Seen) -> Step {
    match seen.vmm {
        _ if seen.leavings != Leavings::None => Step::Sweep,
        SeenVmm::Alive(_) | SeenVmm::Unresponsive if seen.snapshot => Step::EndVmm,
        SeenVmm::Alive(VmState::Empty | VmState::Created) => Step::EndVmm,
        SeenVmm::Alive(_) if seen.hopeless => Step::EndVmm,
        SeenVmm::Alive(_) | SeenVmm::Unresponsive if seen.link == SeenLink::Stale => Step::EnsureLink,
        SeenVmm::Alive(VmState::Running | VmState::Paused | VmState::Shutdown) | SeenVmm::Unresponsive => Step::Rest,
        SeenVmm::Gone => without_vmm(record, seen).unwrap_or(Step::Rest),
    }
}

#[cfg(test)]
mod tests {
    use dataplane_vmm::VmState::{Created, Empty, Paused, Running, Shutdown};
    use proptest::prelude::*;

    use super::*;
    use crate::record::{OpRecord, VmmRecord};

    fn record(op: Option<OpKind>) -> Record {
        let mut record: Record = serde_json::from_str(include_str!("../golden/record-v1.json")).unwrap();
        let since = record.created_at;
        let id = dataplane_types::OperationId::generate();
        record.op = op.map(|kind| OpRecord { kind, id, since, from_paused: false, target: None });
        record
    }

    const FRESH: Progress = Progress { asked: false, booted: false, quiesced: false, undo: false };
    const UP: Seen = Seen {
        vmm: SeenVmm::Gone,
        link: SeenLink::Up,
        snapshot: false,
        leavings: Leavings::None,
        progress: FRESH,
        hopeless: false,
    };
    const UNDO: Progress = Progress { undo: true, ..FRESH };

    fn alive(state: VmState) -> Seen {
        Seen { vmm: SeenVmm::Alive(state), ..UP }
    }

    #[test]
    fn a_create_goes_up_one_step_at_a_time() {
        let record = record(Some(OpKind::Create));
        assert_eq!(plan(&record, Seen { link: SeenLink::Unknown, ..UP }), Step::EnsureLink);
        assert_eq!(plan(&record, UP), Step::Spawn);
        for (state, step) in
            [(Empty, Step::CreateVm), (Created, Step::Boot), (Running, Step::Finish), (Shutdown, Step::Finish)]
        {
            assert_eq!(plan(&record, alive(state)), step, "{state:?}");
        }
        assert_eq!(plan(&record, Seen { vmm: SeenVmm::Unresponsive, ..UP }), Step::EndVmm);
    }

    #[test]
    fn a_delete_asks_a_running_guest_once_and_then_takes_everything_away() {
        let record = record(Some(OpKind::Delete));
        assert_eq!(plan(&record, alive(Running)), Step::AskGuest);
        assert_eq!(plan(&record, Seen { progress: Progress { asked: true, ..FRESH }, ..alive(Running) }), Step::EndVmm);
        assert_eq!(plan(&record, alive(Paused)), Step::ResumeVm);
        for state in [Empty, Created, Shutdown] {
            assert_eq!(plan(&record, alive(state)), Step::EndVmm, "{state:?}");
        }
        assert_eq!(plan(&record, Seen { link: SeenLink::Unknown, ..UP }), Step::RemoveLink);
        assert_eq!(plan(&record, Seen { link: SeenLink::Down, ..UP }), Step::Discard);
    }

    #[test]
    fn a_restart_replaces_the_vmm_of_its_own_generation_only() {
        let mut record = record(Some(OpKind::Restart));
        record.restart_from = Some(1);
        assert_eq!(plan(&record, alive(Running)), Step::EndVmm);
        record.vmm = Some(VmmRecord { generation: 2, process: None });
        assert_eq!(plan(&record, alive(Running)), Step::Finish);
    }

    #[test]
    fn a_reboot_asks_first_and_a_start_boots_once() {
        let mut reboot = record(Some(OpKind::Reboot));
        reboot.restart_from = Some(1);
        assert_eq!(plan(&reboot, alive(Running)), Step::AskGuest);
        assert_eq!(plan(&reboot, Seen { progress: Progress { asked: true, ..FRESH }, ..alive(Running) }), Step::EndVmm);
        let start = record(Some(OpKind::Start));
        assert_eq!(plan(&start, alive(Shutdown)), Step::Boot);
        assert_eq!(
            plan(&start, Seen { progress: Progress { booted: true, ..FRESH }, ..alive(Shutdown) }),
            Step::Finish
        );
    }

    #[test]
    fn pausing_and_resuming_touch_nothing_else() {
        let pause = record(Some(OpKind::Pause));
        assert_eq!(plan(&pause, alive(Running)), Step::PauseVm);
        let resume = record(Some(OpKind::Resume));
        assert_eq!(plan(&resume, alive(Paused)), Step::ResumeVm);
        for seen in [alive(Shutdown), UP, Seen { vmm: SeenVmm::Unresponsive, ..UP }] {
            assert_eq!((plan(&pause, seen), plan(&resume, seen)), (Step::Done, Step::Done), "{seen:?}");
        }
    }

    #[test]
    fn without_an_operation_a_dead_vmm_is_settled_and_a_hopeless_guest_ended() {
        let record = record(None);
        assert_eq!(plan(&record, alive(Running)), Step::Rest);
        assert_eq!(plan(&record, Seen { hopeless: true, ..alive(Running) }), Step::EndVmm);
        for state in [Running, Paused, Shutdown] {
            assert_eq!(plan(&record, Seen { link: SeenLink::Stale, ..alive(state) }), Step::EnsureLink, "{state:?}");
        }
        assert_eq!(plan(&record, UP), Step::RemoveLink);
        assert_eq!(plan(&record, Seen { link: SeenLink::Down, ..UP }), Step::Settle);
        // A VMM that does not answer may be busy: it is not taken for dead.
        assert_eq!(plan(&record, Seen { vmm: SeenVmm::Unresponsive, ..UP }), Step::Rest);
    }

    /// The plan's steps from here, as long as each succeeds.
    fn steps(record: &mut Record, mut seen: Seen) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..24 {
            let step = plan(record, seen);
            if matches!(step, Step::Rest | Step::Discard) {
                break;
            }
            after(step, record, &mut seen);
            steps.push(step);
        }
        steps
    }

    #[test]
    fn a_standby_commits_before_the_vmm_goes() {
        let mut record = record(Some(OpKind::Standby));
        let expected = [
            Step::Quiesce,
            Step::PauseVm,
            Step::TakeSnapshot,
            Step::CommitSnapshot,
            Step::EndVmm,
            Step::RemoveLink,
            Step::Settle,
            Step::Done,
        ];
        assert_eq!(steps(&mut record, alive(Running)), expected);
    }

    #[test]
    fn a_standby_that_was_cut_short_lets_the_guest_go_on() {
        let undo = Seen { leavings: Leavings::Some, progress: UNDO, ..alive(Paused) };
        assert_eq!(steps(&mut record(Some(OpKind::Standby)), undo), [Step::Sweep, Step::ResumeVm, Step::Done]);
        let mut paused = record(Some(OpKind::Standby));
        paused.op.as_mut().unwrap().from_paused = true;
        assert_eq!(steps(&mut paused, undo), [Step::Sweep, Step::Done]);
        let mut lost = record(Some(OpKind::Standby));
        let last = [Step::GiveUp, Step::Done, Step::RemoveLink, Step::Settle];
        assert_eq!(steps(&mut lost, UP), last);
    }

    #[test]
    fn a_restore_spends_the_snapshot_before_it_resumes() {
        let seen = Seen { snapshot: true, link: SeenLink::Down, ..UP };
        let expected = [
            Step::EnsureLink,
            Step::Spawn,
            Step::RestoreVm,
            Step::SpendSnapshot,
            Step::ResumeVm,
            Step::Finish,
            Step::Sweep,
        ];
        let mut restored = record(Some(OpKind::Restore));
        restored.vmm = None;
        assert_eq!(steps(&mut restored, seen), expected);
        let undo = Seen { snapshot: true, progress: UNDO, ..alive(Paused) };
        let undone = [Step::EndVmm, Step::RemoveLink, Step::Settle, Step::Done];
        assert_eq!(steps(&mut record(Some(OpKind::Restore)), undo), undone);
        // After the commit a lost VMM is a lost VM: the disks are newer than the snapshot.
        let lost = [Step::GiveUp, Step::RemoveLink, Step::Settle, Step::Done];
        assert_eq!(steps(&mut record(Some(OpKind::Restore)), UP), lost);
    }

    #[test]
    fn a_snapshot_goes_only_where_that_was_said() {
        let seen = Seen { snapshot: true, link: SeenLink::Down, ..UP };
        let mut stop = record(Some(OpKind::Stop));
        stop.vmm = None;
        assert_eq!(steps(&mut stop, seen), [Step::DiscardSnapshot, Step::Done]);
        let mut start = record(Some(OpKind::Start));
        start.vmm = None;
        assert_eq!(plan(&start, seen), Step::DiscardSnapshot);
        let mut idle = record(None);
        idle.vmm = None;
        assert_eq!(plan(&idle, seen), Step::Rest);
    }

    const ALL: [OpKind; 11] = [
        OpKind::Create,
        OpKind::Start,
        OpKind::Stop,
        OpKind::Reboot,
        OpKind::Restart,
        OpKind::Pause,
        OpKind::Resume,
        OpKind::Standby,
        OpKind::Restore,
        OpKind::Resize,
        OpKind::Delete,
    ];

    const VMMS: [SeenVmm; 7] = [
        SeenVmm::Gone,
        SeenVmm::Unresponsive,
        SeenVmm::Alive(Empty),
        SeenVmm::Alive(Created),
        SeenVmm::Alive(Running),
        SeenVmm::Alive(Paused),
        SeenVmm::Alive(Shutdown),
    ];

    prop_compose! {
        fn any_seen()(
            vmm in prop::sample::select(VMMS.to_vec()),
            link in prop::sample::select(vec![SeenLink::Unknown, SeenLink::Up, SeenLink::Stale, SeenLink::Down]),
            leavings in prop::sample::select(vec![Leavings::None, Leavings::Some, Leavings::Draft]),
            (snapshot, hopeless) in any::<(bool, bool)>(),
            (asked, booted, quiesced, undo) in any::<(bool, bool, bool, bool)>(),
        ) -> Seen {
            Seen { vmm, link, snapshot, leavings, hopeless, progress: Progress { asked, booted, quiesced, undo } }
        }
    }

    /// What a step that succeeds leaves behind.
    fn after(step: Step, record: &mut Record, seen: &mut Seen) {
        match step {
            Step::Rest | Step::Discard => {}
            Step::EnsureLink => seen.link = SeenLink::Up,
            Step::Spawn => {
                record.vmm_generation += 1;
                record.vmm = Some(VmmRecord { generation: record.vmm_generation, process: None });
                seen.vmm = SeenVmm::Alive(Empty);
            }
            Step::CreateVm => seen.vmm = SeenVmm::Alive(Created),
            Step::Boot => {
                seen.vmm = SeenVmm::Alive(Running);
                seen.progress.booted = true;
            }
            Step::PauseVm | Step::RestoreVm => seen.vmm = SeenVmm::Alive(Paused),
            Step::ResumeVm => seen.vmm = SeenVmm::Alive(Running),
            Step::Finish | Step::Done | Step::ResizeVm => {
                record.op = None;
                if seen.leavings == Leavings::Draft {
                    seen.leavings = Leavings::Some;
                }
            }
            Step::GiveUp => seen.progress.undo = true,
            Step::Quiesce => seen.progress.quiesced = true,
            Step::TakeSnapshot => seen.leavings = Leavings::Draft,
            Step::CommitSnapshot => {
                seen.snapshot = true;
                seen.leavings = Leavings::None;
            }
            Step::SpendSnapshot => {
                seen.snapshot = false;
                seen.leavings = Leavings::Some;
            }
            Step::DiscardSnapshot => seen.snapshot = false,
            Step::Sweep => seen.leavings = Leavings::None,
            Step::AskGuest => seen.progress.asked = true,
            Step::EndVmm => seen.vmm = SeenVmm::Gone,
            Step::RemoveLink => seen.link = SeenLink::Down,
            Step::Settle => {
                record.vmm = None;
                seen.hopeless = false;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn every_plan_comes_to_rest_and_keeps_the_three_rules(
            op in prop::option::of(prop::sample::select(ALL.to_vec())),
            restart_from in prop::option::of(0..3u64),
            from_paused in any::<bool>(),
            has_vmm in any::<bool>(),
            mut seen in any_seen(),
        ) {
            let mut record = record(op);
            record.restart_from = restart_from;
            if let Some(op) = &mut record.op {
                op.from_paused = from_paused;
            }
            if !has_vmm && seen.vmm == SeenVmm::Gone {
                record.vmm = None;
            }
            let mut last = Step::Rest;
            for _ in 0..16 {
                last = plan(&record, seen);
                if last == Step::Spawn {
                    prop_assert_eq!(seen.vmm, SeenVmm::Gone);
                }
                if matches!(last, Step::ResumeVm | Step::Boot | Step::AskGuest) {
                    prop_assert!(!seen.snapshot, "{:?}", seen);
                }
                if last == Step::CommitSnapshot {
                    prop_assert_eq!(seen.leavings, Leavings::Draft);
                }
                if last == Step::DiscardSnapshot {
                    prop_assert!(matches!(op, Some(OpKind::Start | OpKind::Stop)));
                }
                if matches!(last, Step::Rest | Step::Discard) {
                    break;
                }
                after(last, &mut record, &mut seen);
            }
            let end = if op == Some(OpKind::Delete) { Step::Discard } else { Step::Rest };
            prop_assert_eq!(last, end, "{:?}", seen);
        }
    }
}
