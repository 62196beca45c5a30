//! What of an instance's change is worth a line: from two views of it, pure.
//!
//! Everything that changes goes through the record and the view, so nothing that happens to an instance can be left out
//! by forgetting to tell it.

use std::sync::Arc;

use super::{Kind, Note};
use crate::record::OpRecord;
use crate::{ErrorRecord, Record, View};

/// How it was when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Story {
    last: Option<Arc<View>>,
    exit_told: bool,
}

impl Story {
    pub(super) fn go_on(&mut self, view: &Arc<View>) -> Vec<Note> {
        let last = self.last.replace(Arc::clone(view));
        let before = last.as_deref();
        let mut notes = Vec::new();
        self.vmm(before, view, &mut notes);
        program(before, view, &mut notes);
        if before.map(|before| before.state) != Some(view.state) {
            let state = view.state.to_string();
            notes.push(Note { state: Some(state.clone()), ..Note::new(Kind::State, state) });
        }
        operation(before.map(|before| &*before.record), &view.record, &mut notes);
        notes
    }

    pub(super) fn exit_is_told(&mut self) {
        self.exit_told = true;
    }

    fn vmm(&mut self, before: Option<&View>, view: &View, notes: &mut Vec<Note>) {
        // One that was there when the daemon came is adopted, or was gone already.
        let Some(before) = before else { return };
        let pid =
            |view: &View| view.record.vmm.as_ref().and_then(|vmm| vmm.process.as_ref()).map(|process| process.pid);
        match (pid(before), pid(view)) {
            (was, Some(is)) if was != Some(is) => {
                self.exit_told = false;
                notes.push(Note::new(Kind::VmmSpawned, "a VMM was started").with_pid(is));
            }
            (Some(was), None) if !std::mem::take(&mut self.exit_told) => {
                notes.push(Note::new(Kind::VmmExited, "the VMM is gone").with_pid(was));
            }
            (_, Some(_) | None) => {}
        }
    }
}

fn program(before: Option<&View>, view: &View, notes: &mut Vec<Note>) {
    if view.ready && before.is_none_or(|before| !before.ready) {
        notes.push(Note::new(Kind::Ready, "the guest's program has started"));
    }
    let Some(before) = before else { return };
    if let Some(code) = view.record.exit_code.filter(|_| before.record.exit_code.is_none()) {
        let note = Note::new(Kind::Exited, format!("the guest's program has ended with {code}"));
        notes.push(Note { exit_code: Some(code), ..note });
    }
}

fn operation(before: Option<&Record>, record: &Record, notes: &mut Vec<Note>) {
    let (was, is) = (before.and_then(|before| before.op.as_ref()), record.op.as_ref());
    let same = was.map(|op| &op.id) == is.map(|op| &op.id);
    let trouble = record.last_error.as_ref().filter(|_| before.is_some_and(|it| it.last_error != record.last_error));
    match (was.filter(|_| !same), is, trouble) {
        (Some(was), None, Some(error)) => notes.push(failed(was, error)),
        (Some(was), None, None) => notes.push(about(was, Kind::OperationEnded, "is done")),
        (Some(was), Some(by), trouble) => {
            notes.push(about(was, Kind::OperationEnded, &format!("gave way to {}", by.kind)));
            notes.extend(trouble.map(told));
        }
        (None, _, trouble) => notes.extend(trouble.map(told)),
    }
    if let Some(op) = is.filter(|_| !same) {
        let how = if before.is_some() || record.generation <= 1 { "has begun" } else { "is in progress" };
        notes.push(about(op, Kind::OperationBegun, how));
    }
}

fn about(op: &OpRecord, event: Kind, what: &str) -> Note {
    let note = Note::new(event, format!("{} {what}", op.kind));
    Note { operation: Some(op.kind.to_string()), operation_id: Some(op.id.to_string()), ..note }
}

fn failed(op: &OpRecord, error: &ErrorRecord) -> Note {
    let note = about(op, Kind::OperationEnded, &format!("was not done: {}", error.message));
    Note { code: Some(error.code.clone()), ..note }
}

fn told(error: &ErrorRecord) -> Note {
    Note { code: Some(error.code.clone()), ..Note::new(Kind::Trouble, error.message.clone()) }
}
