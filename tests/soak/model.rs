//! What an instance may be, from what was asked of it and what was answered: the admission table and the promise that
//! an answer holds, independent of the daemon's own code.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// A state of the API, or none because there is no instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Absent,
    Created,
    Running,
    Paused,
    Shutdown,
    Stopped,
    Standby,
}

impl State {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let all = [Self::Created, Self::Running, Self::Paused, Self::Shutdown, Self::Stopped, Self::Standby];
        all.into_iter().find(|state| format!("{state:?}") == name)
    }
}

/// What may be asked of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Create,
    Start,
    Stop,
    Reboot,
    Pause,
    Resume,
    Standby,
    Restore,
    /// `start` and `stop` that may throw a snapshot away.
    StartAnew,
    StopForGood,
    Relabel,
    Delete,
}

impl Op {
    pub(crate) const ALL: [Self; 12] = [
        Self::Create,
        Self::Start,
        Self::Stop,
        Self::Reboot,
        Self::Pause,
        Self::Resume,
        Self::Standby,
        Self::Restore,
        Self::StartAnew,
        Self::StopForGood,
        Self::Relabel,
        Self::Delete,
    ];

    /// What the API calls it.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::StartAnew => "start?discard_snapshot=true",
            Self::Stop => "stop",
            Self::StopForGood => "stop?discard_snapshot=true",
            Self::Reboot => "reboot",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Standby => "standby",
            Self::Restore => "restore",
            Self::Relabel => "patch",
            Self::Delete => "delete",
        }
    }

    /// What it makes of a state; `None` when it is refused there.
    pub(crate) fn target(self, from: State) -> Option<State> {
        use State::{Absent, Created, Paused, Running, Shutdown, Standby, Stopped};
        match (self, from) {
            (Self::Delete, Absent) => None,
            (Self::Delete, _) => Some(Absent),
            (Self::Create, Absent) => Some(Running),
            (Self::Relabel, Absent) => None,
            (Self::Create | Self::Relabel, present) => Some(present),
            (Self::StartAnew, Standby) => Some(Running),
            (Self::StopForGood, Standby) => Some(Stopped),
            (Self::StartAnew, other) => Self::Start.target(other),
            (Self::StopForGood, other) => Self::Stop.target(other),
            (Self::Start, Running | Shutdown | Stopped)
            | (Self::Reboot, Running | Paused)
            | (Self::Resume, Running | Paused)
            | (Self::Restore, Running | Standby) => Some(Running),
            (Self::Pause, Running | Paused) | (Self::Start | Self::Restore, Paused) => Some(Paused),
            (Self::Stop, Created | Running | Paused | Shutdown | Stopped) => Some(Stopped),
            (Self::Standby, Running | Paused | Standby) => Some(Standby),
            (Self::Start, Absent | Created | Standby)
            | (Self::Stop, Absent | Standby)
            | (Self::Reboot | Self::Pause | Self::Resume, Absent | Created | Shutdown | Stopped | Standby)
            | (Self::Standby, Absent | Created | Shutdown | Stopped)
            | (Self::Restore, Absent | Created | Shutdown | Stopped) => None,
        }
    }
}

/// What stays the same for an instance's whole life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Face {
    pub(crate) uuid: String,
    pub(crate) address: String,
    pub(crate) mac: String,
}

/// What is known of an instance from outside.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The states that it may be in at rest.
    pub(crate) possible: BTreeSet<State>,
    /// Its VMM was killed: it will be `Stopped`, if it is not so yet.
    pub(crate) doomed: bool,
    /// What was seen last, if it is there.
    pub(crate) face: Option<Face>,
    pub(crate) generation: u64,
}

impl Default for Known {
    fn default() -> Self {
        Self { possible: BTreeSet::from([State::Absent]), doomed: false, face: None, generation: 0 }
    }
}

impl Known {
    pub(crate) fn may_be(&self, state: State) -> bool {
        self.possible.contains(&state)
    }

    /// It is so, and nothing is going on.
    pub(crate) fn is(&mut self, state: State) {
        self.possible = BTreeSet::from([state]);
        if state == State::Absent {
            (self.face, self.generation) = (None, 0);
        }
    }

    /// It is being asked for: nobody knows whether it happens before it is answered.
    pub(crate) fn asked(&mut self, op: Op) {
        let targets: Vec<_> = self.possible.iter().filter_map(|from| op.target(*from)).collect();
        self.possible.extend(targets);
    }

    /// For the journal, and back.
    pub(crate) fn to_json(&self) -> Value {
        let possible: Vec<_> = self.possible.iter().map(|state| format!("{state:?}")).collect();
        let face = self.face.as_ref().map(|face| json!([face.uuid, face.address, face.mac]));
        json!({ "possible": possible, "doomed": self.doomed, "face": face, "generation": self.generation })
    }
}
