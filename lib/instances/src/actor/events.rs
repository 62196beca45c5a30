//! What an actor hears from its VMM and from its guest's agent, and what that changes.

use std::time::Duration;

use dataplane_agent::{ExitStatus, GuestMessage, HostMessage};
use dataplane_vmm::{VmEvent, VmState};
use tokio::time::Instant;

use super::{Actor, chain};
use crate::ErrorRecord;
use crate::agent::AgentEvent;
use crate::record::OpKind;

/// More resets of one guest than this within [`RESET_WINDOW`] are a loop, not reboots.
const MAX_RESETS: usize = 5;
const RESET_WINDOW: Duration = Duration::from_secs(60);

impl Actor {
    /// Takes in what the VMM reported.
    pub(crate) fn vmm_event(&mut self, event: VmEvent) {
        let id = self.record.id.clone();
        match event {
            // It may be of an earlier boot in the same VMM: only the VMM says what is now, and is asked next.
            VmEvent::Shutdown => tracing::info!(instance.id = %id, "the guest has shut down"),
            VmEvent::Reset => self.reset(),
            VmEvent::Panicked => {
                self.hopeless = true;
                self.trouble("guest_panic", "the guest's kernel panicked");
            }
            VmEvent::Exited(reason) => {
                tracing::info!(instance.id = %id, %reason, "the VMM is gone");
                self.journal.vmm_exited(&reason.to_string());
                let expected = self
                    .record
                    .op
                    .as_ref()
                    .is_some_and(|op| matches!(op.kind, OpKind::Delete | OpKind::Stop | OpKind::Standby));
                if !expected && !self.hopeless {
                    self.trouble("vmm_exited", &format!("the VMM ended: {reason}"));
                }
                self.ended();
                self.vmm = None;
            }
        }
    }

    /// The guest has ended: from now on its state says so, and the record when.
    pub(super) fn ended(&mut self) {
        self.ready = false;
        if self.record.stopped_at.is_none() {
            let now = self.deps.clock.now();
            if let Err(error) = self.update(|record| record.stopped_at = Some(now)) {
                tracing::error!(instance.id = %self.record.id, error = %chain(&error), "record the end of the guest");
            }
        }
    }

    /// The guest asked for a reset: start anew from the record, unless it does nothing else.
    fn reset(&mut self) {
        let now = Instant::now();
        self.ready = false;
        self.resets.retain(|at| now.duration_since(*at) < RESET_WINDOW);
        self.resets.push_back(now);
        if self.record.op.is_some() {
            return;
        }
        if self.resets.len() > MAX_RESETS {
            self.hopeless = true;
            self.stays_down();
            return self.trouble("reboot_loop", "the guest reset more than 5 times within 60 s");
        }
        tracing::info!(instance.id = %self.record.id, "the guest asked for a reset: starting it anew");
        if let Err(error) = self.begin(OpKind::Restart) {
            tracing::error!(instance.id = %self.record.id, error = %chain(&error), "record the restart");
        }
    }

    /// No restart policy is to start it.
    fn stays_down(&mut self) {
        if let Err(error) = self.update(|record| record.up = false) {
            tracing::error!(instance.id = %self.record.id, error = %chain(&error), "record that it stays down");
        }
    }

    /// Records trouble that is nobody's answer.
    pub(crate) fn trouble(&mut self, code: &str, message: &str) {
        tracing::warn!(instance.id = %self.record.id, code, message, "trouble");
        let trouble = ErrorRecord { code: code.into(), message: message.into(), at: self.deps.clock.now() };
        if let Err(error) = self.update(|record| record.last_error = Some(trouble)) {
            tracing::error!(instance.id = %self.record.id, error = %chain(&error), "record the trouble");
        }
    }

    /// Takes in what the guest's agent said.
    pub(crate) fn agent_event(&mut self, event: AgentEvent) {
        match event {
            AgentEvent::Connected => {
                if let Some(live) = &mut self.vmm {
                    live.agent_connected = true;
                }
                self.set_clock();
            }
            AgentEvent::Message(GuestMessage::Started { init_ms }) => {
                if !self.ready {
                    tracing::info!(instance.id = %self.record.id, init_ms, "the guest's program has started");
                }
                self.ready = true;
                self.init_ms = Some(init_ms);
                self.publish();
            }
            AgentEvent::Message(GuestMessage::Exited { status, reason }) => self.program_exited(status, reason),
            // What the plan observes next says whether it is the VMM.
            AgentEvent::Silent => {
                let Some(live) = &mut self.vmm else { return };
                live.agent_connected = false;
                if live.state != VmState::Paused {
                    tracing::warn!(instance.id = %self.record.id, "the guest's agent has stopped answering");
                }
            }
            AgentEvent::Message(
                GuestMessage::Hello { .. }
                | GuestMessage::Answer { .. }
                | GuestMessage::Opened { .. }
                | GuestMessage::Credit { .. }
                | GuestMessage::End { .. }
                | GuestMessage::ProcessEnded { .. },
            ) => {}
        }
    }

    fn program_exited(&mut self, status: ExitStatus, reason: Option<String>) {
        let code = status.exit_code();
        if self.record.exit_code.is_some() {
            // Said again in a new conversation: it is on disk, and the first word counts.
            if let Some(live) = &self.vmm {
                live.agent.say(HostMessage::ExitRecorded);
            }
            return;
        }
        tracing::info!(instance.id = %self.record.id, exit_code = code, reason, "the guest's program has ended");
        self.ready = false;
        let at = self.deps.clock.now();
        let trouble = reason.map(|message| ErrorRecord { code: "program_not_started".into(), message, at });
        let recorded = self.update(|record| {
            record.exit_code = Some(code);
            if trouble.is_some() {
                record.last_error = trouble;
            }
        });
        match recorded {
            Ok(()) => {
                if let Some(live) = &self.vmm {
                    live.agent.say(HostMessage::ExitRecorded);
                }
            }
            // Not acknowledged: the guest says it again in the next conversation.
            Err(error) => {
                tracing::error!(instance.id = %self.record.id, error = %chain(&error), "record the exit code")
            }
        }
    }
}
