//! One daemon per data directory: an `flock` that the kernel releases when the daemon dies, however it dies.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// How long a lock is waited for. A daemon that was killed while it was starting a process leaves the lock with that
/// process until it has become another program. That must be over before anybody looks which VMMs there are.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is tried: a wait for a lock in the kernel has no time limit.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Why the data directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon holds it.
    #[error("another daemon holds {0:?}; stop it, or choose another DATA_DIR")]
    Held(PathBuf),
    /// The lock file could not be opened or locked.
    #[error("open the lock file {path:?}")]
    Open {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Holds the data directory until dropped.
#[derive(Debug)]
pub struct DirectoryLock(
    #[cfg_attr(not(test), expect(dead_code, reason = "holding the open file is holding the lock"))] File,
);

impl DirectoryLock {
    /// Takes the lock; blocks for some seconds where another process has it.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process keeps it.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        Self::acquire_within(path, PATIENCE)
    }

    fn acquire_within(path: &Path, patience: Duration) -> Result<Self, LockError> {
        let open = |source| LockError::Open { path: path.to_owned(), source };
        let file = File::options().create(true).append(true).open(path).map_err(open)?;
        let begin = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::WOULDBLOCK) if begin.elapsed() < patience => std::thread::sleep(TRY_AGAIN),
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held(path.to_owned())),
                Err(errno) => return Err(open(errno.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = DirectoryLock::acquire(&path).unwrap();
        assert!(matches!(DirectoryLock::acquire_within(&path, Duration::ZERO), Err(LockError::Held(_))));
        drop(first);
        assert!(DirectoryLock::acquire_within(&path, Duration::ZERO).is_ok());
    }

    /// A daemon killed while it was starting a process kept the next one from starting.
    #[test]
    fn a_lock_that_is_about_to_go_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = DirectoryLock::acquire(&path).unwrap();
        let child = first.0.try_clone().unwrap();
        drop(first);
        assert!(matches!(DirectoryLock::acquire_within(&path, Duration::ZERO), Err(LockError::Held(_))));
        let gone = std::thread::spawn(move || drop(child));
        assert!(DirectoryLock::acquire(&path).is_ok());
        gone.join().unwrap();
    }
}
