//! File systems that are frozen, each with a thread that thaws it when its time is over.
//!
//! Invariant: nothing stays frozen for longer than it was asked for, whatever the host does, and a time that is over
//! never thaws a later freeze.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::sys;

const LONGEST: Duration = Duration::from_secs(60);
const MAX_FROZEN: usize = 16;
const STACK: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Freezer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    frozen: Mutex<BTreeMap<String, Frozen>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Frozen {
    /// Something on the file system.
    file: Arc<OwnedFd>,
    deadline: Instant,
}

impl Freezer {
    pub(super) fn is_frozen(&self, serial: &str) -> bool {
        self.0.lock().contains_key(serial)
    }

    /// Freezes, or gives what is frozen a new time.
    pub(super) fn freeze(&self, serial: &str, file: OwnedFd, thaw_after_ms: u64) -> Result<(), String> {
        let time = Duration::from_millis(thaw_after_ms);
        if time.is_zero() || time > LONGEST {
            return Err(format!("a disk can be frozen for 1 to {} ms", LONGEST.as_millis()));
        }
        let deadline = Instant::now() + time;
        {
            let mut frozen = self.0.lock();
            if let Some(known) = frozen.get_mut(serial) {
                known.deadline = deadline;
                self.0.changed.notify_all();
                return Ok(());
            }
            if frozen.len() >= MAX_FROZEN {
                return Err(format!("{MAX_FROZEN} disks are frozen"));
            }
        }
        sys::freeze(file.as_fd(), true).map_err(|errno| {
            if errno == Errno::EBUSY {
                return "something else has frozen the disk".to_owned();
            }
            format!("freeze the disk: {}", errno.desc())
        })?;
        let (shared, name) = (Arc::clone(&self.0), serial.to_owned());
        let file = Arc::new(file);
        shared.lock().insert(serial.to_owned(), Frozen { file: Arc::clone(&file), deadline });
        let timer = thread::Builder::new().name("thaw".to_owned()).stack_size(STACK);
        let timer = timer.spawn(move || shared.thaw_in_time(&name, &file));
        match timer {
            Ok(_) if Instant::now() < deadline => Ok(()),
            Ok(_) => Err(format!("freezing the disk took longer than {thaw_after_ms} ms")),
            Err(error) => {
                self.thaw(serial)?;
                Err(format!("start a thread: {error}"))
            }
        }
    }

    /// Whether it was frozen here.
    pub(super) fn thaw(&self, serial: &str) -> Result<bool, String> {
        let mut frozen = self.0.lock();
        let Some(known) = frozen.remove(serial) else { return Ok(false) };
        self.0.changed.notify_all();
        // Under the lock: no later freeze begins before this is over.
        thaw_now(known.file.as_fd()).map(|()| true)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Frozen>> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Thaws at the deadline, unless somebody was earlier.
    fn thaw_in_time(&self, serial: &str, file: &Arc<OwnedFd>) {
        let mut frozen = self.lock();
        loop {
            // A later freeze of the same disk has another file and a thread of its own.
            let Some(known) = frozen.get(serial).filter(|known| Arc::ptr_eq(&known.file, file)) else { return };
            let left = known.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let _ = thaw_now(file.as_fd());
                frozen.remove(serial);
                return;
            }
            frozen = self.changed.wait_timeout(frozen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Not frozen is a success.
pub(super) fn thaw_now(file: BorrowedFd<'_>) -> Result<(), String> {
    match sys::freeze(file, false) {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(format!("thaw the disk: {}", errno.desc())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn times_are_bounded() {
        let freezer = Freezer::default();
        for time in [0, 60_001, u64::MAX] {
            let file = File::open("/proc/self/mounts").unwrap().into();
            assert!(freezer.freeze("a", file, time).unwrap_err().contains("1 to 60000"));
        }
        assert!(!freezer.is_frozen("a"));
        assert_eq!(freezer.thaw("a"), Ok(false));
    }
}
