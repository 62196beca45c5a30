//! Network namespaces for tests: each has a thread of its own, so tests of one process do not see each other's
//! interfaces, and nothing of the host's network is ever touched. A namespace ends with its value.
//!
//! Invariant: a test of this kind never passes without having run. [`main`] is the harness that marks them as ignored
//! for whoever is not root; root without the means gets a failure that names what is missing.
#![expect(unsafe_code, reason = "attaching to a TAP device is an ioctl")]

use std::any::Any;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};

/// How long a test waits for a frame that has to come. Never used to prove that one does not.
const PATIENCE: Duration = Duration::from_secs(20);

/// Functions of modules, as [`main`] takes them: `module: function, function; …`.
#[macro_export]
macro_rules! netns_tests {
    ($($module:ident: $($name:ident),+ $(,)?;)+) => {
        &[$($((concat!(stringify!($module), "::", stringify!($name)), $module::$name as fn())),+),+]
    };
}

/// A test binary's `main` (with `harness = false`): runs the tests in libtest's manner. Without root they are ignored
/// and counted as such.
#[must_use]
pub fn main(tests: &[(&'static str, fn())]) -> ExitCode {
    let is_root = nix::unistd::geteuid().is_root();
    let trial = |(name, test): &(&'static str, fn())| {
        let test = *test;
        let run = move || {
            test();
            Ok(())
        };
        // The kind is printed with the name: it is the reason when the test is ignored.
        Trial::test(*name, run).with_kind("needs root and /dev/net/tun").with_ignored_flag(!is_root)
    };
    libtest_mimic::run(&Arguments::from_args(), tests.iter().map(trial).collect()).exit_code()
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace with `lo` up, and the thread that lives in it.
#[derive(Debug)]
pub struct Netns {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Netns {
    /// A fresh namespace.
    ///
    /// # Panics
    /// With what is missing on this machine.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "making a namespace is an effect, not a default value")]
    pub fn new() -> Self {
        assert!(Path::new("/dev/net/tun").exists(), "this test needs /dev/net/tun; try `modprobe tun`");
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (report, made) = mpsc::sync_channel(1);
        let body = move || {
            let entered = unshare(CloneFlags::CLONE_NEWNET);
            let path = PathBuf::from(format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid()));
            if report.send(entered.map(|()| path)).is_ok() {
                inbox.into_iter().for_each(|job| job());
            }
        };
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn(body).expect("a thread can be made");
        let path = made.recv().expect("the thread reports first").unwrap_or_else(|errno| {
            panic!("this test needs a network namespace of its own, and unshare(CLONE_NEWNET) says: {errno}")
        });
        let namespace = Self { jobs: Some(jobs), thread: Some(thread), path };
        namespace.ip("link set lo up");
        namespace
    }

    /// Where the namespace can be named by others, for example by `ip link set … netns PATH`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a closure inside; a panic of it becomes the caller's.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (reply, answer) = mpsc::sync_channel::<Result<T, Box<dyn Any + Send>>>(1);
        let job = move || {
            let _ = reply.send(catch_unwind(AssertUnwindSafe(work)));
        };
        self.jobs.as_ref().expect("taken on drop only").send(Box::new(job)).expect("the thread outlives its owner");
        match answer.recv().expect("each job answers") {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Runs a future inside, on a current-thread runtime of its own.
    pub fn block_on<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(work())
        })
    }

    /// Runs a program inside and returns what it printed.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub fn command(&self, program: &str, arguments: &[&str]) -> String {
        let (name, arguments) = (program.to_owned(), arguments.iter().map(ToString::to_string).collect::<Vec<_>>());
        let shown = format!("{name} {}", arguments.join(" "));
        let output = self.run(move || Command::new(name).args(arguments).output());
        let output = output.unwrap_or_else(|error| panic!("this test needs the program {program}: {error}"));
        assert!(output.status.success(), "`{shown}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `ip` with arguments separated by blanks.
    pub fn ip(&self, arguments: &str) -> String {
        self.command("ip", &arguments.split_whitespace().collect::<Vec<_>>())
    }

    /// Joins two namespaces by a veth pair, both ends up.
    pub fn connect(&self, here: &str, other: &Self, there: &str) {
        self.ip(&format!("link add {here} type veth peer name {there} netns {}", other.path.display()));
        self.ip(&format!("link set {here} up"));
        other.ip(&format!("link set {there} up"));
        self.settle(here);
        other.settle(there);
    }

    /// Waits until an interface that is up carries packets. The kernel learns of a carrier at once but acts on it in a
    /// work queue; until then it drops silently, at the device, its port, or the bridge above.
    ///
    /// # Panics
    /// When that takes unreasonably long.
    pub fn settle(&self, interface: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.ip(&format!("-o -d link show dev {interface}"));
            let is_port = shown.contains("bridge_slave");
            let is_active = shown.contains(" state UP ") || shown.contains(" state UNKNOWN ");
            if is_active
                && !shown.contains(" qdisc noop ")
                && is_port == shown.contains("bridge_slave state forwarding")
            {
                let above = shown.split(" master ").nth(1).and_then(|rest| rest.split_whitespace().next());
                return above.into_iter().for_each(|above| self.settle(above));
            }
            assert!(Instant::now() < deadline, "{interface} does not come up: {shown}");
        }
    }

    /// Joins a TAP of this namespace with an interface `eth0` in another one, as a VMM joins it with its guest; until
    /// the process ends.
    ///
    /// # Panics
    /// When one of the two cannot be had.
    pub fn join(&self, tap: &str, guest: &Self) {
        guest.ip("tuntap add mode tap name eth0 vnet_hdr");
        guest.ip("link set eth0 up");
        let (outer, inner) = (self.tap(tap), guest.tap("eth0"));
        let copy = |what: &str| (outer.try_clone().expect(what), inner.try_clone().expect(what));
        let (from, to) = copy("a descriptor can be copied");
        pump(from, to);
        pump(inner, outer);
    }

    /// Attaches to a TAP that exists and is up, as a VMM does, and waits until it carries packets.
    ///
    /// # Panics
    /// When it cannot be had.
    #[must_use]
    pub fn tap(&self, name: &str) -> RawTap {
        let owned = name.to_owned();
        let tap = self.run(move || RawTap::attach(&owned));
        let tap = tap.unwrap_or_else(|error| panic!("this test cannot attach to /dev/net/tun as {name}: {error}"));
        self.settle(name);
        tap
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The guest's side of a TAP: whole Ethernet frames in and out, each behind a virtio header of zeroes.
#[derive(Debug)]
pub struct RawTap {
    device: File,
}

/// Passes frames on until one side is gone.
fn pump(mut from: RawTap, mut to: RawTap) {
    std::thread::spawn(move || {
        loop {
            match from.receive() {
                Ok(frame) => drop(to.send(&frame)),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                Err(_) => return,
            }
        }
    });
}

nix::ioctl_write_ptr_bad!(tun_set_iff, 0x4004_54ca, libc::ifreq);

/// Size of `struct virtio_net_hdr` as a TAP has it unless told otherwise.
const HEADER: usize = 10;
const LARGEST: usize = 65_536;

impl RawTap {
    /// Attaches to a TAP in the namespace of the calling thread.
    ///
    /// # Errors
    /// What the kernel said; `EBUSY` when somebody else is attached.
    pub fn attach(name: &str) -> io::Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/net/tun")?;
        // SAFETY: `ifreq` is plain data of integers and a union of such; all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        request.ifr_ifru.ifru_flags = i16::try_from(flags).expect("three flags below 2^15");
        // SAFETY: the descriptor is open for the whole call, and the request is a valid, initialized `ifreq`.
        unsafe { tun_set_iff(device.as_raw_fd(), &raw const request) }?;
        Ok(Self { device })
    }

    /// A second handle to the same end: one to send by, one to receive by.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { device: self.device.try_clone()? })
    }

    /// Sends one frame. When this returns the bridge has taken it.
    ///
    /// # Errors
    /// What the kernel said; `EIO` when the TAP is down.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut packet = vec![0; HEADER];
        packet.extend_from_slice(frame);
        self.device.write_all(&packet)
    }

    /// The next frame.
    ///
    /// # Errors
    /// `TimedOut` when none comes for a long time.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => break,
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let mut packet = vec![0; LARGEST];
        let length = self.device.read(&mut packet)?;
        packet.truncate(length);
        Ok(packet.split_off(HEADER.min(length)))
    }
}

nix::ioctl_write_int_bad!(tun_set_offload, 0x4004_54d0);

/// Sums to be completed and TCP to be segmented by whoever comes last (`TUN_F_CSUM`, `TUN_F_TSO4`, `TUN_F_TSO6`).
const OFFLOADS: i32 = 7;

/// A cable between two TAPs: whatever comes out of one goes into the other, in both directions, until this is dropped.
#[derive(Debug)]
pub struct Cable {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Cable {
    /// Joins them. Both hand over large segments whole, as a VMM's do.
    ///
    /// # Panics
    /// When that cannot be agreed on, or a descriptor not be doubled.
    #[must_use]
    pub fn new(one: &RawTap, other: &RawTap) -> Self {
        for tap in [one, other] {
            // SAFETY: the descriptor is open for the whole call; the argument is a number, not a pointer.
            unsafe { tun_set_offload(tap.device.as_raw_fd(), OFFLOADS) }.expect("a TAP takes large segments");
        }
        let stop = Arc::new(AtomicBool::new(false));
        let device = |tap: &RawTap| tap.device.try_clone().expect("a descriptor can be doubled");
        let way = |from: File, to: File| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || carry(&from, &to, &stop))
        };
        let threads = vec![way(device(one), device(other)), way(device(other), device(one))];
        Self { stop, threads }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// How often a cable on which nothing moves looks whether it is to end.
const LOOK_UP: u16 = 20;

fn carry(mut from: &File, mut to: &File, stop: &AtomicBool) {
    let mut packet = vec![0; HEADER + LARGEST];
    while !stop.load(Ordering::Relaxed) {
        let readable = poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], LOOK_UP);
        if !matches!(readable, Ok(1..)) {
            continue;
        }
        // With their headers, as they are. What the other end does not take is lost, as on any cable.
        if let Ok(length) = from.read(&mut packet) {
            let _ = to.write(&packet[..length]);
        }
    }
}
