//! Removal of interfaces out of everybody's way. The kernel takes some 18 ms to remove one TAP and holds its lock over
//! all interfaces meanwhile, but hardly longer for a hundred of them at once: what is to go is gathered while earlier
//! ones go, put into a group of our own, and removed as that group.
//!
//! Invariant: nothing is removed that was spared before its turn came. What is left when the daemon ends is an orphan,
//! which the next start sweeps.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::libc;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use tokio::sync::watch;
use tracing::warn;

use super::nfnetlink::{ACK, Request, Wire};
use crate::backend::HostLink;

const RTM_DELLINK: u16 = 17;
const RTM_SETLINK: u16 = 19;
const IFLA_GROUP: u16 = 27;

/// So many at once: the lock over all interfaces is held for some 0.3 ms each.
const AT_ONCE: usize = 64;

#[derive(Debug, Default)]
struct Queue {
    /// Index by name.
    waiting: BTreeMap<String, u32>,
    going: BTreeSet<String>,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
    /// Changes after each round.
    rounds: watch::Sender<u64>,
}

/// The handle; its thread ends when it is dropped and all is removed.
#[derive(Debug)]
pub(super) struct Reaper(Arc<Shared>);

impl Reaper {
    /// Starts the thread, in the namespace of the caller's.
    pub(super) fn start() -> io::Result<Self> {
        let (queue, more) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { queue, more, rounds: watch::Sender::new(0) });
        let wire = Wire::open(NETLINK_ROUTE)?;
        let (theirs, group) = (Arc::clone(&shared), uuid::Uuid::new_v4());
        // A number that nobody else has: everything in the group is removed.
        let group = (group.as_u128() & u128::from(u32::MAX >> 1)) | 1 << 30;
        let group = u32::try_from(group).expect("31 bits");
        std::thread::Builder::new().name("network-reaper".to_owned()).spawn(move || theirs.run(wire, group))?;
        Ok(Self(shared))
    }

    pub(super) fn discard(&self, link: HostLink) {
        self.0.lock().waiting.insert(link.name, link.index);
        self.0.more.notify_one();
    }

    pub(super) async fn spare(&self, name: &str) {
        let mut rounds = self.0.rounds.subscribe();
        let is_going = || {
            let mut queue = self.0.lock();
            queue.waiting.remove(name);
            queue.going.contains(name)
        };
        while is_going() && rounds.changed().await.is_ok() {}
    }

    /// Waits until there is nothing left to remove.
    pub(super) async fn finished(&self) {
        let mut rounds = self.0.rounds.subscribe();
        let is_busy = || {
            let queue = self.0.lock();
            !queue.waiting.is_empty() || !queue.going.is_empty()
        };
        while is_busy() && rounds.changed().await.is_ok() {}
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.more.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Each section leaves the queue whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut wire: Wire, first_group: u32) {
        let mut group = first_group;
        while let Some(links) = self.next() {
            // A new one each time: what could not be removed may be in use again when the next ones go.
            group = group.wrapping_add(1);
            if let Err(error) = remove(&mut wire, &links, group) {
                warn!(network.links = ?links.keys(), error = %error, "interfaces are not removed; the next start tries again");
            }
            self.lock().going.clear();
            self.rounds.send_modify(|round| *round += 1);
        }
    }

    /// What goes next; waits for it. `None` at the end.
    fn next(&self) -> Option<BTreeMap<String, u32>> {
        let mut queue = self.lock();
        while queue.waiting.is_empty() {
            if queue.closed {
                return None;
            }
            queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let mut links = std::mem::take(&mut queue.waiting);
        if let Some(name) = links.keys().nth(AT_ONCE).cloned() {
            queue.waiting = links.split_off(&name);
        }
        queue.going = links.keys().cloned().collect();
        Some(links)
    }
}

fn remove(wire: &mut Wire, links: &BTreeMap<String, u32>, group: u32) -> io::Result<()> {
    let grouped: Vec<_> =
        links.values().map(|index| gone_is_fine(wire, link_message(RTM_SETLINK, *index, group))).collect();
    let removed = gone_is_fine(wire, link_message(RTM_DELLINK, 0, group));
    grouped.into_iter().chain([removed]).collect()
}

fn gone_is_fine(wire: &mut Wire, request: Request) -> io::Result<()> {
    match request.send(wire, |_, _| {}) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        outcome => outcome,
    }
}

/// A `struct ifinfomsg` that names an interface, or none, and the group.
fn link_message(kind: u16, index: u32, group: u32) -> Request {
    let mut request = Request::plain(kind, ACK);
    request.raw(&[0; 4]);
    request.raw(&index.to_ne_bytes());
    request.raw(&[0; 8]);
    request.attribute(IFLA_GROUP, &group.to_ne_bytes());
    request
}
