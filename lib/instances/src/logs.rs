//! The logs of instances: what is appended to files that are never truncated and never renamed, so that an offset is an
//! event id for ever.
//!
//! The files are written by VMMs, and one of them by [`journal`]; here they are read, followed, and kept within their
//! bounds. Invariants: nobody who writes a log ever waits for one who reads it; of each file that is followed there is
//! one reader, whatever the number of followers; what is freed at a file's head is a gap, never silence. This module
//! knows no HTTP.

mod bound;
mod chunk;
mod feed;
mod file;
pub(crate) mod journal;
mod reader;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dataplane_store::InstancePaths;
use uuid::Uuid;

pub(crate) use bound::Bound;
pub use chunk::{LogChunk, LogPiece, MAX_PIECE_BYTES};
pub use reader::{LogItem, LogReader};

use feed::Feed;
use file::LogFile;
use watch::LogWatch;

/// Whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogSource {
    /// The guest's console.
    App,
    /// The VMM's processes.
    Vmm,
    /// The daemon: what it did to the instance.
    Dataplane,
}

impl LogSource {
    fn path(self, paths: &InstancePaths) -> PathBuf {
        match self {
            Self::App => paths.serial_log(),
            Self::Vmm => paths.vmm_log(),
            Self::Dataplane => paths.dataplane_log(),
        }
    }
}

/// One log that somebody reads: what its readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    file: LogFile,
    watch: Arc<LogWatch>,
    /// There while somebody follows.
    feed: Mutex<Weak<Feed>>,
}

impl Shared {
    /// The one reader of all followers; started at `offset` when there is none.
    fn feed(self: &Arc<Self>, offset: u64) -> Arc<Feed> {
        let mut feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = feed.upgrade() {
            return feed;
        }
        let fresh = Feed::start(Arc::clone(self), offset);
        *feed = Arc::downgrade(&fresh);
        fresh
    }
}

/// An id alone would not do: a file of an instance that is gone may still be read when the next one of its id is here.
type Key = (Uuid, LogSource);

/// All logs that are being read.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    watch: Arc<LogWatch>,
    read: Mutex<HashMap<Key, Weak<Shared>>>,
}

impl Logs {
    /// A reader at the beginning of a log.
    pub(crate) fn reader(&self, uuid: Uuid, source: LogSource, paths: &InstancePaths) -> LogReader {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = read.get(&(uuid, source)).and_then(Weak::upgrade) {
            return LogReader::new(shared);
        }
        read.retain(|_, shared| shared.strong_count() > 0);
        let file = LogFile::new(source.path(paths));
        let shared = Arc::new(Shared { file, watch: Arc::clone(&self.watch), feed: Mutex::default() });
        read.insert((uuid, source), Arc::downgrade(&shared));
        LogReader::new(shared)
    }
}
