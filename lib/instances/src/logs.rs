//! Reading the console log: lines with their file offsets, from any offset on, for as long as the reader likes.
//!
//! The file only ever grows, so an offset is an event id for ever. One inotify descriptor serves all readers.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::watch;

/// A line longer than this comes in pieces.
pub const MAX_PIECE_BYTES: usize = 64 << 10;

/// How far back lines are looked for: beyond it a tail begins in the middle of what is there.
const MAX_TAIL_BYTES: u64 = 64 << 20;

/// How often a file is looked at that cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// A line, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece {
    /// The file offset behind it: reading goes on from here.
    pub end: u64,
    /// The bytes, without line end.
    pub bytes: Vec<u8>,
    /// Whether the line goes on in the next piece, or was not ended when it was read.
    pub partial: bool,
}

type Senders = Arc<Mutex<HashMap<WatchDescriptor, watch::Sender<()>>>>;

/// Tells readers that a file has grown.
#[derive(Debug)]
pub(crate) struct LogWatch {
    /// `None` where the system has no inotify instance left (there are 128 for all of a user's programs).
    watched: Option<(Watches, tokio::task::JoinHandle<()>)>,
    senders: Senders,
}

impl LogWatch {
    pub(crate) fn new() -> io::Result<Self> {
        let senders = Senders::default();
        let inotify = match Inotify::init() {
            Ok(inotify) => inotify,
            Err(error) => {
                tracing::warn!(error = %error, "logs cannot be watched and are looked at now and then");
                return Ok(Self { watched: None, senders });
            }
        };
        let watches = inotify.watches();
        let mut events = inotify.into_event_stream(vec![0; 4096])?;
        let (known, mut remover) = (Arc::clone(&senders), watches.clone());
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => notify(&known, &mut remover, &event.wd, event.mask),
                    Err(error) => tracing::error!(error = %error, "watch log files"),
                }
            }
        });
        Ok(Self { watched: Some((watches, task)), senders })
    }

    fn subscribe(&self, path: &Path) -> io::Result<watch::Receiver<()>> {
        let (watches, _) = self.watched.as_ref().ok_or_else(|| io::Error::other("no inotify instance is left"))?;
        let mut senders = self.senders.lock().expect("no code panics while it holds the senders");
        let descriptor = watches.clone().add(path, WatchMask::MODIFY)?;
        Ok(senders.entry(descriptor).or_insert_with(|| watch::channel(()).0).subscribe())
    }
}

impl Drop for LogWatch {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.watched {
            task.abort();
        }
    }
}

fn notify(senders: &Senders, watches: &mut Watches, descriptor: &WatchDescriptor, mask: EventMask) {
    let mut senders = senders.lock().expect("no code panics while it holds the senders");
    if mask.contains(EventMask::Q_OVERFLOW) {
        for sender in senders.values() {
            sender.send_replace(());
        }
        return;
    }
    let Some(sender) = senders.get(descriptor) else { return };
    sender.send_replace(());
    if sender.receiver_count() == 0 || mask.contains(EventMask::IGNORED) {
        senders.remove(descriptor);
        // Gone already when the file is gone.
        let _ = watches.remove(descriptor.clone());
    }
}

/// One reader of one log.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    file: Option<Arc<File>>,
    changes: Option<watch::Receiver<()>>,
    /// Where `buffer` begins in the file.
    offset: u64,
    buffer: Vec<u8>,
    /// How much of `buffer` is known to hold no line end.
    scanned: usize,
}

impl LogReader {
    pub(crate) fn new(path: PathBuf, watch: &LogWatch) -> Self {
        let changes = watch.subscribe(&path);
        if let Err(error) = &changes {
            tracing::warn!(path = %path.display(), error = %error, "a log cannot be watched and is looked at now and then");
        }
        let changes = changes.ok();
        Self { path, file: None, changes, offset: 0, buffer: Vec::new(), scanned: 0 }
    }

    /// Goes to an offset. One beyond the end of the file waits there.
    pub fn seek(&mut self, offset: u64) {
        self.offset = offset;
        self.buffer.clear();
        self.scanned = 0;
    }

    /// Goes to the first of the last `lines` lines; an unfinished last line counts.
    ///
    /// # Errors
    /// Whatever the system says.
    pub async fn seek_tail(&mut self, lines: u64) -> io::Result<()> {
        let Some(file) = self.open()? else { return Ok(()) };
        let start = blocking(move || tail_start(&file, lines)).await?;
        self.seek(start);
        Ok(())
    }

    /// The next piece. Without `follow` the end of the file ends the stream (after an unfinished last line); with it
    /// the end waits for more. Cancel-safe: what was read stays in the reader.
    ///
    /// # Errors
    /// Whatever the system says.
    pub async fn next(&mut self, follow: bool) -> io::Result<Option<LogPiece>> {
        loop {
            if let Some(piece) = self.take_line() {
                return Ok(Some(piece));
            }
            if let Some(changes) = &mut self.changes {
                // Seen before the read: a change after it wakes the wait below.
                changes.borrow_and_update();
            }
            if self.fill().await? {
                continue;
            }
            if !follow {
                return Ok(self.take_rest());
            }
            let Some(changes) = &mut self.changes else {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            };
            if changes.changed().await.is_err() {
                // The watch is gone with the manager: there is nobody left to follow.
                return Ok(self.take_rest());
            }
        }
    }

    fn open(&mut self) -> io::Result<Option<Arc<File>>> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(Arc::new(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.file.clone())
    }

    async fn fill(&mut self) -> io::Result<bool> {
        let Some(file) = self.open()? else { return Ok(false) };
        let at = self.offset + self.buffer.len() as u64;
        let chunk = blocking(move || {
            let mut chunk = vec![0; CHUNK];
            let read = file.read_at(&mut chunk, at)?;
            chunk.truncate(read);
            Ok(chunk)
        })
        .await?;
        self.buffer.extend_from_slice(&chunk);
        Ok(!chunk.is_empty())
    }

    fn take_line(&mut self) -> Option<LogPiece> {
        let end = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n').map(|at| self.scanned + at);
        match end {
            Some(end) if end <= MAX_PIECE_BYTES => Some(self.take(end, 1, false)),
            Some(_) => Some(self.take(MAX_PIECE_BYTES, 0, true)),
            None if self.buffer.len() > MAX_PIECE_BYTES => Some(self.take(MAX_PIECE_BYTES, 0, true)),
            None => {
                self.scanned = self.buffer.len();
                None
            }
        }
    }

    fn take_rest(&mut self) -> Option<LogPiece> {
        if self.buffer.is_empty() { None } else { Some(self.take(self.buffer.len(), 0, true)) }
    }

    fn take(&mut self, length: usize, line_end: usize, partial: bool) -> LogPiece {
        let mut bytes: Vec<u8> = self.buffer.drain(..length + line_end).take(length).collect();
        self.offset += (length + line_end) as u64;
        self.scanned = 0;
        // The console's line discipline puts a carriage return before each line end.
        if !partial && bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        LogPiece { end: self.offset, bytes, partial }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Where the last `lines` lines begin: read backwards, chunk by chunk.
fn tail_start(file: &File, lines: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut at = length;
    let mut missing = lines;
    let mut chunk = vec![0; CHUNK];
    let earliest = length.saturating_sub(MAX_TAIL_BYTES);
    while at > earliest {
        let start = at.saturating_sub(CHUNK as u64);
        let part = &mut chunk[..usize::try_from(at - start).expect("at most a chunk")];
        file.read_exact_at(part, start)?;
        for (index, byte) in part.iter().enumerate().rev() {
            let position = start + index as u64;
            // The end of the last line begins no line behind it.
            if *byte == b'\n' && position + 1 < length {
                missing = missing.saturating_sub(1);
            }
            if missing == 0 && lines > 0 && *byte == b'\n' && position + 1 < length {
                return Ok(position + 1);
            }
        }
        at = start;
    }
    Ok(if lines == 0 { length } else { at })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    struct Log {
        _directory: tempfile::TempDir,
        path: PathBuf,
        watch: LogWatch,
    }

    impl Log {
        fn new(content: &[u8]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("serial.log");
            File::create(&path).unwrap().write_all(content).unwrap();
            Self { _directory: directory, path, watch: LogWatch::new().unwrap() }
        }

        fn append(&self, bytes: &[u8]) {
            File::options().append(true).open(&self.path).unwrap().write_all(bytes).unwrap();
        }

        fn reader(&self) -> LogReader {
            LogReader::new(self.path.clone(), &self.watch)
        }
    }

    async fn all(reader: &mut LogReader) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(piece) = reader.next(false).await.unwrap() {
            lines.push(format!(
                "{}{}@{}",
                String::from_utf8_lossy(&piece.bytes),
                if piece.partial { "…" } else { "" },
                piece.end
            ));
        }
        lines
    }

    #[tokio::test]
    async fn lines_carry_the_offset_behind_them() {
        let log = Log::new(b"one\r\n\ntwo");
        assert_eq!(all(&mut log.reader()).await, ["one@5", "@6", "two…@9"]);
        let mut reader = log.reader();
        reader.seek(5);
        assert_eq!(all(&mut reader).await, ["@6", "two…@9"]);
    }

    #[tokio::test]
    async fn the_tail_counts_lines_from_the_end() {
        let log = Log::new(b"a\nb\nc\n");
        for (lines, expected) in
            [(0, vec![]), (1, vec!["c@6"]), (2, vec!["b@4", "c@6"]), (9, vec!["a@2", "b@4", "c@6"])]
        {
            let mut reader = log.reader();
            reader.seek_tail(lines).await.unwrap();
            assert_eq!(all(&mut reader).await, expected, "{lines}");
        }
        log.append(b"unfinished");
        let mut reader = log.reader();
        reader.seek_tail(1).await.unwrap();
        assert_eq!(all(&mut reader).await, ["unfinished…@16"]);
    }

    #[tokio::test]
    async fn a_line_of_any_length_comes_in_pieces_that_add_up() {
        let long = vec![b'x'; MAX_PIECE_BYTES * 2 + 7];
        let log = Log::new(&long);
        log.append(b"\nnext\n");
        let mut reader = log.reader();
        let mut whole = Vec::new();
        loop {
            let piece = reader.next(false).await.unwrap().unwrap();
            whole.extend(piece.bytes);
            if !piece.partial {
                break;
            }
        }
        assert_eq!(whole, long);
        assert_eq!(reader.next(false).await.unwrap().unwrap().bytes, b"next");
    }

    #[tokio::test]
    async fn a_follower_hears_of_growth_and_never_of_half_a_line() {
        let log = Log::new(b"");
        let mut reader = log.reader();
        let (line, ()) = tokio::join!(reader.next(true), async {
            log.append(b"hal");
            tokio::task::yield_now().await;
            log.append(b"f\n");
        });
        assert_eq!(line.unwrap().unwrap().bytes, b"half");
    }
}
