//! A machine to a file, and back into another process: QEMU's migration, with a file instead of another host.
//!
//! Invariant: nothing is in progress when a call returns, but for a QEMU that does not answer. A migration that an
//! earlier daemon began and did not live to see the end of is called off first: left alone, it would stop a machine that
//! runs again. QEMU's answers decide; its events only say when to ask.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::handle::{RunState, Status};
use super::qmp::{Command, Monitor};
use crate::process::{Log, Watched};
use crate::{VmSpec, VmmError};

const SET_CAPABILITIES: Command = Command::new("migrate-set-capabilities", 5);
const SET_PARAMETERS: Command = Command::new("migrate-set-parameters", 5);
const MIGRATE: Command = Command::new("migrate", 10);
const QUERY: Command = Command::new("query-migrate", 20);
const CANCEL: Command = Command::new("migrate_cancel", 10);
const INCOMING: Command = Command::new("migrate-incoming", 10);

/// The name under which QEMU knows the stream.
const FILE: &str = "state";
/// Bytes a second: no bound, since nobody runs while it is written.
const BANDWIDTH: u64 = 1_000_000_000_000;
/// How long a call may take, whatever the memory.
const GRACE: u64 = 30;
/// And what a slow disk manages, in MiB a second.
const SLOWEST: u64 = 50;
const CANCEL_GRACE: Duration = Duration::from_secs(20);
/// An event can be lost with its connection: after this long the question is asked without one.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a QEMU that hangs up may take to be gone.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// What `query-migrate` says.
#[derive(Debug, Default, Deserialize)]
struct Progress {
    #[serde(default)]
    status: Stage,
    #[serde(default, rename = "error-desc")]
    error: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stage {
    #[default]
    None,
    Completed,
    Failed,
    Cancelled,
    /// Every other one comes before one of these.
    #[serde(other)]
    Underway,
}

/// The two directions for one machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration<'a> {
    pub(super) monitor: &'a Monitor,
    pub(super) process: &'a Watched,
    pub(super) spec: &'a VmSpec,
}

impl Migration<'_> {
    /// Streams a machine that stands still into a file.
    ///
    /// # Errors
    /// [`VmmError`]; the machine stands still as before.
    pub(super) async fn write(&self, file: std::fs::File) -> Result<(), VmmError> {
        self.prepare().await?;
        let mut signs = self.monitor.signs();
        self.monitor.lend(FILE, file.into()).await?;
        self.monitor.execute(MIGRATE, json!({"uri": format!("fd:{FILE}")})).await?;
        let end = Instant::now() + Duration::from_secs(self.limit());
        loop {
            let Progress { status, error } = self.monitor.query(QUERY).await?;
            match status {
                Stage::Completed => return Ok(()),
                Stage::Underway if Instant::now() < end => {}
                Stage::Underway => {
                    self.call_off().await?;
                    return Err(VmmError::Timeout { call: "migrate", seconds: self.limit() });
                }
                Stage::None | Stage::Failed | Stage::Cancelled => {
                    let message = error.unwrap_or_else(|| format!("the migration ended as {status:?}"));
                    return Err(VmmError::Refused { call: "migrate", message });
                }
            }
            let _next_look = timeout(LOOK_AGAIN, signs.changed()).await;
        }
    }

    /// Loads a stream into a machine that was started for it. QEMU answers nothing while it reads, and ends when it
    /// does not like what it reads; it says why in its log.
    ///
    /// # Errors
    /// [`VmmError::Refused`] with those words, among others; the process is gone, or of no use.
    pub(super) async fn read(&self, file: std::fs::File, vmm_log: &Log) -> Result<(), VmmError> {
        self.prepare().await?;
        let mut signs = self.monitor.signs();
        self.monitor.lend(FILE, file.into()).await?;
        let end = Instant::now() + Duration::from_secs(self.limit());
        let mut began = self.monitor.execute(INCOMING, json!({"uri": format!("fd:{FILE}")})).await.map(drop);
        loop {
            let state = match began {
                Ok(()) => self.monitor.query::<Status>(Command::new("query-status", self.limit())).await,
                Err(error) => Err(error),
            };
            match state {
                Ok(Status { status: RunState::Paused }) => return Ok(()),
                Ok(Status { status: RunState::Incoming }) if Instant::now() < end => {}
                Ok(Status { status: RunState::Incoming }) => {
                    return Err(VmmError::Timeout { call: "migrate-incoming", seconds: self.limit() });
                }
                Ok(Status { status }) => {
                    let message = format!("the machine is {status:?} after it was loaded");
                    return Err(VmmError::Nonsense { call: "migrate-incoming", message });
                }
                Err(error @ VmmError::Unreachable { .. }) => return Err(self.last_words(error, vmm_log).await),
                Err(error) => return Err(error),
            }
            let _next_look = timeout(LOOK_AGAIN, signs.changed()).await;
            began = Ok(());
        }
    }

    /// Ends a migration that is under way, and waits until it has ended.
    ///
    /// # Errors
    /// [`VmmError`] when it does not end.
    pub(super) async fn call_off(&self) -> Result<(), VmmError> {
        let mut signs = self.monitor.signs();
        let end = Instant::now() + CANCEL_GRACE;
        let mut asked = false;
        while self.monitor.query::<Progress>(QUERY).await?.status == Stage::Underway {
            if Instant::now() >= end {
                return Err(VmmError::Timeout { call: "migrate_cancel", seconds: CANCEL_GRACE.as_secs() });
            }
            if !asked {
                self.monitor.execute(CANCEL, Value::Null).await?;
                asked = true;
            }
            let _next_look = timeout(LOOK_AGAIN, signs.changed()).await;
        }
        Ok(())
    }

    async fn prepare(&self) -> Result<(), VmmError> {
        let capability = |name: &str, state: bool| json!({"capability": name, "state": state});
        let shared = self.spec.memory_file.is_some();
        // Memory that is a file is there already.
        let capabilities = [capability("events", true), capability("x-ignore-shared", shared)];
        self.monitor.execute(SET_CAPABILITIES, json!({"capabilities": capabilities})).await?;
        self.monitor.execute(SET_PARAMETERS, json!({"max-bandwidth": BANDWIDTH})).await.map(drop)
    }

    /// In seconds.
    fn limit(&self) -> u64 {
        GRACE + self.spec.max.memory.0 / SLOWEST
    }

    /// Why QEMU hung up: its own words, when it has ended.
    async fn last_words(&self, error: VmmError, vmm_log: &Log) -> VmmError {
        if !self.process.exits_within(EXIT_GRACE).await {
            return error;
        }
        VmmError::Refused { call: "migrate-incoming", message: vmm_log.quote() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_an_end_or_under_way() {
        for (answer, expected) in [
            ("{}", Stage::None),
            (r#"{"status": "none"}"#, Stage::None),
            (r#"{"status": "setup", "total-time": 1}"#, Stage::Underway),
            (r#"{"status": "cancelling"}"#, Stage::Underway),
            (r#"{"status": "cancelled"}"#, Stage::Cancelled),
            (r#"{"status": "completed", "ram": {}}"#, Stage::Completed),
        ] {
            assert_eq!(serde_json::from_str::<Progress>(answer).unwrap().status, expected, "{answer}");
        }
        let failed: Progress = serde_json::from_str(r#"{"status": "failed", "error-desc": "why"}"#).unwrap();
        assert_eq!((failed.status, failed.error.as_deref()), (Stage::Failed, Some("why")));
    }
}
