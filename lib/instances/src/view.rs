//! What others see of an instance: a snapshot that costs no question to anybody.

use std::sync::Arc;

use dataplane_vmm::VmState;

use crate::Record;
use crate::agent::GuestDoor;

/// The states of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InstanceState {
    /// A VMM exists, its VM is not booted yet.
    Created,
    /// The VM runs.
    Running,
    /// The VM is paused.
    Paused,
    /// The guest has shut down, its VMM still exists.
    Shutdown,
    /// No VMM, no snapshot.
    Stopped,
    /// No VMM; a committed snapshot from which it goes on.
    Standby,
}

impl std::fmt::Display for InstanceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// One instance at one instant.
#[derive(Debug, Clone)]
pub struct View {
    /// The record.
    pub record: Arc<Record>,
    /// The state: computed, never stored.
    pub state: InstanceState,
    /// Whether there is a committed snapshot.
    pub has_snapshot: bool,
    /// Whether the guest's agent said that the program was started.
    pub ready: bool,
    /// Init's own time in the guest, in milliseconds, once the agent has told it.
    pub init_ms: Option<u64>,
    /// The way to the guest's agent, while there is a VMM.
    pub(crate) door: Option<GuestDoor>,
}

/// The state of the API. A committed snapshot is standby, whatever a VMM still, or already, does: it is not resumed
/// before the snapshot is spent.
pub(crate) fn state_of(vmm: Option<VmState>, has_snapshot: bool) -> InstanceState {
    match vmm {
        _ if has_snapshot => InstanceState::Standby,
        None => InstanceState::Stopped,
        Some(VmState::Empty | VmState::Created) => InstanceState::Created,
        Some(VmState::Running) => InstanceState::Running,
        Some(VmState::Paused) => InstanceState::Paused,
        Some(VmState::Shutdown) => InstanceState::Shutdown,
    }
}
