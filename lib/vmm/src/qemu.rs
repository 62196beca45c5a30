//! The QEMU driver: one process per VM, driven over QMP.
//!
//! Invariant: QEMU is told to outlive its guest and holds no capability; its TAP is opened for it. A monitor of its own
//! writes QMP events to a file, so that nothing that happens while no daemon listens is lost.

mod command_line;
mod events;
mod handle;
mod migration;
mod qmp;
mod resize;
mod snapshot;
mod tap;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::stat::Mode;
use tokio::time::{Instant, sleep};

use self::command_line::{Accelerator, Descriptors, Sockets};
use self::handle::{Handle, run_state};
use self::qmp::Monitor;
use crate::host::HostFacts;
use crate::process::{self, Jail, Log, Needs, Program, Starting, Watched};
use crate::{Capabilities, Hypervisor, Launch, VmHandle, VmSpec, Vmm, VmmError, VmmProcess};

/// The first version that this driver was made for.
const OLDEST: (u32, u32) = (7, 2);
/// What it needs of memory beside its guest's: itself, translated code, and room for the page cache of its disks.
const OVERHEAD_MIB: u64 = 320;
/// How long a new process may take to answer.
const START_GRACE: Duration = Duration::from_secs(15);
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_millis(50);

/// The driver: a binary whose version and machine type are known.
#[derive(Debug)]
pub struct Qemu {
    binary: PathBuf,
    version: String,
    machine: String,
    accelerator: Accelerator,
}

impl Qemu {
    /// Asks the binary for its version and for the versioned name of its q35 machine. Blocks until it has answered.
    ///
    /// # Errors
    /// [`VmmError::Binary`] when it cannot be run, [`VmmError::Unsuitable`] when it is too old or something else.
    pub fn probe(binary: PathBuf) -> Result<Self, VmmError> {
        Self::probe_on(binary, &HostFacts::read())
    }

    pub(crate) fn probe_on(binary: PathBuf, host: &HostFacts) -> Result<Self, VmmError> {
        let said = process::first_output(&binary, &[OsStr::new("--version")])?;
        let unsuitable = |message| VmmError::Unsuitable { binary: binary.clone(), message };
        let version = version_of(&said);
        let version = version.ok_or_else(|| unsuitable(format!("its version is not understood: {:?}", said.trim())))?;
        if major_minor(version).is_none_or(|number| number < OLDEST) {
            let (major, minor) = OLDEST;
            return Err(unsuitable(format!("it is version {version}, and version {major}.{minor} or later is needed")));
        }
        let machines = process::first_output(&binary, &["-machine", "help"].map(OsStr::new))?;
        let machine = machine_of(&machines).ok_or_else(|| unsuitable("it has no q35 machine".into()))?;
        let accelerator = if host.hardware_kvm() { Accelerator::Kvm } else { Accelerator::Tcg };
        Ok(Self { version: version.to_owned(), machine: machine.to_owned(), accelerator, binary })
    }

    fn start(&self, launch: &Launch, events: OwnedFd, vmm_log: &Log) -> Result<Watched, VmmError> {
        check_memory(&launch.spec)?;
        let tap = launch.spec.net.as_ref().map(|net| tap::open(&net.tap)).transpose()?;
        let console = process::append_to(&launch.serial_log)?;
        let descriptors = Descriptors { console: console.as_raw_fd(), tap: tap.as_ref().map(AsRawFd::as_raw_fd) };
        let arguments = command_line::arguments(launch, &self.machine, self.accelerator, descriptors)?;
        tracing::debug!(arguments = command_line::shown(&arguments), "starting QEMU");
        let devices: &[_] = if self.accelerator == Accelerator::Kvm { &["/dev/kvm"] } else { &[] };
        let needs = Needs { binary: &self.binary, devices, files: &[&launch.events], overhead_mib: OVERHEAD_MIB };
        process::spawn(Program {
            binary: self.binary.clone(),
            arguments,
            stdout: vmm_log.file()?,
            stderr: vmm_log.file()?,
            inherit: [events, console.into()].into_iter().chain(tap).collect(),
            jail: Jail::prepare(launch, &needs)?,
        })
    }
}

#[async_trait]
impl Vmm for Qemu {
    fn hypervisor(&self) -> Hypervisor {
        Hypervisor::Qemu
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn machine(&self) -> Option<&str> {
        Some(&self.machine)
    }

    fn capabilities(&self) -> Capabilities {
        let hardware_virtualization = self.accelerator == Accelerator::Kvm;
        let vcpu_unplug = hardware_virtualization;
        Capabilities { hardware_virtualization, memory_file: true, resize: true, vcpu_unplug }
    }

    async fn spawn(&self, launch: &Launch) -> Result<Arc<dyn VmHandle>, VmmError> {
        let sockets = Sockets::below(&launch.run_dir);
        process::make_run_dir_fresh(launch)?;
        let vmm_log = Log::open(&launch.vmm_log)?;
        let (order, events) = order_events(&sockets, launch)?;
        let process = self.start(launch, events.into(), &vmm_log)?;
        let starting = Starting::new(process.clone());
        answers(&process, &sockets, &launch.events, &vmm_log).await?;
        drop(order);
        starting.keep();
        Ok(Arc::new(Handle::new(launch, self.accelerator, process)))
    }

    async fn adopt(&self, launch: &Launch, process: &VmmProcess) -> Result<Option<Arc<dyn VmHandle>>, VmmError> {
        let Some(process) = process::adopt(process, launch.confinement.cgroup.clone())? else { return Ok(None) };
        Ok(Some(Arc::new(Handle::new(launch, self.accelerator, process))))
    }
}

/// Makes the files of the monitor that writes events: a FIFO in which its one command waits, and an empty file, by
/// descriptor, behind a link to that, since QEMU names both itself. The FIFO must be held open until QEMU holds it.
fn order_events(sockets: &Sockets, launch: &Launch) -> Result<(File, File), VmmError> {
    let failed = |act, path: &Path| {
        let path = path.to_owned();
        move |source| VmmError::Host { act, path, source }
    };
    let events = process::make_anew(&launch.events)?;
    process::share(&events, &launch.events, launch)?;
    let link = format!("/proc/self/fd/{}", events.as_raw_fd());
    symlink(link, &sockets.events_out).map_err(failed("link", &sockets.events_out))?;
    let fifo = &sockets.events_in;
    let made = nix::unistd::mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR);
    made.map_err(|error| failed("make the FIFO", fifo)(error.into()))?;
    // For reading too: a FIFO that nobody reads cannot be opened for writing alone without waiting.
    let mut order = File::options().read(true).write(true).open(fifo).map_err(failed("open", fifo))?;
    process::share(&order, fifo, launch)?;
    order.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").map_err(failed("write to", fifo))?;
    Ok((order, events))
}

/// QEMU makes a memory file that is missing, and lengthens one that is empty: a snapshot would wake up in zeros.
fn check_memory(spec: &VmSpec) -> Result<(), VmmError> {
    let Some(path) = &spec.memory_file else { return Ok(()) };
    let found = std::fs::symlink_metadata(path).and_then(|found| {
        let fits = found.is_file() && found.len() == spec.boot.memory.bytes();
        if fits { Ok(()) } else { Err(io::Error::new(ErrorKind::InvalidData, "it is no file of the memory's size")) }
    });
    found.map_err(|source| VmmError::Host { act: "use the memory in", path: path.clone(), source })
}

/// Waits until a new process answers on its monitor and writes its events.
async fn answers(process: &Watched, sockets: &Sockets, events: &Path, vmm_log: &Log) -> Result<(), VmmError> {
    let monitor = Monitor::new(sockets.clone(), process);
    let end = Instant::now() + START_GRACE;
    let mut pause = FIRST_RETRY;
    loop {
        let answer = tokio::select! {
            biased;
            reason = process.exited() => {
                let (status, message) = (reason.to_string(), vmm_log.quote());
                return Err(VmmError::EndedAtStart { status, message });
            }
            // Dropping a query half way is harmless: it changes nothing.
            answer = run_state(&monitor) => answer,
        };
        match answer {
            Ok(_) if std::fs::read_to_string(events).is_ok_and(|text| text.contains("\"return\"")) => return Ok(()),
            Err(error) if Instant::now() >= end => return Err(error),
            Ok(_) if Instant::now() >= end => {
                let message = "it answers, but writes no events".into();
                return Err(VmmError::Nonsense { call: "qmp_capabilities", message });
            }
            Ok(_) | Err(_) => sleep(pause).await,
        }
        pause = (pause * 2).min(LAST_RETRY);
    }
}

/// The version in `QEMU emulator version 7.2.22 (Debian …)`.
fn version_of(said: &str) -> Option<&str> {
    said.lines().next()?.strip_prefix("QEMU emulator version ")?.split_ascii_whitespace().next()
}

fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// What the alias `q35` stands for in this binary: the alias means something else in the next one.
fn machine_of(machines: &str) -> Option<&str> {
    let line = machines.lines().find(|line| line.split_ascii_whitespace().next() == Some("q35"))?;
    line.split_once("(alias of ")?.1.split_once(')').map(|(machine, _)| machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_machines_are_read_as_the_binary_writes_them() {
        for (said, expected) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright\n", Some((7, 2))),
            ("QEMU emulator version 10.0.2\n", Some((10, 0))),
            ("cloud-hypervisor v53.0\n", None),
            ("", None),
        ] {
            assert_eq!(version_of(said).and_then(major_minor), expected, "{said:?}");
        }
        let machines = "Supported machines are:\npc    Standard PC (alias of pc-i440fx-7.2)\n\
                        q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)\n\
                        pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)\n";
        assert_eq!(machine_of(machines), Some("pc-q35-7.2"));
        assert_eq!(machine_of("none  empty machine\n"), None);
    }

    #[test]
    fn only_a_file_of_the_memorys_size_is_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory");
        let mut launch = command_line::tests::launch();
        launch.spec.memory_file = Some(path.clone());
        assert!(check_memory(&launch.spec).is_err(), "it is missing");
        let file = File::create(&path).unwrap();
        for (length, right) in [(0, false), (1 << 20, false), ((64 << 20) + 1, false), (64 << 20, true)] {
            file.set_len(length).unwrap();
            assert_eq!(check_memory(&launch.spec).is_ok(), right, "{length}");
        }
        launch.spec.memory_file = Some(directory.path().into());
        assert!(check_memory(&launch.spec).is_err(), "it is a directory");
    }
}
