//! Pausing and resuming: the vCPUs stand still, everything else stays.

use crate::actor::{Actor, StepError, chain};
use crate::record::OpKind;

impl Actor {
    pub(crate) async fn pause_vm(&mut self) -> Result<(), StepError> {
        match &self.vmm {
            Some(live) => Ok(live.handle.pause().await?),
            None => Ok(()),
        }
    }

    /// Lets the guest go on: because that is wanted, or so that it can hear that it is to end. In the second case a VMM
    /// that will not is ended all the same.
    pub(crate) async fn resume_vm(&mut self) -> Result<(), StepError> {
        let Some(live) = &self.vmm else { return Ok(()) };
        let asking = |kind| matches!(kind, OpKind::Stop | OpKind::Reboot | OpKind::Delete);
        let resumed = live.handle.resume().await;
        live.clock.stood_still();
        if live.agent_connected {
            self.set_clock();
        }
        match resumed {
            Err(error) if self.record.op.as_ref().is_some_and(|op| asking(op.kind)) => {
                tracing::warn!(instance.id = %self.record.id, error = %chain(&error), "a paused guest is not asked to end");
                self.progress.asked = true;
                Ok(())
            }
            result => Ok(result?),
        }
    }
}
