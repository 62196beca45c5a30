//! One at a time for each digest: a disk is never made twice at once, nor removed while it is being made.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use dataplane_types::Digest;
use tokio::sync::Notify;

/// The digests that somebody works on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    busy: Mutex<HashSet<Digest>>,
    left: Notify,
}

impl Gate {
    /// Waits until nobody else works on a digest, and works on it until the answer is dropped.
    pub(crate) async fn enter(&self, digest: Digest) -> GateGuard {
        loop {
            let left = self.0.left.notified();
            tokio::pin!(left);
            // Listening begins before looking, so no leave between the two is missed.
            left.as_mut().enable();
            if self.0.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(digest) {
                return GateGuard { gate: self.clone(), digest };
            }
            left.await;
        }
    }
}

/// Holds the gate of one digest.
#[derive(Debug)]
pub(crate) struct GateGuard {
    gate: Gate,
    digest: Digest,
}

impl Drop for GateGuard {
    fn drop(&mut self) {
        self.gate.0.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
        self.gate.0.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_others_do_not() {
        let gate = Gate::default();
        let [one, two] = [[1; 32], [2; 32]].map(Digest::from_bytes);
        let first = gate.enter(one).await;
        assert!(gate.enter(two).now_or_never().is_some());
        let mut second = Box::pin(gate.enter(one));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        second.await;
    }
}
