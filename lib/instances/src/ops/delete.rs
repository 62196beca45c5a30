//! From whatever there is to nothing: the guest is asked, its VMM ended, its TAP and its directory removed.
//! Deletion only rolls forward.

use std::time::Duration;

use dataplane_agent::HostMessage;
use dataplane_vmm::{VmEvent, VmState};
use tokio::time::Instant;

use crate::actor::{Actor, StepError, next_event};
use crate::plan::SeenLink;

/// What a guest may take beyond the grace to sync and power off once its program has ended.
const POWER_OFF_ALLOWANCE: Duration = Duration::from_secs(5);

impl Actor {
    /// Asks the guest's agent to end the program and waits for the guest to power off. A guest that cannot be asked,
    /// does not end, or starts anew instead has had its chance: nothing that a guest does prolongs the grace.
    pub(crate) async fn ask_guest(&mut self) -> Result<(), StepError> {
        self.progress.asked = true;
        if self.grace.is_zero() {
            return Ok(());
        }
        let grace_ms = u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX);
        let mut deadline = Instant::now() + self.grace;
        let (mut told, mut extended) = (false, false);
        loop {
            let Some(live) = &mut self.vmm else { return Ok(()) };
            if live.state == VmState::Shutdown {
                return Ok(());
            }
            if live.agent_connected && !told {
                live.agent.say(HostMessage::Stop { grace_ms });
                told = true;
                if !std::mem::replace(&mut extended, true) {
                    deadline = Instant::now() + self.grace + POWER_OFF_ALLOWANCE;
                }
            }
            // All cancel-safe: channel receives and a timer. An event is never lost, it is handled below.
            tokio::select! {
                biased;
                mail = self.deletes.recv(), if !self.deletes.is_closed() => {
                    if let Some(mail) = mail {
                        let was_deleting = self.deleting();
                        self.admit_delete(mail);
                        if self.deleting() && !was_deleting {
                            // The delete asks by itself, with its own grace.
                            return Ok(());
                        }
                        if self.deleting() {
                            deadline = deadline.min(Instant::now() + self.grace + POWER_OFF_ALLOWANCE);
                        }
                    }
                }
                mail = self.orders.recv(), if !self.orders.is_closed() => {
                    if let Some(mail) = mail {
                        self.admit_order(mail);
                    }
                }
                event = next_event(&mut live.events) => {
                    let (reset, ended) = (event == VmEvent::Reset, event == VmEvent::Shutdown);
                    self.vmm_event(event);
                    if reset {
                        return Ok(());
                    }
                    if ended {
                        self.observe().await;
                    }
                }
                event = live.agent.next() => {
                    let connected = matches!(event, crate::agent::AgentEvent::Connected);
                    self.agent_event(event);
                    told &= !connected;
                }
                () = tokio::time::sleep_until(deadline) => {
                    tracing::warn!(instance.id = %self.record.id, told, "the guest did not end within its grace");
                    return Ok(());
                }
            }
        }
    }

    pub(crate) async fn end_vmm(&mut self) -> Result<(), StepError> {
        if let Some(live) = &self.vmm {
            // Beside a committed snapshot nothing of the VM is of use: no disk may be touched on the way out.
            if live.unresponsive || self.snapshot {
                live.handle.kill().await?;
            } else {
                live.handle.quit().await?;
            }
        }
        self.vmm = None;
        self.ready = false;
        Ok(())
    }

    pub(crate) async fn remove_link(&mut self) -> Result<(), StepError> {
        if let Some(link) = &self.record.spec.link {
            self.deps.links.remove(link).await?;
            self.deps.links.keep_ports(&self.record.id, &self.record.spec.policy.port_mappings);
        }
        self.link = SeenLink::Down;
        Ok(())
    }

    /// Records that there is no VMM any more.
    pub(crate) async fn settle(&mut self) -> Result<(), StepError> {
        let now = self.deps.clock.now();
        self.hopeless = false;
        if !self.snapshot {
            self.remove_memory_file()?;
        }
        let run_dir = self.deps.store.layout().run(&self.record.uuid);
        self.deps.store.discard_volatile(&run_dir)?;
        self.update(|record| {
            record.vmm = None;
            record.stopped_at.get_or_insert(now);
        })
    }

    /// The end: sockets first, then the directory by one rename.
    pub(crate) async fn discard(&mut self) -> Result<(), StepError> {
        let store = self.deps.store.clone();
        let run_dir = store.layout().run(&self.record.uuid);
        let root = self.paths.root().to_owned();
        tokio::task::block_in_place(|| store.discard_volatile(&run_dir).and_then(|()| store.discard(&root)))?;
        tracing::info!(instance.id = %self.record.id, "the instance is deleted");
        Ok(())
    }
}
