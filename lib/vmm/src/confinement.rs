//! What a VMM process is held to beyond what every one is (no capability, no new privileges, its own seccomp filter):
//! a uid of its own, a cgroup with limits, and a view of the file system that ends at its own files.
//!
//! Invariant: the uids given here lie outside the ranges of distributions, systemd and user namespaces, and each
//! belongs to one VM at a time. This module knows numbers and kernel interfaces, no VMM and no VM.

pub(crate) mod cgroup;
mod confiner;
pub(crate) mod landlock;
mod uids;

use std::path::PathBuf;

pub use cgroup::Cgroups;
pub use confiner::{ConfinementSwitches, Confiner};
pub use landlock::landlock_version;
pub use uids::{UidError, UidPool, VM_UIDS};

/// The group that may read what several VMs share: image disks. Every confined VMM is in it.
pub const SHARED_GID: u32 = 1_900_000_000;

/// How one VMM process is confined. Each part can be left out, for debugging or where the host does not have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Whose process it is; `None`: the daemon's own.
    pub identity: Option<VmIdentity>,
    /// The cgroup that it is put into: made with limits that fit the VM, removed when the process is gone. `None`: the
    /// daemon's own.
    pub cgroup: Option<PathBuf>,
    /// Whether Landlock shuts it off from all files but those that its launch names, and the directories given here: what
    /// it will be told to open later lies in them, a snapshot's directory or a disk that is attached while it runs.
    pub landlock: Option<Vec<PathBuf>>,
}

/// A uid and a gid that nothing on the host has but one VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmIdentity {
    /// The uid.
    pub uid: u32,
    /// The gid.
    pub gid: u32,
}

impl VmIdentity {
    /// The identity of a uid from a [`UidPool`]: its group has the same number.
    #[must_use]
    pub const fn of(uid: u32) -> Self {
        Self { uid, gid: uid }
    }
}
