//! The daemon dies before every single step that it takes on its disk, its VMM or its network, and the host may die
//! with it. Whatever is left, the next daemon brings the instance to one of the six states, with the right data and
//! nothing left over, and one delete takes all of it away.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the model's VMM writes past the daemon")]

mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dataplane_instances::{
    Action, BootFiles, CreateRequest, Deps, GuestDns, HostLimits, InstanceState, Instances, NetworkRequest, OpKind,
    Patch, RestartPolicy, StandbyClass, View,
};
use dataplane_store::{CrashDisk, Fuse, Image, Layout, Store};
use dataplane_types::{Digest, Gib, InstanceId, Labels, Mib, SystemClock};
use dataplane_vmm::{Confiner, UidPool};

use world::{Disks, ModelVmm, World};

/// Longer than any operation of the model, which waits for nothing.
const LIMIT: Duration = Duration::from_secs(20);

/// What is done while the daemon dies, and what is done before it.
#[derive(Debug, Clone, Copy)]
struct Case {
    before: &'static [OpKind],
    dies_in: OpKind,
    class: StandbyClass,
}

const SPARSE: StandbyClass = StandbyClass::Sparse;
const INSTANT: StandbyClass = StandbyClass::Instant;

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    /// The daemon; its VMMs live on.
    Daemon,
    /// The host: of the disk is left what this image says.
    Host(Image),
}

const DEATHS: [Death; 5] = [
    Death::Daemon,
    Death::Host(Image::Everything),
    Death::Host(Image::Synced),
    Death::Host(Image::SyncedContents),
    Death::Host(Image::SyncedNames),
];

fn id() -> InstanceId {
    "one".parse().unwrap()
}

fn request(class: StandbyClass) -> CreateRequest {
    CreateRequest {
        id: Some(id()),
        name: None,
        image: "img-x".into(),
        memory: Mib(1),
        memory_max: (class == SPARSE).then_some(Mib(2)),
        vcpus: 1,
        max_vcpus: None,
        disk: Gib(1),
        env: BTreeMap::new(),
        entrypoint: None,
        cmd: None,
        user: None,
        working_dir: None,
        hostname: None,
        network: NetworkRequest { enabled: true, ip: None, mac: None, bandwidth_mbps: Some(10), egress: None },
        port_mappings: Vec::new(),
        labels: Labels::new(),
        hypervisor: None,
        standby: class,
        restart_policy: RestartPolicy::Never,
    }
}

/// One directory and one host, on which daemons come and go.
struct Bench {
    data: PathBuf,
    layout: Layout,
    world: World,
    disk: Arc<CrashDisk>,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new(fuse: &Fuse) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let layout = Layout::new(data.clone(), directory.path().join("run")).unwrap();
        for made in [layout.trash(), layout.boot(), layout.instances(), directory.path().join("run")] {
            std::fs::create_dir_all(made).unwrap();
        }
        for boot in [1, 2] {
            std::fs::write(layout.boot_file(&Digest::from_bytes([boot; 32])), b"").unwrap();
        }
        let disk = Arc::new(CrashDisk::new(&data, fuse.clone()).unwrap());
        Self { data, layout, world: World::new(fuse.clone()), disk, _directory: directory }
    }

    async fn open(&self) -> Instances {
        let store = Store::with_disk(self.layout.clone(), Arc::clone(&self.disk) as Arc<_>);
        // As every start of the daemon does first.
        store.empty_dir(&self.layout.trash()).unwrap();
        let deps = Deps {
            store,
            clock: Arc::new(SystemClock),
            disks: Arc::new(Disks { image: self.layout.boot_file(&Digest::from_bytes([1; 32])) }),
            links: Arc::new(self.world.clone()),
            vmms: vec![Arc::new(ModelVmm(self.world.clone()))],
            vmm_binaries: Vec::new(),
            boot: BootFiles { kernel: Digest::from_bytes([1; 32]), initramfs: Digest::from_bytes([2; 32]) },
            limits: HostLimits { vcpus: 4, memory: Mib(1024) },
            dns: GuestDns { nameservers: Vec::new(), domain: "test".into() },
            reserved_bytes: 0,
            log_limit: 64 << 20,
            confiner: Confiner::none(),
            uids: Mutex::new(UidPool::new(0)),
        };
        Instances::open(deps).await.unwrap().go_on()
    }

    /// What the next daemon finds.
    fn dies(&mut self, death: Death) {
        if let Death::Host(image) = death {
            self.disk.crash(image).unwrap();
            self.world.lose_power();
        }
        let fuse = Fuse::endless();
        self.disk = Arc::new(CrashDisk::new(&self.data, fuse.clone()).unwrap());
        self.world = self.world.again(fuse);
        let record = record(&self.layout);
        let pid = record["vmm"]["process"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        self.world.end_orphans(pid.as_slice());
        self.world.sweep_taps(record["spec"]["link"]["tap"].as_str());
    }

    fn left(&self) -> Vec<PathBuf> {
        [self.layout.instances(), self.layout.trash(), self.layout.runtime().to_owned()]
            .iter()
            .flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten())
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

/// The record as it is on disk; null when there is none.
fn record(layout: &Layout) -> serde_json::Value {
    let record = std::fs::read(layout.instance(&id()).record()).unwrap_or_default();
    serde_json::from_slice(&record).unwrap_or_default()
}

async fn act(instances: &Instances, kind: OpKind, class: StandbyClass) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let patch = Patch { memory: Some(Mib(2)), bandwidth_mbps: Some(Some(20)), ..Patch::default() };
    let action = Action { kind, grace: Duration::ZERO, discard_snapshot: true, precondition: None };
    match kind {
        OpKind::Create => instances.create(request(class)).await.map(drop).map_err(|error| text(&error)),
        OpKind::Delete => instances.delete(&id(), Duration::ZERO, None).await.map_err(|error| text(&error)),
        OpKind::Resize => instances.patch(&id(), patch, None).await.map(drop).map_err(|error| text(&error)),
        OpKind::Start
        | OpKind::Stop
        | OpKind::Reboot
        | OpKind::Restart
        | OpKind::Pause
        | OpKind::Resume
        | OpKind::Standby
        | OpKind::Restore => instances.act(&id(), action).await.map(drop).map_err(|error| text(&error)),
    }
}

/// Runs one case until the fuse blows, if it does; whether the operation was answered first.
fn first_life(bench: &Bench, case: Case, fuse: &Fuse, steps: Option<usize>) -> bool {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (blown, blows) = tokio::sync::oneshot::channel();
    let answered = runtime.block_on(async {
        let instances = bench.open().await;
        for kind in case.before {
            act(&instances, *kind, case.class).await.unwrap();
        }
        if let Some(steps) = steps {
            fuse.on_blow(move || blown.send(()).unwrap_or(()));
            fuse.set(steps);
        }
        tokio::select! {
            biased;
            _ = blows, if steps.is_some() => false,
            done = act(&instances, case.dies_in, case.class) => done.is_ok() && !fuse.is_blown(),
        }
    });
    runtime.shutdown_timeout(LIMIT);
    answered
}

/// What must hold after a death, whatever died and when.
fn second_life(bench: &Bench, case: Case, answered: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let instances = bench.open().await;
        let settled = instances.wait(&id(), LIMIT, is_settled).await;
        let existed = !case.before.is_empty();
        let Some((view, true)) = settled else {
            assert!(settled.is_none(), "it does not settle: {settled:?}");
            assert!(!existed || case.dies_in == OpKind::Delete, "it is lost");
            assert!(!answered || case.dies_in == OpKind::Delete, "what was answered is lost");
            return;
        };
        assert!(!(answered && case.dies_in == OpKind::Delete), "a deleted instance is back");
        check_state(bench, &view);
        // It is good for something: whatever it is, it comes to run.
        let kind = if view.state == InstanceState::Standby { OpKind::Restore } else { OpKind::Start };
        act(&instances, kind, case.class).await.unwrap();
        let kind = if instances.get(&id()).unwrap().state == InstanceState::Paused { OpKind::Resume } else { kind };
        act(&instances, kind, case.class).await.unwrap();
        assert_eq!(instances.get(&id()).unwrap().state, InstanceState::Running);
        assert_eq!(bench.world.processes(), 1);
        check_limit(bench, &instances);
        instances.delete(&id(), Duration::ZERO, None).await.unwrap();
    });
    runtime.shutdown_timeout(LIMIT);
    assert_eq!(bench.world.broken(), Vec::<String>::new());
    assert_eq!(bench.left(), Vec::<PathBuf>::new());
    assert_eq!((bench.world.processes(), bench.world.taps()), (0, 0), "left on the host");
}

/// Nothing is in progress, and the record has a VMM exactly when there is one.
fn is_settled(view: &View) -> bool {
    let down = matches!(view.state, InstanceState::Stopped | InstanceState::Standby);
    view.record.op.is_none() && view.record.vmm.is_none() == down
}

fn is_leaving(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with("snapshot.")
}

fn check_state(bench: &Bench, view: &View) {
    let has_vmm = matches!(view.state, InstanceState::Running | InstanceState::Paused | InstanceState::Shutdown);
    assert_eq!(bench.world.processes(), usize::from(has_vmm), "{:?}", view.state);
    assert_eq!(bench.world.taps(), usize::from(has_vmm), "{:?}", view.state);
    let paths = bench.layout.instance(&id());
    assert_eq!(paths.snapshot().exists(), view.state == InstanceState::Standby);
    assert_eq!(view.has_snapshot, view.state == InstanceState::Standby);
    assert_ne!(view.state, InstanceState::Created);
    // The last thing before it rests.
    let leavings = || std::fs::read_dir(paths.root()).unwrap().flatten().any(|entry| is_leaving(&entry.path()));
    let until = std::time::Instant::now() + LIMIT;
    while leavings() {
        assert!(std::time::Instant::now() < until, "a snapshot is left over");
        std::thread::yield_now();
    }
}

/// The link is limited as the record says: of a VM that was taken up, once the daemon has looked after it.
fn check_limit(bench: &Bench, instances: &Instances) {
    let wanted = instances.get(&id()).unwrap().record.spec.bandwidth_mbps;
    assert!(wanted.is_some());
    let until = std::time::Instant::now() + LIMIT;
    while bench.world.limits() != [wanted] {
        assert!(std::time::Instant::now() < until, "{:?} instead of {wanted:?}", bench.world.limits());
        std::thread::yield_now();
    }
}

/// Lets the daemon die before each step of one case in turn, in each way, and says how often that was.
#[expect(clippy::print_stdout, reason = "the number of deaths, for whoever reads the run")]
fn dies_everywhere(case: Case) {
    let fuse = Fuse::endless();
    let bench = Bench::new(&fuse);
    assert!(first_life(&bench, case, &fuse, None));
    assert_eq!(bench.world.broken(), Vec::<String>::new());
    let all = fuse.steps().len();
    let mut survived = 0;
    for steps in 0..=all {
        let mut blown = false;
        for death in DEATHS {
            let fuse = Fuse::endless();
            let mut bench = Bench::new(&fuse);
            let answered = first_life(&bench, case, &fuse, Some(steps));
            blown |= fuse.is_blown();
            let last = fuse.steps().last().cloned();
            bench.dies(death);
            let judged = AssertUnwindSafe(|| second_life(&bench, case, answered));
            assert!(catch_unwind(judged).is_ok(), "{death:?} after {steps} steps, the last of them {last:?}");
            survived += 1;
        }
        if !blown {
            println!("{survived} deaths survived");
            return;
        }
    }
    panic!("it never ends by itself");
}

macro_rules! cases {
    ($($name:ident: $before:expr, $dies_in:ident, $class:expr;)*) => {
        $(
            #[test]
            fn $name() {
                dies_everywhere(Case { before: &$before, dies_in: OpKind::$dies_in, class: $class });
            }
        )*
    };
}

cases! {
    create: [], Create, SPARSE;
    create_instant: [], Create, INSTANT;
    stop: [OpKind::Create], Stop, SPARSE;
    start: [OpKind::Create, OpKind::Stop], Start, SPARSE;
    start_instant: [OpKind::Create, OpKind::Stop], Start, INSTANT;
    start_again: [OpKind::Create], Reboot, SPARSE;
    pause: [OpKind::Create], Pause, SPARSE;
    resume: [OpKind::Create, OpKind::Pause], Resume, SPARSE;
    resize: [OpKind::Create], Resize, SPARSE;
    standby: [OpKind::Create], Standby, SPARSE;
    standby_instant: [OpKind::Create], Standby, INSTANT;
    standby_of_a_paused_one: [OpKind::Create, OpKind::Pause], Standby, SPARSE;
    standby_again: [OpKind::Create, OpKind::Standby, OpKind::Restore], Standby, INSTANT;
    restore: [OpKind::Create, OpKind::Standby], Restore, SPARSE;
    restore_instant: [OpKind::Create, OpKind::Standby], Restore, INSTANT;
    discard_the_snapshot: [OpKind::Create, OpKind::Standby], Start, SPARSE;
    delete: [OpKind::Create], Delete, INSTANT;
    delete_in_standby: [OpKind::Create, OpKind::Standby], Delete, SPARSE;
}
