//! Other sizes: of the VM where it runs, otherwise of what is booted next.

use std::time::Duration;

use dataplane_agent::{Answer, Ask};
use dataplane_vmm::Sizes;
use tokio::time::Instant;

use crate::actor::{Actor, Patch, StepError};
use crate::admit::{Verdict, admit};
use crate::{ActionError, InstanceState, OpKind};

/// How long a guest may take to put new virtual CPUs to use. When it does not, they are there all the same.
const ONLINE_PATIENCE: Duration = Duration::from_secs(10);
/// How long the first pause before asking again is; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

impl Actor {
    /// The sizes that a patch wants, where they are others than now and possible; nothing has changed yet.
    pub(crate) fn check_sizes(&self, patch: &Patch) -> Result<Option<Sizes>, ActionError> {
        let now = self.record.spec.sizes();
        let wanted = Sizes { vcpus: patch.vcpus.unwrap_or(now.vcpus), memory: patch.memory.unwrap_or(now.memory) };
        if wanted == now {
            return Ok(None);
        }
        let id = self.record.id.clone();
        match admit(self.record.op.as_ref().map(|op| op.kind), self.state(), OpKind::Resize, false) {
            Verdict::Go => {}
            Verdict::Joined | Verdict::Busy(_) => {
                let kind = self.record.op.as_ref().map_or(OpKind::Resize, |op| op.kind);
                return Err(ActionError::Busy { id, kind });
            }
            Verdict::AlreadyThere | Verdict::HasSnapshot | Verdict::NoSnapshot | Verdict::Denied(_) => {
                return Err(ActionError::InvalidState { id, state: self.state(), wanted: OpKind::Resize });
            }
        }
        let spec = &self.record.spec;
        let running = matches!(self.state(), InstanceState::Running | InstanceState::Paused);
        let booted = self.record.booted.filter(|_| running).unwrap_or_else(|| spec.to_boot());
        let least = if running { booted.boot } else { Sizes { vcpus: 1, memory: wanted.memory.min(now.memory) } };
        let impossible = |field, message| Err(ActionError::Impossible { field, message });
        let [below, above] = [
            |unit| format!("is below what the VM was booted with, {unit}: stop it first"),
            |unit| format!("is above the most that it can have, {unit}"),
        ];
        if wanted.memory < least.memory {
            return impossible("memory_mb", below(least.memory.to_string()));
        }
        if wanted.memory > booted.max.memory {
            return impossible("memory_mb", above(booted.max.memory.to_string()));
        }
        if wanted.vcpus < least.vcpus {
            return impossible("vcpus", below(least.vcpus.to_string()));
        }
        if wanted.vcpus > booted.max.vcpus {
            return impossible("vcpus", above(booted.max.vcpus.to_string()));
        }
        Ok(Some(wanted))
    }

    /// Changes the VM's sizes, and records that they are changed.
    pub(crate) async fn resize_vm(&mut self) -> Result<(), StepError> {
        let target = self.record.op.as_ref().and_then(|op| op.target);
        if let (Some(target), Some(live)) = (target, &self.vmm) {
            live.handle.resize(target).await?;
            if target.vcpus > self.record.spec.vcpus && live.agent_connected {
                self.take_into_use(target.vcpus).await;
            }
        }
        self.done()
    }

    /// Has the guest take its new virtual CPUs into use: asked again until it has seen them all, which nothing tells.
    async fn take_into_use(&mut self, wanted: u32) {
        let until = Instant::now() + ONLINE_PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(live) = &self.vmm else { return };
            let asked = live.agent.ask(Ask::OnlineCpus, until.saturating_duration_since(Instant::now()));
            let why = match self.unless_deleted_or(asked).await {
                None => return,
                Some(Ok(Answer::Sizes { vcpus, .. })) if vcpus >= wanted => return,
                Some(Ok(answer)) => format!("{answer:?}"),
                Some(Err(error)) => error.to_string(),
            };
            if Instant::now() + pause >= until {
                tracing::warn!(instance.id = %self.record.id, wanted, why, "the guest did not take its new virtual CPUs");
                return;
            }
            if self.unless_deleted_or(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            pause *= 2;
        }
    }
}
