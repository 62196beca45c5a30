//! The manager with a VMM and a disk that misbehave on demand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "plays whoever changes files behind the daemon's back")]

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dataplane_instances::{
    BootFiles, CreateError, CreateRequest, Deps, GuestDns, HostLimits, ImageLease, ImageProgram, Instances, LinkError,
    Links, NetworkRequest, OpenError, RootDiskError, RootDisks,
};
use dataplane_store::{Disk, HostDisk, Layout, Store};
use dataplane_types::{Digest, Gib, GuestPolicy, InstanceId, Labels, Link, Mac, Mib, PortMapping, SystemClock};
use dataplane_vmm::{
    Capabilities, Confiner, Hypervisor, Launch, Sizes, UidPool, VmEvent, VmHandle, VmState, Vmm, VmmError, VmmProcess,
};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use uuid::Uuid;

/// What goes wrong, and what happened.
#[derive(Debug, Default)]
struct Fate {
    disk_full: AtomicBool,
    fills_at_spawn: AtomicBool,
    silent: AtomicBool,
    idle: AtomicBool,
    hangs: tokio::sync::watch::Sender<bool>,
    booting: tokio::sync::Notify,
    spawned: AtomicUsize,
    alive: AtomicBool,
    state: Mutex<Option<VmState>>,
}

impl Fate {
    fn set(flag: &AtomicBool) {
        flag.store(true, Ordering::SeqCst);
    }

    fn is(flag: &AtomicBool) -> bool {
        flag.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct FullDisk(Arc<Fate>);

impl Disk for FullDisk {
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        HostDisk.read(path, max)
    }
    fn write_temp(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if Fate::is(&self.0.disk_full) {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            HostDisk.write_temp(path, bytes)
        }
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        HostDisk.sync(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        HostDisk.rename(from, to)
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        HostDisk.rename_new(from, to)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        HostDisk.list(directory)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        HostDisk.remove(path)
    }
    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        HostDisk.sync_dir(directory)
    }
}

#[derive(Debug)]
struct FakeVmm(Arc<Fate>, VmmProcess);

#[async_trait]
impl Vmm for FakeVmm {
    fn hypervisor(&self) -> Hypervisor {
        Hypervisor::CloudHypervisor
    }
    fn version(&self) -> &str {
        "1"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { hardware_virtualization: false, ..Capabilities::default() }
    }
    async fn spawn(&self, _: &Launch) -> Result<Arc<dyn VmHandle>, VmmError> {
        self.0.spawned.fetch_add(1, Ordering::SeqCst);
        Fate::set(&self.0.alive);
        *self.0.state.lock().unwrap() = Some(VmState::Empty);
        if Fate::is(&self.0.fills_at_spawn) {
            Fate::set(&self.0.disk_full);
        }
        Ok(Arc::new(FakeHandle(Arc::clone(&self.0), self.1.clone())))
    }
    async fn adopt(&self, _: &Launch, _: &VmmProcess) -> Result<Option<Arc<dyn VmHandle>>, VmmError> {
        Ok(None)
    }
}

#[derive(Debug)]
struct FakeHandle(Arc<Fate>, VmmProcess);

impl FakeHandle {
    fn becomes(&self, state: VmState) -> Result<(), VmmError> {
        if !Fate::is(&self.0.idle) {
            *self.0.state.lock().unwrap() = Some(state);
        }
        Ok(())
    }
}

#[async_trait]
impl VmHandle for FakeHandle {
    fn process(&self) -> &VmmProcess {
        &self.1
    }
    async fn state(&self) -> Result<VmState, VmmError> {
        let silent = VmmError::Timeout { call: "state", seconds: 0 };
        if Fate::is(&self.0.silent) { Err(silent) } else { Ok(self.0.state.lock().unwrap().unwrap()) }
    }
    async fn create(&self) -> Result<(), VmmError> {
        self.becomes(VmState::Created)
    }
    async fn boot(&self) -> Result<(), VmmError> {
        self.0.booting.notify_one();
        let _ = self.0.hangs.subscribe().wait_for(|hangs| !hangs).await;
        self.becomes(VmState::Running)
    }
    async fn pause(&self) -> Result<(), VmmError> {
        self.becomes(VmState::Paused)
    }
    async fn resume(&self) -> Result<(), VmmError> {
        self.becomes(VmState::Running)
    }
    async fn snapshot(&self, _: &Path) -> Result<(), VmmError> {
        Err(VmmError::Unsupported("take snapshots"))
    }
    async fn restore(&self, _: &Path) -> Result<(), VmmError> {
        Err(VmmError::Unsupported("restore snapshots"))
    }
    async fn resize(&self, _: Sizes) -> Result<(), VmmError> {
        Err(VmmError::Unsupported("resize a VM"))
    }
    async fn connect_agent(&self) -> Result<UnixStream, VmmError> {
        Err(VmmError::AgentNotListening)
    }
    async fn quit(&self) -> Result<(), VmmError> {
        self.kill().await
    }
    async fn kill(&self) -> Result<(), VmmError> {
        self.0.alive.store(false, Ordering::SeqCst);
        Ok(())
    }
    fn events(&self) -> Option<mpsc::Receiver<VmEvent>> {
        None
    }
}

struct Disks;

#[async_trait]
impl RootDisks for Disks {
    fn lease(&self, image: &str) -> Result<ImageLease, RootDiskError> {
        let program = ImageProgram { cmd: vec!["stay".into()], ..ImageProgram::default() };
        let id = image.parse().unwrap();
        let digest = Digest::from_bytes([0; 32]);
        Ok(ImageLease { id, digest, filesystem: "ext4".into(), program, hold: Box::new(()) })
    }
    fn image_disk(&self, _: &Digest) -> PathBuf {
        PathBuf::new()
    }
    async fn make_writable(&self, path: &Path, _: Gib, _: Uuid) -> Result<(), RootDiskError> {
        std::fs::write(path, b"").map_err(|error| RootDiskError::Make(error.to_string()))
    }
}

struct NoLinks;

#[async_trait]
impl Links for NoLinks {
    fn claim(&self, _: &InstanceId, _: Option<Ipv4Addr>, _: Option<Mac>, _: &[PortMapping]) -> Result<Link, LinkError> {
        Err(LinkError::Full("none".into()))
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
    async fn ensure(&self, _: &InstanceId, _: &Link, _: &GuestPolicy, _: u32) -> Result<(), LinkError> {
        Ok(())
    }
    async fn limit(&self, _: &InstanceId, _: &Link, _: Option<u32>) -> Result<(), LinkError> {
        Ok(())
    }
    async fn remove(&self, _: &Link) -> Result<(), LinkError> {
        Ok(())
    }
}

struct Host {
    fate: Arc<Fate>,
    store: Store,
    instances: Instances,
    _directory: tempfile::TempDir,
}

fn deps(store: &Store, vmms: Vec<Arc<dyn Vmm>>) -> Deps {
    Deps {
        store: store.clone(),
        clock: Arc::new(SystemClock),
        disks: Arc::new(Disks),
        links: Arc::new(NoLinks),
        vmms,
        vmm_binaries: Vec::new(),
        boot: BootFiles { kernel: Digest::from_bytes([1; 32]), initramfs: Digest::from_bytes([2; 32]) },
        limits: HostLimits { vcpus: 1, memory: Mib(1024) },
        dns: GuestDns { nameservers: Vec::new(), domain: "test".into() },
        reserved_bytes: 0,
        log_limit: 64 << 20,
        confiner: Confiner::none(),
        uids: Mutex::new(UidPool::new(0)),
    }
}

impl Host {
    async fn start(pid: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fate = Arc::new(Fate::default());
        let layout = Layout::new(directory.path().join("data"), directory.path().join("run")).unwrap();
        let store = Store::with_disk(layout, Arc::new(FullDisk(Arc::clone(&fate))));
        store.create_dir(&store.layout().trash(), 0o700).unwrap();
        let process = VmmProcess { pid, start_ticks: 1, boot_id: "b".into() };
        let vmm = FakeVmm(Arc::clone(&fate), process);
        let instances = Instances::open(deps(&store, vec![Arc::new(vmm)])).await.unwrap().go_on();
        Self { fate, store, instances, _directory: directory }
    }

    async fn create(&self) -> Result<(), Arc<CreateError>> {
        let network = NetworkRequest { enabled: false, ip: None, mac: None, bandwidth_mbps: None, egress: None };
        let request = CreateRequest {
            id: Some("one".parse().unwrap()),
            name: None,
            image: "img-x".into(),
            memory: Mib(128),
            memory_max: None,
            vcpus: 1,
            max_vcpus: None,
            disk: Gib(1),
            env: BTreeMap::new(),
            entrypoint: None,
            cmd: None,
            user: None,
            working_dir: None,
            hostname: None,
            network,
            port_mappings: Vec::new(),
            labels: Labels::new(),
            hypervisor: None,
            standby: dataplane_instances::StandbyClass::Sparse,
            restart_policy: dataplane_instances::RestartPolicy::Never,
        };
        self.instances.create(request).await.map(drop)
    }

    fn assert_clean(&self) {
        assert!(!Fate::is(&self.fate.alive), "the VMM is left");
        assert!(self.instances.list().is_empty());
        assert_eq!(self.store.list(&self.store.layout().instances()).unwrap(), Vec::<PathBuf>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_no_delete() {
    let host = Host::start(1).await;
    host.create().await.unwrap();
    Fate::set(&host.fate.disk_full);
    host.instances.delete(&"one".parse().unwrap(), Duration::ZERO, None).await.unwrap();
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_meets_a_full_disk_is_taken_back_whole() {
    let host = Host::start(1).await;
    Fate::set(&host.fate.fills_at_spawn);
    let error = host.create().await.unwrap_err();
    assert!(matches!(&*error, CreateError::Store(error) if error.is_disk_full()), "{error}");
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmm_that_fails_is_not_started_again_and_again() {
    let host = Host::start(1).await;
    Fate::set(&host.fate.silent);
    assert!(matches!(&*host.create().await.unwrap_err(), CreateError::Vmm(_)));
    assert_eq!(host.fate.spawned.load(Ordering::SeqCst), 1);
    host.assert_clean();
    // One that says yes and does nothing is given up as well.
    let host = Host::start(1).await;
    Fate::set(&host.fate.idle);
    assert!(matches!(&*host.create().await.unwrap_err(), CreateError::Unruly(_)));
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_does_not_wait_for_a_boot_that_hangs() {
    let host = Host::start(1).await;
    host.fate.hangs.send_replace(true);
    let delete = async {
        host.fate.booting.notified().await;
        host.instances.delete(&"one".parse().unwrap(), Duration::from_secs(60), None).await
    };
    let both = async { tokio::join!(host.create(), delete) };
    let (created, deleted) = tokio::time::timeout(Duration::from_secs(30), both).await.expect("both are answered");
    deleted.unwrap();
    assert!(matches!(&*created.unwrap_err(), CreateError::Deleted(_)));
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_vmm_without_a_driver_is_not_forgotten() {
    // A process that was not told of the runtime directory is another one with the same number.
    let host = Host::start(std::process::id()).await;
    host.create().await.unwrap();
    host.instances.stop(Duration::from_secs(30)).await;
    let _opened = Instances::open(deps(&host.store, Vec::new())).await.unwrap();

    let host = Host::start(1).await;
    host.create().await.unwrap();
    let record = host.store.layout().instance(&"one".parse().unwrap()).record();
    let run_dir = host.store.layout().run(&host.instances.list()[0].record.uuid);
    host.instances.stop(Duration::from_secs(30)).await;
    let mut living = std::process::Command::new("sh")
        .args(["-c", "read line"])
        .arg(run_dir.join("ch.sock"))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    value["vmm"]["process"]["pid"] = living.id().into();
    std::fs::write(&record, value.to_string()).unwrap();
    let refused = Instances::open(deps(&host.store, Vec::new())).await;
    drop(living.stdin.take());
    living.wait().unwrap();
    assert!(matches!(refused, Err(OpenError::NoDriver { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_drafts_are_removed_at_the_start() {
    let host = Host::start(1).await;
    host.instances.stop(Duration::from_secs(30)).await;
    let instances = host.store.layout().instances();
    for name in [".new-0", "one.bak", "lost+found"] {
        std::fs::create_dir(instances.join(name)).unwrap();
    }
    std::fs::write(instances.join("note"), "x").unwrap();
    let _opened = Instances::open(deps(&host.store, Vec::new())).await.unwrap();
    let left = ["lost+found", "note", "one.bak"].map(|name| instances.join(name));
    assert_eq!(host.store.list(&instances).unwrap(), left);
}
