//! Memory that is free goes back to the system. A burst of work (a thousand VMMs taken up, as many creates) leaves the C
//! library's allocator with free pages between used ones, which it keeps for itself: a quarter of the daemon's memory.

#![expect(unsafe_code, reason = "the allocator's own functions have no safe interface")]

use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// When the connections that the start made to VMMs are gone.
const FIRST: Duration = Duration::from_secs(12);

/// Nobody tells when a burst is over; looking for free pages takes a millisecond.
const INTERVAL: Duration = Duration::from_secs(60);

/// Gives free memory back now and then, until it is dropped.
#[derive(Debug)]
pub(crate) struct Tidying(JoinHandle<()>);

impl Tidying {
    pub(crate) fn start() -> Self {
        let mut ticks = interval_at(Instant::now() + FIRST, INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(tokio::spawn(async move {
            loop {
                ticks.tick().await;
                if spawn_blocking(give_back).await.is_err() {
                    return;
                }
            }
        }))
    }
}

impl Drop for Tidying {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Gives the system the pages that nobody uses. Does nothing where the C library is another one.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    fn resident_kib() -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }

    #[test]
    fn free_pages_between_used_ones_go_back() {
        let mut pieces: Vec<_> = (0..200_000).map(|number: u32| Some(vec![number; 128])).collect();
        let full = resident_kib().expect("the kernel says");
        for (number, piece) in pieces.iter_mut().enumerate() {
            // Enough stays to keep the heap as long as it is.
            if number % 1000 != 999 {
                *piece = None;
            }
        }
        give_back();
        let left = resident_kib().expect("the kernel says");
        assert!(left + (60 << 10) < full, "{full} KiB before, {left} KiB after");
        assert_eq!(pieces[999].as_deref(), Some(&[999; 128][..]));
    }
}
