//! The plan: from what the record wants and what is there, the one next step. Pure and total: no clock, no I/O.
//!
//! A fresh request, a retry and recovery after a crash all run through it.

use dataplane_vmm::VmState;

use crate::{OpKind, Record};

/// What was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The VMM.
    pub(crate) vmm: SeenVmm,
    /// The link in the kernel.
    pub(crate) link: SeenLink,
    /// Whether the guest has been asked to stop, and had its grace.
    pub(crate) asked: bool,
    /// Whether the operation in progress has booted the VM.
    pub(crate) booted: bool,
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
    /// Removed, or never wanted.
    Down,
}

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing, until something happens.
    Rest,
    /// Make the TAP.
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
    /// The operation is over, and nothing else has changed.
    Done,
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
        Some(OpKind::Create) => start(record, seen),
        Some(OpKind::Start) => match seen.vmm {
            SeenVmm::Alive(VmState::Shutdown) if !seen.booted => Step::Boot,
            SeenVmm::Gone | SeenVmm::Unresponsive | SeenVmm::Alive(_) => start(record, seen),
        },
        Some(OpKind::Reboot | OpKind::Restart) => replace(record, seen),
        Some(OpKind::Stop) => ended(record, seen, Step::Done),
        Some(OpKind::Pause) if seen.vmm == SeenVmm::Alive(VmState::Running) => Step::PauseVm,
        Some(OpKind::Resume) if seen.vmm == SeenVmm::Alive(VmState::Paused) => Step::ResumeVm,
        // Paused or resumed, or the guest has ended meanwhile: then what follows is not this operation's.
        Some(OpKind::Pause | OpKind::Resume | OpKind::Standby | OpKind::Restore | OpKind::Resize) => Step::Done,
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
        SeenVmm::Alive(state) if old && is_reboot && !seen.asked => ask(state),
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

/// Everything that makes the VM go away, and what comes then.
fn ended(record: &Record, seen: Seen, last: Step) -> Step {
    match seen.vmm {
        SeenVmm::Alive(state) if !seen.asked => ask(state),
        SeenVmm::Alive(_) | SeenVmm::Unresponsive => Step::EndVmm,
        SeenVmm::Gone if record.spec.link.is_some() && seen.link != SeenLink::Down => Step::RemoveLink,
        SeenVmm::Gone if record.vmm.is_some() && last == Step::Done => Step::Settle,
        SeenVmm::Gone => last,
    }
}

fn settle(record: &Record, seen: Seen) -> Step {
    match seen.vmm {
        SeenVmm::Alive(VmState::Empty | VmState::Created) => Step::EndVmm,
        SeenVmm::Alive(_) if seen.hopeless => Step::EndVmm,
        SeenVmm::Alive(VmState::Running | VmState::Paused | VmState::Shutdown) | SeenVmm::Unresponsive => Step::Rest,
        SeenVmm::Gone if record.spec.link.is_some() && seen.link != SeenLink::Down => Step::RemoveLink,
        SeenVmm::Gone if record.vmm.is_some() => Step::Settle,
        SeenVmm::Gone => Step::Rest,
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
        record.op = op.map(|kind| OpRecord { kind, id: dataplane_types::OperationId::generate(), since });
        record
    }

    const UP: Seen = Seen { vmm: SeenVmm::Gone, link: SeenLink::Up, asked: false, booted: false, hopeless: false };

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
        assert_eq!(plan(&record, Seen { asked: true, ..alive(Running) }), Step::EndVmm);
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
        assert_eq!(plan(&reboot, Seen { asked: true, ..alive(Running) }), Step::EndVmm);
        let start = record(Some(OpKind::Start));
        assert_eq!(plan(&start, alive(Shutdown)), Step::Boot);
        assert_eq!(plan(&start, Seen { booted: true, ..alive(Shutdown) }), Step::Finish);
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
        assert_eq!(plan(&record, UP), Step::RemoveLink);
        assert_eq!(plan(&record, Seen { link: SeenLink::Down, ..UP }), Step::Settle);
        // A VMM that does not answer may be busy: it is not taken for dead.
        assert_eq!(plan(&record, Seen { vmm: SeenVmm::Unresponsive, ..UP }), Step::Rest);
    }

    const ALL: [OpKind; 8] = [
        OpKind::Create,
        OpKind::Start,
        OpKind::Stop,
        OpKind::Reboot,
        OpKind::Restart,
        OpKind::Pause,
        OpKind::Resume,
        OpKind::Delete,
    ];

    fn any_seen() -> impl Strategy<Value = Seen> {
        let vmm = prop::sample::select(vec![
            SeenVmm::Gone,
            SeenVmm::Unresponsive,
            SeenVmm::Alive(Empty),
            SeenVmm::Alive(Created),
            SeenVmm::Alive(Running),
            SeenVmm::Alive(Paused),
            SeenVmm::Alive(Shutdown),
        ]);
        let link = prop::sample::select(vec![SeenLink::Unknown, SeenLink::Up, SeenLink::Down]);
        (vmm, link, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(vmm, link, asked, booted, hopeless)| Seen {
            vmm,
            link,
            asked,
            booted,
            hopeless,
        })
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
                seen.booted = true;
            }
            Step::PauseVm => seen.vmm = SeenVmm::Alive(Paused),
            Step::ResumeVm => seen.vmm = SeenVmm::Alive(Running),
            Step::Finish | Step::Done => record.op = None,
            Step::AskGuest => seen.asked = true,
            Step::EndVmm => seen.vmm = SeenVmm::Gone,
            Step::RemoveLink => seen.link = SeenLink::Down,
            Step::Settle => {
                record.vmm = None;
                seen.hopeless = false;
            }
        }
    }

    proptest! {
        #[test]
        fn every_plan_comes_to_rest_and_never_spawns_beside_a_living_vmm(
            op in prop::option::of(prop::sample::select(ALL.to_vec())),
            restart_from in prop::option::of(0..3u64),
            mut seen in any_seen(),
        ) {
            let mut record = record(op);
            record.restart_from = restart_from;
            let mut last = Step::Rest;
            for _ in 0..12 {
                last = plan(&record, seen);
                if last == Step::Spawn {
                    prop_assert_eq!(seen.vmm, SeenVmm::Gone);
                }
                if matches!(last, Step::Rest | Step::Discard) {
                    break;
                }
                after(last, &mut record, &mut seen);
            }
            let end = if op == Some(OpKind::Delete) { Step::Discard } else { Step::Rest };
            prop_assert_eq!(last, end);
        }
    }
}
