//! What the daemon did to an instance, written where its user can read it: `logs/dataplane.log`, one JSON object a line.
//!
//! Invariant: it delays nothing and fails nothing. Lines go to one task by a bounded channel; what does not fit, or
//! cannot be written, is counted and told with the next line. Nothing is synced: the record is the truth, this is its
//! story.

mod story;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use dataplane_types::WallClock;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::View;
use story::Story;

/// Lines that may wait to be written, of all instances together.
const WAITING: usize = 1024;

/// Lines that are written at once.
const BATCH: usize = 64;

/// The longest message.
const MAX_MESSAGE: usize = 4096;

/// How long a daemon that stops waits for its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Created,
    Resumed,
    OperationBegun,
    OperationEnded,
    State,
    Ready,
    Exited,
    VmmSpawned,
    VmmAdopted,
    VmmExited,
    Trouble,
    Lost,
}

/// One line, without its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Note {
    event: Kind,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
}

impl Note {
    pub(crate) fn new(event: Kind, message: impl Into<String>) -> Self {
        let message = message.into().chars().take(MAX_MESSAGE).collect();
        Self {
            event,
            message,
            operation: None,
            operation_id: None,
            state: None,
            code: None,
            exit_code: None,
            pid: None,
        }
    }

    pub(crate) fn with_pid(self, pid: u32) -> Self {
        Self { pid: Some(pid), ..self }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    at: DateTime<Utc>,
    #[serde(flatten)]
    note: &'a Note,
}

/// A file that stays that of its instance, whatever comes to lie under its name.
#[derive(Debug)]
struct Target {
    path: PathBuf,
    file: OnceLock<File>,
    lost: AtomicU64,
}

impl Target {
    fn write(&self, text: &[u8]) -> io::Result<()> {
        let mut file = match self.file.get() {
            Some(file) => file,
            None => {
                let file = File::options().append(true).create(true).mode(0o600).open(&self.path)?;
                self.file.get_or_init(|| file)
            }
        };
        file.write_all(text)
    }
}

enum Mail {
    Line(Arc<Target>, Vec<u8>),
    Flush(oneshot::Sender<()>),
}

/// The task that writes for all instances; ends with the last of its senders.
#[derive(Debug, Clone)]
pub(crate) struct Scribe(mpsc::Sender<Mail>);

impl Scribe {
    pub(crate) fn start() -> Self {
        let (sender, mail) = mpsc::channel(WAITING);
        tokio::spawn(write_all(mail));
        Self(sender)
    }

    /// A journal that writes to a file in a directory that is there.
    pub(crate) fn journal(&self, path: PathBuf, clock: Arc<dyn WallClock>) -> Journal {
        let target = Arc::new(Target { path, file: OnceLock::new(), lost: AtomicU64::new(0) });
        Journal { scribe: self.clone(), target, clock, story: Mutex::default() }
    }

    /// Waits until all that was told so far is written, but not for long.
    pub(crate) async fn flush(&self) {
        let flushed = async {
            let (done, written) = oneshot::channel();
            if self.0.send(Mail::Flush(done)).await.is_ok() {
                let _written_or_gone = written.await;
            }
        };
        if tokio::time::timeout(LAST_LINES, flushed).await.is_err() {
            tracing::warn!("the last lines of what was done to instances are not written");
        }
    }
}

async fn write_all(mut mail: mpsc::Receiver<Mail>) {
    let mut batch = Vec::new();
    while mail.recv_many(&mut batch, BATCH).await > 0 {
        let batch = std::mem::take(&mut batch);
        let written = tokio::task::spawn_blocking(move || batch.into_iter().for_each(write));
        if let Err(error) = written.await {
            tracing::error!(error = %error, "write down what was done to instances");
        }
    }
}

fn write(mail: Mail) {
    match mail {
        Mail::Line(target, text) => {
            let Err(error) = target.write(&text) else { return };
            let first = target.lost.fetch_add(1, Ordering::Relaxed) == 0;
            // Gone with its instance.
            if first && error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %target.path.display(), error = %error, "write down what was done to an instance");
            }
        }
        Mail::Flush(done) => {
            let _nobody_waits = done.send(());
        }
    }
}

/// What is told of one instance.
pub(crate) struct Journal {
    scribe: Scribe,
    target: Arc<Target>,
    clock: Arc<dyn WallClock>,
    story: Mutex<Story>,
}

impl Journal {
    /// Tells one thing.
    pub(crate) fn tell(&self, note: &Note) {
        let lost = self.target.lost.swap(0, Ordering::Relaxed);
        let mut text = Vec::new();
        if lost > 0 {
            self.line(&Note::new(Kind::Lost, format!("{lost} lines could not be written")), &mut text);
        }
        self.line(note, &mut text);
        if self.scribe.0.try_send(Mail::Line(Arc::clone(&self.target), text)).is_err() {
            self.target.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }

    /// Tells what has changed since the last time.
    pub(crate) fn see(&self, view: &Arc<View>) {
        let notes = self.story.lock().unwrap_or_else(PoisonError::into_inner).go_on(view);
        notes.iter().for_each(|note| self.tell(note));
    }

    /// The VMM has ended, and this is why; what is seen next does not say it again.
    pub(crate) fn vmm_exited(&self, reason: &str) {
        self.story.lock().unwrap_or_else(PoisonError::into_inner).exit_is_told();
        self.tell(&Note::new(Kind::VmmExited, reason));
    }

    fn line(&self, note: &Note, text: &mut Vec<u8>) {
        // A struct of strings and numbers always serialises, and a vector takes it.
        let _infallible = serde_json::to_writer(&mut *text, &Line { at: self.clock.now(), note });
        text.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Noon;

    impl WallClock for Noon {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }
    }

    #[tokio::test]
    async fn lines_are_json_and_what_is_lost_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/dataplane.log");
        let scribe = Scribe::start();
        let journal = scribe.journal(path.clone(), Arc::new(Noon));
        journal.tell(&Note::new(Kind::Created, "into nowhere"));
        scribe.flush().await;
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        journal.tell(&Note::new(Kind::VmmSpawned, "a\nb").with_pid(7));
        scribe.flush().await;
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                r#"{"at":"1970-01-01T00:00:00Z","event":"lost","message":"1 lines could not be written"}"#,
                r#"{"at":"1970-01-01T00:00:00Z","event":"vmm_spawned","message":"a\nb","pid":7}"#
            ]
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_journal_waits_for_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dataplane.log");
        let scribe = Scribe::start();
        let journal = scribe.journal(path.clone(), Arc::new(Noon));
        // The only thread is here: nothing is written meanwhile.
        for number in 0..WAITING + 10 {
            journal.tell(&Note::new(Kind::State, number.to_string()));
        }
        scribe.flush().await;
        journal.tell(&Note::new(Kind::State, "last"));
        scribe.flush().await;
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), WAITING + 2);
        assert!(text.contains("10 lines could not be written"), "{text}");
    }
}
