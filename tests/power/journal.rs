//! What the inside tells the outside, line by line, before it does the next thing: all that outlives a power cut.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::model::{Face, Known, Op, State};

/// How lines of the journal begin.
pub(crate) const MARK: &str = "journal: ";

/// A line of the journal, parsed.
#[derive(Debug)]
pub(crate) enum Line {
    /// The emulated host is up, the daemon about to start.
    Booted,
    /// The daemon serves.
    Up,
    Asked(String, Op),
    Is(String, Known),
    /// A promise is broken.
    Violation(String),
    /// All is over, and well.
    Done(String),
}

impl Line {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end().strip_prefix(MARK)?;
        let mut words = text.splitn(3, ' ');
        Some(match (words.next()?, words.next(), words.next()) {
            ("booted", ..) => Self::Booted,
            ("up", ..) => Self::Up,
            ("violation", ..) => Self::Violation(text.to_owned()),
            ("done", ..) => Self::Done(text.to_owned()),
            (id, Some("asked"), Some(op)) => {
                Self::Asked(id.to_owned(), Op::ALL.into_iter().find(|known| format!("{known:?}") == op)?)
            }
            (id, Some("is"), Some(known)) => Self::Is(id.to_owned(), from_json(&serde_json::from_str(known).ok()?)?),
            _ => return None,
        })
    }
}

fn from_json(value: &Value) -> Option<Known> {
    let states = value["possible"].as_array()?.iter().map(Value::as_str);
    let state = |name: Option<&str>| if name == Some("Absent") { Some(State::Absent) } else { State::parse(name?) };
    let text = |index: usize| Some(value["face"][index].as_str()?.to_owned());
    let face = || Some(Face { uuid: text(0)?, address: text(1)?, mac: text(2)? });
    Some(Known {
        possible: states.map(state).collect::<Option<_>>()?,
        doomed: false,
        face: face(),
        generation: value["generation"].as_u64()?,
    })
}

/// What is known of all instances.
#[derive(Debug, Default, Clone)]
pub(crate) struct Journal {
    instances: BTreeMap<String, Known>,
    /// What was asked and not answered.
    pub(crate) open: BTreeMap<String, Vec<Op>>,
    /// What was being brought up at some cut, and was not seen at rest since.
    rising: BTreeSet<String>,
}

impl Journal {
    pub(crate) fn asked(&mut self, id: &str, op: Op) {
        self.instances.entry(id.to_owned()).or_default().asked(op);
        self.open.entry(id.to_owned()).or_default().push(op);
    }

    pub(crate) fn is(&mut self, id: &str, known: Known) {
        self.instances.insert(id.to_owned(), known);
        self.open.remove(id);
        self.rising.remove(id);
    }

    /// The power is gone, and with it every VMM. What was being brought up may come up after all.
    pub(crate) fn cut(&mut self) {
        for (id, known) in &mut self.instances {
            let rising = |op: &Op| matches!(op, Op::Create | Op::Start | Op::StartAnew | Op::Reboot | Op::Restore);
            if self.open.get(id).is_some_and(|ops| ops.iter().any(rising)) {
                self.rising.insert(id.clone());
            }
            let after = |state: &State| match state {
                State::Created | State::Running | State::Paused | State::Shutdown => State::Stopped,
                State::Absent | State::Stopped | State::Standby => *state,
            };
            let ran = known.may_be(State::Running);
            known.possible = known.possible.iter().map(after).collect();
            if ran && self.rising.contains(id) {
                known.possible.insert(State::Running);
            }
        }
        self.open.clear();
    }

    pub(crate) fn to_json(&self) -> Value {
        self.instances.iter().map(|(id, known)| (id.clone(), known.to_json())).collect::<serde_json::Map<_, _>>().into()
    }

    fn from_json(value: &Value) -> Self {
        let entries = value.as_object().into_iter().flatten();
        let instances = entries.filter_map(|(id, known)| Some((id.clone(), from_json(known)?))).collect();
        Self { instances, ..Self::default() }
    }

    pub(crate) fn known(&self, id: &str) -> Known {
        self.instances.get(id).cloned().unwrap_or_default()
    }
}

/// Which guests there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guests {
    /// Those of the program that stands for a VMM: many, and fast.
    Simulated,
    /// Linux on Cloud Hypervisor.
    Real,
}

/// What the inside is told at each boot.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) known: Journal,
    pub(crate) seed: u64,
    pub(crate) guests: Guests,
    /// No power cut: everything is looked at and deleted.
    pub(crate) last: bool,
}

impl Orders {
    pub(crate) fn to_json(&self) -> Value {
        let real = self.guests == Guests::Real;
        json!({ "known": self.known.to_json(), "seed": self.seed, "real": real, "last": self.last })
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let guests = if value["real"].as_bool()? { Guests::Real } else { Guests::Simulated };
        let known = Journal::from_json(&value["known"]);
        Some(Self { known, seed: value["seed"].as_u64()?, guests, last: value["last"].as_bool()? })
    }
}
