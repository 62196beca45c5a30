//! Watching one process until it is gone, and ending it.
#![expect(unsafe_code, reason = "registering a descriptor with the reactor is unsafe")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::confinement::cgroup;
use crate::{ExitReason, VmmError, VmmProcess};

/// How long a terminated VMM may take to go in order.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// How long the kernel may take to tear a killed process down: its memory may be large.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// A process with its pidfd. Its exit is seen by a task of its own, so that a child is reaped even when nobody holds
/// this any longer; dropping it ends nothing.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    process: VmmProcess,
    pidfd: Arc<OwnedFd>,
    exit: watch::Receiver<Option<ExitReason>>,
}

impl Watched {
    pub(super) fn new(process: VmmProcess, pidfd: OwnedFd, cgroup: Option<PathBuf>) -> io::Result<Self> {
        let pidfd = Arc::new(pidfd);
        // SAFETY: an `Arc<OwnedFd>` always names the same descriptor, which stays open until the last clone is dropped.
        let ready = unsafe { AsyncFd::register_with_interest(Arc::clone(&pidfd), Interest::READABLE)? };
        let (sender, exit) = watch::channel(None);
        tokio::spawn(async move {
            // A pidfd becomes readable when the process ends, and an error here cannot be told from that.
            let _readable = ready.readable().await;
            let reason = reap(ready.get_ref());
            if let Some(cgroup) = cgroup {
                cgroup::remove(&cgroup).await;
            }
            sender.send_replace(Some(reason));
        });
        Ok(Self { process, pidfd, exit })
    }

    /// What identifies it.
    pub(crate) fn process(&self) -> &VmmProcess {
        &self.process
    }

    /// How it ended, when it has.
    pub(crate) fn ended(&self) -> Option<ExitReason> {
        self.exit.borrow().clone()
    }

    /// Waits for its end.
    pub(crate) async fn exited(&self) -> ExitReason {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await;
        ended.ok().and_then(|reason| reason.clone()).unwrap_or(ExitReason::Unknown)
    }

    /// Waits for its end at most this long.
    pub(crate) async fn exits_within(&self, limit: Duration) -> bool {
        timeout(limit, self.exited()).await.is_ok()
    }

    /// SIGTERM, and SIGKILL when that does not help.
    pub(crate) async fn terminate(&self) -> Result<(), VmmError> {
        self.signal(Signal::TERM)?;
        if self.exits_within(TERM_GRACE).await {
            return Ok(());
        }
        self.kill().await
    }

    /// SIGKILL, and waiting for the end.
    pub(crate) async fn kill(&self) -> Result<(), VmmError> {
        self.signal(Signal::KILL)?;
        if self.exits_within(KILL_GRACE).await { Ok(()) } else { Err(VmmError::Unkillable(self.process.pid)) }
    }

    fn signal(&self, signal: Signal) -> Result<(), VmmError> {
        match pidfd_send_signal(self.pidfd.as_fd(), signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(VmmError::Host {
                act: "signal",
                path: format!("/proc/{}", self.process.pid).into(),
                source: error.into(),
            }),
        }
    }
}

/// A process that is not fit for use yet: dropped, it is killed; kept, it lives on.
#[derive(Debug)]
pub(crate) struct Starting(Option<Watched>);

impl Starting {
    pub(crate) fn new(process: Watched) -> Self {
        Self(Some(process))
    }

    /// It answers: from now on it outlives whoever started it.
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.as_ref().map(|process| process.signal(Signal::KILL)) {
            tracing::warn!(error = &error as &dyn std::error::Error, "a VMM that did not start stays behind");
        }
    }
}

/// The exit status of a child; nobody can know that of another's child, nor of one that was reaped already.
fn reap(pidfd: &OwnedFd) -> ExitReason {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Ok(Some(status)) => status
            .exit_status()
            .map(ExitReason::Code)
            .or_else(|| status.terminating_signal().map(ExitReason::Signal))
            .unwrap_or(ExitReason::Unknown),
        Ok(None) | Err(_) => ExitReason::Unknown,
    }
}
