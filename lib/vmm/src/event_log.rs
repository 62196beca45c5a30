//! The file into which a VMM writes its events: JSON documents with blanks between them, one file per generation.
//!
//! Invariant: the file is read from its start, so an adopted VMM tells what happened while no daemon was there; nothing
//! is lost between the file's last document and the process's end, which is always the last event. Knows no VMM's
//! vocabulary: the driver's `Fold` turns documents into events.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::VmEvent;
use crate::changes::Changes;
use crate::process::Watched;

/// Events that wait for a slow receiver; what does not fit waits in the file.
const WAITING_EVENTS: usize = 64;
/// The largest document; what is larger is no event.
const MAX_DOCUMENT: usize = 1 << 20;
/// How often the file is looked at where the system has no inotify watch left.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Turns a VMM's documents into events.
pub(crate) trait Fold: Send + 'static {
    /// What a document means, if anything.
    fn fold(&mut self, document: &Value) -> Option<VmEvent>;

    /// Whether a document says that the VM was booted anew by its driver: what came before is history.
    fn begins_anew(&self, document: &Value) -> bool;
}

/// Reads what is in the file already, then follows it until the process is gone. `fold` has seen everything that was
/// in the file when this returns; of that, only what concerns the VM's present run is delivered.
pub(crate) fn follow(path: &Path, process: Watched, mut fold: impl Fold) -> mpsc::Receiver<VmEvent> {
    let (sender, receiver) = mpsc::channel(WAITING_EVENTS);
    // The watch comes before the first read: what is written in between is then seen twice, not never.
    let changes = Changes::of(path);
    let mut log = EventLog::open(path);
    let missed = log.read_missed(&mut fold);
    tokio::spawn(async move {
        send_all(&sender, missed).await;
        let reason = tokio::select! {
            // Cancel-safe: a document is either folded and sent, or still in the file and read below.
            () = log.follow(changes, &mut fold, &sender) => process.exited().await,
            reason = process.exited() => reason,
        };
        send_all(&sender, log.read(&mut fold)).await;
        send_all(&sender, vec![VmEvent::Exited(reason)]).await;
    });
    receiver
}

/// Nobody may be listening any longer: the events are then of no interest, but were folded all the same.
async fn send_all(sender: &mpsc::Sender<VmEvent>, events: Vec<VmEvent>) {
    for event in events {
        let _unheard = sender.send(event).await;
    }
}

struct EventLog {
    path: PathBuf,
    file: Option<File>,
    documents: Documents,
}

impl EventLog {
    fn open(path: &Path) -> Self {
        let file = File::open(path)
            .inspect_err(|error| tracing::warn!(?path, error = error as &dyn std::error::Error, "no event file"))
            .ok();
        if let Some(file) = &file {
            // The head of a file that has grown too large may be a hole: it is not read. An empty file has no data.
            let _nothing_yet = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0));
        }
        Self { path: path.to_owned(), file, documents: Documents::default() }
    }

    fn read_missed(&mut self, fold: &mut impl Fold) -> Vec<VmEvent> {
        let mut events = Vec::new();
        self.read_each(|document| {
            if fold.begins_anew(&document) {
                events.clear();
            }
            events.extend(fold.fold(&document));
        });
        events
    }

    fn read(&mut self, fold: &mut impl Fold) -> Vec<VmEvent> {
        let mut events = Vec::new();
        self.read_each(|document| events.extend(fold.fold(&document)));
        events
    }

    /// Everything new. Reads a file in the page cache: no reason to leave the thread.
    fn read_each(&mut self, mut take: impl FnMut(Value)) {
        let mut chunk = [0; 16 << 10];
        let Some(file) = &mut self.file else { return };
        loop {
            match file.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => self.documents.push(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(path = ?self.path, error, "the event file cannot be read");
                    self.file = None;
                    return;
                }
            }
            while let Some(document) = self.documents.next() {
                take(document);
            }
        }
    }

    async fn follow(&mut self, changes: io::Result<Changes>, fold: &mut impl Fold, sender: &mpsc::Sender<VmEvent>) {
        if self.file.is_none() {
            return;
        }
        match changes {
            Ok(changes) => loop {
                changes.next().await;
                send_all(sender, self.read(fold)).await;
            },
            Err(error) => {
                let path = &self.path;
                tracing::warn!(?path, error = &error as &dyn std::error::Error, "events are polled, not awaited");
            }
        }
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            send_all(sender, self.read(fold)).await;
        }
    }
}

/// Finds JSON documents in bytes that arrive in pieces. Holds at most one document and one read's worth of bytes.
#[derive(Debug, Default)]
struct Documents {
    buffer: Vec<u8>,
}

impl Documents {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole document. What is none is skipped up to the next line.
    fn next(&mut self) -> Option<Value> {
        loop {
            let mut values = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Value>();
            let outcome = values.next()?;
            let end = values.byte_offset();
            match outcome {
                Ok(document) => {
                    self.buffer.drain(..end);
                    return Some(document);
                }
                Err(error) if error.is_eof() && self.buffer.len() <= MAX_DOCUMENT => return None,
                Err(_) => {
                    let line = self.buffer.iter().position(|byte| *byte == b'\n');
                    self.buffer.drain(..line.map_or(self.buffer.len(), |line| line + 1));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(documents: &mut Documents) -> Vec<String> {
        std::iter::from_fn(|| documents.next()).map(|document| document["event"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn documents_survive_any_split_and_nonsense_between_them() {
        let text = b"{\n  \"event\": \"a\"\n}\n\nnonsense }{\n{\"event\":\"b\"}\r\n{\"event\":\"c\"}";
        for size in 1..text.len() {
            let mut documents = Documents::default();
            let mut found = Vec::new();
            for part in text.chunks(size) {
                documents.push(part);
                found.extend(names(&mut documents));
            }
            assert_eq!(found, ["a", "b", "c"], "pieces of {size}");
        }
    }

    #[test]
    fn a_freed_head_is_passed_over_up_to_the_next_document() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        // As long as nobody wants to read.
        file.as_file().set_len(1 << 40).unwrap();
        io::Seek::seek(&mut file, io::SeekFrom::End(0)).unwrap();
        io::Write::write_all(&mut file, b"\"event\": \"half\"}}\n{\"event\": \"whole\"}\n").unwrap();
        let mut seen = Vec::new();
        EventLog::open(file.path()).read_each(|document| seen.extend(document["event"].as_str().map(str::to_owned)));
        assert_eq!(seen, ["whole"]);
    }

    #[test]
    fn a_document_without_end_is_not_kept() {
        let mut documents = Documents::default();
        documents.push(b"[");
        for _ in 0..=(MAX_DOCUMENT / 4096) {
            documents.push(&[b' '; 4096]);
            assert_eq!(documents.next(), None);
        }
        documents.push(b"\n{\"event\":\"a\"}");
        assert_eq!(names(&mut documents), ["a"]);
    }
}
