//! The one reader of a log that is followed: it reads what is new, once, and keeps the last of it for its followers.
//!
//! Invariant: it waits for no follower. One that is slower than the others finds that what it wants is kept no longer,
//! and reads the file itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::file::Found;
use super::reader::blocking;
use super::{LogChunk, Shared};

/// How much is kept for followers.
const KEPT_BYTES: usize = 1 << 20;

/// The pause behind each read, and for each follower: a guest that prints without pause would otherwise wake all of them
/// for every line.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_PER_FOLLOWER: Duration = Duration::from_micros(50);

/// How often a file is looked at that cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Where an offset is, seen from what is kept.
#[derive(Debug)]
pub(super) enum Place {
    Chunk(Arc<LogChunk>),
    /// Not read yet.
    Ahead,
    /// Kept no longer, or never.
    Behind,
}

#[derive(Debug)]
struct Kept {
    chunks: VecDeque<Arc<LogChunk>>,
    bytes: usize,
    /// Where reading goes on, and where the last chunk ends.
    end: u64,
}

#[derive(Debug)]
pub(super) struct Feed {
    kept: Mutex<Kept>,
    changed: watch::Sender<()>,
    task: OnceLock<AbortHandle>,
}

impl Feed {
    /// Reads from `offset` on, for as long as somebody holds it.
    pub(super) fn start(shared: Arc<Shared>, offset: u64) -> Arc<Self> {
        let kept = Kept { chunks: VecDeque::new(), bytes: 0, end: offset };
        let feed = Arc::new(Self { kept: Mutex::new(kept), changed: watch::Sender::new(()), task: OnceLock::new() });
        let task = tokio::spawn(run(Arc::downgrade(&feed), shared));
        feed.task.get_or_init(|| task.abort_handle());
        feed
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn look(&self, offset: u64) -> Place {
        let kept = self.kept();
        let start = kept.chunks.front().map_or(kept.end, |chunk| chunk.start());
        if offset < start {
            return Place::Behind;
        }
        let index = kept.chunks.partition_point(|chunk| chunk.end() <= offset);
        kept.chunks.get(index).map_or(Place::Ahead, |chunk| Place::Chunk(chunk.behind(offset)))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, chunk: Arc<LogChunk>) {
        let mut kept = self.kept();
        kept.bytes += chunk.bytes().len();
        kept.end = chunk.end();
        kept.chunks.push_back(chunk);
        while kept.bytes > KEPT_BYTES && kept.chunks.len() > 1 {
            kept.bytes -= kept.chunks.pop_front().map_or(0, |chunk| chunk.bytes().len());
        }
        drop(kept);
        self.changed.send_replace(());
    }

    /// Nothing can be kept over a gap: all that follow look for themselves.
    fn jump(&self, to: u64) {
        *self.kept() = Kept { chunks: VecDeque::new(), bytes: 0, end: to };
        self.changed.send_replace(());
    }

    fn pause(&self) -> Duration {
        let followers = u32::try_from(self.followers()).unwrap_or(u32::MAX);
        PAUSE + PAUSE_PER_FOLLOWER.saturating_mul(followers)
    }

    pub(super) fn followers(&self) -> usize {
        self.changed.receiver_count()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

async fn run(feed: Weak<Feed>, shared: Arc<Shared>) {
    let mut changes = shared.watch.subscribe(&shared.file);
    loop {
        if let Some(changes) = &mut changes {
            // Seen before the read: a change after it wakes the wait below.
            changes.borrow_and_update();
        }
        while let Some(pause) = read_once(&feed, &shared).await {
            tokio::time::sleep(pause).await;
        }
        match &mut changes {
            Some(changes) => {
                if changes.changed().await.is_err() {
                    // The watch is gone with the manager, or the file: there is nothing left to read.
                    return;
                }
            }
            None => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Reads once; how long to pause then, or `None` at the end.
async fn read_once(feed: &Weak<Feed>, shared: &Arc<Shared>) -> Option<Duration> {
    let at = feed.upgrade()?.kept().end;
    let (file, path) = (Arc::clone(shared), shared.file.path());
    let found = blocking(move || file.file.read(at, false)).await;
    let feed = feed.upgrade()?;
    match found {
        Ok(Found::Chunk(chunk)) => feed.push(chunk),
        Ok(Found::Gap { to }) => feed.jump(to),
        Ok(Found::End) => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), error = %error, "a log cannot be read");
            return None;
        }
    }
    Some(feed.pause())
}
