//! The bodies of requests, as strict as the real ones.

use serde::Deserialize;

/// Of `vm.snapshot`.
#[derive(Debug, Deserialize)]
pub(crate) struct SnapshotRequest {
    pub(crate) destination_url: String,
}

/// Of `vm.restore`.
#[derive(Debug, Deserialize)]
pub(crate) struct RestoreRequest {
    pub(crate) source_url: String,
    #[serde(default)]
    pub(crate) resume: bool,
    /// Makes no difference to a simulated guest, but a wrong one is refused.
    #[serde(default, rename = "memory_restore_mode")]
    pub(crate) _mode: MemoryRestoreMode,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) enum MemoryRestoreMode {
    #[default]
    Copy,
    OnDemand,
}

/// Of `vm.resize`.
#[derive(Debug, Deserialize)]
pub(crate) struct ResizeRequest {
    pub(crate) desired_vcpus: Option<u32>,
    pub(crate) desired_ram: Option<u64>,
}
