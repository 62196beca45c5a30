//! What can go wrong at the manager's door.

use dataplane_store::StoreError;
use dataplane_types::InstanceId;
use dataplane_vmm::{Hypervisor, VmmError};

use crate::{InstanceState, LinkError, OpKind, RootDiskError};

/// Why an instance was not made. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The id is taken by an instance that was asked for otherwise.
    #[error("instance {0} exists already, made from another request")]
    Conflict(InstanceId),
    /// Well formed, and impossible here.
    #[error("{field}: {message}")]
    Impossible {
        /// The field.
        field: &'static str,
        /// Why.
        message: String,
    },
    /// Two fields of the request contradict each other.
    #[error("{field} {message}")]
    Contradiction {
        /// The field that is to be mended.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Neither image nor request names a program.
    #[error("image {0:?} has neither entrypoint nor cmd; give one")]
    NoCommand(String),
    /// The wanted VMM is not available.
    #[error("hypervisor {0} is not available on this host")]
    NoHypervisor(Hypervisor),
    /// The wanted VMM cannot do what is wanted.
    #[error("{0}")]
    NotSupported(String),
    /// The image or the writable layer.
    #[error(transparent)]
    Disk(#[from] RootDiskError),
    /// The network link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No user for its VMM is left.
    #[error(transparent)]
    Uid(#[from] dataplane_vmm::UidError),
    /// Less space is free than must stay free.
    #[error("{free} bytes are free, {reserved} must stay free")]
    NoSpace {
        /// What is free.
        free: u64,
        /// What must stay so.
        reserved: u64,
    },
    /// The VMM could not be started, or could not boot.
    #[error("start the VM")]
    Vmm(#[from] VmmError),
    /// The guest's configuration does not fit its disk.
    #[error("write the guest's configuration")]
    Config(#[from] dataplane_agent::ConfigDiskError),
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A delete came in the middle.
    #[error("instance {0} was deleted while it was being made")]
    Deleted(InstanceId),
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
    /// The VMM does not do what it says, or cannot be ended.
    #[error("{0}")]
    Unruly(String),
}

/// Why an instance is still there.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeleteError {
    /// No such instance.
    #[error("no instance {0}")]
    NotFound(InstanceId),
    /// The caller's idea of the instance is stale.
    #[error("instance {0} has changed")]
    Stale(InstanceId),
    /// Too many deletes of one instance wait.
    #[error("instance {0} is busy")]
    Busy(InstanceId),
    /// A step failed; it is tried again by itself, and by the next delete.
    #[error("delete instance {0}: {1}")]
    Failed(InstanceId, String),
}

/// Why an operation on an instance was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ActionError {
    /// No such instance, or not any more.
    #[error("no instance {0}")]
    NotFound(InstanceId),
    /// The caller's idea of the instance is stale.
    #[error("instance {0} has changed")]
    Stale(InstanceId),
    /// Something else is being done to it.
    #[error("instance {id}: {kind} is in progress")]
    Busy {
        /// The instance.
        id: InstanceId,
        /// What is in progress.
        kind: OpKind,
    },
    /// Its state does not allow it.
    #[error("instance {id} is {state}: {wanted} is not possible")]
    InvalidState {
        /// The instance.
        id: InstanceId,
        /// Its state.
        state: InstanceState,
        /// What was wanted.
        wanted: OpKind,
    },
    /// It is in standby, and what is wanted would throw its snapshot away.
    #[error(
        "instance {id} is in standby: {wanted} would discard its snapshot; restore it, or say discard_snapshot=true"
    )]
    HasSnapshot {
        /// The instance.
        id: InstanceId,
        /// What was wanted.
        wanted: OpKind,
    },
    /// It has no snapshot.
    #[error("instance {0} has no snapshot to restore; start it")]
    NoSnapshot(InstanceId),
    /// Its snapshot can only be restored on what it was taken on.
    #[error("instance {id} cannot be restored here: {message}")]
    Mismatch {
        /// The instance.
        id: InstanceId,
        /// What differs, and the way out.
        message: String,
    },
    /// Well formed, and impossible for this instance or host.
    #[error("{field}: {message}")]
    Impossible {
        /// The field.
        field: &'static str,
        /// Why.
        message: String,
    },
    /// The instance's VMM cannot do that.
    #[error("instance {id}: {message}")]
    NotSupported {
        /// The instance.
        id: InstanceId,
        /// What it cannot do.
        message: String,
    },
    /// Something that was done to it earlier has not been finished by its guest.
    #[error("instance {id}: {message}; try again")]
    Unfinished {
        /// The instance.
        id: InstanceId,
        /// What.
        message: String,
    },
    /// The disk is full, or would be.
    #[error("instance {id}: {message}")]
    NoSpace {
        /// The instance.
        id: InstanceId,
        /// How much is missing.
        message: String,
    },
    /// The network link.
    #[error(transparent)]
    Link(LinkError),
    /// Too many requests to one instance wait.
    #[error("instance {0} has a full mailbox")]
    Full(InstanceId),
    /// A step failed; `last_error` says the same.
    #[error("instance {0}: {1}")]
    Failed(InstanceId, String),
}

/// Why the manager could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A record is unreadable: nothing is guessed about it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record names what another one holds.
    #[error("record of instance {id}: {source}")]
    Link {
        /// The instance.
        id: InstanceId,
        /// What is held twice.
        #[source]
        source: LinkError,
    },
    /// A record names a user that another one holds, or that is nobody's.
    #[error("record of instance {id}: {source}")]
    Uid {
        /// The instance.
        id: InstanceId,
        /// What is wrong with it.
        #[source]
        source: dataplane_vmm::UidError,
    },
    /// The record was written by a newer daemon.
    #[error("record {path:?} has version {version}; this daemon reads up to {known}")]
    Version {
        /// The record.
        path: std::path::PathBuf,
        /// Its version.
        version: u32,
        /// The newest version that is known.
        known: u32,
    },
    /// A VMM lives that no driver can take up.
    #[error("instance {id} runs on {hypervisor}, which was not found; name its binary, or end the instance's VMM")]
    NoDriver {
        /// The instance.
        id: InstanceId,
        /// What drives it.
        hypervisor: Hypervisor,
    },
    /// Whether a recorded VMM lives cannot be told.
    #[error("adopt the VMM of instance {id}")]
    Adopt {
        /// The instance.
        id: InstanceId,
        /// Why not.
        #[source]
        source: VmmError,
    },
    /// The log watch could not be made.
    #[error("watch log files")]
    Watch(#[source] std::io::Error),
}
