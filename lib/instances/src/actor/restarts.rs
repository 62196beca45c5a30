//! The restart policy: an instance whose program or VM has ended by itself is started anew, at once the first time and
//! less and less often when that does not help.

use std::time::Duration;

use dataplane_vmm::VmState;
use tokio::time::Instant;

use super::{Actor, chain};
use crate::RestartPolicy;
use crate::record::OpKind;

/// The pause before the second start in a row; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A VM that ran this long is not in a row with the one before.
const STEADY: Duration = Duration::from_secs(60);

/// What the `last_error` of an instance that failed, rather than ended, says.
const FAILURES: [&str; 3] = ["guest_panic", "vmm_exited", "restore_lost"];

/// The starts in a row.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    count: u32,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Restarts {
    /// When the next start is due, when one is.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Nobody waits for a start any more.
    fn forget(&mut self) {
        self.due = None;
    }

    /// Whether to start now; otherwise remembers when.
    fn may_start(&mut self, now: Instant) -> bool {
        let due = *self.due.get_or_insert_with(|| {
            if self.last.is_none_or(|last| now.duration_since(last) >= STEADY + pause(self.count)) {
                self.count = 0;
            }
            now + pause(self.count)
        });
        if now < due {
            return false;
        }
        *self = Self { count: self.count.saturating_add(1), last: Some(now), due: None };
        true
    }
}

/// The pause before the start after this many in a row.
fn pause(count: u32) -> Duration {
    match count {
        0 => Duration::ZERO,
        more => FIRST_PAUSE.saturating_mul(1 << (more - 1).min(6)).min(LONGEST_PAUSE),
    }
}

impl Actor {
    /// Begins a restart when the policy wants one and it is due.
    pub(super) fn starts_anew(&mut self) -> bool {
        if !self.policy_wants_it() {
            self.restarts.forget();
            return false;
        }
        if !self.restarts.may_start(Instant::now()) {
            return false;
        }
        tracing::info!(instance.id = %self.record.id, policy = ?self.record.request.restart_policy, "starting the instance anew");
        if let Err(error) = self.begin(OpKind::Restart) {
            tracing::error!(instance.id = %self.record.id, error = %chain(&error), "record the restart");
            return false;
        }
        true
    }

    fn policy_wants_it(&self) -> bool {
        let ended = self.vmm.as_ref().is_none_or(|live| live.state == VmState::Shutdown && !live.unresponsive);
        if !ended || !self.record.up || self.record.op.is_some() || self.snapshot {
            return false;
        }
        match self.record.request.restart_policy {
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => self.has_failed(),
            RestartPolicy::Always => true,
        }
    }

    fn has_failed(&self) -> bool {
        let trouble = self.record.last_error.as_ref();
        self.record.exit_code.is_some_and(|code| code != 0)
            || trouble.is_some_and(|trouble| FAILURES.contains(&trouble.code.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_start_is_at_once_and_the_pauses_grow() {
        let mut restarts = Restarts::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let asked = Instant::now();
            while !restarts.may_start(Instant::now()) {
                tokio::time::sleep_until(restarts.due().unwrap()).await;
            }
            pauses.push(asked.elapsed().as_secs());
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        tokio::time::advance(STEADY + LONGEST_PAUSE).await;
        assert!(restarts.may_start(Instant::now()));
    }
}
