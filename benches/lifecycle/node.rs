//! The real daemon with the simulated VMM, an image in its cache, and real TAPs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dataplane_testkit::daemon::Daemon;
use dataplane_testkit::http::{Answer, Client};
use dataplane_testkit::image::ImageBuilder;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::raw::config_of;

/// The directory of the daemon and of the simulated VMM: `bin/` unless `DATAPLANE_BENCH_BIN` names another.
const BIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bin");

fn binary(name: &str) -> PathBuf {
    let directory = std::env::var_os("DATAPLANE_BENCH_BIN").map_or_else(|| PathBuf::from(BIN), PathBuf::from);
    let path = directory.join(name);
    path.canonicalize().unwrap_or_else(|error| panic!("{path:?}: {error}; try `make build`"))
}

/// The real VMM, where one is named: then guests are real too.
fn real_vmm() -> Option<PathBuf> {
    std::env::var_os("DATAPLANE_BENCH_VMM").map(PathBuf::from)
}

pub(crate) fn is_real() -> bool {
    real_vmm().is_some()
}

pub(crate) fn vmm() -> PathBuf {
    real_vmm().unwrap_or_else(|| binary("fake-ch"))
}

/// What a request asks of the daemon.
pub(crate) fn wish(id: &str) -> Value {
    json!({ "id": id, "image": "img-tiny", "memory_mb": 128, "vcpus": 1, "disk_gb": 1 })
}

pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    pub(crate) client: Client,
    pub(crate) runtime: Runtime,
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With variables of the daemon beside the usual ones.
    pub(crate) fn start_with(extra: &[(&str, &str)]) -> Self {
        let vmm = vmm();
        let is_qemu = vmm.file_name().is_some_and(|name| name.to_string_lossy().starts_with("qemu"));
        let (hypervisor, variable) =
            if is_qemu { ("qemu", "QEMU_BIN") } else { ("cloud-hypervisor", "CLOUD_HYPERVISOR_BIN") };
        // What stands for kernel and initramfs of a simulated guest is only opened.
        let boot = |name| if is_real() { binary(name) } else { PathBuf::from("/etc/os-release") };
        let [kernel, initrd] = ["vmlinux", "initrd.img"].map(boot);
        let environment = [
            ("HYPERVISOR", hypervisor),
            (variable, vmm.to_str().unwrap()),
            ("KERNEL_PATH", kernel.to_str().unwrap()),
            ("INITRD_PATH", initrd.to_str().unwrap()),
            ("SUBNET_CIDR", "10.9.0.0/20"),
            ("SUBNET_GATEWAY", "10.9.0.1"),
        ];
        let daemon = Daemon::start(&binary("dataplane"), &[&environment, extra].concat(), |_, _, _| Ok(())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let node = Self { client: daemon.client(), daemon, runtime };
        let (image, program) = if is_real() {
            (ImageBuilder::busybox("tiny:1").unwrap(), json!(["/bin/sleep", "1000000"]))
        } else {
            (ImageBuilder::new("tiny:1").file("program", 0o755, b"#!").unwrap(), json!(["stay"]))
        };
        let image = image.config("Entrypoint", program).config("Env", json!(["PATH=/bin"]));
        node.expect(201, node.client.post("/images/import", "application/x-tar", image.archive().unwrap()));
        node
    }

    /// Runs a request to its end; the answer and how long it took.
    pub(crate) fn expect(
        &self,
        status: u16,
        request: impl Future<Output = anyhow::Result<Answer>>,
    ) -> (Answer, Duration) {
        let begin = Instant::now();
        let answer = self.runtime.block_on(request).unwrap();
        let time = begin.elapsed();
        assert_eq!(answer.status, status, "{}: {:?}\n{}", answer.request, answer.body, self.daemon.log());
        (answer, time)
    }

    /// A running instance without network.
    pub(crate) fn run(&self, memory_mb: u64, extra: &Value) {
        let mut body = wish("sample");
        body["memory_mb"] = memory_mb.into();
        body["network"] = json!({ "enabled": false });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        self.expect(201, self.client.post_json("/instances", &body));
        self.expect(200, self.client.get("/instances/sample/wait?ready=true&timeout_seconds=60"));
    }

    /// The same, and the VM configuration that the daemon gave to its VMM. The only one.
    pub(crate) fn sample(&self, memory_mb: u64, extra: &Value) -> Value {
        self.run(memory_mb, extra);
        let run = self.daemon.data().with_file_name("run");
        let sockets = std::fs::read_dir(run).unwrap().flatten().map(|entry| entry.path().join("ch.sock"));
        config_of(&sockets.into_iter().find(|path| path.exists()).unwrap())
    }

    pub(crate) fn create(&self, id: &str) -> (Answer, Duration) {
        let body = wish(id);
        self.expect(201, self.client.post_json("/instances", &body))
    }

    pub(crate) fn delete(&self, id: &str) -> Duration {
        self.expect(204, self.client.delete(&format!("/instances/{id}?grace_seconds=0"))).1
    }

    /// Creates `i-0` to `i-<count - 1>`, so many at a time; how long it took.
    pub(crate) fn create_many(&self, count: usize, at_once: usize) -> Duration {
        self.many(count, at_once, |client, id| async move { client.post_json("/instances", &wish(&id)).await }, 201)
    }

    pub(crate) fn delete_many(&self, count: usize, at_once: usize) -> Duration {
        let delete =
            |client: Client, id| async move { client.delete(&format!("/instances/{id}?grace_seconds=0")).await };
        self.many(count, at_once, delete, 204)
    }

    fn many<F>(&self, count: usize, at_once: usize, request: impl Fn(Client, String) -> F, status: u16) -> Duration
    where
        F: Future<Output = anyhow::Result<Answer>> + Send + 'static,
    {
        let begin = Instant::now();
        self.runtime.block_on(async {
            let mut running = JoinSet::new();
            for number in 0..count {
                if running.len() >= at_once {
                    check(running.join_next().await.unwrap().unwrap(), status);
                }
                running.spawn(request(self.client.clone(), format!("i-{number}")));
            }
            while let Some(answer) = running.join_next().await {
                check(answer.unwrap(), status);
            }
        });
        begin.elapsed()
    }
}

fn check(answer: anyhow::Result<Answer>, status: u16) {
    let answer = answer.unwrap();
    assert_eq!(answer.status, status, "{}: {:?}", answer.request, answer.body);
}
