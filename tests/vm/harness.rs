//! One daemon with one image imported, and the questions that every case asks.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::Context as _;
use dataplane_api::contract::{Contract, Seen};
use dataplane_testkit::daemon::Daemon;
use dataplane_testkit::http::{Answer, Client, Event};
use dataplane_testkit::image::ImageBuilder;
use serde_json::{Value, json};

/// A guest that is emulated inside an emulated host takes its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

static CONTRACT: LazyLock<Contract> = LazyLock::new(Contract::new);

fn check(method: &str, path: &str, answer: &Answer) -> Result<(), String> {
    let seen = Seen { method, path, status: answer.status, headers: &answer.headers, body: &answer.body };
    CONTRACT.check(&seen).map_err(|breach| breach.to_string())
}

pub(crate) struct Host {
    pub(crate) daemon: Daemon,
    pub(crate) client: Client,
}

fn artefact(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bin").join(name)
}

impl Host {
    /// A daemon on the VMM that `HYPERVISOR` names.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// With variables of the daemon beside the usual ones.
    pub(crate) fn start_with(extra: &[(&str, &str)]) -> anyhow::Result<Self> {
        let hypervisor = std::env::var("HYPERVISOR").unwrap_or_else(|_| "auto".into());
        let (kernel, initrd) = (artefact("vmlinux"), artefact("initrd.img"));
        let environment = [
            ("HYPERVISOR", hypervisor.as_str()),
            ("KERNEL_PATH", kernel.to_str().context("path")?),
            ("INITRD_PATH", initrd.to_str().context("path")?),
        ];
        let daemon = Daemon::start(Path::new(env!("CARGO_BIN_EXE_dataplane")), &[&environment, extra].concat(), check)?;
        let client = daemon.client();
        Ok(Self { daemon, client })
    }

    /// Imports an image; its id.
    pub(crate) async fn import(&self, image: ImageBuilder) -> anyhow::Result<String> {
        let answer = self.client.post("/images/import", "application/x-tar", image.archive()?).await?;
        anyhow::ensure!(answer.status == 201, "import: {} {:?}", answer.status, answer.body);
        Ok(answer.json()["id"].as_str().context("an id")?.to_owned())
    }

    /// Creates an instance of an image that runs a shell script.
    pub(crate) async fn script(&self, id: &str, image: &str, script: &str) -> anyhow::Result<Value> {
        self.create(json!({ "id": id, "image": image, "memory_mb": 256, "vcpus": 1, "disk_gb": 1, "cmd": ["/bin/sh", "-c", script] })).await
    }

    /// Creates an instance; it must be new and running, or already done.
    pub(crate) async fn create(&self, body: Value) -> anyhow::Result<Value> {
        let answer = self.client.post_json("/instances", &body).await?;
        anyhow::ensure!(answer.status == 201, "create: {} {:?}", answer.status, answer.body);
        Ok(answer.json())
    }

    /// The instance now.
    pub(crate) async fn get(&self, id: &str) -> anyhow::Result<Value> {
        Ok(self.client.get(&format!("/instances/{id}")).await?.json())
    }

    /// Follows the log from the beginning until a line contains the text; that line.
    pub(crate) async fn line(&self, id: &str, text: &str) -> anyhow::Result<String> {
        self.line_after(id, text, None).await.map(|(line, _)| line)
    }

    /// The same, behind an event; the line and its event id.
    pub(crate) async fn line_after(
        &self,
        id: &str,
        text: &str,
        after: Option<&str>,
    ) -> anyhow::Result<(String, String)> {
        let path = format!("/instances/{id}/logs?follow=true&tail=100000");
        let mut events = self.client.events(&path, after).await?;
        let mut seen = Vec::new();
        let search = async {
            while let Some(event) = events.next().await? {
                let line = text_of(&event);
                if line.contains(text) {
                    return Ok((line, event.id));
                }
                seen.push(line);
            }
            anyhow::bail!("the log ended")
        };
        let found = tokio::time::timeout(PATIENCE, search).await;
        found.unwrap_or_else(|_| Err(anyhow::anyhow!("no such line within {PATIENCE:?}"))).with_context(|| {
            format!(
                "wait for {text:?} in the log of {id}; it says:\n{}\n--- vmm\n{}",
                seen.join("\n"),
                self.vmm_log(id)
            )
        })
    }

    fn vmm_log(&self, id: &str) -> String {
        std::fs::read_to_string(self.daemon.data().join("instances").join(id).join("logs/vmm.log")).unwrap_or_default()
    }

    /// Waits until the instance is as wanted.
    pub(crate) async fn until(&self, id: &str, wanted: &str, holds: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let query = if wanted == "ready" { "ready=true".to_owned() } else { format!("state={wanted}") };
        let path = format!("/instances/{id}/wait?{query}&timeout_seconds={}", PATIENCE.as_secs());
        let answer = self.client.get(&path).await?.json();
        anyhow::ensure!(holds(&answer["instance"]), "{id} did not become {wanted}: {answer}\n{}", self.daemon.log());
        Ok(answer["instance"].clone())
    }

    /// Deletes an instance and looks whether anything of it is left.
    pub(crate) async fn delete(&self, id: &str, grace_seconds: u32) -> anyhow::Result<()> {
        let answer = self.client.delete(&format!("/instances/{id}?grace_seconds={grace_seconds}")).await?;
        anyhow::ensure!(answer.status == 204, "delete: {} {:?}", answer.status, answer.body);
        anyhow::ensure!(self.client.get(&format!("/instances/{id}")).await?.status == 404);
        anyhow::ensure!(!self.daemon.data().join("instances").join(id).exists(), "its directory is left");
        Ok(())
    }

    /// That no instance, process, TAP or file of any is left.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.daemon.processes(), Vec::<u32>::new(), "processes are left");
        self.daemon.until_no_tap().unwrap();
        for directory in ["instances", "trash"] {
            let left: Vec<_> = std::fs::read_dir(self.daemon.data().join(directory)).unwrap().flatten().collect();
            assert!(left.is_empty(), "{directory}: {left:?}");
        }
    }
}

/// The line that an event carries.
pub(crate) fn text_of(event: &Event) -> String {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    data["text"].as_str().unwrap_or_default().to_owned()
}

/// An image with a shell.
pub(crate) fn shell_image() -> ImageBuilder {
    ImageBuilder::busybox("shell:1").unwrap_or_else(|error| panic!("{error}"))
}
