//! One VM on a test bench: its files, its launch, and the certainty that no process of it stays.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dataplane_agent::host::AgentClient;
use dataplane_agent::{GuestMessage, GuestNetwork};
use dataplane_types::Mib;
use dataplane_vmm::{
    Cgroups, CloudHypervisor, Confinement, Launch, NetSpec, Purpose, Qemu, Sizes, VM_UIDS, VmEvent, VmHandle,
    VmIdentity, VmSpec, Vmm, VmmError, VmmProcess, landlock_version,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::guests::{Kit, Program};

pub(crate) const SIZES: Sizes = Sizes { vcpus: 1, memory: Mib(128) };

/// How long anything may take: a real guest under software emulation on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);
pub(crate) const RETRY: Duration = Duration::from_millis(50);

/// A VM under test.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) vmm: Arc<dyn Vmm>,
    pub(crate) launch: Launch,
    directory: tempfile::TempDir,
    processes: Mutex<Vec<VmmProcess>>,
}

impl Rig {
    /// A VM whose guest will run this program.
    pub(crate) fn new(program: Program) -> Self {
        Self::with_network(program, None)
    }

    /// The same, with a network device; a simulated guest has none.
    pub(crate) fn with_network(program: Program, network: Option<(NetSpec, GuestNetwork)>) -> Self {
        let (vmm, kit) = subject();
        let (net, guest_network) = network.unzip();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let run_dir = path("run");
        std::fs::create_dir(&run_dir).unwrap();
        // As a data directory is: nobody sees what is in it, and the VMM finds its own files.
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).unwrap();
        let (kernel, initramfs, cmdline) = kit.payload(directory.path());
        let spec = VmSpec {
            uuid: Uuid::new_v4(),
            boot: SIZES,
            now: SIZES,
            max: SIZES,
            memory_file: None,
            kernel,
            initramfs,
            cmdline,
            disks: kit.disks(directory.path(), program, guest_network),
            net,
        };
        let launch = Launch {
            purpose: Purpose::Boot,
            spec,
            run_dir,
            serial_log: path("serial.log"),
            vmm_log: path("vmm.log"),
            events: path("events.1.json"),
            confinement: confinement(directory.path()),
        };
        Self { vmm, launch, directory, processes: Mutex::default() }
    }

    /// Starts its VMM.
    pub(crate) async fn spawn(&self) -> Arc<dyn VmHandle> {
        self.try_spawn().await.unwrap_or_else(|error| panic!("spawn: {error:?}\n{}", self.story()))
    }

    pub(crate) async fn try_spawn(&self) -> Result<Arc<dyn VmHandle>, VmmError> {
        let handle = self.vmm.spawn(&self.launch).await?;
        self.processes.lock().unwrap().push(handle.process().clone());
        Ok(handle)
    }

    /// Starts its VMM and its guest.
    pub(crate) async fn boot(&self) -> Arc<dyn VmHandle> {
        let handle = self.spawn().await;
        handle.create().await.unwrap();
        handle.boot().await.unwrap_or_else(|error| panic!("boot: {error:?}\n{}", self.story()));
        handle
    }

    /// Puts the guest's memory into a file of its own, where the VMM can do that.
    #[must_use]
    pub(crate) fn use_memory_file(&mut self) -> bool {
        let can = self.vmm.capabilities().memory_file;
        if can {
            let path = self.path("memory");
            let file = std::fs::File::create(&path).unwrap();
            nix::fcntl::posix_fallocate(&file, 0, i64::try_from(self.launch.spec.max.memory.bytes()).unwrap()).unwrap();
            self.launch.spec.memory_file = Some(path);
        }
        can
    }

    /// An empty directory for a snapshot.
    pub(crate) fn snapshot_directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir(&path).unwrap();
        path
    }

    /// Starts a VMM of the next generation and restores a snapshot in it.
    pub(crate) async fn restore(&mut self, snapshot: &Path) -> Arc<dyn VmHandle> {
        let handle = self.spawn_for_restore().await;
        let restored = handle.restore(snapshot).await;
        restored.unwrap_or_else(|error| panic!("restore: {error:?}\n{}", self.story()));
        handle
    }

    /// Starts a VMM of the next generation that waits for a snapshot.
    pub(crate) async fn spawn_for_restore(&mut self) -> Arc<dyn VmHandle> {
        let spawned = self.try_spawn_for_restore().await;
        spawned.unwrap_or_else(|error| panic!("spawn: {error:?}\n{}", self.story()))
    }

    pub(crate) async fn try_spawn_for_restore(&mut self) -> Result<Arc<dyn VmHandle>, VmmError> {
        let generation = self.processes.lock().unwrap().len() + 1;
        self.launch.purpose = Purpose::Restore;
        self.launch.events = self.path(&format!("events.{generation}.json"));
        self.try_spawn().await
    }

    /// Takes up the process of a handle that is gone.
    pub(crate) async fn adopt(&self, process: &VmmProcess) -> Option<Arc<dyn VmHandle>> {
        self.vmm.adopt(&self.launch, process).await.unwrap()
    }

    /// A conversation with the guest's agent, as soon as it listens.
    pub(crate) async fn agent(&self, handle: &Arc<dyn VmHandle>) -> AgentClient {
        let dial = async {
            loop {
                match handle.connect_agent().await {
                    Ok(stream) => match AgentClient::handshake(stream, Duration::from_secs(5)).await {
                        Ok(agent) => return agent,
                        Err(_not_yet) => sleep(RETRY).await,
                    },
                    Err(error) if error.retryable() => sleep(RETRY).await,
                    Err(error) => panic!("connect_agent: {error:?}"),
                }
            }
        };
        timeout(LIMIT, dial).await.unwrap_or_else(|_| panic!("the agent never answered\n{}", self.story()))
    }

    /// The next event.
    pub(crate) async fn event(&self, events: &mut mpsc::Receiver<VmEvent>) -> VmEvent {
        let event = timeout(LIMIT, events.recv()).await;
        event.unwrap_or_else(|_| panic!("no event came\n{}", self.story())).expect("events end with Exited")
    }

    pub(crate) fn serial(&self) -> String {
        text(&self.launch.serial_log)
    }

    /// Waits until the console shows this many lines with a text.
    pub(crate) async fn console_shows(&self, line: &str, times: usize) {
        let wait = async {
            while self.serial().lines().filter(|seen| seen.trim_end() == line).count() < times {
                sleep(RETRY).await;
            }
        };
        let seen = timeout(LIMIT, wait).await;
        seen.unwrap_or_else(|_| panic!("the console never showed {line:?} {times} times\n{}", self.story()));
    }

    /// How far a guest has counted on its console, which must not have missed or repeated a number. The last line may
    /// still be in the writing.
    pub(crate) fn counted(&self) -> u64 {
        let serial = self.serial();
        let whole = serial.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let numbers = whole.lines().filter_map(|line| line.trim_end().strip_prefix("count ")?.parse().ok());
        let mut last = 0;
        for number in numbers {
            assert_eq!(number, last + 1, "the guest did not go on where it stopped\n{}", self.story());
            last = number;
        }
        last
    }

    /// Waits until the guest has counted so far.
    pub(crate) async fn counts_to(&self, number: u64) {
        let wait = async {
            while self.counted() < number {
                sleep(RETRY).await;
            }
        };
        timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("it never counted to {number}\n{}", self.story()));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Everything that the VM's files tell, for a failure.
    pub(crate) fn story(&self) -> String {
        let Launch { serial_log, vmm_log, events, .. } = &self.launch;
        let parts = [serial_log, vmm_log, events].map(|path| format!("--- {}\n{}", path.display(), text(path)));
        parts.join("\n")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for process in self.processes.lock().unwrap().iter().filter(|process| alive(process)) {
            let pid = Pid::from_raw(i32::try_from(process.pid).unwrap());
            let _gone = kill(pid, Signal::SIGKILL);
        }
        if self.launch.confinement.cgroup.is_some() {
            let _off = cgroups().map(|cgroups| cgroups.retire());
        }
    }
}

/// The uid of the VMMs of this process of tests; `None` when they run unconfined, as the daemon: without root, or when
/// `DATAPLANE_TEST_CONFINED=off` says so.
pub(crate) fn vm_uid() -> Option<u32> {
    let off = std::env::var_os("DATAPLANE_TEST_CONFINED").is_some_and(|value| value == "off");
    let offset = std::process::id() % u32::try_from(VM_UIDS.count()).unwrap();
    (geteuid().is_root() && !off).then_some(VM_UIDS.start() + offset)
}

/// The place for the cgroups of this process of tests.
pub(crate) fn cgroups() -> Result<Cgroups, String> {
    Cgroups::probe(&format!("conformance-{}", std::process::id()))
}

/// All that this host has of it.
fn confinement(directory: &Path) -> Confinement {
    static TESTS: AtomicU32 = AtomicU32::new(0);
    let Some(uid) = vm_uid() else { return Confinement::default() };
    let name = format!("{}-{}", std::process::id(), TESTS.fetch_add(1, Ordering::Relaxed));
    Confinement {
        identity: Some(VmIdentity::of(uid)),
        cgroup: cgroups().ok().map(|cgroups| cgroups.of(&name)),
        landlock: landlock_version().map(|_| vec![directory.to_owned()]),
    }
}

/// The next message of the guest's agent.
pub(crate) async fn message(agent: &mut AgentClient) -> GuestMessage {
    timeout(LIMIT, agent.next()).await.expect("the agent says nothing").expect("the agent is gone")
}

/// Whether this very process is there and no zombie.
pub(crate) fn alive(process: &VmmProcess) -> bool {
    let stat = text(Path::new(&format!("/proc/{}/stat", process.pid)));
    let Some((_, fields)) = stat.rsplit_once(") ") else { return false };
    let fields: Vec<_> = fields.split(' ').collect();
    fields[0] != "Z" && fields[19] == process.start_ticks.to_string()
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Whether guests are simulated.
pub(crate) fn is_simulated() -> bool {
    matches!(subject().1, Kit::Fake)
}

/// The VMM under test and the guests that it runs.
fn subject() -> (Arc<dyn Vmm>, Kit) {
    let name = std::env::var("DATAPLANE_TEST_VMM").unwrap_or_else(|_| "fake-ch".into());
    match name.as_str() {
        "fake-ch" => {
            let binary = PathBuf::from(env!("CARGO_BIN_EXE_fake-ch"));
            (Arc::new(CloudHypervisor::probe(binary).unwrap()), Kit::Fake)
        }
        "qemu" => {
            let binary = binary("QEMU_BIN", "qemu-system-x86_64");
            (Arc::new(Qemu::probe(binary).unwrap()), Kit::real())
        }
        "cloud-hypervisor" => {
            let binary = binary("CLOUD_HYPERVISOR_BIN", "cloud-hypervisor");
            (Arc::new(CloudHypervisor::probe(binary).unwrap()), Kit::real())
        }
        other => panic!("DATAPLANE_TEST_VMM={other}: fake-ch, qemu or cloud-hypervisor would be right"),
    }
}

fn binary(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not on PATH and {variable} is not set"))
}
