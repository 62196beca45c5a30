//! What clients ask of an actor. Deletes have a lane of their own and always win; everything else goes through the
//! admission table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dataplane_types::{Mib, PortMapping};
use tokio::sync::oneshot;

use super::{Actor, StepError, chain};
use crate::admit::{Verdict, admit};
use crate::plan::SeenLink;
use crate::record::OpKind;
use crate::{ActionError, DeleteError, Record, View};

/// The most labels that an instance can have, as the contract says.
const MAX_LABELS: usize = 32;

/// What a caller insists on before its instance is touched: judged by the actor, so that nothing comes between.
pub type Precondition = Box<dyn FnOnce(&Record) -> bool + Send>;

/// Something to be done to an instance.
pub struct Action {
    /// What.
    pub kind: OpKind,
    /// How long the guest may take to end, where it has to.
    pub grace: Duration,
    /// Whether a snapshot in the way may be thrown away.
    pub discard_snapshot: bool,
    /// What the caller insists on.
    pub precondition: Option<Precondition>,
}

/// What is to change of an instance. `None` leaves a thing as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// The name for people; `Some(None)` takes it away.
    pub name: Option<Option<String>>,
    /// Labels to set, and those to take away (`None`). Others stay.
    pub labels: BTreeMap<String, Option<String>>,
    /// The memory.
    pub memory: Option<Mib>,
    /// The virtual CPUs.
    pub vcpus: Option<u32>,
    /// The limit of the network link, in megabits per second; `Some(None)` takes it away.
    pub bandwidth_mbps: Option<Option<u32>>,
    /// The ports of the host that lead to it, all of them.
    pub port_mappings: Option<Vec<PortMapping>>,
}

/// A delete, with whom to tell.
pub(crate) struct DeleteMail {
    pub(crate) grace: Duration,
    pub(crate) precondition: Option<Precondition>,
    pub(crate) reply: oneshot::Sender<Result<(), DeleteError>>,
}

/// Who waits for an operation's end.
pub(crate) type ActionReply = oneshot::Sender<Result<Arc<View>, ActionError>>;

/// Any other request, with whom to tell.
pub(crate) struct OrderMail {
    pub(crate) order: Order,
    pub(crate) precondition: Option<Precondition>,
    pub(crate) reply: ActionReply,
}

/// What is to be done.
pub(crate) enum Order {
    /// An operation; its guest may take so long to end, where it has to; whether a snapshot may be thrown away.
    Act(OpKind, Duration, bool),
    /// Changes of the record, and of the VM's sizes.
    Patch(Patch),
}

impl Actor {
    /// Takes in all that waits.
    pub(crate) fn admit_mail(&mut self) {
        while let Ok(mail) = self.deletes.try_recv() {
            self.admit_delete(mail);
        }
        while let Ok(mail) = self.orders.try_recv() {
            self.admit_order(mail);
        }
    }

    pub(crate) fn admit_delete(&mut self, mail: DeleteMail) {
        if mail.precondition.is_some_and(|holds| !holds(&self.record)) {
            let _ = mail.reply.send(Err(DeleteError::Stale(self.record.id.clone())));
            return;
        }
        self.waiting.push(mail.reply);
        self.grace = mail.grace;
        if !self.deleting() {
            self.intend_delete();
        }
    }

    pub(crate) fn admit_order(&mut self, mail: OrderMail) {
        let id = self.record.id.clone();
        if mail.precondition.is_some_and(|holds| !holds(&self.record)) {
            let _ = mail.reply.send(Err(ActionError::Stale(id)));
            return;
        }
        let begun = match mail.order {
            Order::Act(kind, grace, discard) => self.admit_action(kind, grace, discard),
            Order::Patch(patch) => self.admit_patch(&patch),
        };
        match begun {
            Ok(true) => self.joined.push(mail.reply),
            Ok(false) => {
                self.publish();
                let view = self.views.borrow().clone();
                let _ = mail.reply.send(view.ok_or(ActionError::NotFound(id)));
            }
            Err(error) => drop(mail.reply.send(Err(error))),
        }
    }

    /// Whether there is an operation to wait for.
    fn admit_action(&mut self, kind: OpKind, grace: Duration, discard: bool) -> Result<bool, ActionError> {
        let id = self.record.id.clone();
        if let Some(op) = self.record.op.as_ref().filter(|_| self.progress.undo) {
            // Those who asked for it know that it failed: nobody joins its undoing.
            return Err(ActionError::Busy { id, kind: op.kind });
        }
        match admit(self.record.op.as_ref().map(|op| op.kind), self.state(), kind, discard) {
            Verdict::Go => {
                if kind == OpKind::Standby {
                    self.check_standby()?;
                }
                if kind == OpKind::Restore {
                    self.check_restore()?;
                }
                self.begin(kind).map_err(|error| ActionError::Failed(id, chain(&error)))?;
                self.grace = grace;
                Ok(true)
            }
            Verdict::Joined => Ok(true),
            Verdict::AlreadyThere => Ok(false),
            Verdict::Busy(kind) => Err(ActionError::Busy { id, kind }),
            Verdict::HasSnapshot => Err(ActionError::HasSnapshot { id, wanted: kind }),
            Verdict::NoSnapshot => Err(ActionError::NoSnapshot(id)),
            Verdict::Denied(state) => Err(ActionError::InvalidState { id, state, wanted: kind }),
        }
    }

    /// The same for a patch: all of it or nothing.
    fn admit_patch(&mut self, patch: &Patch) -> Result<bool, ActionError> {
        let id = self.record.id.clone();
        let failed = |error: StepError| ActionError::Failed(id.clone(), chain(&error));
        let target = self.check_sizes(patch)?;
        let bandwidth_mbps = self.check_limit(patch)?;
        let limit_changes = bandwidth_mbps != self.record.spec.bandwidth_mbps;
        let mut labels = self.record.labels.clone();
        for (name, value) in &patch.labels {
            match value {
                Some(value) => labels.insert(name.clone(), value.clone()),
                None => labels.remove(name),
            };
        }
        if labels.len() > MAX_LABELS {
            let message = format!("at most {MAX_LABELS} are allowed, {} would be there", labels.len());
            return Err(ActionError::Impossible { field: "labels", message });
        }
        let ports = self.claim_ports(patch)?;
        let moved = ports != self.record.spec.policy.port_mappings;
        let name = patch.name.clone().unwrap_or_else(|| self.record.name.clone());
        let change = move |record: &mut Record| {
            record.name = name;
            record.labels = labels;
            record.spec.bandwidth_mbps = bandwidth_mbps;
            record.spec.policy.port_mappings = ports;
            if let Some(op) = record.op.as_mut().filter(|op| op.kind == OpKind::Resize) {
                op.target = target.or(op.target);
            }
        };
        let recorded = if target.is_some() {
            self.begin_with(OpKind::Resize, change)
        } else {
            let mut changed = self.record.clone();
            change(&mut changed);
            if changed == self.record { Ok(()) } else { self.update(|record| *record = changed) }
        };
        if moved && recorded.is_ok() && self.link == SeenLink::Up {
            // The ports of before go when the kernel has let go of them.
            self.link = SeenLink::Stale;
        } else if self.link != SeenLink::Stale {
            self.deps.links.keep_ports(&id, &self.record.spec.policy.port_mappings);
        }
        recorded.map_err(failed)?;
        self.limit_is_due |= limit_changes;
        // Answered when the link is as the record says; beside an operation at once, lest its end be waited for.
        let link_is_due = limit_changes && self.record.op.is_none() || self.link == SeenLink::Stale;
        Ok(target.is_some() || link_is_due)
    }

    /// The ports that a patch leaves the instance with, held beside those of now; nothing else has changed yet.
    fn claim_ports(&self, patch: &Patch) -> Result<Vec<PortMapping>, ActionError> {
        let now = &self.record.spec.policy.port_mappings;
        let Some(wanted) = patch.port_mappings.as_ref().filter(|wanted| *wanted != now) else { return Ok(now.clone()) };
        let id = self.record.id.clone();
        if let Some(op) = &self.record.op {
            return Err(ActionError::Busy { id, kind: op.kind });
        }
        if self.record.spec.link.is_none() {
            let message = "it has no network that a port could lead to".to_owned();
            return Err(ActionError::NotSupported { id, message });
        }
        self.deps.links.claim_ports(&id, wanted).map_err(ActionError::Link)?;
        Ok(wanted.clone())
    }

    /// Ends the wait of all who joined the operation that is over.
    pub(crate) fn tell_joined(&mut self, result: Result<Arc<View>, ActionError>) {
        for reply in self.joined.drain(..) {
            let _ = reply.send(result.clone());
        }
    }
}
