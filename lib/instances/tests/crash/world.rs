//! A host in memory: VMM processes that outlive the daemon, guests that count, and a memory of every promise broken.
//!
//! A guest counts each time it runs: in its memory, and on its disk. A snapshot holds the memory's count alone; a
//! restore whose count is not the disk's is the stale restore that must never be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use dataplane_instances::{ImageLease, ImageProgram, LinkError, Links, RootDiskError, RootDisks};
use dataplane_store::Fuse;
use dataplane_types::{Digest, Gib, GuestPolicy, InstanceId, Link, Mac, PortMapping, TapName};
use dataplane_vmm::{
    Capabilities, Hypervisor, Launch, Purpose, Sizes, VmEvent, VmHandle, VmState, Vmm, VmmError, VmmProcess,
};
use std::net::Ipv4Addr;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use uuid::Uuid;

const STATE_FILE: &str = "state";

#[derive(Debug)]
struct Process {
    launch: Launch,
    state: VmState,
    count: u64,
}

#[derive(Debug, Default)]
struct Host {
    processes: BTreeMap<u32, Process>,
    last_pid: u32,
    /// With the limit of each.
    taps: Vec<(TapName, Option<u32>)>,
    broken: Vec<String>,
}

/// The host. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct World {
    host: Arc<Mutex<Host>>,
    fuse: Fuse,
}

impl World {
    pub(crate) fn new(fuse: Fuse) -> Self {
        Self { host: Arc::default(), fuse }
    }

    /// The same host, for the next daemon.
    pub(crate) fn again(&self, fuse: Fuse) -> Self {
        Self { host: Arc::clone(&self.host), fuse }
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap()
    }

    /// Everything that has no disk is gone.
    pub(crate) fn lose_power(&self) {
        let mut host = self.host();
        host.processes.clear();
        host.taps.clear();
    }

    /// Ends the processes that no record names, as the search by command line does on a real host.
    pub(crate) fn end_orphans(&self, named: &[u32]) {
        self.host().processes.retain(|pid, _| named.contains(pid));
    }

    /// Removes the TAPs that no record names, as every start of the daemon does.
    pub(crate) fn sweep_taps(&self, named: Option<&str>) {
        self.host().taps.retain(|(tap, _)| Some(tap.as_str()) == named);
    }

    pub(crate) fn processes(&self) -> usize {
        self.host().processes.len()
    }

    /// The limits of its TAPs.
    pub(crate) fn limits(&self) -> Vec<Option<u32>> {
        self.host().taps.iter().map(|(_, limit)| *limit).collect()
    }

    pub(crate) fn taps(&self) -> usize {
        self.host().taps.len()
    }

    pub(crate) fn broken(&self) -> Vec<String> {
        self.host().broken.clone()
    }

    /// One step of the daemon; a dead one never comes back from it.
    async fn step(&self, what: &str) {
        if self.fuse.step(what).is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn disk_of(launch: &Launch) -> PathBuf {
    launch.spec.disks.iter().find(|disk| !disk.readonly).unwrap().path.clone()
}

fn read_count(path: &Path) -> u64 {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

impl Host {
    /// The guest runs a little: it counts, and writes past the daemon.
    fn run(&mut self, pid: u32) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let disk = disk_of(&process.launch);
        let on_disk = read_count(&disk);
        if on_disk != process.count {
            self.broken.push(format!("the guest remembers {}, its disk says {on_disk}", process.count));
        }
        process.count += 1;
        process.state = VmState::Running;
        std::fs::write(&disk, process.count.to_string()).unwrap();
        if let Some(memory) = &process.launch.spec.memory_file {
            std::fs::write(memory, process.count.to_string()).unwrap();
        }
    }
}

#[derive(Debug)]
pub(crate) struct ModelVmm(pub(crate) World);

impl ModelVmm {
    fn handle(&self, process: VmmProcess) -> Arc<dyn VmHandle> {
        Arc::new(ModelHandle { world: self.0.clone(), process })
    }
}

#[async_trait]
impl Vmm for ModelVmm {
    fn hypervisor(&self) -> Hypervisor {
        Hypervisor::CloudHypervisor
    }
    fn version(&self) -> &str {
        "1"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { memory_file: true, resize: true, ..Capabilities::default() }
    }
    async fn spawn(&self, launch: &Launch) -> Result<Arc<dyn VmHandle>, VmmError> {
        self.0.step("spawn").await;
        let mut host = self.0.host();
        host.last_pid += 1;
        let pid = host.last_pid;
        if host.processes.values().any(|process| process.launch.spec.uuid == launch.spec.uuid) {
            host.broken.push("two VMMs for one record".into());
        }
        let count = read_count(&disk_of(launch));
        host.processes.insert(pid, Process { launch: launch.clone(), state: VmState::Empty, count });
        drop(host);
        Ok(self.handle(VmmProcess { pid, start_ticks: 1, boot_id: "b".into() }))
    }
    async fn adopt(&self, _: &Launch, process: &VmmProcess) -> Result<Option<Arc<dyn VmHandle>>, VmmError> {
        let lives = self.0.host().processes.contains_key(&process.pid);
        Ok(lives.then(|| self.handle(process.clone())))
    }
}

#[derive(Debug)]
struct ModelHandle {
    world: World,
    process: VmmProcess,
}

impl ModelHandle {
    fn gone(call: &'static str) -> VmmError {
        VmmError::Unreachable { call, source: std::io::ErrorKind::NotConnected.into() }
    }

    async fn change(&self, call: &'static str, change: impl FnOnce(&mut Host, u32)) -> Result<(), VmmError> {
        self.world.step(call).await;
        let mut host = self.world.host();
        if !host.processes.contains_key(&self.process.pid) {
            return Err(Self::gone(call));
        }
        change(&mut host, self.process.pid);
        Ok(())
    }
}

#[async_trait]
impl VmHandle for ModelHandle {
    fn process(&self) -> &VmmProcess {
        &self.process
    }
    async fn state(&self) -> Result<VmState, VmmError> {
        let host = self.world.host();
        host.processes.get(&self.process.pid).map(|process| process.state).ok_or_else(|| Self::gone("state"))
    }
    async fn create(&self) -> Result<(), VmmError> {
        self.change("create", |host, pid| host.processes.get_mut(&pid).unwrap().state = VmState::Created).await
    }
    async fn boot(&self) -> Result<(), VmmError> {
        self.change("boot", Host::run).await
    }
    async fn pause(&self) -> Result<(), VmmError> {
        self.change("pause", |host, pid| host.processes.get_mut(&pid).unwrap().state = VmState::Paused).await
    }
    async fn resume(&self) -> Result<(), VmmError> {
        self.change("resume", Host::run).await
    }
    async fn snapshot(&self, directory: &Path) -> Result<(), VmmError> {
        let file = directory.join(STATE_FILE);
        // A death in the middle leaves half a file.
        self.change("begin the snapshot", |_, _| std::fs::write(&file, "").unwrap()).await?;
        self.change("end the snapshot", |host, pid| {
            let process = &host.processes[&pid];
            assert_eq!(process.state, VmState::Paused);
            let count = if process.launch.spec.memory_file.is_some() { 0 } else { process.count };
            std::fs::write(&file, format!("{count} whole")).unwrap();
        })
        .await
    }
    async fn restore(&self, directory: &Path) -> Result<(), VmmError> {
        let text = std::fs::read_to_string(directory.join(STATE_FILE)).unwrap_or_default();
        self.change("restore", |host, pid| {
            let process = host.processes.get_mut(&pid).unwrap();
            let purpose = process.launch.purpose;
            let count = text.strip_suffix(" whole").and_then(|count| count.parse().ok());
            let memory = process.launch.spec.memory_file.as_deref().map(read_count);
            process.count = memory.or(count).unwrap_or(0);
            process.state = VmState::Paused;
            if count.is_none() || purpose != Purpose::Restore {
                host.broken.push(format!("a committed snapshot is not whole: {text:?}, {purpose:?}"));
            }
        })
        .await
    }
    async fn resize(&self, _: Sizes) -> Result<(), VmmError> {
        self.change("resize", |_, _| ()).await
    }
    async fn connect_agent(&self) -> Result<UnixStream, VmmError> {
        Err(VmmError::AgentNotListening)
    }
    async fn quit(&self) -> Result<(), VmmError> {
        self.kill().await
    }
    async fn kill(&self) -> Result<(), VmmError> {
        self.world.step("kill").await;
        self.world.host().processes.remove(&self.process.pid);
        Ok(())
    }
    fn events(&self) -> Option<mpsc::Receiver<VmEvent>> {
        None
    }
}

pub(crate) struct Disks {
    /// A file that stands for kernel, initramfs and image disk.
    pub(crate) image: PathBuf,
}

#[async_trait]
impl RootDisks for Disks {
    fn lease(&self, image: &str) -> Result<ImageLease, RootDiskError> {
        let program = ImageProgram { cmd: vec!["stay".into()], ..ImageProgram::default() };
        let digest = Digest::from_bytes([0; 32]);
        Ok(ImageLease { id: image.parse().unwrap(), digest, filesystem: "ext4".into(), program, hold: Box::new(()) })
    }
    fn image_disk(&self, _: &Digest) -> PathBuf {
        self.image.clone()
    }
    async fn make_writable(&self, path: &Path, _: Gib, _: Uuid) -> Result<(), RootDiskError> {
        std::fs::write(path, b"0").map_err(|error| RootDiskError::Make(error.to_string()))
    }
}

#[async_trait]
impl Links for World {
    fn claim(&self, _: &InstanceId, _: Option<Ipv4Addr>, _: Option<Mac>, _: &[PortMapping]) -> Result<Link, LinkError> {
        let ip = Ipv4Addr::new(10, 0, 0, 2);
        let gateway = Ipv4Addr::new(10, 0, 0, 1);
        Ok(Link { ip, prefix_len: 24, gateway, mac: Mac::of_guest(ip), tap: TapName::of(ip) })
    }
    fn claim_ports(&self, _: &InstanceId, _: &[PortMapping]) -> Result<(), LinkError> {
        Ok(())
    }

    fn keep_ports(&self, _: &InstanceId, _: &[PortMapping]) {}

    async fn check_ports(&self, _: &InstanceId, _: &[PortMapping]) -> Result<(), LinkError> {
        Ok(())
    }

    fn adopt(&self, _: &InstanceId, _: &Link, _: &GuestPolicy) -> Result<(), LinkError> {
        Ok(())
    }
    fn release(&self, _: &InstanceId) {}
    async fn ensure(&self, _: &InstanceId, link: &Link, _: &GuestPolicy, _: u32) -> Result<(), LinkError> {
        self.step("make the TAP").await;
        let mut host = self.host();
        if !host.taps.iter().any(|(tap, _)| *tap == link.tap) {
            host.taps.push((link.tap.clone(), None));
        }
        Ok(())
    }
    async fn limit(&self, _: &InstanceId, link: &Link, megabits: Option<u32>) -> Result<(), LinkError> {
        self.step("limit the TAP").await;
        let mut host = self.host();
        let found = host.taps.iter_mut().find(|(tap, _)| *tap == link.tap);
        found.map(|(_, limit)| *limit = megabits).ok_or_else(|| LinkError::Host("no such TAP".into()))
    }
    async fn remove(&self, link: &Link) -> Result<(), LinkError> {
        self.step("remove the TAP").await;
        self.host().taps.retain(|(tap, _)| *tap != link.tap);
        Ok(())
    }
}
