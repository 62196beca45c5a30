//! Keeps every log within its bound: what is beyond it at the file's head is given back to the file system, the file
//! keeps its length, and every offset stays true.
//!
//! Invariant: no file is truncated or renamed, and its last `limit` bytes are always there. Works for all files of a
//! directory of logs alike, whoever writes them, and knows nothing of readers.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::file::data_from;
use super::reader::blocking;

/// What is freed at once, and on whose multiples it ends: a multiple of every file system's block.
const STEP: u64 = 1 << 20;

/// Between two looks: guests that print without pause wake the daemon no more often.
const PAUSE: Duration = Duration::from_millis(250);

/// How often all directories are looked at where they cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Directories of logs.
#[derive(Debug, Default)]
struct Directories {
    watched: HashMap<WatchDescriptor, PathBuf>,
    unwatched: BTreeSet<PathBuf>,
    changed: BTreeSet<PathBuf>,
}

#[derive(Debug)]
struct State {
    limit: u64,
    directories: Mutex<Directories>,
    woken: Notify,
    /// Why heads cannot be freed.
    obstacle: OnceLock<String>,
}

/// Keeps logs within their bounds until it is dropped.
#[derive(Debug)]
pub(crate) struct Bound {
    state: Arc<State>,
    watches: Option<Watches>,
    task: JoinHandle<()>,
}

impl Bound {
    /// Tries on the file system of `directory` whether heads can be freed, and says so once where they cannot.
    pub(crate) fn new(directory: &Path, limit: u64) -> io::Result<Self> {
        let state = State { limit, directories: Mutex::default(), woken: Notify::new(), obstacle: OnceLock::new() };
        let state = Arc::new(state);
        if let Err(error) = probe(directory) {
            state.cannot(&error);
        }
        let (watches, task) = match Inotify::init() {
            Ok(inotify) => {
                let watches = inotify.watches();
                let events = inotify.into_event_stream(vec![0; 4096])?;
                (Some(watches), tokio::spawn(run(Arc::clone(&state), events)))
            }
            Err(error) => {
                tracing::warn!(error = %error, "growing logs cannot be watched and are looked at now and then");
                (None, tokio::spawn(run(Arc::clone(&state), futures_util::stream::pending())))
            }
        };
        Ok(Self { state, watches, task })
    }

    /// From now on the files of this directory are kept within their bound; it is forgotten when it is deleted.
    pub(crate) fn keep(&self, directory: PathBuf) {
        let mut directories = self.state.lock();
        let added = match &self.watches {
            Some(watches) => watches.clone().add(&directory, WatchMask::MODIFY | WatchMask::ONLYDIR),
            None => Err(io::Error::other("no inotify instance is left")),
        };
        // What grew while nobody looked.
        directories.changed.insert(directory.clone());
        match added {
            Ok(watch) => drop(directories.watched.insert(watch, directory)),
            Err(error) => {
                let path = directory.display();
                tracing::warn!(path = %path, error = %error, "growing logs are looked at now and then");
                directories.unwatched.insert(directory);
            }
        }
        drop(directories);
        self.state.woken.notify_one();
    }

    /// How much of each log is kept, or why more may be.
    pub(crate) fn report(&self) -> Result<u64, &str> {
        self.state.obstacle.get().map_or(Ok(self.state.limit), |obstacle| Err(obstacle))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Directories> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cannot(&self, error: &io::Error) {
        if self.obstacle.set(error.to_string()).is_ok() {
            tracing::warn!(error = %error, "the heads of logs cannot be freed here: logs are not bounded");
        }
    }

    fn note(&self, event: Event<std::ffi::OsString>) {
        let mut directories = self.lock();
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            let all: Vec<_> = directories.watched.values().cloned().collect();
            directories.changed.extend(all);
        } else if event.mask.contains(EventMask::IGNORED) {
            directories.watched.remove(&event.wd);
        } else if let Some(path) = directories.watched.get(&event.wd).cloned() {
            directories.changed.insert(path);
        }
    }

    fn take_changed(&self) -> BTreeSet<PathBuf> {
        let mut directories = self.lock();
        directories.unwatched.retain(|path| path.is_dir());
        let unwatched = directories.unwatched.clone();
        let mut changed = std::mem::take(&mut directories.changed);
        changed.extend(unwatched);
        changed
    }
}

async fn run(state: Arc<State>, events: impl Stream<Item = io::Result<Event<std::ffi::OsString>>> + Send) {
    let mut events = std::pin::pin!(events);
    loop {
        // Cancel-safe: an event is taken or stays in the kernel's queue; a wake is kept until it is waited for.
        tokio::select! {
            Some(event) = events.next() => take(&state, event),
            () = state.woken.notified() => {}
            () = tokio::time::sleep(LOOK_AGAIN), if !state.lock().unwatched.is_empty() => {}
        }
        while let Some(Some(event)) = events.next().now_or_never() {
            take(&state, event);
        }
        let changed = state.take_changed();
        let looking = Arc::clone(&state);
        let looked = blocking(move || {
            changed.iter().for_each(|directory| looking.look(directory));
            Ok(())
        });
        if let Err(error) = looked.await {
            tracing::error!(error = %error, "look at logs that have grown");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn take(state: &State, event: io::Result<Event<std::ffi::OsString>>) {
    match event {
        Ok(event) => state.note(event),
        Err(error) => tracing::error!(error = %error, "watch growing logs"),
    }
}

impl State {
    fn look(&self, directory: &Path) {
        if self.obstacle.get().is_some() {
            return;
        }
        // Gone with its instance, most likely.
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            match free_head(&path, self.limit) {
                Ok(0) => {}
                Ok(bytes) => tracing::debug!(path = %path.display(), bytes, "freed the head of a log"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if is_unsupported(&error) => self.cannot(&error),
                Err(error) => tracing::warn!(path = %path.display(), error = %error, "free the head of a log"),
            }
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM))
}

/// Frees what lies before the last `limit` bytes of a file, in whole steps; how much that was.
fn free_head(path: &Path, limit: u64) -> io::Result<u64> {
    let metadata = std::fs::symlink_metadata(path)?;
    let free_to = metadata.len().saturating_sub(limit) / STEP * STEP;
    if free_to == 0 || !metadata.is_file() || metadata.nlink() != 1 {
        return Ok(0);
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    let free_from = data_from(&file, 0)?.unwrap_or(free_to) / STEP * STEP;
    if free_from >= free_to {
        return Ok(0);
    }
    punch(&file, free_from, free_to - free_from)?;
    Ok(free_to - free_from)
}

fn punch(file: &File, from: u64, length: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(file, flags, from, length)?)
}

/// Whether heads can be freed here, and whether the file system says afterwards where data begins: without that, zeros
/// would be taken for a log.
fn probe(directory: &Path) -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all_at(b"head", 0)?;
    file.write_all_at(b"tail", STEP)?;
    punch(&file, 0, STEP)?;
    match data_from(&file, 0)? {
        Some(STEP) => Ok(()),
        Some(_) | None => Err(io::Error::other("the file system does not tell where data begins")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_head_goes_in_whole_steps_and_nothing_else_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let content: Vec<u8> = (0..5 * STEP + 77).map(|at| (at % 251) as u8 + 1).collect();
        File::create(&path).unwrap().write_all(&content).unwrap();
        let blocks = || std::fs::metadata(&path).unwrap().blocks() * 512;
        let before = blocks();
        assert_eq!(free_head(&path, 5 * STEP).unwrap(), 0, "less than a step is left alone");
        assert_eq!(free_head(&path, 2 * STEP).unwrap(), 3 * STEP);
        assert_eq!(free_head(&path, 2 * STEP).unwrap(), 0, "once");
        assert!(blocks() <= before - 3 * STEP, "{} of {before}", blocks());
        let after = std::fs::read(&path).unwrap();
        let kept = usize::try_from(3 * STEP).unwrap();
        assert_eq!(after.len(), content.len());
        assert!(after[..kept].iter().all(|byte| *byte == 0) && after[kept..] == content[kept..]);
        File::options().append(true).open(&path).unwrap().write_all(&content).unwrap();
        assert_eq!(free_head(&path, 2 * STEP).unwrap(), 5 * STEP, "from where it was left");
    }

    #[test]
    fn what_is_no_log_of_ours_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("elsewhere"), directory.path().join("link"));
        File::create(&path).unwrap().set_len(9 * STEP).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(free_head(&link, STEP).unwrap(), 0);
        assert_eq!(free_head(&path, STEP).unwrap(), 0, "it has no data to free");
        std::fs::hard_link(&path, directory.path().join("second")).unwrap();
        assert_eq!(free_head(&path, STEP).unwrap(), 0);
        assert!(is_unsupported(&Errno::OPNOTSUPP.into()) && !is_unsupported(&Errno::NOSPC.into()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_grew_before_and_what_grows_after_is_freed() {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        let path = logs.join("serial.log");
        let step = vec![b'x'; usize::try_from(STEP).unwrap()];
        let grow = || File::options().create(true).append(true).open(&path).unwrap().write_all(&step).unwrap();
        (0..3).for_each(|_| grow());
        let bound = Bound::new(directory.path(), STEP).unwrap();
        assert_eq!(bound.report(), Ok(STEP));
        bound.keep(logs.clone());
        let data = || data_from(&File::open(&path).unwrap(), 0).unwrap();
        let until = |wanted: u64| async move {
            let begin = std::time::Instant::now();
            while data() != Some(wanted) {
                assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", data());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        until(2 * STEP).await;
        (0..2).for_each(|_| grow());
        until(4 * STEP).await;
    }
}
