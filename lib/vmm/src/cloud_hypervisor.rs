//! The Cloud Hypervisor driver: one process per VM, driven over its API socket, its events read from a file.
//!
//! Invariant: the VMM is told to outlive its guest, writes the guest's console and its own errors to files, and gets
//! everything by name, so that nothing of it depends on this daemon's life.

mod api;
mod events;
mod handle;
mod restore;
mod snapshot;
mod standby;
mod wire;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::de::IgnoredAny;
use tokio::time::{Instant, sleep_until};

use self::api::Api;
use self::handle::{Handle, PING};
use self::wire::Sockets;
use crate::changes::Changes;
use crate::host::HostFacts;
use crate::process::{self, Jail, Log, Needs, Program, Starting, Watched};
use crate::{Capabilities, Hypervisor, Launch, VmHandle, Vmm, VmmError, VmmProcess};

/// The first version that can outlive its guest (`--no-shutdown`), and that reads a raw disk as one.
const OLDEST: Version = (52, 0);

/// Major and minor.
type Version = (u32, u32);

/// What it needs of memory beside its guest's: some 10 MiB measured, and room for the page cache of its disks.
const OVERHEAD_MIB: u64 = 128;
/// How long a new process may take to answer.
const START_GRACE: Duration = Duration::from_secs(10);
/// How often it is asked where nothing tells that its socket has appeared, or what told came too early.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// The driver: a binary whose version is known and good.
#[derive(Debug)]
pub struct CloudHypervisor {
    binary: PathBuf,
    version: String,
    number: Version,
    hardware_virtualization: bool,
}

impl CloudHypervisor {
    /// Asks the binary for its version. Blocks until it has answered.
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
        let number = major_minor(version).filter(|number| *number >= OLDEST).ok_or_else(|| {
            let (major, minor) = OLDEST;
            unsuitable(format!("it is version {version}, and version {major}.{minor} or later is needed"))
        })?;
        let version = version.to_owned();
        let hardware_virtualization = host.hardware_kvm();
        Ok(Self { binary, version, number, hardware_virtualization })
    }

    /// The process, and the changes of the directory in which its socket will appear.
    fn start(&self, launch: &Launch, vmm_log: &Log) -> Result<(Watched, io::Result<Changes>), VmmError> {
        process::make_run_dir_fresh(launch)?;
        let appearing = Changes::of(&launch.run_dir);
        let mut socket = OsString::from("path=");
        socket.push(Sockets::below(&launch.run_dir).api);
        // By descriptor, as all logs: the VMM may not look into the directory where they are.
        let events = process::make_anew(&launch.events)?;
        let needs = Needs {
            binary: &self.binary,
            devices: &["/dev/kvm", "/dev/net/tun"],
            files: &[],
            overhead_mib: OVERHEAD_MIB,
        };
        let process = process::spawn(Program {
            binary: self.binary.clone(),
            arguments: vec![
                "--api-socket".into(),
                socket,
                "--event-monitor".into(),
                format!("fd={}", events.as_raw_fd()).into(),
                "--no-shutdown".into(),
            ],
            stdout: Log::open(&launch.serial_log)?.file()?,
            stderr: vmm_log.file()?,
            inherit: vec![events.into()],
            jail: Jail::prepare(launch, &needs)?,
        })?;
        Ok((process, appearing))
    }
}

#[async_trait]
impl Vmm for CloudHypervisor {
    fn hypervisor(&self) -> Hypervisor {
        Hypervisor::CloudHypervisor
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn capabilities(&self) -> Capabilities {
        let hardware_virtualization = self.hardware_virtualization;
        Capabilities { hardware_virtualization, memory_file: true, resize: true, vcpu_unplug: true }
    }

    async fn spawn(&self, launch: &Launch) -> Result<Arc<dyn VmHandle>, VmmError> {
        let vmm_log = Log::open(&launch.vmm_log)?;
        let (process, appearing) = self.start(launch, &vmm_log)?;
        let starting = Starting::new(process.clone());
        let api = Api::new(Sockets::below(&launch.run_dir).api, &process);
        answers(&process, &api, appearing, &vmm_log).await?;
        starting.keep();
        Ok(Arc::new(Handle::new(launch, self.number, process, api)))
    }

    async fn adopt(&self, launch: &Launch, process: &VmmProcess) -> Result<Option<Arc<dyn VmHandle>>, VmmError> {
        let Some(process) = process::adopt(process, launch.confinement.cgroup.clone())? else { return Ok(None) };
        let launch = process::as_running(launch, process.process())?;
        let api = Api::new(Sockets::below(&launch.run_dir).api, &process);
        Ok(Some(Arc::new(Handle::new(&launch, self.number, process, api))))
    }
}

/// Waits until a new process answers on its socket. It is asked whenever something changes in the directory of the
/// socket: that is made, begins to listen, and then has its mode changed.
async fn answers(process: &Watched, api: &Api, appearing: io::Result<Changes>, vmm_log: &Log) -> Result<(), VmmError> {
    let end = Instant::now() + START_GRACE;
    let ended = || {
        let reason = process.ended().map(|reason| reason.to_string());
        VmmError::EndedAtStart { status: reason.unwrap_or_default(), message: vmm_log.quote() }
    };
    loop {
        let error = tokio::select! {
            biased;
            _ = process.exited() => return Err(ended()),
            // Dropping a ping half way is harmless: it changes nothing.
            ping = api.read::<IgnoredAny>(PING) => match ping {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(refusal)) => refusal.into_error(PING),
                Err(error) => error,
            },
        };
        let now = Instant::now();
        if now >= end {
            return Err(error);
        }
        // All are cancel-safe: what is to change is looked at anew in any case.
        tokio::select! {
            biased;
            _ = process.exited() => return Err(ended()),
            () = changed(&appearing) => {}
            () = sleep_until(now + ASK_AGAIN) => {}
        }
    }
}

/// The next change; never where changes cannot be seen.
async fn changed(changes: &io::Result<Changes>) {
    match changes {
        Ok(changes) => changes.next().await,
        Err(_) => std::future::pending().await,
    }
}

/// The version in `cloud-hypervisor v53.0.1-dirty`, as it is written there without the `v`.
fn version_of(said: &str) -> Option<&str> {
    said.lines().next()?.strip_prefix("cloud-hypervisor v").map(str::trim)
}

fn major_minor(version: &str) -> Option<Version> {
    let mut numbers = version.split(['.', '-']).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_binary_writes_them() {
        for (said, expected) in [
            ("cloud-hypervisor v53.0.0\n", Some((53, 0))),
            ("cloud-hypervisor v53.0-dirty\nMigration Protocol Versions: 0\n", Some((53, 0))),
            ("cloud-hypervisor v51.2-12-gabcdef\n", Some((51, 2))),
            ("cloud-hypervisor vnext\n", None),
            ("QEMU emulator version 7.2\n", None),
            ("", None),
        ] {
            assert_eq!(version_of(said).and_then(major_minor), expected, "{said:?}");
        }
    }
}
