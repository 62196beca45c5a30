//! The baseline: one process that does the VMM's steps on its raw API socket, with nothing else around them.
#![expect(clippy::disallowed_methods, reason = "the baseline is what this product's own ways are compared with")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node;

/// How often the socket is tried while the process starts.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// How long a VMM may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// The copy of the writable disk.
const DISK: &str = "disk";

/// A running VMM; ended when dropped.
#[derive(Debug)]
pub(crate) struct Vmm {
    child: Child,
    stream: BufReader<UnixStream>,
}

/// Everything that a VMM needs, made before the clock runs.
#[derive(Debug)]
pub(crate) struct Prepared {
    directory: tempfile::TempDir,
    config: String,
}

/// The configuration that the daemon gave to one of its VMMs.
pub(crate) fn config_of(socket: &Path) -> Value {
    let mut stream = BufReader::new(UnixStream::connect(socket).unwrap());
    let (status, body) = exchange(&mut stream, "GET", "vm.info", "");
    assert_eq!(status, 200, "vm.info");
    serde_json::from_slice::<Value>(&body).unwrap()["config"].take()
}

impl Prepared {
    /// The same VM again, with a copy of its writable disk; the others are shared.
    pub(crate) fn like(config: &Value) -> Self {
        let directory = tempfile::Builder::new().prefix("raw").tempdir().unwrap();
        let mut config = config.clone();
        for disk in config["disks"].as_array_mut().unwrap() {
            if disk["readonly"] == false {
                let own = directory.path().join(DISK);
                let from = disk["path"].as_str().unwrap();
                let copied = Command::new("cp").args(["--sparse=always", from]).arg(&own).status().unwrap();
                assert!(copied.success(), "cp");
                disk["path"] = own.to_str().unwrap().into();
            }
        }
        config["vsock"]["socket"] = directory.path().join("vsock").to_str().unwrap().into();
        Self { directory, config: config.to_string() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Spawn, `vm.create`, `vm.boot`; and how long that took.
    pub(crate) fn start(&self) -> (Vmm, Duration) {
        let begin = Instant::now();
        let mut vmm = self.spawn();
        vmm.put("vm.create", &self.config);
        vmm.put("vm.boot", "");
        (vmm, begin.elapsed())
    }

    fn spawn(&self) -> Vmm {
        let socket = self.path("api");
        let log = |name| File::create(self.path(name)).unwrap();
        let child = Command::new(node::vmm())
            .arg("--api-socket")
            .arg(format!("path={}", socket.display()))
            .arg("--event-monitor")
            .arg(format!("path={}", self.path("events").display()))
            .arg("--no-shutdown")
            .stdin(Stdio::null())
            .stdout(log("serial"))
            .stderr(log("log"))
            .spawn()
            .unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => return Vmm { child, stream: BufReader::new(stream) },
                Err(error) => assert!(Instant::now() < end, "the VMM does not listen: {error}"),
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// What the daemon does to a snapshot, by the same calls on the same files: what is in it is fsynced together with the
/// disk, and one rename gives it its name, or takes it.
impl Prepared {
    /// `vm.pause`, `vm.snapshot`, commit, `vmm.shutdown`; and how long that took.
    pub(crate) fn standby(&self, mut vmm: Vmm) -> Duration {
        let begin = Instant::now();
        sync(&self.path(DISK));
        vmm.put("vm.pause", "");
        let draft = self.path("snapshot.new");
        fs::create_dir(&draft).unwrap();
        vmm.put("vm.snapshot", &json!({ "destination_url": url(&draft) }).to_string());
        File::create(draft.join("manifest.json")).unwrap().write_all(&[b' '; 1000]).unwrap();
        fs::read_dir(&draft).unwrap().flatten().for_each(|file| sync(&file.path()));
        sync(&self.path(DISK));
        sync(&draft);
        fs::rename(&draft, self.path("snapshot")).unwrap();
        sync(self.directory.path());
        vmm.put("vmm.shutdown", "");
        vmm.child.wait().unwrap();
        begin.elapsed()
    }

    /// Spawn, `vm.restore`, commit, `vm.resume`; and how long that took.
    pub(crate) fn restore(&self) -> (Vmm, Duration) {
        let begin = Instant::now();
        for socket in ["api", "vsock"] {
            let _missing = fs::remove_file(self.path(socket));
        }
        let mut vmm = self.spawn();
        let (snapshot, spent) = (self.path("snapshot"), self.path("snapshot.spent"));
        let order = json!({ "source_url": url(&snapshot), "memory_restore_mode": "Copy" });
        vmm.put("vm.restore", &order.to_string());
        sync(&snapshot);
        fs::rename(&snapshot, &spent).unwrap();
        sync(self.directory.path());
        vmm.put("vm.resume", "");
        let time = begin.elapsed();
        fs::remove_dir_all(&spent).unwrap();
        (vmm, time)
    }
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn sync(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

impl Vmm {
    fn put(&mut self, call: &str, body: &str) {
        let (status, answer) = exchange(&mut self.stream, "PUT", call, body);
        assert!(matches!(status, 200 | 204), "{call}: {status} {}", String::from_utf8_lossy(&answer));
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request and its answer on a kept connection.
fn exchange(stream: &mut BufReader<UnixStream>, method: &str, call: &str, body: &str) -> (u16, Vec<u8>) {
    let mut request = format!("{method} /api/v1/{call} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n");
    if !body.is_empty() {
        request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    request += "\r\n";
    request += body;
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0, "{call}: the VMM hung up");
        let line = line.trim_end();
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest.split(' ').next().unwrap().parse().unwrap();
        } else if let Some((name, value)) = line.split_once(':') {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
        } else if line.is_empty() {
            break;
        }
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).unwrap();
    (status, answer)
}
