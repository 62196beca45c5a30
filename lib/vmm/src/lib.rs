//! Virtual machine monitors behind one trait: [`Vmm`] starts and finds VMM processes, [`VmHandle`] drives one.
//!
//! Invariants: a VMM is a process of its own session with its output in files, so it outlives the daemon; it holds no
//! capability; it outlives its guest, so that the way a guest ended can be read later. What only one driver can do is a
//! flag in [`Capabilities`], never a method that fails at random. This crate knows no records, images or network
//! devices beyond a TAP's name.

mod changes;
mod cloud_hypervisor;
mod confinement;
mod error;
mod event_log;
mod host;
mod model;
mod process;
mod qemu;
mod select;

pub use cloud_hypervisor::CloudHypervisor;
pub use confinement::{
    Cgroups, Confinement, ConfinementSwitches, Confiner, SHARED_GID, UidError, UidPool, VM_UIDS, VmIdentity,
    landlock_version,
};
pub use error::{Effect, VmmError};
pub use host::HostFacts;
pub use model::{
    Capabilities, DiskSpec, ExitReason, Hypervisor, Launch, NetSpec, Purpose, Sizes, VmEvent, VmSpec, VmState,
    VmmProcess,
};
pub use process::running_uid;
pub use qemu::Qemu;
pub use select::{Chosen, HypervisorChoice, SelectError, UnknownHypervisor, available, choose};

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// A driver: starts VMM processes and finds those that are alive.
#[async_trait]
pub trait Vmm: Send + Sync + std::fmt::Debug {
    /// Which VMM this is.
    fn hypervisor(&self) -> Hypervisor;

    /// The VMM's version, as its binary tells it.
    fn version(&self) -> &str;

    /// The versioned machine type that guests see, where the VMM has such a thing; a snapshot needs the same one again.
    fn machine(&self) -> Option<&str> {
        None
    }

    /// What it can do beyond the common verbs.
    fn capabilities(&self) -> Capabilities;

    /// Starts a VMM process that holds no booted VM, and waits until it answers.
    ///
    /// # Errors
    /// [`VmmError`]; no process is left behind.
    async fn spawn(&self, launch: &Launch) -> Result<Arc<dyn VmHandle>, VmmError>;

    /// Takes up a process that an earlier daemon started: same pid, start time and boot id. `None` when that process
    /// is gone. A process that is there but does not answer is still adopted: it can be killed.
    ///
    /// # Errors
    /// [`VmmError`] when the process can neither be adopted nor said to be gone.
    async fn adopt(&self, launch: &Launch, process: &VmmProcess) -> Result<Option<Arc<dyn VmHandle>>, VmmError>;
}

/// One VMM process. Calls are serialised inside; every call has a deadline of its own.
#[async_trait]
pub trait VmHandle: Send + Sync + std::fmt::Debug {
    /// What identifies the process.
    fn process(&self) -> &VmmProcess;

    /// The state that the VMM reports.
    ///
    /// # Errors
    /// [`VmmError`]; an unreachable VMM says nothing about the guest.
    async fn state(&self) -> Result<VmState, VmmError>;

    /// Makes the VM of the launch: `Empty` to `Created`. Already created is a success.
    ///
    /// # Errors
    /// [`VmmError`].
    async fn create(&self) -> Result<(), VmmError>;

    /// Boots the VM: `Created` or `Shutdown` to `Running`. Running already is a success.
    ///
    /// # Errors
    /// [`VmmError`].
    async fn boot(&self) -> Result<(), VmmError>;

    /// Pauses a running VM: its vCPUs stand still, its memory is held. Paused already is a success.
    ///
    /// # Errors
    /// [`VmmError`].
    async fn pause(&self) -> Result<(), VmmError>;

    /// Lets a paused VM go on. Running already is a success.
    ///
    /// # Errors
    /// [`VmmError`].
    async fn resume(&self) -> Result<(), VmmError>;

    /// Writes all that a paused VM is, but for its disks and its memory file, into an empty directory that the VMM may
    /// write, and reads it again: on success every file is there, whole and of the right size, though not yet durable.
    /// The VM stays paused.
    ///
    /// # Errors
    /// [`VmmError`]; the directory then holds what it holds, and the VM is still paused. One that the VMM cannot write
    /// right now, and can later, is waited for.
    async fn snapshot(&self, directory: &Path) -> Result<(), VmmError>;

    /// Loads a snapshot into a VMM that was launched for it: `Empty` to `Paused`. Disks, sockets, TAP and memory file are
    /// those of the launch, whatever the snapshot says. The snapshot is only read, and may be renamed or deleted as
    /// soon as the call has succeeded.
    ///
    /// # Errors
    /// [`VmmError`]; the VMM is of no use any more, the snapshot as good as before.
    async fn restore(&self, directory: &Path) -> Result<(), VmmError>;

    /// Asks for other sizes, within the launch's `boot` and `max`. Success means that the VMM has agreed; the guest takes
    /// what it is given, and gives what it is asked for, in its own time. A snapshot is refused while it has yet
    /// to give ([`VmmError::Pending`]), but a driver cannot know what it has taken: a virtual CPU that it has not noticed
    /// by then it never will, so its agent is to be asked first.
    ///
    /// # Errors
    /// [`VmmError`].
    async fn resize(&self, wanted: Sizes) -> Result<(), VmmError>;

    /// Connects to the guest's agent: a stream on which the agent protocol can begin. Connecting does not mean that
    /// the guest listens: the handshake does.
    ///
    /// # Errors
    /// [`VmmError`], retryable while the guest is not yet listening.
    async fn connect_agent(&self) -> Result<UnixStream, VmmError>;

    /// Ends the VMM in order (the guest is not asked), and waits until the process is gone: asked, then terminated,
    /// then killed. Gone already is a success.
    ///
    /// # Errors
    /// [`VmmError`] when the process is still there after all that.
    async fn quit(&self) -> Result<(), VmmError>;

    /// Kills the VMM at once and waits until the process is gone.
    ///
    /// # Errors
    /// [`VmmError`] when the process is still there after SIGKILL.
    async fn kill(&self) -> Result<(), VmmError>;

    /// Everything that happens from now on, ending with [`VmEvent::Exited`]. One receiver per handle: the second call
    /// returns `None`. What happened to the VM since it was last booted, but before an adoption, is delivered first
    /// where the driver can still read it; an earlier daemon may have seen it already.
    fn events(&self) -> Option<mpsc::Receiver<VmEvent>>;
}
