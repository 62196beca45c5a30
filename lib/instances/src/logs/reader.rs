//! One reader of one log. It reads the file by itself until it has caught up; from then on it takes what the feed has
//! read for all, and reads by itself again when it was too slow for that.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::feed::{Feed, Place};
use super::file::Found;
use super::{LogChunk, Shared};

/// What comes next in a log.
#[derive(Debug, Clone)]
pub enum LogItem {
    /// Lines.
    Chunk(Arc<LogChunk>),
    /// Nothing between these offsets, any more or yet: reading goes on at `to`.
    Gap {
        /// What was to be read.
        from: u64,
        /// What is to be read instead; smaller where the log ends before `from`.
        to: u64,
    },
}

/// A place in a log.
#[derive(Debug)]
pub struct LogReader {
    pub(super) shared: Arc<Shared>,
    offset: u64,
    feed: Option<(Arc<Feed>, watch::Receiver<()>)>,
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, offset: 0, feed: None }
    }

    /// Whether it has ever caught up.
    #[cfg(test)]
    pub(super) fn is_fed(&self) -> bool {
        self.feed.is_some()
    }

    /// Goes to an offset.
    pub fn seek(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Goes to the first of the last `lines` lines; an unfinished last line counts.
    ///
    /// # Errors
    /// Whatever the system says.
    pub async fn seek_tail(&mut self, lines: u64) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        self.offset = blocking(move || shared.file.tail(lines)).await?;
        Ok(())
    }

    /// What comes next. Without `follow` the end of the log ends the stream, after an unfinished last line; with it the
    /// end waits for more. Cancel-safe: nothing is taken before it is returned.
    ///
    /// # Errors
    /// Whatever the system says.
    pub async fn next(&mut self, follow: bool) -> io::Result<Option<LogItem>> {
        loop {
            if let Some((feed, changed)) = &mut self.feed {
                // Seen before the look: a change after it wakes the wait below.
                changed.borrow_and_update();
                match feed.look(self.offset) {
                    Place::Chunk(chunk) => {
                        self.offset = chunk.end();
                        return Ok(Some(LogItem::Chunk(chunk)));
                    }
                    Place::Ahead if follow => {
                        if changed.changed().await.is_ok() {
                            continue;
                        }
                    }
                    Place::Ahead | Place::Behind => {}
                }
            }
            let (shared, at) = (Arc::clone(&self.shared), self.offset);
            match blocking(move || shared.file.read(at, !follow)).await? {
                Found::Chunk(chunk) => {
                    self.offset = chunk.end();
                    return Ok(Some(LogItem::Chunk(chunk)));
                }
                Found::Gap { to } => {
                    let from = std::mem::replace(&mut self.offset, to);
                    return Ok(Some(LogItem::Gap { from, to }));
                }
                Found::End if !follow => return Ok(None),
                Found::End => match &mut self.feed {
                    None => {
                        let feed = self.shared.feed(self.offset);
                        let changed = feed.subscribe();
                        self.feed = Some((feed, changed));
                    }
                    // The feed began behind this place, in the same unfinished line.
                    Some((_, changed)) => {
                        let _changed_or_over = changed.changed().await;
                    }
                },
            }
        }
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
