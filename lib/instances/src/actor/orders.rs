//! What clients ask of an actor. Deletes have a lane of their own and always win; everything else goes through the
//! admission table.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Actor, StepError, chain};
use crate::admit::{Verdict, admit};
use crate::record::OpKind;
use crate::view::state_of;
use crate::{ActionError, DeleteError, Record, View};

/// What a caller insists on before its instance is touched: judged by the actor, so that nothing comes between.
pub type Precondition = Box<dyn FnOnce(&Record) -> bool + Send>;

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
    pub(crate) fn admit_mail(&mut self) -> Result<(), StepError> {
        while let Ok(mail) = self.deletes.try_recv() {
            self.admit_delete(mail)?;
        }
        while let Ok(mail) = self.orders.try_recv() {
            self.admit_order(mail)?;
        }
        Ok(())
    }

    fn admit_delete(&mut self, mail: DeleteMail) -> Result<(), StepError> {
        if mail.precondition.is_some_and(|holds| !holds(&self.record)) {
            let _ = mail.reply.send(Err(DeleteError::Stale(self.record.id.clone())));
            return Ok(());
        }
        self.waiting.push(mail.reply);
        self.grace = mail.grace;
        if self.record.op.as_ref().is_some_and(|op| op.kind == OpKind::Delete) {
            return Ok(());
        }
        self.begin(OpKind::Delete)
    }

    fn admit_order(&mut self, mail: OrderMail) -> Result<(), StepError> {
        let id = self.record.id.clone();
        if mail.precondition.is_some_and(|holds| !holds(&self.record)) {
            let _ = mail.reply.send(Err(ActionError::Stale(id)));
            return Ok(());
        }
        let state = state_of(self.vmm.as_ref().map(|live| live.state));
        let refusal = match admit(self.record.op.as_ref().map(|op| op.kind), state, mail.kind) {
            Verdict::Go => {
                self.joined.push(mail.reply);
                self.grace = mail.grace;
                return self.begin(mail.kind);
            }
            Verdict::Joined => {
                self.joined.push(mail.reply);
                return Ok(());
            }
            Verdict::AlreadyThere => {
                self.publish();
                if let Some(view) = self.views.borrow().clone() {
                    let _ = mail.reply.send(Ok(view));
                }
                return Ok(());
            }
            Verdict::Busy(kind) => ActionError::Busy { id, kind },
            Verdict::Denied(state) => ActionError::InvalidState { id, state, wanted: mail.kind },
        };
        let _ = mail.reply.send(Err(refusal));
        Ok(())
    }

    pub(crate) fn admit_delete_or_log(&mut self, mail: DeleteMail) {
        if let Err(error) = self.admit_delete(mail) {
            tracing::error!(instance.id = %self.record.id, error = %chain(&error), "the delete could not be recorded");
            for reply in self.waiting.drain(..) {
                let _ = reply.send(Err(DeleteError::Failed(self.record.id.clone(), chain(&error))));
            }
        }
    }

    pub(crate) fn admit_order_or_log(&mut self, mail: OrderMail) {
        if let Err(error) = self.admit_order(mail) {
            tracing::error!(instance.id = %self.record.id, error = %chain(&error), "the order could not be recorded");
            self.tell_joined(Err(ActionError::Failed(self.record.id.clone(), chain(&error))));
        }
    }

    /// Ends the wait of all who joined the operation that is over.
    pub(crate) fn tell_joined(&mut self, result: Result<Arc<View>, ActionError>) {
        for reply in self.joined.drain(..) {
            let _ = reply.send(result.clone());
        }
    }
}
