//! One daemon per data directory: an `flock` that the kernel releases when the daemon dies, however it dies.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

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
pub struct DirectoryLock(#[expect(dead_code, reason = "holding the open file is holding the lock")] File);

impl DirectoryLock {
    /// Takes the lock without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process has it.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let open = |source| LockError::Open { path: path.to_owned(), source };
        let file = File::options().create(true).append(true).open(path).map_err(open)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held(path.to_owned())),
            Err(errno) => Err(open(errno.into())),
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
        assert!(matches!(DirectoryLock::acquire(&path), Err(LockError::Held(_))));
        drop(first);
        assert!(DirectoryLock::acquire(&path).is_ok());
    }
}
