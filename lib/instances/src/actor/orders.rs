//! What clients ask of an actor. Deletes have a lane of their own and always win; everything else goes through the
//! admission table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dataplane_types::Mib;
use tokio::sync::oneshot;

use super::{Actor, chain};
use crate::admit::{Verdict, admit};
use crate::record::OpKind;
use crate::view::state_of;
use crate::{ActionError, DeleteError, Record, View};

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
}

/// A delete, with whom to tell.
pub(crate) struct DeleteMail {
    pub(crate) grace: Duration,
    pub(crate) precondition: Option<Precondition>,
    pub(crate) reply: oneshot::Sender<Result<(), DeleteError>>,
}

/// Who waits for an operation's end.
pub(crate) type ActionReply = oneshot::Sender<Result<Arc<View>, ActionError>>;

/// Any other operation, with whom to tell.
pub(crate) struct OrderMail {
    pub(crate) kind: OpKind,
    /// How long the guest may take to end, where it has to.
    pub(crate) grace: Duration,
    pub(crate) precondition: Option<Precondition>,
    pub(crate) reply: ActionReply,
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
        let state = state_of(self.vmm.as_ref().map(|live| live.state));
        let answer = match admit(self.record.op.as_ref().map(|op| op.kind), state, mail.kind) {
            Verdict::Go => match self.begin(mail.kind) {
                Ok(()) => {
                    self.grace = mail.grace;
                    return self.joined.push(mail.reply);
                }
                Err(error) => Err(ActionError::Failed(id, chain(&error))),
            },
            Verdict::Joined => return self.joined.push(mail.reply),
            Verdict::AlreadyThere => {
                self.publish();
                let view = self.views.borrow().clone();
                view.ok_or(ActionError::NotFound(id))
            }
            Verdict::Busy(kind) => Err(ActionError::Busy { id, kind }),
            Verdict::Denied(state) => Err(ActionError::InvalidState { id, state, wanted: mail.kind }),
        };
        let _ = mail.reply.send(answer);
    }

    /// Ends the wait of all who joined the operation that is over.
    pub(crate) fn tell_joined(&mut self, result: Result<Arc<View>, ActionError>) {
        for reply in self.joined.drain(..) {
            let _ = reply.send(result.clone());
        }
    }
}
