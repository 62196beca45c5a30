//! What one guest, and all together, may ask for: a rate, and how much at a time. Whoever is over it is not served; the
//! others do not notice.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The limits of a responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Questions per second of one guest, in the long run.
    pub rate: u32,
    /// Questions of one guest at once.
    pub burst: u32,
    /// Questions that wait for the upstream.
    pub forwards: Share,
    /// Connections.
    pub connections: Share,
    /// How long the upstream may take.
    pub patience: Duration,
    /// How long a client may take to send a question by TCP, or to take its answer.
    pub idle: Duration,
}

/// How much of a thing one guest may have, and all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// One guest.
    pub each: usize,
    /// All together.
    pub all: usize,
}

impl Default for Limits {
    /// A web page takes some tens of names, a busy crawler a hundred a second; the upstream answers in tens of
    /// milliseconds. A resolver gives a server 5 s: ours answers before, so that it asks its next one.
    fn default() -> Self {
        Self {
            rate: 200,
            burst: 400,
            forwards: Share { each: 64, all: 512 },
            connections: Share { each: 8, all: 128 },
            patience: Duration::from_secs(4),
            idle: Duration::from_secs(10),
        }
    }
}

/// How many guests are remembered. More than fit a bridge: beyond it are sources that somebody made up.
const MOST_GUESTS: usize = 2048;

/// What is counted besides questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Forward,
    Connection,
}

#[derive(Debug)]
struct Guest {
    /// Questions that may be asked now, as time: each costs one period.
    credit: Duration,
    since: Instant,
    forwards: usize,
    connections: usize,
}

#[derive(Debug, Default)]
struct Table {
    guests: HashMap<Ipv4Addr, Guest>,
    forwards: usize,
    connections: usize,
}

/// The book about who asks how much.
#[derive(Debug, Clone)]
pub(crate) struct Ration {
    limits: Limits,
    table: Arc<Mutex<Table>>,
}

/// One thing in use; given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    table: Arc<Mutex<Table>>,
    guest: Ipv4Addr,
    kind: Kind,
}

impl Ration {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, table: Arc::default() }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether a guest may ask one more question now.
    pub(crate) fn may_ask(&self, guest: Ipv4Addr) -> bool {
        let period = Duration::from_secs(1) / self.limits.rate.max(1);
        let mut table = lock(&self.table);
        let Some(guest) = table.guest(guest, self.full()) else { return false };
        let now = Instant::now();
        guest.credit = (guest.credit + now.saturating_duration_since(guest.since)).min(self.full());
        guest.since = now;
        match guest.credit.checked_sub(period) {
            Some(left) => guest.credit = left,
            None => return false,
        }
        true
    }

    /// One more of a kind for a guest, if there is room.
    pub(crate) fn take(&self, guest: Ipv4Addr, kind: Kind) -> Option<Permit> {
        let share = match kind {
            Kind::Forward => self.limits.forwards,
            Kind::Connection => self.limits.connections,
        };
        let mut table = lock(&self.table);
        if *table.all(kind) >= share.all {
            return None;
        }
        let each = table.guest(guest, self.full())?.counter(kind);
        if *each >= share.each {
            return None;
        }
        *each += 1;
        *table.all(kind) += 1;
        drop(table);
        Some(Permit { table: Arc::clone(&self.table), guest, kind })
    }

    /// The credit of a guest that has not asked for long.
    fn full(&self) -> Duration {
        Duration::from_secs(1) / self.limits.rate.max(1) * self.limits.burst
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        *table.all(self.kind) -= 1;
        if let Some(guest) = table.guests.get_mut(&self.guest) {
            *guest.counter(self.kind) -= 1;
        }
    }
}

impl Guest {
    fn counter(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Forward => &mut self.forwards,
            Kind::Connection => &mut self.connections,
        }
    }
}

impl Table {
    fn all(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Forward => &mut self.forwards,
            Kind::Connection => &mut self.connections,
        }
    }

    /// The entry of a guest, new with full credit; `None` when too many others are busy.
    fn guest(&mut self, address: Ipv4Addr, full: Duration) -> Option<&mut Guest> {
        let now = Instant::now();
        if self.guests.len() >= MOST_GUESTS && !self.guests.contains_key(&address) {
            // Forgetting one whose credit is full again, and who uses nothing, changes nothing.
            let is_busy = |guest: &Guest| {
                guest.credit + now.saturating_duration_since(guest.since) < full
                    || guest.forwards + guest.connections > 0
            };
            self.guests.retain(|_, guest| is_busy(guest));
            if self.guests.len() >= MOST_GUESTS {
                return None;
            }
        }
        let fresh = || Guest { credit: full, since: now, forwards: 0, connections: 0 };
        Some(self.guests.entry(address).or_insert_with(fresh))
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    // Each section leaves the counts whole, so a panic elsewhere does not spoil them.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

    fn limits() -> Limits {
        Limits { rate: 10, burst: 3, forwards: Share { each: 2, all: 3 }, ..Limits::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_has_its_burst_and_then_its_rate() {
        let ration = Ration::new(limits());
        let asked = |guest, times: usize| (0..times).filter(|_| ration.may_ask(guest)).count();
        assert_eq!(asked(ONE, 10), 3);
        assert_eq!(asked(OTHER, 10), 3, "another's thirst is not mine");
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(asked(ONE, 10), 2);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(asked(ONE, 10), 3, "credit does not grow beyond the burst");
    }

    #[test]
    fn what_is_in_use_is_bounded_for_each_and_for_all() {
        let ration = Ration::new(limits());
        let first = ration.take(ONE, Kind::Forward).unwrap();
        let _second = ration.take(ONE, Kind::Forward).unwrap();
        assert!(ration.take(ONE, Kind::Forward).is_none());
        let _third = ration.take(OTHER, Kind::Forward).unwrap();
        assert!(ration.take(OTHER, Kind::Forward).is_none(), "all together");
        assert!(ration.take(ONE, Kind::Connection).is_some(), "kinds are counted apart");
        drop(first);
        assert!(ration.take(OTHER, Kind::Forward).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_sources_do_not_fill_the_memory() {
        let ration = Ration::new(limits());
        let source = |number: usize| Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).unwrap());
        assert!((0..MOST_GUESTS).all(|number| ration.may_ask(source(number))));
        assert!(!ration.may_ask(source(MOST_GUESTS)));
        assert_eq!(lock(&ration.table).guests.len(), MOST_GUESTS);
        assert!(ration.may_ask(source(0)), "those that are known go on");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(ration.may_ask(source(MOST_GUESTS)));
        assert_eq!(lock(&ration.table).guests.len(), 1);
    }
}
