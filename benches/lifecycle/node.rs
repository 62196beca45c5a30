//! The real daemon with the simulated VMM, an image in its cache, and real TAPs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dataplane_testkit::daemon::Daemon;
use dataplane_testkit::http::{Answer, Client};
use dataplane_testkit::image::ImageBuilder;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// The directory of the daemon and of the simulated VMM: `bin/` unless `DATAPLANE_BENCH_BIN` names another.
const BIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bin");

fn binary(name: &str) -> PathBuf {
    let directory = std::env::var_os("DATAPLANE_BENCH_BIN").map_or_else(|| PathBuf::from(BIN), PathBuf::from);
    let path = directory.join(name);
    path.canonicalize().unwrap_or_else(|error| panic!("{path:?}: {error}; try `make build`"))
}

pub(crate) fn fake_ch() -> PathBuf {
    binary("fake-ch")
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
        let fake = fake_ch();
        // What stands for kernel and initramfs is only opened.
        let environment = [
            ("HYPERVISOR", "cloud-hypervisor"),
            ("CLOUD_HYPERVISOR_BIN", fake.to_str().unwrap()),
            ("KERNEL_PATH", "/etc/os-release"),
            ("INITRD_PATH", "/etc/os-release"),
            ("SUBNET_CIDR", "10.9.0.0/20"),
            ("SUBNET_GATEWAY", "10.9.0.1"),
        ];
        let daemon = Daemon::start(&binary("dataplane"), &environment, |_, _, _| Ok(())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let node = Self { client: daemon.client(), daemon, runtime };
        let image = ImageBuilder::new("tiny:1").file("program", 0o755, b"#!").unwrap();
        let image = image.config("Entrypoint", json!(["stay"])).config("Env", json!(["PATH=/bin"]));
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
