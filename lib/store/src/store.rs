//! Durable changes, each one atomic: replace a record, commit a new thing, discard an old one.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dataplane_types::OperationId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Disk, HostDisk, Layout};

/// The largest record. A larger one is refused when it is to be written: read, it would keep a daemon from starting.
const MAX_RECORD_BYTES: u64 = 4 << 20;

/// How the names of unfinished files begin.
const TEMPORARY: &str = ".tmp-";

/// Why the data directory could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("{act} {path:?}")]
    Io {
        /// What was to be done.
        act: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A record is not what its type says.
    #[error("parse the record {path:?}")]
    Parse {
        /// The record.
        path: PathBuf,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A file of that name exists.
    #[error("{0:?} exists already")]
    Exists(PathBuf),
    /// An earlier fsync failed; nothing is written any more until the daemon starts anew.
    #[error("an earlier fsync failed: the store refuses further writes")]
    Stopped,
}

impl StoreError {
    /// Whether the cause is a full disk or an exhausted quota.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// The one way to change the data directory. Cheap to clone; all calls block.
#[derive(Debug, Clone)]
pub struct Store {
    layout: Arc<Layout>,
    disk: Arc<dyn Disk>,
    stopped: Arc<AtomicBool>,
}

impl Store {
    /// A store on the host's disk.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self::with_disk(layout, Arc::new(HostDisk))
    }

    /// A store on a disk of the caller's.
    #[must_use]
    pub fn with_disk(layout: Layout, disk: Arc<dyn Disk>) -> Self {
        Self { layout: Arc::new(layout), disk, stopped: Arc::new(AtomicBool::new(false)) }
    }

    /// Where everything lies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes a directory (and its parents) with the given mode. One that exists keeps its content.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn create_dir(&self, path: &Path, mode: u32) -> Result<(), StoreError> {
        fs::create_dir_all(path)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
            .map_err(|source| StoreError::Io { act: "make the directory", path: path.to_owned(), source })
    }

    /// Makes the directories right below the data directory durable, once all that serve are made: what is committed
    /// in one of them is worth no more than its own name.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn sync_top(&self) -> Result<(), StoreError> {
        let data = self.layout().data();
        self.disk.sync_dir(data).map_err(|source| StoreError::Io { act: "sync", path: data.to_owned(), source })
    }

    /// Reads a record; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`], or [`StoreError::Parse`] for a record that is not of this type.
    pub fn load<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, StoreError> {
        let bytes = match self.disk.read(path, MAX_RECORD_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { act: "read", path: path.to_owned(), source }),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| StoreError::Parse { path: path.to_owned(), source })
    }

    /// Replaces a record, or makes it: afterwards the disk holds the whole new one (0600).
    ///
    /// # Errors
    /// [`StoreError::Io`], also for a record of more than 4 MiB; the old record is then untouched.
    pub fn replace<T: Serialize>(&self, path: &Path, record: &T) -> Result<(), StoreError> {
        let bytes = encode(path, record)?;
        self.replace_bytes(path, &bytes)
    }

    /// Replaces a small file, or makes it: afterwards the disk holds the whole new one (0600).
    ///
    /// # Errors
    /// [`StoreError::Io`]; the old file is then untouched.
    pub fn replace_bytes(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        let temp = Self::temporary_in(directory);
        let written = io_at("write", &temp, self.disk.write_temp(&temp, bytes))
            .and_then(|()| self.synced(&temp, self.disk.sync(&temp)))
            .and_then(|()| io_at("replace", path, self.disk.rename(&temp, path)));
        if let Err(error) = written {
            let _ = self.disk.remove(&temp);
            return Err(error);
        }
        self.synced(directory, self.disk.sync_dir(directory))
    }

    /// Makes a file's content durable, whoever wrote it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn sync(&self, path: &Path) -> Result<(), StoreError> {
        self.check()?;
        self.synced(path, self.disk.sync(path))
    }

    /// Writes a record into a thing that does not exist yet, without making it durable: [`Store::commit_new`] does, for
    /// what is named to it.
    ///
    /// # Errors
    /// [`StoreError::Io`], also for a record of more than 4 MiB and for a name that is taken.
    pub fn draft<T: Serialize>(&self, path: &Path, record: &T) -> Result<(), StoreError> {
        self.draft_bytes(path, &encode(path, record)?)
    }

    /// The same with a small file.
    ///
    /// # Errors
    /// [`StoreError::Io`], also for a name that is taken.
    pub fn draft_bytes(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        io_at("write", path, self.disk.write_temp(path, bytes))
    }

    /// Makes a file or directory that is already complete under a temporary name durable and gives it its name: the
    /// one instant at which the thing begins to exist. The caller has fsynced files inside that it wrote itself, or
    /// names them in `contents`.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the name is taken; [`StoreError::Io`].
    pub fn commit_new(&self, from: &Path, to: &Path, contents: &[PathBuf]) -> Result<(), StoreError> {
        self.check()?;
        for path in contents.iter().map(PathBuf::as_path).chain([from]) {
            self.synced(path, self.disk.sync(path))?;
        }
        match self.disk.rename_new(from, to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Exists(to.to_owned()));
            }
            Err(source) => return Err(StoreError::Io { act: "commit", path: to.to_owned(), source }),
        }
        let directory = to.parent().unwrap_or(Path::new("/"));
        self.synced(directory, self.disk.sync_dir(directory))
    }

    /// Takes a file or tree away: after the call its name is durably free; the bytes are deleted right after, and
    /// at the next start if that was cut short. What is gone already is a success.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the name could not be freed.
    pub fn discard(&self, path: &Path) -> Result<(), StoreError> {
        self.check()?;
        let trash = self.layout.trash().join(OperationId::generate().as_str());
        match self.disk.rename(path, &trash) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(StoreError::Io { act: "discard", path: path.to_owned(), source }),
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        self.synced(directory, self.disk.sync_dir(directory))?;
        io_at("delete", &trash, self.disk.remove(&trash))
    }

    /// Deletes something that need not survive a crash and that a crash may leave: sockets, locks, runtime directories.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn discard_volatile(&self, path: &Path) -> Result<(), StoreError> {
        io_at("delete", path, self.disk.remove(path))
    }

    /// Deletes everything in a directory, collecting failures: for trash and scratch space at start.
    ///
    /// # Errors
    /// The first failure, after all the rest was tried.
    pub fn empty_dir(&self, directory: &Path) -> Result<usize, StoreError> {
        let entries = self.list(directory)?;
        let mut failure = None;
        for path in &entries {
            if let Err(error) = io_at("delete", path, self.disk.remove(path)) {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(entries.len()), Err)
    }

    /// Deletes what a daemon that died in the middle of a write left in a directory; for the start, when nobody writes.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn sweep_temporaries(&self, directory: &Path) -> Result<(), StoreError> {
        for path in self.list(directory)? {
            let name = path.file_name().unwrap_or_default();
            if name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
                self.discard_volatile(&path)?;
            }
        }
        Ok(())
    }

    /// A name in a directory that nothing else has, and that [`Store::sweep_temporaries`] knows.
    #[must_use]
    pub fn temporary_in(directory: &Path) -> PathBuf {
        directory.join(format!("{TEMPORARY}{}", OperationId::generate()))
    }

    /// The paths in a directory, sorted; none when it is missing.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn list(&self, directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
        io_at("list", directory, self.disk.list(directory))
    }

    /// Free space of the file system that holds the data directory, in bytes, as an ordinary user sees it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let path = self.layout.data();
        let stat = io_at("measure the free space of", path, rustix::fs::statvfs(path).map_err(io::Error::from))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Whether files of the data directory can share blocks (`FICLONE`, ioctl_ficlone(2)): copies then cost nothing.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be tried.
    pub fn shares_blocks(&self) -> Result<bool, StoreError> {
        let [from, to] = [(); 2].map(|()| Self::temporary_in(self.layout.data()));
        let tried = io_at("write", &from, self.disk.write_temp(&from, &[1]))
            .and_then(|()| io_at("write", &to, self.disk.write_temp(&to, &[])))
            .and_then(|()| {
                let source = io_at("open", &from, fs::File::open(&from))?;
                let target = io_at("open", &to, fs::File::options().write(true).open(&to))?;
                Ok(rustix::fs::ioctl_ficlone(target, source).is_ok())
            });
        for path in [&from, &to] {
            io_at("delete", path, self.disk.remove(path))?;
        }
        tried
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.stopped.load(Ordering::Acquire) { Err(StoreError::Stopped) } else { Ok(()) }
    }

    fn synced(&self, path: &Path, result: io::Result<()>) -> Result<(), StoreError> {
        if result.is_err() {
            self.stopped.store(true, Ordering::Release);
        }
        io_at("fsync", path, result)
    }
}

fn encode<T: Serialize>(path: &Path, record: &T) -> Result<Vec<u8>, StoreError> {
    let bytes =
        serde_json::to_vec_pretty(record).map_err(|source| StoreError::Parse { path: path.to_owned(), source })?;
    if bytes.len() as u64 > MAX_RECORD_BYTES {
        let source = io::Error::new(io::ErrorKind::InvalidData, format!("larger than {MAX_RECORD_BYTES} bytes"));
        return Err(StoreError::Io { act: "write", path: path.to_owned(), source });
    }
    Ok(bytes)
}

fn io_at<T>(act: &'static str, path: &Path, result: io::Result<T>) -> Result<T, StoreError> {
    result.map_err(|source| StoreError::Io { act, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(directory: &Path) -> Store {
        let store = Store::new(Layout::new(directory.join("data"), directory.join("run")).unwrap());
        store.create_dir(&store.layout().trash(), 0o700).unwrap();
        store
    }

    #[test]
    fn records_are_private_and_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let path = store.layout().node_record();
        assert_eq!(store.load::<u32>(&path).unwrap(), None);
        store.replace(&path, &1u32).unwrap();
        store.replace(&path, &2u32).unwrap();
        assert_eq!(store.load::<u32>(&path).unwrap(), Some(2));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(store.list(store.layout().data()).unwrap(), [path, store.layout().trash()]);
    }

    /// One that only its reader refused stopped every later start of the daemon.
    #[test]
    fn a_record_that_could_not_be_read_again_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let path = store.layout().node_record();
        let largest = "x".repeat(usize::try_from(MAX_RECORD_BYTES).unwrap() - 2);
        store.replace(&path, &largest).unwrap();
        assert!(matches!(store.replace(&path, &(largest.clone() + "x")), Err(StoreError::Io { act: "write", .. })));
        assert_eq!(store.load::<String>(&path).unwrap(), Some(largest));
    }

    #[test]
    fn a_commit_never_overwrites() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let [from, to] = ["from", "to"].map(|name| store.layout().data().join(name));
        store.create_dir(&from, 0o700).unwrap();
        store.create_dir(&to, 0o700).unwrap();
        assert!(matches!(store.commit_new(&from, &to, &[]), Err(StoreError::Exists(_))));
        store.discard(&to).unwrap();
        store.commit_new(&from, &to, &[]).unwrap();
        assert!(to.is_dir() && !from.exists());
    }

    #[test]
    fn what_a_killed_writer_left_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let data = store.layout().data();
        store.replace(&store.layout().node_record(), &1u32).unwrap();
        fs::File::create(Store::temporary_in(data)).unwrap();
        store.sweep_temporaries(data).unwrap();
        assert_eq!(store.list(data).unwrap(), [store.layout().node_record(), store.layout().trash()]);
    }

    #[test]
    fn trying_to_share_blocks_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        // Whether it works depends on the file system; that it can be asked does not.
        store.shares_blocks().unwrap();
        assert_eq!(store.list(store.layout().data()).unwrap(), [store.layout().trash()]);
    }

    #[test]
    fn discarding_what_is_gone_succeeds_and_leaves_no_trash() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let path = store.layout().data().join("thing");
        store.create_dir(&path.join("deep"), 0o700).unwrap();
        store.discard(&path).unwrap();
        store.discard(&path).unwrap();
        assert!(!path.exists());
        assert!(store.list(&store.layout().trash()).unwrap().is_empty());
    }

    /// A disk whose fsync fails: what was written may be anywhere.
    #[derive(Debug)]
    struct NoSync;

    impl Disk for NoSync {
        fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
            HostDisk.read(path, max)
        }
        fn write_temp(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            HostDisk.write_temp(path, bytes)
        }
        fn sync(&self, _: &Path) -> io::Result<()> {
            Err(io::Error::other("no sync"))
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            HostDisk.rename(from, to)
        }
        fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
            HostDisk.rename_new(from, to)
        }
        fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
            HostDisk.list(directory)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            HostDisk.remove(path)
        }
        fn sync_dir(&self, _: &Path) -> io::Result<()> {
            Err(io::Error::other("no sync"))
        }
    }

    #[test]
    fn a_failed_fsync_stops_every_further_write() {
        let directory = tempfile::tempdir().unwrap();
        let layout = store(directory.path()).layout().clone();
        let store = Store::with_disk(layout, Arc::new(NoSync));
        let path = store.layout().node_record();
        assert!(matches!(store.replace(&path, &1u32), Err(StoreError::Io { act: "fsync", .. })));
        assert!(!path.exists(), "an unsynced record must not get its name");
        assert!(matches!(store.replace(&path, &1u32), Err(StoreError::Stopped)));
        assert!(matches!(store.discard(&path), Err(StoreError::Stopped)));
    }
}
