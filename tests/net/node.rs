//! A daemon with one image, its clients, and a kernel behind a TAP where a guest would be.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use dataplane_api::contract::{Contract, Seen};
use dataplane_testkit::daemon::Daemon;
use dataplane_testkit::http::{Answer, Client};
use dataplane_testkit::image::ImageBuilder;
use dataplane_testkit::netns::Netns;
use serde_json::{Value, json};

static CONTRACT: LazyLock<Contract> = LazyLock::new(Contract::new);

fn check(method: &str, path: &str, answer: &Answer) -> Result<(), String> {
    let seen = Seen { method, path, status: answer.status, headers: &answer.headers, body: &answer.body };
    CONTRACT.check(&seen).map_err(|breach| breach.to_string())
}

/// The `fake-ch` that was built with these tests.
pub(crate) fn fake_ch() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent().and_then(Path::parent).unwrap().join("fake-ch");
    assert!(path.is_file(), "{path:?} is missing: cargo build -p dataplane-vmm --bin fake-ch");
    path
}

pub(crate) const DATAPLANE: &str = env!("CARGO_BIN_EXE_dataplane");

pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    pub(crate) client: Client,
}

impl Node {
    pub(crate) async fn start() -> Self {
        let vmm = fake_ch();
        let environment = [
            ("HYPERVISOR", "cloud-hypervisor"),
            ("CLOUD_HYPERVISOR_BIN", vmm.to_str().unwrap()),
            // What stands for kernel and initramfs of a simulated guest is only opened.
            ("KERNEL_PATH", "/etc/os-release"),
            ("INITRD_PATH", "/etc/os-release"),
            ("SUBNET_CIDR", "10.9.0.0/22"),
            ("SUBNET_GATEWAY", "10.9.0.1"),
        ];
        let daemon = Daemon::start(Path::new(DATAPLANE), &environment, check).unwrap();
        let node = Self { client: daemon.client(), daemon };
        import(&node.client).await;
        node
    }

    pub(crate) async fn create(&self, id: &str, extra: Value) -> Answer {
        self.client.post_json("/instances", &wish(id, extra)).await.unwrap()
    }

    pub(crate) async fn delete(&self, id: &str) {
        let answer = self.client.delete(&format!("/instances/{id}?grace_seconds=0")).await.unwrap();
        assert_eq!(answer.status, 204, "{:?}", answer.body);
    }

    /// Kills the daemon and starts it again.
    pub(crate) fn crash(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.launch().unwrap();
    }

    pub(crate) fn rules(&self) -> String {
        self.daemon.space().command("nft", &["list", "ruleset"])
    }

    /// A namespace behind the TAP of an instance, with its address and MAC.
    pub(crate) fn guest_of(&self, instance: &Value) -> Netns {
        let (ip, mac) = (instance["private_ip"].as_str().unwrap(), instance["mac"].as_str().unwrap());
        let hex: String = ip.split('.').map(|part| format!("{:02x}", part.parse::<u8>().unwrap())).collect();
        let guest = Netns::new();
        self.daemon.space().join(&format!("tap{hex}"), &guest);
        guest.ip(&format!("link set eth0 address {mac}"));
        guest.ip(&format!("addr add {ip}/22 dev eth0"));
        guest.ip("route add default via 10.9.0.1");
        guest
    }
}

pub(crate) async fn import(client: &Client) {
    let image = ImageBuilder::new("tiny:1").file("program", 0o755, b"#!").unwrap();
    let image = image.config("Entrypoint", json!(["stay"])).config("Env", json!(["PATH=/bin"]));
    let answer = client.post("/images/import", "application/x-tar", image.archive().unwrap()).await.unwrap();
    assert_eq!(answer.status, 201, "{:?}", answer.body);
}

pub(crate) fn wish(id: &str, extra: Value) -> Value {
    let mut body = json!({ "id": id, "image": "img-tiny", "memory_mb": 64, "vcpus": 1, "disk_gb": 1 });
    body.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
    body
}
