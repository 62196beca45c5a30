//! The emulated host: booted, heard, and cut off.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::journal::{Guests, Line, Orders};

/// The longest that a boot is let live: far beyond what it needs.
const LONGEST_LIFE_SECONDS: u64 = 900;

/// What one boot after the other has in common.
pub(crate) struct Machine {
    directory: tempfile::TempDir,
}

/// One boot.
pub(crate) struct Life {
    script: Child,
    lines: Receiver<String>,
    pid_file: PathBuf,
    /// What it said besides its journal.
    pub(crate) said: Vec<String>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        // Not in memory: the disk of an emulated host is as large as a real one's.
        Self { directory: tempfile::Builder::new().prefix("power").tempdir_in("/var/tmp").unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn boot(&self, orders: &Orders) -> Life {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let exe = std::env::current_exe().unwrap();
        let fake_ch = exe.parent().and_then(Path::parent).unwrap().join("fake-ch");
        File::create(self.path("orders")).unwrap().write_all(orders.to_json().to_string().as_bytes()).unwrap();
        let _ = std::fs::remove_file(self.path("pid"));
        let memory = if orders.guests == Guests::Real { "2500" } else { "1024" };
        let mut command = Command::new(root.join("scripts/nested-host"));
        command.arg("--prepared").arg(self.path("prepared")).arg("--disk").arg(self.path("disk"));
        command.arg("--input").arg(self.path("orders")).arg("--pidfile").arg(self.path("pid"));
        command.arg("--console").arg(self.path("console")).args(["--memory", memory]);
        command.args(["--timeout", &LONGEST_LIFE_SECONDS.to_string(), "--env", "RUST_BACKTRACE=0"]);
        command.arg("--share").arg(env!("CARGO_BIN_EXE_dataplane")).arg("--share").arg(fake_ch);
        command.args(["--share", "/bin/busybox"]);
        command.arg("--").arg(exe).args(["inside", "--exact", "--ignored", "--nocapture"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(self.path("trouble")).unwrap());
        let mut script = command.spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(script.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        Life { script, lines, pid_file: self.path("pid"), said: Vec::new() }
    }

    /// What went wrong with the emulated host itself: the file system's own complaints, above all.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let console = std::fs::read(self.path("console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console).into_owned();
        let bad = ["EXT4-fs error", "EXT4-fs warning", "I/O error", "BUG:", "Oops", "Kernel panic", "corrupt"];
        console.lines().filter(|line| bad.iter().any(|word| line.contains(word))).map(str::to_owned).collect()
    }

    pub(crate) fn trouble(&self) -> String {
        std::fs::read_to_string(self.path("trouble")).unwrap_or_default()
    }

    /// The disk of a host that was shut down in order is without fault.
    pub(crate) fn check_disk(&self) -> Result<(), String> {
        let output = Command::new("e2fsck").arg("-fn").arg(self.path("disk")).output().unwrap();
        output
            .status
            .success()
            .then_some(())
            .ok_or_else(|| format!("e2fsck: {}\n{}", output.status, String::from_utf8_lossy(&output.stdout)))
    }
}

impl Life {
    /// The next line of the journal; `None` when the time is over, an error when the host has ended by itself.
    pub(crate) fn next(&mut self, until: Instant) -> Result<Option<Line>, String> {
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(text) => match Line::parse(&text) {
                    Some(line) => return Ok(Some(line)),
                    None => self.said.push(text),
                },
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err("the emulated host has ended by itself".into()),
            }
        }
    }

    /// Cuts the power. What was said until then is still to be had, and nothing comes after it.
    pub(crate) fn cut(&mut self) -> Vec<Line> {
        let pid: i32 = std::fs::read_to_string(&self.pid_file).unwrap().trim().parse().unwrap();
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(String::from_utf8_lossy(&line).contains("qemu-system"), "process {pid} is no emulator");
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        self.script.wait().unwrap();
        let rest: Vec<String> = self.lines.iter().collect();
        let lines = rest.iter().filter_map(|text| Line::parse(text)).collect();
        self.said.extend(rest.into_iter().filter(|text| Line::parse(text).is_none()));
        lines
    }

    /// Waits for its own end.
    pub(crate) fn end(mut self, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.script.try_wait().unwrap() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the emulated host ended with {status}")),
                None if Instant::now() > deadline => return Err("the emulated host does not end".into()),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Life {
    /// The script takes its emulator along.
    fn drop(&mut self) {
        if let (Ok(None), Ok(pid)) = (self.script.try_wait(), i32::try_from(self.script.id())) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let _ = self.script.wait();
        }
    }
}
