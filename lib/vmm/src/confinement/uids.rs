//! Which uids are held. Pure bookkeeping, rebuilt from the instances' records at start.
//!
//! Invariant: a uid has at most one holder. Free ones are handed out in rotation, so that a released uid comes back as
//! late as possible, and files that an earlier holder left behind do not meet their next owner.

use std::collections::HashSet;
use std::ops::RangeInclusive;

/// The uids of VMs: above what systemd gives to containers, below 2³¹. One before the first is [`super::SHARED_GID`].
pub const VM_UIDS: RangeInclusive<u32> = 1_900_000_001..=1_900_065_535;

/// Why a uid is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UidError {
    /// Somebody else has it.
    #[error("uid {0} is held by another instance")]
    Held(u32),
    /// It is none of ours.
    #[error("uid {0} is outside the range of virtual machines, 1900000001 to 1900065535")]
    Outside(u32),
    /// All are held.
    #[error("all {} uids for virtual machines are held", VM_UIDS.end() - VM_UIDS.start() + 1)]
    Exhausted,
}

/// The uids of one daemon's VMs.
#[derive(Debug)]
pub struct UidPool {
    held: HashSet<u32>,
    /// The one to try next; always in the range.
    next: u32,
}

impl UidPool {
    /// A pool of which nothing is held. Daemons with different seeds begin at different places.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let count = u64::from(VM_UIDS.end() - VM_UIDS.start()) + 1;
        let offset = u32::try_from(seed % count).unwrap_or(0);
        Self { held: HashSet::new(), next: VM_UIDS.start() + offset }
    }

    /// Takes a uid over from a record. The rotation goes on behind the highest one seen.
    ///
    /// # Errors
    /// [`UidError::Held`], [`UidError::Outside`].
    pub fn adopt(&mut self, uid: u32) -> Result<(), UidError> {
        if !VM_UIDS.contains(&uid) {
            return Err(UidError::Outside(uid));
        }
        if !self.held.insert(uid) {
            return Err(UidError::Held(uid));
        }
        self.next = self.next.max(following(uid));
        Ok(())
    }

    /// Gives the next free uid.
    ///
    /// # Errors
    /// [`UidError::Exhausted`].
    pub fn claim(&mut self) -> Result<u32, UidError> {
        for _ in VM_UIDS {
            let uid = self.next;
            self.next = following(uid);
            if self.held.insert(uid) {
                return Ok(uid);
            }
        }
        Err(UidError::Exhausted)
    }

    /// Takes a uid back; one that is not held is fine.
    pub fn release(&mut self, uid: u32) {
        self.held.remove(&uid);
    }
}

fn following(uid: u32) -> u32 {
    if uid >= *VM_UIDS.end() { *VM_UIDS.start() } else { uid + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_rotate_and_are_never_given_twice() {
        let mut pool = UidPool::new(0);
        let first = pool.claim().unwrap();
        assert_eq!(first, *VM_UIDS.start());
        pool.release(first);
        assert_eq!(pool.claim().unwrap(), first + 1, "what was released comes back last");
        pool.adopt(first + 2).unwrap();
        assert_eq!(pool.adopt(first + 2), Err(UidError::Held(first + 2)));
        assert_eq!(pool.claim().unwrap(), first + 3);
        for outside in [0, 1000, super::super::SHARED_GID, VM_UIDS.end() + 1] {
            assert_eq!(pool.adopt(outside), Err(UidError::Outside(outside)));
        }
    }

    #[test]
    fn a_full_pool_says_so_and_goes_on_with_what_is_released() {
        let mut pool = UidPool::new(u64::MAX);
        let all: HashSet<u32> = std::iter::from_fn(|| pool.claim().ok()).collect();
        assert_eq!(all.len(), VM_UIDS.count());
        assert_eq!(pool.claim(), Err(UidError::Exhausted));
        pool.release(*VM_UIDS.end());
        assert_eq!(pool.claim(), Ok(*VM_UIDS.end()));
    }
}
