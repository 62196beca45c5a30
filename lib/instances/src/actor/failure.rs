//! What becomes of an operation whose step failed: undone where it has a commit and has not come to it, tried again
//! where it only rolls forward, and otherwise over, with its trouble in the record.

use std::time::Duration;

use dataplane_vmm::VmmError;

use super::{Actor, StepError, chain};
use crate::record::OpKind;
use crate::{ActionError, DeleteError, ErrorRecord, InstanceState};

/// How long a step that failed waits before it is tried again by itself.
const RETRY: Duration = Duration::from_secs(5);

/// What trouble with a full disk is called.
const NO_SPACE: &str = "no_space";

const UNRESPONSIVE: &str = "the VMM does not answer";

impl StepError {
    fn code(&self) -> &'static str {
        match self {
            Self::Vmm(VmmError::Timeout { .. } | VmmError::Unreachable { .. }) => "vmm_unresponsive",
            Self::Vmm(VmmError::Pending { .. }) => "busy",
            Self::Vmm(error) if error.no_space() => NO_SPACE,
            Self::Vmm(_) | Self::NoDriver(_) | Self::Orphans(_) | Self::Uid(_) | Self::Endless => "vmm_failed",
            Self::Link(_) => "network_failed",
            Self::NoSpace { .. } => NO_SPACE,
            Self::Store(error) if error.is_disk_full() => NO_SPACE,
            Self::MemoryFile { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => NO_SPACE,
            Self::Store(_) | Self::MemoryFile { .. } => "storage_failed",
        }
    }
}

impl Actor {
    fn kind(&self) -> Option<OpKind> {
        self.record.op.as_ref().map(|op| op.kind)
    }

    /// Whether the operation in progress has a commit and has not come to it.
    pub(crate) fn can_undo(&self) -> bool {
        let uncommitted = match self.kind() {
            Some(OpKind::Standby) => !self.snapshot,
            Some(OpKind::Restore) => self.snapshot,
            Some(_) | None => false,
        };
        uncommitted && !self.progress.undo
    }

    /// Whether the operation in progress has nowhere to go but forward.
    fn rolls_forward(&self) -> bool {
        self.deleting() || (self.kind() == Some(OpKind::Standby) && self.snapshot)
    }

    /// Turns round: what the operation has done is undone, and its clients learn why.
    pub(super) fn undo(&mut self, error: &StepError) {
        let message = chain(error);
        tracing::warn!(instance.id = %self.record.id, error = message, "undoing an operation that failed");
        self.tell_joined(Err(self.answer_to(error)));
        self.undo_because(error.code(), &message);
    }

    /// The same, when nobody's step has failed.
    pub(crate) fn undo_because(&mut self, code: &str, message: &str) {
        self.progress.undo = true;
        self.cause = Some(ErrorRecord { code: code.into(), message: message.into(), at: self.deps.clock.now() });
    }

    /// What the operation needs went away under it.
    pub(crate) fn give_up(&mut self) -> Result<(), StepError> {
        let (code, message) = match self.kind() {
            Some(_) if self.is_unresponsive() => ("vmm_unresponsive", UNRESPONSIVE),
            Some(OpKind::Restore) if self.snapshot => ("vmm_failed", "the VMM did not restore the snapshot"),
            Some(OpKind::Restore) => ("restore_lost", "the VMM ended after its snapshot was used up: start it anew"),
            Some(_) | None => ("vmm_exited", "the VM ended before it was in standby"),
        };
        tracing::warn!(instance.id = %self.record.id, code, message, "giving the operation up");
        self.tell_joined(Err(ActionError::Failed(self.record.id.clone(), message.into())));
        self.undo_because(code, message);
        Ok(())
    }

    /// The operation is over: done, or undone. A delete that came while a step waited takes its place and goes on.
    pub(crate) fn done(&mut self) -> Result<(), StepError> {
        if self.deleting() {
            return Ok(());
        }
        let missed = self.missed();
        let (stays_down, unresponsive) = (self.snapshot, self.is_unresponsive());
        let at = self.deps.clock.now();
        let silence = || ErrorRecord { code: "vmm_unresponsive".into(), message: UNRESPONSIVE.into(), at };
        let cause = self.cause.clone().or_else(|| unresponsive.then(silence));
        self.update(|record| {
            if let Some(target) = record.op.as_ref().and_then(|op| op.target).filter(|_| !unresponsive) {
                (record.spec.vcpus, record.spec.memory) = (target.vcpus, target.memory);
            }
            record.op = None;
            record.up &= !stays_down;
            if cause.is_some() || stays_down {
                record.last_error = cause;
            }
        })?;
        // Not before the record says so: what could not be recorded is not begun again.
        self.progress.undo = false;
        self.cause = None;
        if let Some(error) = missed {
            self.tell_joined(Err(error));
        }
        Ok(())
    }

    /// Whether the VMM was asked and did not answer.
    fn is_unresponsive(&self) -> bool {
        self.vmm.as_ref().is_some_and(|live| live.unresponsive)
    }

    /// What did not come about, because the guest has ended or the VMM does not answer, is not answered as if it had.
    fn missed(&self) -> Option<ActionError> {
        let (kind, state, id) = (self.kind()?, self.state(), self.record.id.clone());
        let goal = match kind {
            OpKind::Pause | OpKind::Resume | OpKind::Resize | OpKind::Restore if self.is_unresponsive() => {
                return Some(ActionError::Failed(id, UNRESPONSIVE.into()));
            }
            OpKind::Pause => InstanceState::Paused,
            OpKind::Resume => InstanceState::Running,
            OpKind::Create
            | OpKind::Start
            | OpKind::Stop
            | OpKind::Reboot
            | OpKind::Restart
            | OpKind::Standby
            | OpKind::Restore
            | OpKind::Resize
            | OpKind::Delete => return None,
        };
        (state != goal).then_some(ActionError::InvalidState { id, state, wanted: kind })
    }

    fn answer_to(&self, error: &StepError) -> ActionError {
        let (id, message) = (self.record.id.clone(), chain(error));
        if matches!(error, StepError::Vmm(VmmError::Unsupported(_))) {
            ActionError::NotSupported { id, message }
        } else if matches!(error, StepError::Vmm(VmmError::Pending { .. })) {
            ActionError::Unfinished { id, message }
        } else if error.code() == NO_SPACE {
            ActionError::NoSpace { id, message }
        } else {
            ActionError::Failed(id, message)
        }
    }

    /// A step failed, and no client waits for its create: the trouble is recorded.
    pub(super) async fn failed(&mut self, error: &StepError) {
        tracing::warn!(instance.id = %self.record.id, error = %chain(error), "a step failed");
        let (forward, message) = (self.rolls_forward(), chain(error));
        let trouble = ErrorRecord { code: error.code().into(), message, at: self.deps.clock.now() };
        let recorded = self.update(|record| {
            record.last_error = Some(trouble);
            if !forward {
                record.op = None;
            }
        });
        if let Err(error) = recorded {
            tracing::error!(instance.id = %self.record.id, error = %chain(&error), "the trouble could not be recorded");
        }
        self.tell_joined(Err(self.answer_to(error)));
        if self.deleting() {
            let failure = DeleteError::Failed(self.record.id.clone(), chain(error));
            for reply in self.waiting.drain(..) {
                let _ = reply.send(Err(failure.clone()));
            }
        }
        self.pause_after_failure().await;
    }

    /// Waits before a step is tried again, unless mail comes.
    async fn pause_after_failure(&mut self) {
        // recv is cancel-safe; what arrives is admitted by hand.
        let mail = tokio::time::timeout(RETRY, async {
            tokio::select! {
                biased;
                mail = self.deletes.recv() => (mail, None),
                mail = self.orders.recv() => (None, mail),
            }
        });
        if let Ok((delete, order)) = mail.await {
            if let Some(mail) = delete {
                self.admit_delete(mail);
            }
            if let Some(mail) = order {
                self.admit_order(mail);
            }
        }
    }
}
