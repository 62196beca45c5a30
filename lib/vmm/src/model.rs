//! What a VM is made of, what a VMM process is known by, and what either may report. The same for every driver.

use std::fmt;
use std::path::PathBuf;

use dataplane_types::{Mac, Mib, TapName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Confinement;

/// Which VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hypervisor {
    /// Cloud Hypervisor, over its API socket.
    CloudHypervisor,
    /// QEMU, over QMP.
    Qemu,
}

impl fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CloudHypervisor => "cloud-hypervisor",
            Self::Qemu => "qemu",
        })
    }
}

/// What a driver can do beyond the verbs of the trait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Guests run on hardware virtualization rather than software emulation.
    pub hardware_virtualization: bool,
    /// A VM's memory can lie in a file of its own ([`VmSpec::memory_file`]), so that a snapshot need not copy it.
    pub memory_file: bool,
    /// Virtual CPUs and memory can change while the VM runs.
    pub resize: bool,
    /// Virtual CPUs that were added can be taken back while the VM runs.
    pub vcpu_unplug: bool,
}

/// What can change while a VM runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: Mib,
}

/// A VM, free of any driver's dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSpec {
    /// Identity: the guest's SMBIOS UUID, and what an adopted process is checked against.
    pub uuid: Uuid,
    /// What it boots with. For a restore: what the VM in the snapshot once booted with.
    pub boot: Sizes,
    /// What it has now: for a restore, when the snapshot was taken; otherwise the same as `boot`.
    pub now: Sizes,
    /// What it may grow to; what is as `boot` cannot grow.
    pub max: Sizes,
    /// A file that is the guest's memory, of exactly its size and without holes; `None` for memory that only the VMM
    /// has. Excludes growing.
    pub memory_file: Option<PathBuf>,
    /// The guest kernel: an ELF `vmlinux` with a PVH note.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The kernel's command line.
    pub cmdline: String,
    /// Disks, in the order in which the guest sees them; each has an id that is unique in the VM.
    pub disks: Vec<DiskSpec>,
    /// The network device.
    pub net: Option<NetSpec>,
}

/// One raw disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// The device's id and, in the guest, its serial: at most 20 bytes.
    pub serial: String,
    /// The raw image.
    pub path: PathBuf,
    /// Whether the guest may only read. Writable disks pass discards through.
    pub readonly: bool,
}

/// One virtio network device on a TAP that exists, is up, on its bridge, and owned by the VMM's uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetSpec {
    /// The TAP.
    pub tap: TapName,
    /// The guest's MAC.
    pub mac: Mac,
}

/// What a VMM process is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To create and boot a VM.
    Boot,
    /// To restore one from a snapshot.
    Restore,
}

/// Everything that a VMM process is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// What for.
    pub purpose: Purpose,
    /// The VM.
    pub spec: VmSpec,
    /// Directory of the sockets: exists, empty or with the leavings of a dead VMM.
    pub run_dir: PathBuf,
    /// The guest's console: appended to, never truncated or renamed.
    pub serial_log: PathBuf,
    /// The VMM's standard error: appended to.
    pub vmm_log: PathBuf,
    /// The events of this generation: a new file for each spawn, where the driver writes one.
    pub events: PathBuf,
    /// Whose process it is, and what it may use.
    pub confinement: Confinement,
}

/// What identifies a process beyond doubt, on disk and after a restart of the daemon or the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmmProcess {
    /// The process id.
    pub pid: u32,
    /// Start time in clock ticks since boot: field 22 of `/proc/<pid>/stat` (proc(5)).
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id` when it was started.
    pub boot_id: String,
}

/// The state of a VM as its VMM has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmState {
    /// The VMM holds no VM.
    Empty,
    /// A VM that has not been booted in this VMM generation.
    Created,
    /// Running.
    Running,
    /// Paused, memory held.
    Paused,
    /// The guest has ended; the VMM is still there.
    Shutdown,
}

/// Something that happened to a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmEvent {
    /// The guest powered off; the VMM is still there.
    Shutdown,
    /// The guest asked for a reset (reboot). The VMM may have begun it by itself.
    Reset,
    /// The guest's kernel panicked.
    Panicked,
    /// The VMM process is gone; nothing follows.
    Exited(ExitReason),
}

/// How a VMM process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// With an exit code. Says little: VMMs exit with 0 on their own failures too.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// It was no child of this daemon: nobody can know.
    Unknown,
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown => f.write_str("unknown exit status"),
        }
    }
}
