//! The simulated guest: a console line, a program, an agent, and a memory that goes through snapshots.
//!
//! It marks its writable disk whenever it begins to run, and remembers the mark. A guest that goes on from an image and
//! finds another mark, or whose image is not the one that its devices were saved with, panics: a real one would corrupt
//! its file system or crash.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dataplane_agent::{ExitStatus, GuestMessage};

use crate::agent;
use crate::config::VmConfig;
use crate::disks::Disks;
use crate::exec::Processes;
use crate::memory::{Memory, host_clock};
use crate::program;
use crate::vsock::Vsock;

/// Where on the disk the mark lies: in the sector before an ext4 superblock, which nobody uses.
const MARK_OFFSET: u64 = 504;

/// How a guest surprises its VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    PowerOff,
    Reset,
    Panic,
}

/// Tells the VMM.
pub(crate) type Report = Arc<dyn Fn(Outcome) + Send + Sync>;

/// What the VMM offers to its guest at the moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Offered {
    pub(crate) vcpus: u32,
    pub(crate) memory_bytes: u64,
}

/// What a guest goes on from.
#[derive(Debug)]
pub(crate) struct Past {
    /// What was found in the image.
    pub(crate) memory: Option<Memory>,
    /// The mark that the devices were saved with.
    pub(crate) mark: u64,
}

/// A guest that runs or is paused. Dropping it is pulling the plug.
pub(crate) struct Guest {
    shared: Arc<Shared>,
    report: Report,
    /// The file that is its memory, when it lies in one.
    image: Option<File>,
    disks: Disks,
    _vsock: Option<Vsock>,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// What the guest's threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    console: bool,
    /// Held while a frame is written to the host.
    pub(crate) speaking: Mutex<()>,
    processes: Mutex<Processes>,
}

/// What is true of it now.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) memory: Memory,
    paused: bool,
    /// The plug is pulled.
    gone: bool,
    /// When a stop was asked for, and until when the program may take.
    pub(crate) kill_at: Option<Instant>,
    pub(crate) clock: Clock,
    pub(crate) offered: Offered,
    pub(crate) clients: Vec<UnixStream>,
}

/// The guest's clock: the host's with an error, or standing still until a restored guest is resumed.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    error_ns: i64,
    stands_at: Option<u64>,
}

impl Clock {
    pub(crate) fn now(&self) -> u64 {
        self.stands_at.unwrap_or_else(|| host_clock().saturating_add_signed(self.error_ns))
    }

    pub(crate) fn set(&mut self, unix_ns: u64) {
        self.error_ns = unix_ns.wrapping_sub(host_clock()).cast_signed();
    }

    /// From here on it is late by the time that the guest was away.
    fn go_on(&mut self) {
        if let Some(stood_at) = self.stands_at.take() {
            self.set(stood_at);
        }
    }
}

impl Guest {
    /// Starts one.
    ///
    /// # Errors
    /// The chain of messages of a device that cannot be made.
    pub(crate) fn boot(config: &VmConfig, disks: Disks, report: Report) -> Result<Self, Vec<String>> {
        let argv = disks.guest.as_ref().map(|guest| guest.argv.clone()).unwrap_or_default();
        let memory = Memory { argv, online: config.offered().vcpus, ..Memory::default() };
        let guest = Self::build(config, disks, State { memory, ..State::default() }, report)?;
        guest.begin_to_run();
        guest.run();
        Ok(guest)
    }

    /// Goes on with one, paused.
    ///
    /// # Errors
    /// As [`Guest::boot`].
    pub(crate) fn restore(config: &VmConfig, disks: Disks, past: Past, report: Report) -> Result<Self, Vec<String>> {
        let fits = past.memory.as_ref().is_some_and(|memory| memory.mark == past.mark);
        let mut memory = past.memory.unwrap_or_default();
        if !fits {
            // Nothing sensible will come of this, but the VMM cannot know.
            memory.mark = u64::MAX;
        }
        let kill_at = memory.kill_in_ms.map(|left| Instant::now() + Duration::from_millis(left));
        let clock = Clock { error_ns: 0, stands_at: Some(memory.clock_ns) };
        let guest =
            Self::build(config, disks, State { memory, paused: true, kill_at, clock, ..State::default() }, report)?;
        guest.run();
        Ok(guest)
    }

    fn build(config: &VmConfig, disks: Disks, state: State, report: Report) -> Result<Self, Vec<String>> {
        let console = config.parsed.serial.as_ref().is_some_and(|serial| serial.mode == "Tty");
        let state = State { offered: config.offered(), ..state };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            console,
            speaking: Mutex::default(),
            processes: Mutex::default(),
        });
        let vsock = config.parsed.vsock.as_ref().map(|vsock| Vsock::bind(&vsock.socket, Arc::clone(&shared)));
        let image = config.open_memory_file()?;
        Ok(Self { shared, report, image, disks, _vsock: vsock.transpose()? })
    }

    fn run(&self) {
        let (shared, report) = (Arc::clone(&self.shared), Arc::clone(&self.report));
        thread::spawn(move || program::run(&shared, &*report));
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.shared.lock().paused
    }

    pub(crate) fn pause(&self) {
        self.shared.change(|state| state.paused = true);
        self.write_through();
    }

    pub(crate) fn resume(&self) {
        if !self.finds_its_disk() {
            self.shared.print("fake-guest: panic: my memory, my devices and my disk are not of one moment");
            self.shared.change(|state| state.memory.dead = true);
            (self.report)(Outcome::Panic);
        }
        self.begin_to_run();
        self.shared.change(|state| {
            state.clock.go_on();
            state.paused = false;
        });
    }

    pub(crate) fn offer(&self, offered: Offered) {
        self.shared.change(|state| {
            state.offered = offered;
            // What is taken away goes by itself; what is given has to be taken into use.
            state.memory.online = state.memory.online.min(offered.vcpus);
        });
    }

    /// Its memory as it is now.
    pub(crate) fn memory(&self) -> Memory {
        let state = self.shared.lock();
        let left = state.kill_at.map(|at| at.saturating_duration_since(Instant::now()));
        let kill_in_ms = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        Memory { kill_in_ms, clock_ns: state.clock.now(), ..state.memory.clone() }
    }

    /// From here on no earlier image fits its disk.
    fn begin_to_run(&self) {
        let mark = host_clock();
        if let Some(disk) = self.disks.writable() {
            // A disk that takes nothing keeps its old mark, and is found out.
            let _full = disk.write_all_at(&mark.to_le_bytes(), MARK_OFFSET);
        }
        self.shared.change(|state| state.memory.mark = mark);
        self.write_through();
    }

    fn finds_its_disk(&self) -> bool {
        let mut mark = [0; 8];
        let read = self.disks.writable().map(|disk| disk.read_exact_at(&mut mark, MARK_OFFSET));
        let remembered = self.shared.lock().memory.mark;
        match read {
            Some(read) => read.is_ok() && u64::from_le_bytes(mark) == remembered,
            None => remembered != u64::MAX,
        }
    }

    /// Memory that is a file is always there; here, whenever it matters.
    fn write_through(&self) {
        if let Some(image) = &self.image {
            // As a real guest, it would not notice.
            let _lost = self.memory().store(image);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.gone = true;
            for client in state.clients.drain(..) {
                // It may have gone before.
                let _closed = client.shutdown(std::net::Shutdown::Both);
            }
        });
    }
}

/// The plug was pulled.
#[derive(Debug)]
pub(crate) struct Gone;

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// A line on the console.
    pub(crate) fn print(&self, line: &str) {
        if self.console {
            let mut console = std::io::stdout().lock();
            // A console that nobody reads.
            let _lost = console.write_all(format!("{line}\n").as_bytes()).and_then(|()| console.flush());
        }
    }

    /// Waits until `done` says something, or for `limit`; a paused guest does neither.
    fn wait<T>(
        &self,
        limit: Option<Duration>,
        mut done: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<Option<T>, Gone> {
        let end = limit.map(|limit| Instant::now() + limit);
        let mut state = self.lock();
        loop {
            if state.gone {
                return Err(Gone);
            }
            if !state.paused {
                if let Some(value) = done(&mut state) {
                    return Ok(Some(value));
                }
                if end.is_some_and(|end| Instant::now() >= end) {
                    return Ok(None);
                }
            }
            let left = end.map_or(Duration::from_secs(3600), |end| end.saturating_duration_since(Instant::now()));
            // A paused guest whose time is up is looked at again now and then.
            let left = left.max(Duration::from_millis(10));
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// One step of the program, as soon as it may run: a pause comes before it or behind it, never within.
    pub(crate) fn step<T>(&self, mut step: impl FnMut(&mut Memory) -> T) -> Result<T, Gone> {
        let alive = |state: &mut State| (!state.memory.dead).then(|| step(&mut state.memory));
        self.wait(None, alive)?.ok_or(Gone)
    }

    /// Whether the guest's agent hears what comes in; waits while it is paused.
    pub(crate) fn is_heard(&self) -> bool {
        matches!(self.wait(None, |state| Some(!state.memory.dead)), Ok(Some(true)))
    }

    /// Whether a stop was asked for within the limit; when it was, the time of the kill.
    pub(crate) fn stop_within(&self, limit: Option<Duration>) -> Result<Option<Instant>, Gone> {
        self.wait(limit, |state| state.kill_at)
    }

    /// Sleeps, unless the plug is pulled.
    pub(crate) fn sleep(&self, time: Duration) -> Result<(), Gone> {
        self.wait(Some(time), |_| None::<()>).map(drop)
    }

    /// Tells the host how the program ended, and waits until the host has written it down.
    pub(crate) fn exit(&self, status: ExitStatus) -> Result<(), Gone> {
        self.wait(None, |state| {
            if state.memory.exit.is_none() {
                state.memory.exit = Some(status);
                let message = GuestMessage::Exited { status, reason: None };
                let _one = self.speaking.lock().unwrap_or_else(PoisonError::into_inner);
                state.clients.retain(|client| agent::send(client, &message).is_ok());
            }
            Some(())
        })?;
        self.wait(None, |state| state.memory.recorded.then_some(())).map(drop)
    }

    /// The kernel has panicked.
    pub(crate) fn die(&self) {
        self.change(|state| state.memory.dead = true);
    }
}
