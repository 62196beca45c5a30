//! One conversation after another with a guest's agent, for as long as its VMM lives. Owned by the instance's actor,
//! which hears what the guest says and may speak; a connection that breaks is made again.

use std::sync::Arc;
use std::time::Duration;

use dataplane_agent::host::AgentClient;
use dataplane_agent::{GuestMessage, HostMessage};
use dataplane_types::InstanceId;
use dataplane_vmm::VmHandle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A guest that listens answers at once; one that is emulated and busy may take seconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause between attempts to reach a guest that does not listen yet: no VMM tells when it begins to.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What the actor hears.
#[derive(Debug)]
pub(crate) enum AgentEvent {
    /// A conversation has begun.
    Connected,
    /// The guest said something.
    Message(GuestMessage),
}

/// The actor's end. Dropping it ends the conversation.
#[derive(Debug)]
pub(crate) struct AgentLink {
    events: mpsc::Receiver<AgentEvent>,
    orders: mpsc::Sender<HostMessage>,
    task: JoinHandle<()>,
}

impl AgentLink {
    pub(crate) fn start(id: InstanceId, vm: Arc<dyn VmHandle>) -> Self {
        let (event_sender, events) = mpsc::channel(16);
        let (orders, order_receiver) = mpsc::channel(16);
        let task = tokio::spawn(converse(id, vm, event_sender, order_receiver));
        Self { events, orders, task }
    }

    /// The next thing the guest says; pending for ever once nothing can come any more. Cancel-safe.
    pub(crate) async fn next(&mut self) -> AgentEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Says something in the present conversation. Lost when that one breaks: the caller repeats on `Connected`.
    pub(crate) fn say(&self, message: HostMessage) {
        let _ = self.orders.try_send(message);
    }
}

impl Drop for AgentLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(
    id: InstanceId,
    vm: Arc<dyn VmHandle>,
    events: mpsc::Sender<AgentEvent>,
    mut orders: mpsc::Receiver<HostMessage>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let client = match vm.connect_agent().await {
            Ok(stream) => AgentClient::handshake(stream, HANDSHAKE_TIMEOUT).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match client {
            Ok(client) => {
                pause = FIRST_PAUSE;
                while orders.try_recv().is_ok() {}
                if events.send(AgentEvent::Connected).await.is_err() {
                    return;
                }
                if let Err(error) = talk(client, &events, &mut orders).await {
                    tracing::debug!(instance.id = %id, error, "the conversation with the guest's agent broke");
                }
            }
            Err(error) => tracing::trace!(instance.id = %id, error, "the guest's agent is not reachable yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn talk(
    mut client: AgentClient,
    events: &mpsc::Sender<AgentEvent>,
    orders: &mut mpsc::Receiver<HostMessage>,
) -> Result<(), String> {
    loop {
        // Both arms are cancel-safe: a channel's recv, and the client's next by its contract.
        tokio::select! {
            order = orders.recv() => match order {
                Some(order) => client.send(&order).await.map_err(|error| error.to_string())?,
                None => return Ok(()),
            },
            message = client.next() => {
                let message = message.map_err(|error| error.to_string())?;
                if events.send(AgentEvent::Message(message)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}
