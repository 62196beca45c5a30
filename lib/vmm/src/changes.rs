//! Changes of files and directories, by one inotify descriptor for the whole process: a user may have as few as 128,
//! and the kernel takes some 10 ms to close one.
//!
//! Invariant: whoever has a [`Changes`] and looks at the file after making it and after each [`Changes::next`] misses
//! nothing. Knows no VMM and no file's meaning.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::Notify;

/// What is a change: of a file its content, of a directory a new name in it; of either its attributes.
const CHANGE: WatchMask = WatchMask::MODIFY.union(WatchMask::CREATE).union(WatchMask::ATTRIB);

/// The process's one descriptor, or why there is none.
static SHARED: LazyLock<Result<Shared, io::Error>> = LazyLock::new(Shared::start);

/// A subscription; ended when dropped.
#[derive(Debug)]
pub(crate) struct Changes {
    shared: &'static Shared,
    watch: WatchDescriptor,
    changed: Arc<Notify>,
}

impl Changes {
    /// Changes from now on.
    ///
    /// # Errors
    /// When there is no such file, or the system has no watch or descriptor left.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let shared = SHARED.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        let changed = Arc::new(Notify::new());
        let watch = shared.subscribe(path, &changed)?;
        Ok(Self { shared, watch, changed })
    }

    /// Waits for a change since the last call, or since [`Changes::of`]. Cancel-safe.
    pub(crate) async fn next(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.shared.unsubscribe(&self.watch, &self.changed);
    }
}

/// Who waits for a change of which file.
type Subscribers = HashMap<WatchDescriptor, Vec<Arc<Notify>>>;

#[derive(Debug)]
struct Shared {
    watches: Watches,
    subscribers: Arc<Mutex<Subscribers>>,
}

impl Shared {
    /// On a thread of its own, since it serves every runtime of the process.
    fn start() -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let subscribers = Arc::<Mutex<Subscribers>>::default();
        let known = Arc::clone(&subscribers);
        std::thread::Builder::new().name("inotify".to_owned()).spawn(move || deliver(inotify, &known))?;
        Ok(Self { watches, subscribers })
    }

    /// The kernel knows one watch per file, however many subscribe. The lock is held so that no event comes before its
    /// subscriber is known.
    fn subscribe(&self, path: &Path, changed: &Arc<Notify>) -> io::Result<WatchDescriptor> {
        let mut subscribers = lock(&self.subscribers);
        let watch = self.watches.clone().add(path, CHANGE)?;
        subscribers.entry(watch.clone()).or_default().push(Arc::clone(changed));
        Ok(watch)
    }

    fn unsubscribe(&self, watch: &WatchDescriptor, changed: &Arc<Notify>) {
        let mut subscribers = lock(&self.subscribers);
        let Entry::Occupied(mut waiting) = subscribers.entry(watch.clone()) else { return };
        waiting.get_mut().retain(|other| !Arc::ptr_eq(other, changed));
        if waiting.get().is_empty() {
            waiting.remove();
            // The file may be gone, and the watch with it.
            let _gone = self.watches.clone().remove(watch.clone());
        }
    }
}

fn lock(subscribers: &Mutex<Subscribers>) -> MutexGuard<'_, Subscribers> {
    subscribers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells subscribers for the life of the process.
fn deliver(mut inotify: Inotify, subscribers: &Mutex<Subscribers>) {
    let mut buffer = [0; 16 << 10];
    loop {
        let events = match inotify.read_events_blocking(&mut buffer) {
            Ok(events) => events,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "changes of files are not seen any more");
                return;
            }
        };
        let mut subscribers = lock(subscribers);
        for event in events {
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                // Nobody knows whose events were lost.
                subscribers.values().flatten().for_each(|changed| changed.notify_one());
            } else if event.mask.contains(EventMask::IGNORED) {
                subscribers.remove(&event.wd);
            } else if let Some(waiting) = subscribers.get(&event.wd) {
                waiting.iter().for_each(|changed| changed.notify_one());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn each_subscriber_is_told_even_of_what_came_before_it_asked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = File::create(&path).unwrap();
        let [one, other] = [(); 2].map(|()| Changes::of(&path).unwrap());
        let inside = Changes::of(directory.path()).unwrap();
        file.write_all(b"x").unwrap();
        one.next().await;
        drop(one);
        other.next().await;
        file.write_all(b"y").unwrap();
        other.next().await;
        File::create(directory.path().join("new")).unwrap();
        inside.next().await;
        assert!(Changes::of(&directory.path().join("missing")).is_err());
    }

    #[tokio::test]
    async fn a_file_of_the_same_name_is_another_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for _ in 0..3 {
            let mut file = File::create_new(&path).unwrap();
            let changes = Changes::of(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            file.write_all(b"x").unwrap();
            changes.next().await;
        }
    }
}
