//! The simulated guest: a console line, a program, and an agent that answers on the vsock socket.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dataplane_agent::{Decoder, ExitStatus, GuestMessage, HostMessage, PROTOCOL_VERSION, encode};

use crate::config::VmConfig;
use crate::disks::Disks;
use crate::program;
use crate::vsock::Vsock;

/// How a guest surprises its VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    PowerOff,
    Reset,
    Panic,
}

/// A running guest. Dropping it is pulling the plug.
#[derive(Debug)]
pub(crate) struct Guest {
    shared: Arc<Shared>,
    _vsock: Option<Vsock>,
    _disks: Disks,
}

/// What the guest's threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    console: bool,
}

#[derive(Debug, Default)]
struct State {
    paused: bool,
    /// The plug is pulled.
    gone: bool,
    /// The kernel has panicked: nothing answers any more.
    dead: bool,
    /// When a stop was asked for, and until when the program may take.
    kill_at: Option<Instant>,
    exit: Option<ExitStatus>,
    recorded: bool,
    clients: Vec<UnixStream>,
}

impl Guest {
    /// Starts one; `report` is told what it does to its VMM.
    ///
    /// # Errors
    /// The chain of messages of a device that cannot be made.
    pub(crate) fn start(
        config: &VmConfig,
        disks: Disks,
        report: Box<dyn Fn(Outcome) + Send>,
    ) -> Result<Self, Vec<String>> {
        let console = config.parsed.serial.as_ref().is_some_and(|serial| serial.mode == "Tty");
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), console });
        let vsock = config.parsed.vsock.as_ref().map(|vsock| Vsock::bind(&vsock.socket, Arc::clone(&shared)));
        let vsock = vsock.transpose()?;
        let argv = disks.guest.as_ref().map(|guest| guest.argv.clone()).unwrap_or_default();
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || program::run(&shared, &argv, &report)
        });
        Ok(Self { shared, _vsock: vsock, _disks: disks })
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.shared.lock().paused
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.shared.change(|state| state.paused = paused);
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
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
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
    fn wait<T>(&self, limit: Option<Duration>, done: impl Fn(&State) -> Option<T>) -> Result<Option<T>, Gone> {
        let end = limit.map(|limit| Instant::now() + limit);
        let mut state = self.lock();
        loop {
            if state.gone {
                return Err(Gone);
            }
            if !state.paused {
                if let Some(value) = done(&state) {
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
        self.change(|state| {
            state.exit = Some(status);
            let message = GuestMessage::Exited { status, reason: None };
            state.clients.retain(|client| send(client, &message).is_ok());
        });
        self.wait(None, |state| state.recorded.then_some(())).map(drop)
    }

    /// The kernel has panicked.
    pub(crate) fn die(&self) {
        self.change(|state| state.dead = true);
    }

    /// Serves one connection to the agent until either side goes.
    pub(crate) fn serve_agent(&self, stream: &UnixStream) -> std::io::Result<()> {
        let mut decoder = Decoder::default();
        let mut buffer = [0; 4096];
        loop {
            let count = std::io::Read::read(&mut &*stream, &mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            decoder.push(&buffer[..count]);
            while let Some((number, payload)) = decoder.next_frame() {
                if number == 0
                    && let Ok(message) = serde_json::from_slice(&payload)
                {
                    if self.lock().dead || self.wait(None, |_| Some(())).is_err() {
                        continue;
                    }
                    self.hear(stream, message)?;
                }
            }
        }
    }

    fn hear(&self, stream: &UnixStream, message: HostMessage) -> std::io::Result<()> {
        match message {
            HostMessage::Hello { nonce, .. } => {
                let mut state = self.lock();
                send(stream, &GuestMessage::Hello { version: PROTOCOL_VERSION, nonce })?;
                send(stream, &GuestMessage::Started { init_ms: 1 })?;
                if let Some(status) = state.exit {
                    send(stream, &GuestMessage::Exited { status, reason: None })?;
                }
                state.clients.push(stream.try_clone()?);
            }
            HostMessage::Stop { grace_ms } => {
                let kill_at = Instant::now() + Duration::from_millis(grace_ms);
                self.change(|state| state.kill_at = state.kill_at.or(Some(kill_at)));
            }
            HostMessage::ExitRecorded => self.change(|state| state.recorded = state.exit.is_some()),
            HostMessage::Ask { .. } => {}
        }
        Ok(())
    }
}

fn send(mut stream: &UnixStream, message: &GuestMessage) -> std::io::Result<()> {
    let json = serde_json::to_vec(message)?;
    stream.write_all(&encode(0, &json).map_err(std::io::Error::other)?)
}
