//! What clients do inside of a guest, beside its actor: whether that is possible now, and why it ended.
//!
//! Invariant: nothing here changes a record or talks to a VMM, and nothing waits for an actor.

use std::sync::Arc;
use std::time::Duration;

use dataplane_agent::host::{AskError, OpenError, Stream};
use dataplane_agent::{Answer, Ask, FailureKind, Open};
use dataplane_types::InstanceId;

use crate::agent::GuestDoor;
use crate::exec::GuestStream;
use crate::{InstanceState, Instances, OpKind, View};

/// How long a guest may take to answer something that it knows by heart.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the agent of a guest that runs may take to be there: the guest may just have been started or restored.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// Why something inside of a guest was not done, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// No such instance.
    #[error("no instance {0}")]
    NotFound(InstanceId),
    /// Its guest does not run.
    #[error("instance {id} is {state}: its guest does not run")]
    NotRunning {
        /// The instance.
        id: InstanceId,
        /// Its state.
        state: InstanceState,
    },
    /// Something is being done to the instance.
    #[error("instance {id}: {kind} is in progress")]
    Busy {
        /// The instance.
        id: InstanceId,
        /// What is in progress.
        kind: OpKind,
    },
    /// Its agent does not answer, or does not yet.
    #[error("the guest's agent of instance {0} does not answer")]
    Unreachable(InstanceId),
    /// Its agent is older than this.
    #[error("the guest of instance {id} is too old for this (its agent speaks version {version}): boot it anew")]
    TooOld {
        /// The instance.
        id: InstanceId,
        /// What its agent speaks.
        version: u32,
    },
    /// As much as possible is being done in it.
    #[error("the guest's agent of instance {0} has as much to do as it can")]
    Full(InstanceId),
    /// What was asked for does not fit a message.
    #[error("the command, its environment and the rest are more than fits one message (60 KiB)")]
    TooLarge,
    /// The guest says that it cannot be done.
    #[error("{0}")]
    Refused(String),
    /// No process of this number was started by a client.
    #[error("no process {pid} was started by exec in instance {id}")]
    NoProcess {
        /// The instance.
        id: InstanceId,
        /// The process.
        pid: u32,
    },
    /// Nothing in the guest has this path.
    #[error("{0}")]
    NoPath(String),
    /// The guest's disk is full.
    #[error("{0}")]
    NoSpace(String),
    /// The guest went away under it: into standby, or for good.
    #[error("{}", if *.standby { "the instance went into standby" } else { "the guest is gone, or out of reach" })]
    Interrupted {
        /// Whether into standby.
        standby: bool,
    },
    /// The caller has hung up; nobody reads this.
    #[error("the caller has hung up")]
    HungUp,
}

impl GuestError {
    pub(crate) fn of_ask(error: AskError, id: &InstanceId) -> Self {
        match error {
            AskError::NotConnected | AskError::Broken | AskError::Timeout(_) => Self::Unreachable(id.clone()),
            AskError::TooOld(version) => Self::TooOld { id: id.clone(), version },
            AskError::Busy => Self::Full(id.clone()),
            AskError::Unspeakable(_) => Self::TooLarge,
            AskError::Failed(why) => Self::Refused(why),
        }
    }

    fn of_open(error: &OpenError, id: &InstanceId) -> Self {
        match error {
            OpenError::NotConnected => Self::Unreachable(id.clone()),
            OpenError::TooOld(version) => Self::TooOld { id: id.clone(), version: *version },
            OpenError::TooMany => Self::Full(id.clone()),
            OpenError::Unspeakable(_) => Self::TooLarge,
        }
    }

    pub(crate) fn of_failure(kind: FailureKind, message: String, id: &InstanceId) -> Self {
        match kind {
            FailureKind::Busy => Self::Full(id.clone()),
            FailureKind::NotRunning => Self::Unreachable(id.clone()),
            FailureKind::Invalid | FailureKind::NotFound | FailureKind::NoSpace | FailureKind::Other => {
                Self::Refused(message)
            }
        }
    }
}

impl Instances {
    /// Opens a stream into a running guest.
    pub(crate) async fn open_stream(&self, id: &InstanceId, what: Open) -> Result<GuestStream, GuestError> {
        let door = self.door(id)?;
        door.asker.connected(ON_ITS_WAY).await;
        let stream: Stream = door.asker.open(what).map_err(|error| GuestError::of_open(&error, id))?;
        Ok(GuestStream::new(self.clone(), id.clone(), stream))
    }

    /// Whether something can be done inside of a guest now.
    ///
    /// # Errors
    /// [`GuestError`]: why not.
    pub fn accepts_guest_work(&self, id: &InstanceId) -> Result<(), GuestError> {
        self.door(id).map(drop)
    }

    /// The way to the guest's agent, when its guest runs and nothing is being done to it.
    pub(crate) fn door(&self, id: &InstanceId) -> Result<GuestDoor, GuestError> {
        let view = self.get(id).ok_or_else(|| GuestError::NotFound(id.clone()))?;
        if let Some(op) = &view.record.op {
            return Err(GuestError::Busy { id: id.clone(), kind: op.kind });
        }
        if view.state != InstanceState::Running {
            return Err(GuestError::NotRunning { id: id.clone(), state: view.state });
        }
        view.door.clone().ok_or_else(|| GuestError::Unreachable(id.clone()))
    }

    /// Asks a guest something that it answers at once.
    pub(crate) async fn ask(&self, id: &InstanceId, ask: Ask) -> Result<Answer, GuestError> {
        let door = self.door(id)?;
        door.asker.connected(ON_ITS_WAY).await;
        // Nobody closes it.
        let _turn = door.turns.acquire().await.map_err(|_| GuestError::Unreachable(id.clone()))?;
        door.asker.ask(ask, PATIENCE).await.map_err(|error| GuestError::of_ask(error, id))
    }

    /// Why a conversation with a guest is over.
    pub(crate) fn interruption(&self, id: &InstanceId) -> GuestError {
        let standby = |view: Arc<View>| {
            let going = view.record.op.as_ref().is_some_and(|op| op.kind == OpKind::Standby);
            going || view.state == InstanceState::Standby
        };
        GuestError::Interrupted { standby: self.get(id).is_some_and(standby) }
    }
}
