//! One QEMU process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::command_line::{Accelerator, Sockets};
use super::events::Events;
use super::migration::Migration;
use super::qmp::{Command, Monitor, Signs};
use super::{resize, snapshot};
use crate::process::{Log, Watched, check_peer};
use crate::{Launch, Sizes, VmEvent, VmHandle, VmSpec, VmState, VmmError, VmmProcess, event_log};

const STATUS: Command = Command::new("query-status", 5);
const CONT: Command = Command::new("cont", 30);
const HALT: Command = Command::new("stop", 40);
const RESET: Command = Command::new("system_reset", 10);
const QUIT: Command = Command::new("quit", 10);

/// How long a reset may take until the machine stands before its first instruction again.
const RESET_GRACE: Duration = Duration::from_secs(10);
/// How long the first sign from inside a machine that boots again may take. The firmware's comes within 50 ms.
const FIRMWARE_GRACE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long a process that has agreed to end may take.
const QUIT_GRACE: Duration = Duration::from_secs(5);
const CONNECT_GRACE: Duration = Duration::from_secs(5);

/// QEMU's run states, those that matter by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RunState {
    Prelaunch,
    Running,
    Shutdown,
    GuestPanicked,
    InternalError,
    /// Waiting for a snapshot, or reading it.
    #[serde(rename = "inmigrate")]
    Incoming,
    /// Everything in which the machine is there and does not run.
    #[serde(other)]
    Paused,
}

/// What `query-status` says.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    pub(super) status: RunState,
}

/// The run state that a monitor reports.
pub(super) async fn run_state(monitor: &Monitor) -> Result<RunState, VmmError> {
    Ok(monitor.query::<Status>(STATUS).await?.status)
}

/// Drives one process. Holds no lock over a call: the monitor's task serialises them.
#[derive(Debug)]
pub(super) struct Handle {
    accelerator: Accelerator,
    spec: VmSpec,
    vmm_log: PathBuf,
    sockets: Sockets,
    process: Watched,
    monitor: Monitor,
    events: Mutex<Option<mpsc::Receiver<VmEvent>>>,
}

impl Handle {
    pub(super) fn new(launch: &Launch, accelerator: Accelerator, process: Watched) -> Self {
        let sockets = Sockets::below(&launch.run_dir);
        let monitor = Monitor::new(sockets.clone(), &process);
        let events = event_log::follow(&launch.events, process.clone(), Events::default());
        let (spec, vmm_log) = (launch.spec.clone(), launch.vmm_log.clone());
        Self { accelerator, spec, vmm_log, sockets, process, monitor, events: Mutex::new(Some(events)) }
    }

    fn migration(&self) -> Migration<'_> {
        Migration { monitor: &self.monitor, process: &self.process, spec: &self.spec }
    }

    async fn run(&self) -> Result<(), VmmError> {
        self.monitor.execute(CONT, Value::Null).await.map(drop)
    }

    /// Boots a machine whose guest has ended. Firmware that finds itself still in memory, changed by its last run,
    /// fetches a fresh copy of itself and asks for a reset, which stops the machine as any reset does: then it is
    /// reset once more, and boots as if for the first time.
    async fn boot_again(&self) -> Result<(), VmmError> {
        self.reset().await?;
        let mut signs = self.monitor.signs();
        let before = *signs.borrow();
        self.run().await?;
        let asked = {
            let from_inside = |now: &Signs| (now.resets, now.agents) != (before.resets, before.agents);
            let first = timeout(FIRMWARE_GRACE, signs.wait_for(from_inside)).await;
            matches!(first, Ok(Ok(now)) if now.resets != before.resets)
        };
        if asked {
            self.reset().await?;
            self.run().await?;
        }
        Ok(())
    }

    /// Brings the machine to before its first instruction. Resets only stop the machine; this one is let through.
    async fn reset(&self) -> Result<(), VmmError> {
        self.monitor.on_reset("reset").await?;
        let done = self.reset_and_wait().await;
        let undone = self.monitor.on_reset("shutdown").await;
        done.and(undone)
    }

    async fn reset_and_wait(&self) -> Result<(), VmmError> {
        self.monitor.execute(RESET, Value::Null).await?;
        let end = Instant::now() + RESET_GRACE;
        while run_state(&self.monitor).await? != RunState::Prelaunch {
            if Instant::now() >= end {
                return Err(VmmError::Timeout { call: "system_reset", seconds: RESET_GRACE.as_secs() });
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}

#[async_trait]
impl VmHandle for Handle {
    fn process(&self) -> &VmmProcess {
        self.process.process()
    }

    async fn state(&self) -> Result<VmState, VmmError> {
        Ok(match run_state(&self.monitor).await? {
            RunState::Incoming => VmState::Empty,
            RunState::Prelaunch => VmState::Created,
            RunState::Running => VmState::Running,
            RunState::Paused => VmState::Paused,
            RunState::Shutdown | RunState::GuestPanicked | RunState::InternalError => VmState::Shutdown,
        })
    }

    /// The command line has made the machine: what is left is to see that it is there.
    async fn create(&self) -> Result<(), VmmError> {
        match run_state(&self.monitor).await? {
            state @ RunState::Incoming => Err(refused("create", state)),
            RunState::Prelaunch
            | RunState::Running
            | RunState::Paused
            | RunState::Shutdown
            | RunState::GuestPanicked
            | RunState::InternalError => Ok(()),
        }
    }

    async fn boot(&self) -> Result<(), VmmError> {
        match run_state(&self.monitor).await? {
            RunState::Running => Ok(()),
            RunState::Prelaunch => self.run().await,
            RunState::Shutdown | RunState::GuestPanicked | RunState::InternalError => self.boot_again().await,
            state @ (RunState::Paused | RunState::Incoming) => Err(refused("cont", state)),
        }
    }

    async fn pause(&self) -> Result<(), VmmError> {
        match run_state(&self.monitor).await? {
            RunState::Paused => Ok(()),
            RunState::Running => self.monitor.execute(HALT, Value::Null).await.map(drop),
            state @ (RunState::Prelaunch
            | RunState::Incoming
            | RunState::Shutdown
            | RunState::GuestPanicked
            | RunState::InternalError) => Err(refused("stop", state)),
        }
    }

    /// `cont` would also wake a machine whose guest has ended.
    async fn resume(&self) -> Result<(), VmmError> {
        match run_state(&self.monitor).await? {
            RunState::Running => Ok(()),
            RunState::Paused => {
                self.migration().call_off().await?;
                self.run().await
            }
            state @ (RunState::Prelaunch
            | RunState::Incoming
            | RunState::Shutdown
            | RunState::GuestPanicked
            | RunState::InternalError) => Err(refused("cont", state)),
        }
    }

    async fn snapshot(&self, directory: &Path) -> Result<(), VmmError> {
        let migration = self.migration();
        migration.call_off().await?;
        match run_state(&self.monitor).await? {
            RunState::Paused => {}
            state @ (RunState::Prelaunch
            | RunState::Incoming
            | RunState::Running
            | RunState::Shutdown
            | RunState::GuestPanicked
            | RunState::InternalError) => return Err(refused("migrate", state)),
        }
        let to = directory.to_owned();
        let file = blocking(directory, move || snapshot::create(&to)).await?;
        let lent = file.try_clone().map_err(|error| host("share", directory, error))?;
        migration.write(lent).await?;
        let processors = resize::plugged(&self.monitor).await?;
        let to = directory.to_owned();
        blocking(directory, move || snapshot::seal(&to, &file, processors)).await
    }

    async fn restore(&self, directory: &Path) -> Result<(), VmmError> {
        match run_state(&self.monitor).await? {
            RunState::Incoming => {}
            state @ (RunState::Prelaunch
            | RunState::Running
            | RunState::Paused
            | RunState::Shutdown
            | RunState::GuestPanicked
            | RunState::InternalError) => return Err(refused("migrate-incoming", state)),
        }
        let from = directory.to_owned();
        let stream = blocking(directory, move || snapshot::open(&from)).await?;
        resize::plug(&self.monitor, &stream.processors).await?;
        let vmm_log = Log::open(&self.vmm_log)?;
        let read = self.migration().read(stream.file, &vmm_log).await;
        read.map_err(|error| match (error, self.process.ended()) {
            (VmmError::Refused { message, .. }, Some(_)) => snapshot::unusable(directory)(&message),
            (error, _) => error,
        })
    }

    async fn resize(&self, wanted: Sizes) -> Result<(), VmmError> {
        let VmSpec { boot, max, .. } = &self.spec;
        let within =
            (boot.vcpus..=max.vcpus).contains(&wanted.vcpus) && (boot.memory..=max.memory).contains(&wanted.memory);
        if !within {
            let message = format!("{wanted:?} is not between {boot:?} and {max:?}");
            return Err(VmmError::Refused { call: "resize", message });
        }
        match run_state(&self.monitor).await? {
            RunState::Running | RunState::Paused => {}
            state @ (RunState::Prelaunch
            | RunState::Incoming
            | RunState::Shutdown
            | RunState::GuestPanicked
            | RunState::InternalError) => return Err(refused("resize", state)),
        }
        // First what may be refused.
        if max.vcpus > boot.vcpus {
            let vcpus = usize::try_from(wanted.vcpus).unwrap_or(usize::MAX);
            resize::set_processors(&self.monitor, self.accelerator, vcpus).await?;
        }
        if max.memory > boot.memory {
            resize::set_growth(&self.monitor, wanted.memory.0 - boot.memory.0).await?;
        }
        Ok(())
    }

    async fn connect_agent(&self) -> Result<UnixStream, VmmError> {
        let dialled = timeout(CONNECT_GRACE, UnixStream::connect(&self.sockets.agent)).await;
        let dialled = dialled.map_err(|_| VmmError::Timeout { call: "connect", seconds: CONNECT_GRACE.as_secs() })?;
        let checked = dialled.and_then(|stream| check_peer(&stream, self.process.process()).map(|()| stream));
        checked.map_err(|error| {
            // The listener's backlog is full: others are waiting for the guest too.
            if error.kind() == io::ErrorKind::WouldBlock && self.process.ended().is_none() {
                return VmmError::AgentNotListening;
            }
            VmmError::Unreachable { call: "connect", source: error }
        })
    }

    async fn quit(&self) -> Result<(), VmmError> {
        if self.process.ended().is_some() {
            return Ok(());
        }
        if let Err(error) = self.monitor.execute(QUIT, Value::Null).await {
            // It may have ended before it answered; if not, what follows does not ask.
            tracing::debug!(error = &error as &dyn std::error::Error, "QEMU was asked to end and did not answer");
        }
        if self.process.exits_within(QUIT_GRACE).await {
            return Ok(());
        }
        self.process.terminate().await
    }

    async fn kill(&self) -> Result<(), VmmError> {
        self.process.kill().await
    }

    fn events(&self) -> Option<mpsc::Receiver<VmEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn refused(call: &'static str, state: RunState) -> VmmError {
    VmmError::Refused { call, message: format!("the machine is {state:?}") }
}

fn host(act: &'static str, path: &Path, source: io::Error) -> VmmError {
    VmmError::Host { act, path: path.to_owned(), source }
}

/// Work on files, on a thread of its own.
async fn blocking<T: Send + 'static>(
    directory: &Path,
    work: impl FnOnce() -> Result<T, VmmError> + Send + 'static,
) -> Result<T, VmmError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(host("work in", directory, error.into())))
}
