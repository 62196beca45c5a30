//! One Cloud Hypervisor process.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dataplane_agent::AGENT_VSOCK_PORT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Version;
use super::api::{Api, Call};
use super::events::{Events, Seen};
use super::wire::{Sockets, State, VmConfig, VmInfo};
use crate::process::{Watched, check_peer, hand_over};
use crate::{Launch, Sizes, VmEvent, VmHandle, VmState, VmmError, VmmProcess, event_log};

const INFO: Call = Call::get("vm.info", 5);
const CREATE: Call = Call::put("vm.create", 5);
const BOOT: Call = Call::put("vm.boot", 60);
/// Draining a disk may take 30 s.
const PAUSE: Call = Call::put("vm.pause", 40);
/// How often a pause that gets stuck half way is asked for again, and when.
const PAUSE_ATTEMPTS: u32 = 5;
const PAUSE_RETRY: Duration = Duration::from_millis(200);
const RESUME: Call = Call::put("vm.resume", 10);
const DELETE: Call = Call::put("vm.delete", 10);
const QUIT: Call = Call::put("vmm.shutdown", 10);
pub(super) const PING: Call = Call::get("vmm.ping", 5);

/// How long a VMM that has agreed to end may take.
const QUIT_GRACE: Duration = Duration::from_secs(5);
/// How long a guest may take to answer a connection; a halted one never does.
const CONNECT_GRACE: Duration = Duration::from_secs(5);
/// The longest `OK <port>` line.
const MAX_REPLY: usize = 32;

/// Drives one process. Holds no lock over a call: the API's task serialises them.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) launch: Launch,
    pub(super) sockets: Sockets,
    pub(super) version: Version,
    process: Watched,
    pub(super) api: Api,
    pub(super) seen: Arc<Seen>,
    events: Mutex<Option<mpsc::Receiver<VmEvent>>>,
}

impl Handle {
    pub(super) fn new(launch: &Launch, version: Version, process: Watched, api: Api) -> Self {
        let sockets = Sockets::below(&launch.run_dir);
        let seen = Arc::new(Seen::default());
        let events = event_log::follow(&launch.events, process.clone(), Events::new(Arc::clone(&seen)));
        let events = Mutex::new(Some(events));
        Self { launch: launch.clone(), sockets, version, process, api, seen, events }
    }

    /// `None` when the VMM holds no VM.
    pub(super) async fn info(&self) -> Result<Option<VmInfo>, VmmError> {
        match self.api.read(INFO).await? {
            Ok(info) => Ok(Some(info)),
            Err(refusal) if refusal.is_no_vm() => Ok(None),
            Err(refusal) => Err(refusal.into_error(INFO)),
        }
    }

    fn state_of(&self, info: &VmInfo) -> VmState {
        match info.state {
            // After a shutdown the VMM keeps only the configuration, as before the first boot.
            State::Created if self.seen.booted() => VmState::Shutdown,
            State::Created => VmState::Created,
            State::Running => VmState::Running,
            State::Paused | State::BreakPoint => VmState::Paused,
            State::Shutdown => VmState::Shutdown,
        }
    }

    async fn put(&self, call: Call) -> Result<(), VmmError> {
        self.api.call(call, None).await?.map(drop).map_err(|refusal| refusal.into_error(call))
    }

    /// A call that the VMM refuses to a VM that is already where the call leads.
    async fn lead_to(&self, call: Call, goal: State) -> Result<(), VmmError> {
        let Err(refusal) = self.api.call(call, None).await? else { return Ok(()) };
        match self.info().await? {
            Some(info) if info.state == goal => Ok(()),
            _ => Err(refusal.into_error(call)),
        }
    }

    /// A VM that could not be booted is left half made: it is made anew, so that the failure has had no effect.
    async fn make_anew(&self) -> Result<(), VmmError> {
        self.put(DELETE).await?;
        self.seen.set_booted(false);
        self.create().await
    }

    /// `CONNECT <port>` and `OK <port>`, read byte by byte: what follows belongs to the agent protocol.
    async fn dial(&self) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.sockets.vsock).await?;
        check_peer(&stream, self.process.process())?;
        stream.write_all(format!("CONNECT {AGENT_VSOCK_PORT}\n").as_bytes()).await?;
        let mut reply = Vec::with_capacity(MAX_REPLY);
        while reply.last() != Some(&b'\n') && reply.len() < MAX_REPLY {
            reply.push(stream.read_u8().await?);
        }
        if reply.starts_with(b"OK ") { Ok(stream) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

#[async_trait]
impl VmHandle for Handle {
    fn process(&self) -> &VmmProcess {
        self.process.process()
    }

    async fn state(&self) -> Result<VmState, VmmError> {
        Ok(self.info().await?.map_or(VmState::Empty, |info| self.state_of(&info)))
    }

    async fn create(&self) -> Result<(), VmmError> {
        let config = VmConfig::new(&self.launch.spec, &self.sockets.vsock, self.version);
        let body = serde_json::to_vec(&config).map_err(|error| VmmError::Host {
            act: "name the files of the VM in",
            path: self.sockets.api.clone(),
            source: error.into(),
        })?;
        let Err(refusal) = self.api.call(CREATE, Some(Bytes::from(body))).await? else { return Ok(()) };
        if refusal.says("VM is already created") {
            let uuid = self.launch.spec.uuid.to_string();
            if self.info().await?.is_some_and(|info| info.uuid() == Some(&uuid)) {
                return Ok(());
            }
            return Err(refusal.into_error(CREATE));
        }
        // A refused create can leave its configuration behind.
        self.put(DELETE).await?;
        Err(refusal.into_error(CREATE))
    }

    async fn boot(&self) -> Result<(), VmmError> {
        // Now it opens its disks, and one may have come since the process was started.
        hand_over(&self.launch)?;
        let Err(refusal) = self.api.call(BOOT, None).await? else {
            self.seen.set_booted(true);
            return Ok(());
        };
        let state = self.info().await?.map(|info| info.state);
        if refusal.says("VM is already created") && state == Some(State::Running) {
            return Ok(());
        }
        if state.is_some() {
            self.make_anew().await?;
        }
        Err(refusal.into_error(BOOT))
    }

    async fn pause(&self) -> Result<(), VmmError> {
        let mut attempt = 1;
        loop {
            match self.lead_to(PAUSE, State::Paused).await {
                // The VMM gives up where a processor does not react within a second, as while the guest handles one that
                // comes or goes. It then still says that the VM runs, but some processors stand: only a pause that
                // succeeds, and a resume, let them go on.
                Err(VmmError::Refused { message, .. })
                    if message.contains("Error signalling vCPUs") && attempt < PAUSE_ATTEMPTS =>
                {
                    tracing::debug!(attempt, message, "a pause got stuck half way");
                    attempt += 1;
                    sleep(PAUSE_RETRY).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn resume(&self) -> Result<(), VmmError> {
        self.lead_to(RESUME, State::Running).await
    }

    async fn snapshot(&self, directory: &Path) -> Result<(), VmmError> {
        self.take_snapshot(directory).await
    }

    async fn restore(&self, directory: &Path) -> Result<(), VmmError> {
        self.load_snapshot(directory).await
    }

    async fn resize(&self, wanted: Sizes) -> Result<(), VmmError> {
        self.change_sizes(wanted).await
    }

    async fn connect_agent(&self) -> Result<UnixStream, VmmError> {
        let dialled = timeout(CONNECT_GRACE, self.dial()).await;
        let dialled = dialled.map_err(|_| VmmError::Timeout { call: "CONNECT", seconds: CONNECT_GRACE.as_secs() })?;
        dialled.map_err(|error| {
            if self.process.ended().is_none() && nobody_listens(&error) {
                return VmmError::AgentNotListening;
            }
            VmmError::Unreachable { call: "CONNECT", source: error }
        })
    }

    async fn quit(&self) -> Result<(), VmmError> {
        if self.process.ended().is_some() {
            return Ok(());
        }
        self.seen.set_quitting();
        if let Err(error) = self.put(QUIT).await {
            // It may have ended before it answered; if not, what follows does not ask.
            tracing::debug!(error = &error as &dyn std::error::Error, "the VMM was asked to end and did not answer");
        } else if self.process.exits_within(QUIT_GRACE).await {
            return Ok(());
        }
        self.process.terminate().await
    }

    async fn kill(&self) -> Result<(), VmmError> {
        self.seen.set_quitting();
        self.process.kill().await
    }

    fn events(&self) -> Option<mpsc::Receiver<VmEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The VMM closes the connection when nothing in the guest listens; without a VM there is no socket.
fn nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
    )
}
