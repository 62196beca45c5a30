//! The daemon as a process that is started and killed at will, in a namespace and a directory of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use dataplane_api::contract::{Contract, Seen};
use dataplane_testkit::http::{Answer, Client};
use dataplane_testkit::image::ImageBuilder;
use dataplane_testkit::netns::Netns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::processes::{VMM, vmms_below};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nothing tells when a socket appears.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How much of the daemon's log a failure shows.
const LOG_TAIL: u64 = 60_000;

static CONTRACT: LazyLock<Contract> = LazyLock::new(Contract::new);
/// Answers that are not in the spec.
static BREACHES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn check(method: &str, path: &str, answer: &Answer) -> Result<(), String> {
    let seen = Seen { method, path, status: answer.status, headers: &answer.headers, body: &answer.body };
    if let Err(breach) = CONTRACT.check(&seen) {
        BREACHES.lock().unwrap().push(format!("{}: {breach}", answer.request));
    }
    Ok(())
}

/// The answers so far that were not in the spec.
pub(crate) fn breaches() -> Vec<String> {
    BREACHES.lock().unwrap().clone()
}

fn fake_ch() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent().and_then(Path::parent).unwrap().join(VMM);
    assert!(path.is_file(), "{path:?} is missing: cargo build -p dataplane-vmm --bin {VMM}");
    path
}

/// A daemon that dies often.
#[derive(Debug)]
pub(crate) struct Node {
    directory: tempfile::TempDir,
    space: Netns,
    child: Option<Child>,
}

impl Node {
    /// Everything but the daemon.
    pub(crate) fn new() -> Self {
        // VMMs are other users, and have to get through.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        let directory = tempfile::Builder::new().prefix("dp").permissions(open).tempdir().unwrap();
        File::create(directory.path().join("boot-file")).unwrap().write_all(b"kernel").unwrap();
        Self { directory, space: Netns::new(), child: None }
    }

    /// Starts the daemon and does not wait for it.
    pub(crate) fn spawn(&mut self) {
        let boot = self.path("boot-file");
        let log = File::options().create(true).append(true).open(self.path("daemon.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dataplane"));
        command.arg("serve").env("DATA_DIR", self.data()).env("RUNTIME_DIR", self.path("run"));
        command.env("PORT", "0").env("RESERVED_BYTES", "0").env("LOG_FORMAT", "text");
        // 29 guests at most: addresses that are lost run out soon.
        command.env("SUBNET_CIDR", "192.168.100.0/27").env("SUBNET_GATEWAY", "192.168.100.1");
        command.env("HYPERVISOR", "cloud-hypervisor").env("CLOUD_HYPERVISOR_BIN", fake_ch());
        command.env("KERNEL_PATH", &boot).env("INITRD_PATH", &boot);
        command.env_remove("JWT_SECRET").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let _ = std::fs::remove_file(self.socket());
        self.child = Some(self.space.run(move || command.spawn()).unwrap());
    }

    /// Waits until the daemon serves.
    pub(crate) async fn wait_up(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(self.socket()).is_err() {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                return Err(format!("the daemon ended by itself with {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!("the daemon did not serve within {PATIENCE:?}"));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Kills the daemon; what it has started goes on.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        let mut child = self.child.take().unwrap();
        if let Some(status) = child.try_wait().unwrap() {
            return Err(format!("the daemon ended by itself with {status}"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        Ok(())
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.socket(), check)
    }

    /// Imports the image of all instances: it need not hold anything that a simulated guest could run.
    pub(crate) async fn import(&self) {
        let image = ImageBuilder::new("tiny:1").file("program", 0o755, b"#!").unwrap();
        let image = image.config("Entrypoint", serde_json::json!(["stay"]));
        let answer = self.client().post("/images/import", "application/x-tar", image.archive().unwrap()).await.unwrap();
        assert_eq!(answer.status, 201, "{:?}", answer.body);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn socket(&self) -> PathBuf {
        self.path("run").join("api.sock")
    }

    /// The end of the daemon's log.
    pub(crate) fn log_tail(&self) -> String {
        let mut file = File::open(self.path("daemon.log")).unwrap();
        let begin = file.metadata().unwrap().len().saturating_sub(LOG_TAIL);
        file.seek(SeekFrom::Start(begin)).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The process ids of the VMMs, by the name of the runtime directory that their command line names.
    pub(crate) fn vmms(&self) -> BTreeMap<String, Vec<i32>> {
        vmms_below(&self.path("run"))
    }

    /// A way to look at the VMMs without the node.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    pub(crate) fn taps(&self) -> Vec<String> {
        let shown = self.space.ip("-o link show type tun");
        shown.lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned).collect()
    }

    pub(crate) fn rules(&self) -> String {
        self.space.command("nft", &["list", "ruleset"])
    }

    /// What is left of instances although there are none: empty when all is well.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        // TAPs go some time after their instances.
        let begin = Instant::now();
        while !self.taps().is_empty() && begin.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut left: Vec<String> = self.vmms().iter().map(|vmm| format!("VMM {vmm:?}")).collect();
        left.extend(self.taps().into_iter().map(|tap| format!("TAP {tap}")));
        for directory in ["data/instances", "data/trash", "data/images/work", "run"] {
            let entries = std::fs::read_dir(self.path(directory)).unwrap().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            let unexpected = names.filter(|name| !(directory == "run" && name.starts_with("api.sock")));
            left.extend(unexpected.map(|name| format!("{directory}/{name}")));
        }
        left
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for pid in self.vmms().into_values().flatten() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
