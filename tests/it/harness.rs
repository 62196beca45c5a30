//! One daemon in a directory of its own, with one image in it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use dataplane::{App, Backends, Config, start};
use dataplane_api::contract::{Contract, Seen};
use dataplane_network::NoBackend;
use dataplane_testkit::http::{Answer, Client};
use dataplane_testkit::image::ImageBuilder;
use dataplane_types::{AddressPlan, Mib};
use dataplane_vmm::{CloudHypervisor, ConfinementSwitches, HypervisorChoice};
use serde_json::{Value, json};

/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// The node's own name for its VMM.
const VMM: &str = "fake-ch";

static CONTRACT: LazyLock<Contract> = LazyLock::new(Contract::new);

pub(crate) fn check(method: &str, path: &str, answer: &Answer) -> Result<(), String> {
    let seen = Seen { method, path, status: answer.status, headers: &answer.headers, body: &answer.body };
    CONTRACT.check(&seen).map_err(|breach| breach.to_string())
}

/// The `fake-ch` that was built with these tests.
fn fake_ch() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent().and_then(Path::parent).unwrap().join("fake-ch");
    assert!(path.is_file(), "{path:?} is missing: cargo build -p dataplane-vmm --bin fake-ch");
    path
}

pub(crate) struct Node {
    pub(crate) client: Client,
    app: Option<App>,
    config: Config,
    directory: tempfile::TempDir,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A daemon whose configuration is changed before it starts.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        // VMs run as users of their own, who must get to their files.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        let directory = tempfile::Builder::new().prefix("dp").permissions(open).tempdir().unwrap();
        let boot = directory.path().join("boot-file");
        std::fs::File::create(&boot).unwrap();
        let mut config = Config {
            port: 0,
            listen_address: [127, 0, 0, 1].into(),
            socket_path: directory.path().join("run/api.sock"),
            data_dir: directory.path().join("data"),
            runtime_dir: directory.path().join("run"),
            bridge: "vmbr0".parse().unwrap(),
            plan: AddressPlan::new("10.9.0.0/24".parse().unwrap(), [10, 9, 0, 1].into()).unwrap(),
            uplink: None,
            jwt_secret: None,
            jwt_audience: None,
            dns_domain: "dataplane.internal".into(),
            dns_server: [1, 1, 1, 1].into(),
            registry_plain_http: Vec::new(),
            reserved_bytes: 0,
            log_limit: Mib(64),
            hypervisor: HypervisorChoice::CloudHypervisor,
            cloud_hypervisor_bin: Some(fake_ch()),
            // Without Landlock: the simulated VMM reads a file of the test that says how to misbehave.
            confinement: ConfinementSwitches { landlock: false, ..ConfinementSwitches::default() },
            host_network: false,
            qemu_bin: None,
            kernel_path: boot.clone(),
            initrd_path: boot,
        };
        change(&mut config);
        let client = Client::new(&config.socket_path, check);
        std::os::unix::fs::symlink(fake_ch(), directory.path().join(VMM)).unwrap();
        let mut node = Self { client, app: None, config, directory };
        node.launch().await;
        node
    }

    /// Starts the daemon, again perhaps, on the same directory.
    pub(crate) async fn launch(&mut self) {
        let driver = CloudHypervisor::probe(self.directory.path().join(VMM)).unwrap();
        let backends =
            Backends { vmms: vec![Arc::new(driver)], vmm_binaries: vec![VMM.into()], network: Arc::new(NoBackend) };
        self.app = Some(start(self.config.clone(), backends).await.unwrap());
    }

    /// Has its VMMs misbehave from now on, in the words of the fake one; nothing ends it.
    pub(crate) fn misbehave(&self, orders: &str) {
        let mut file = std::fs::File::create(self.directory.path().join(format!("{VMM}.control"))).unwrap();
        file.write_all(orders.as_bytes()).unwrap();
    }

    /// Stops it in order; its VMs go on.
    pub(crate) async fn stop(&mut self) {
        self.app.take().unwrap().stop().await;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.app.as_ref().unwrap().address()
    }

    pub(crate) fn data(&self) -> &Path {
        &self.config.data_dir
    }

    /// Imports an image of one file; its id is `img-tiny`.
    pub(crate) async fn import(&self) -> String {
        let image = ImageBuilder::new("tiny:1").file("program", 0o755, b"#!").unwrap();
        let image = image.config("Entrypoint", json!(["stay"])).config("Env", json!(["PATH=/bin"]));
        let answer = self.client.post("/images/import", "application/x-tar", image.archive().unwrap()).await.unwrap();
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// A create request for the tiny image, running a program of the fake guest.
    pub(crate) fn wish(id: &str, program: &[&str]) -> Value {
        json!({ "id": id, "image": "img-tiny", "memory_mb": 128, "vcpus": 1, "disk_gb": 1, "entrypoint": program })
    }

    pub(crate) async fn create(&self, id: &str, program: &[&str]) -> Value {
        let answer = self.client.post_json("/instances", &Self::wish(id, program)).await.unwrap();
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.json()
    }

    /// Posts an action without a body; status, code, and the instance as the answer has it.
    pub(crate) async fn act(&self, id: &str, action: &str) -> (u16, String, Value) {
        let answer = self.client.act(&format!("/instances/{id}/{action}")).await.unwrap();
        (answer.status, answer.code(), answer.json())
    }

    pub(crate) async fn get(&self, id: &str) -> Value {
        self.client.get(&format!("/instances/{id}")).await.unwrap().json()
    }

    /// Asks until something holds: the API has no wait yet.
    pub(crate) async fn until(&self, id: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let instance = self.get(id).await;
            if holds(&instance) {
                return instance;
            }
            assert!(begin.elapsed() < PATIENCE, "it did not come true: {instance}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The process ids of the VMMs whose command line names this node's runtime directory.
    pub(crate) fn vmms(&self) -> Vec<u32> {
        let run = self.config.runtime_dir.to_str().unwrap().to_owned();
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(&run)
            })
            .collect()
    }

    /// That no instance has left anything.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.vmms(), Vec::<u32>::new(), "VMMs are left");
        for directory in ["instances", "trash", "images/work"] {
            let left: Vec<_> = std::fs::read_dir(self.data().join(directory)).unwrap().flatten().collect();
            assert!(left.is_empty(), "{directory}: {left:?}");
        }
        let run: Vec<_> =
            std::fs::read_dir(&self.config.runtime_dir).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(run.iter().all(|name| name.to_string_lossy().starts_with("api.sock")), "{run:?}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for pid in self.vmms() {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid.cast_signed()),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}
