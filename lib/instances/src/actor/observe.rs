//! What there is: the VMM is asked, and what it says, or that it says nothing, becomes known.

use std::time::Duration;

use dataplane_vmm::{VmState, VmmError};
use tokio::time::Instant;

use super::{Actor, chain, next_event};
use crate::plan::{Seen, SeenVmm};

/// How long the news of a process's end may take.
const END_NEWS: Duration = Duration::from_secs(1);

impl Actor {
    /// What there is, and why the VMM does not say what it is doing, when it does not.
    pub(crate) async fn observe(&mut self) -> (Seen, Option<VmmError>) {
        let asked = match &mut self.vmm {
            Some(live) => {
                let known = std::mem::take(&mut live.is_fresh).then_some(live.state);
                Some(if let Some(state) = known { Ok(state) } else { live.handle.state().await })
            }
            None => None,
        };
        let mut silence = None;
        let vmm = match asked {
            None => SeenVmm::Gone,
            Some(Ok(state)) => {
                self.seen_state(state);
                SeenVmm::Alive(state)
            }
            Some(Err(error)) if !matches!(error, VmmError::Timeout { .. }) && self.has_just_ended().await => {
                SeenVmm::Gone
            }
            Some(Err(error)) => {
                self.unresponsive(&error);
                silence = Some(error);
                SeenVmm::Unresponsive
            }
        };
        let Self { link, snapshot, leavings, progress, hopeless, .. } = *self;
        (Seen { vmm, link, snapshot, leavings, progress, hopeless }, silence)
    }

    /// Whether a VMM that cannot be reached has ended: its events say so, but may still be on their way.
    async fn has_just_ended(&mut self) -> bool {
        let end = Instant::now() + END_NEWS;
        while let Some(live) = &mut self.vmm {
            // Cancel-safe: an event is taken or not.
            match tokio::time::timeout_at(end, next_event(&mut live.events)).await {
                Ok(event) => self.vmm_event(event),
                Err(_) => return false,
            }
        }
        true
    }

    /// The VMM does not answer: what it was doing last is what is known of it, beside the trouble.
    fn unresponsive(&mut self, error: &VmmError) {
        let known = self.vmm.as_mut().is_none_or(|live| std::mem::replace(&mut live.unresponsive, true));
        if self.record.op.is_none() && !known {
            return self.trouble("vmm_unresponsive", &chain(error));
        }
        tracing::warn!(instance.id = %self.record.id, error = %chain(error), "the VMM does not answer");
    }

    fn seen_state(&mut self, state: VmState) {
        if state == VmState::Shutdown {
            // The event may still be on its way: the state and its time appear together all the same.
            self.ended();
        }
        if let Some(live) = &mut self.vmm {
            live.state = state;
            live.unresponsive = false;
        }
    }
}
