//! The conversations with a guest's agent, for as long as its VMM lives. Owned by the instance's actor, which hears what
//! the guest says, and may speak and ask; a connection that breaks is made again.

use std::sync::Arc;
use std::time::Duration;

use dataplane_agent::host::{AskError, Asker, Link, LinkEvent};
use dataplane_agent::{Answer, Ask, GuestMessage, HostMessage};
use dataplane_types::InstanceId;
use dataplane_vmm::VmHandle;
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// What the actor hears.
#[derive(Debug)]
pub(crate) enum AgentEvent {
    /// A conversation has begun.
    Connected,
    /// The guest said something.
    Message(GuestMessage),
    /// A guest that used to answer does not: the VMM is to be asked how it is.
    Silent,
}

/// The actor's end. Dropping it ends the conversation.
#[derive(Debug)]
pub(crate) struct AgentLink {
    link: Link,
    task: JoinHandle<()>,
    door: GuestDoor,
}

/// How many questions of clients are with one guest's agent at a time: the rest of its room is the actor's.
const TURNS: usize = 4;

/// The way of clients to a guest's agent, beside the actor.
#[derive(Debug, Clone)]
pub(crate) struct GuestDoor {
    pub(crate) asker: Asker,
    /// Taken for each question.
    pub(crate) turns: Arc<Semaphore>,
}

impl AgentLink {
    pub(crate) fn start(id: InstanceId, vm: Arc<dyn VmHandle>) -> Self {
        let (link, work) = Link::new(move || {
            let vm = Arc::clone(&vm);
            async move { vm.connect_agent().await }
        });
        let task = tokio::spawn(work.instrument(tracing::info_span!("agent", instance.id = %id)));
        let door = GuestDoor { asker: link.asker(), turns: Arc::new(Semaphore::new(TURNS)) };
        Self { link, task, door }
    }

    /// The way of clients to the agent.
    pub(crate) fn door(&self) -> GuestDoor {
        self.door.clone()
    }

    /// The next thing the guest says; pending for ever once nothing can come any more. Cancel-safe.
    pub(crate) async fn next(&mut self) -> AgentEvent {
        match self.link.next().await {
            Some(LinkEvent::Connected) => AgentEvent::Connected,
            Some(LinkEvent::Message(message)) => AgentEvent::Message(message),
            Some(LinkEvent::Silent) => AgentEvent::Silent,
            None => std::future::pending().await,
        }
    }

    /// Says something in the present conversation. Lost when that one breaks: the caller repeats on `Connected`.
    pub(crate) fn say(&self, message: HostMessage) {
        self.link.say(message);
    }

    /// Asks something in the present conversation, now; the answer, or why there is none, comes within `patience`, and
    /// needs no hold on the link. The guest's refusal is an error.
    pub(crate) fn ask(
        &self,
        ask: Ask,
        patience: Duration,
    ) -> impl Future<Output = Result<Answer, AskError>> + Send + use<> {
        self.link.asker().ask(ask, patience)
    }

    /// The same as a function of its own, for whoever asks more than once.
    pub(crate) fn asker(
        &self,
        patience: Duration,
    ) -> impl Fn(Ask) -> BoxFuture<'static, Result<Answer, AskError>> + Send + use<> {
        let asker = self.link.asker();
        move |ask| asker.ask(ask, patience).boxed()
    }
}

impl Drop for AgentLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}
