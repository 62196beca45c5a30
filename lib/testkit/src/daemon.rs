//! The real daemon as a process, in a network namespace and a directory of its own. Whatever it has started is gone
//! when this value is.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::http::{Check, Client};
use crate::netns::Netns;

/// How much of its log a failing test shows.
const SHOWN: usize = 400;

/// How long a daemon may take to serve, or to end: generous, since machines that emulate hosts are slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a file or socket is looked at while a process starts: nothing tells when it appears.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A daemon under test.
#[derive(Debug)]
pub struct Daemon {
    binary: PathBuf,
    environment: Vec<(String, String)>,
    directory: tempfile::TempDir,
    space: Netns,
    child: Option<Child>,
    check: Check,
}

impl Daemon {
    /// Starts the daemon and waits until it serves.
    ///
    /// # Errors
    /// When it ends instead; its log is in the message.
    pub fn start(binary: &Path, environment: &[(&str, &str)], check: Check) -> anyhow::Result<Self> {
        // VMs run as users of their own, who must get to their files.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        let directory = tempfile::Builder::new().prefix("dp").permissions(open).tempdir()?;
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut daemon =
            Self { binary: binary.to_owned(), environment, directory, space: Netns::new(), child: None, check };
        daemon.launch()?;
        Ok(daemon)
    }

    /// Starts it again in the same namespace and directory.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn launch(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(&self.binary);
        command.arg("serve").env("DATA_DIR", self.data()).env("RUNTIME_DIR", self.run_dir());
        command.env("PORT", "0").env("RESERVED_BYTES", "0").env("LOG_FORMAT", "text");
        command.env_remove("JWT_SECRET").env_remove("RUST_BACKTRACE");
        command.envs(self.environment.clone()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let _ = std::fs::remove_file(self.socket());
        let mut child = self.space.run(move || command.spawn()).context("start the daemon")?;
        let deadline = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("the daemon ended with {status}:\n{}", self.log());
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                anyhow::bail!("the daemon did not serve within {PATIENCE:?}:\n{}", self.log());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.child = Some(child);
        Ok(())
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Memory that it holds at this moment, in bytes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn rss(&self) -> anyhow::Result<u64> {
        let pid = self.pid().context("the daemon does not run")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib << 10)
    }

    /// A client on its Unix socket.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.socket(), self.check)
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn run_dir(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    /// The API's Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("api.sock")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("daemon.log")
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The namespace that it and its guests live in.
    #[must_use]
    pub fn space(&self) -> &Netns {
        &self.space
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("no daemon runs")?;
        child.kill()?;
        let status = child.wait()?;
        anyhow::ensure!(status.signal() == Some(9), "killed, it ended with {status}");
        Ok(())
    }

    /// Ends it with SIGTERM and waits.
    ///
    /// # Errors
    /// When it does not end in time, or not with 0.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("no daemon runs")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    let _ = child.kill();
                    anyhow::bail!("the daemon did not end within {PATIENCE:?}:\n{}", self.log());
                }
                None => std::thread::sleep(LOOK_AGAIN),
            }
        };
        anyhow::ensure!(status.success(), "stopped, it ended with {status}:\n{}", self.log());
        Ok(())
    }

    /// The processes in its namespace, the daemon itself left out.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let daemon = self.child.as_ref().map(Child::id);
        let Ok(space) = std::fs::metadata(self.space.path()) else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let own = std::process::id();
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| *pid != own && Some(*pid) != daemon)
            .filter(|pid| std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|link| same(&link, &space)))
            .collect()
    }

    /// Waits until its namespace has no TAP any more: they go some time after their instances.
    ///
    /// # Errors
    /// With those that stay.
    pub fn until_no_tap(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let taps = self.taps();
            if taps.is_empty() {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "TAPs are left: {taps:?}");
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The TAPs in its namespace.
    #[must_use]
    pub fn taps(&self) -> Vec<String> {
        let shown = self.space.ip("-o link show type tun");
        shown.lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned).collect()
    }
}

fn same(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(SHOWN)..];
            eprintln!("--- the daemon's log, the last {} of {} lines\n{}", last.len(), lines.len(), last.join("\n"));
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for pid in self.processes() {
            if let Ok(pid) = i32::try_from(pid) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}
