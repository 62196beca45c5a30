//! Which elements of sets and maps each guest has in the kernel. An element is there from before its TAP is up until
//! the TAP is on its way out; a restarted daemon puts all of them back in the transaction that replaces the rules.
//!
//! Invariant: an element that is in the kernel is known here, since a change is noted before it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use dataplane_types::TapName;

use crate::backend::{Backend, BackendError};
use crate::element::{Element, ElementChange};

type Guests = BTreeMap<TapName, BTreeSet<Element>>;

#[derive(Debug)]
pub(crate) struct Rules {
    table: String,
    /// What records say, until the start that puts it in.
    expected: Mutex<Guests>,
    /// Held over the kernel's answer: what is known and what is so must not change in different orders.
    known: tokio::sync::Mutex<Guests>,
}

impl Rules {
    pub(crate) fn new(table: String) -> Self {
        Self { table, expected: Mutex::default(), known: tokio::sync::Mutex::default() }
    }

    /// Remembers what a guest has if its TAP is there.
    pub(crate) fn expect(&self, tap: TapName, elements: Vec<Element>) {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.insert(tap, elements.into_iter().collect());
    }

    /// Replaces all rules, with the elements of the guests that are there.
    pub(crate) async fn replace(
        &self,
        backend: &dyn Backend,
        taps: &BTreeSet<String>,
        render: impl FnOnce(&[Element]) -> String,
    ) -> Result<(), BackendError> {
        let mut known = self.known.lock().await;
        let expected = std::mem::take(&mut *self.expected.lock().unwrap_or_else(PoisonError::into_inner));
        for (tap, elements) in expected.into_iter().filter(|(tap, _)| taps.contains(tap.as_str())) {
            known.entry(tap).or_insert(elements);
        }
        let elements: Vec<Element> = known.values().flatten().cloned().collect();
        let script = render(&elements);
        backend.apply_ruleset(&script).await
    }

    /// Gives a guest these elements and no others.
    pub(crate) async fn put(
        &self,
        backend: &dyn Backend,
        tap: &TapName,
        elements: Vec<Element>,
    ) -> Result<(), BackendError> {
        let mut known = self.known.lock().await;
        let wanted: BTreeSet<Element> = elements.into_iter().collect();
        let before = known.entry(tap.clone()).or_default();
        let change = ElementChange {
            table: self.table.clone(),
            remove: before.difference(&wanted).cloned().collect(),
            add: wanted.difference(before).cloned().collect(),
        };
        if change.remove.is_empty() && change.add.is_empty() {
            return Ok(());
        }
        before.extend(wanted.iter().cloned());
        backend.change_elements(&change).await?;
        *before = wanted;
        Ok(())
    }

    /// Takes all elements of a guest away; none is fine.
    pub(crate) async fn clear(&self, backend: &dyn Backend, tap: &TapName) -> Result<(), BackendError> {
        let mut known = self.known.lock().await;
        let Some(elements) = known.get(tap) else { return Ok(()) };
        let remove = elements.iter().cloned().collect();
        backend.change_elements(&ElementChange { table: self.table.clone(), remove, add: Vec::new() }).await?;
        known.remove(tap);
        Ok(())
    }

    /// The rules are gone, and every element with them.
    pub(crate) async fn forget(&self) {
        self.known.lock().await.clear();
    }
}
