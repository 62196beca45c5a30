//! What is durable, by inode: a name may move or go without what it named being forgotten.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::io::Errno;

/// Which inode: device and number.
pub(super) type Key = (u64, u64);

/// The entries of a directory.
pub(super) type Entries = BTreeMap<OsString, Key>;

/// An inode that was seen when something was made durable. Open, so that its number is not given to another.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) file: File,
    pub(super) is_dir: bool,
    /// A file's content at its last sync, in memory.
    pub(super) content: Option<File>,
    /// A directory's entries at its last sync.
    pub(super) entries: Option<Entries>,
}

/// Every inode that something durable is known of.
#[derive(Debug, Default)]
pub(super) struct Inodes(HashMap<Key, Inode>);

/// The identity of what metadata describe.
pub(super) fn key(metadata: &Metadata) -> Key {
    (metadata.dev(), metadata.ino())
}

impl Inodes {
    pub(super) fn get(&self, key: Key) -> Option<&Inode> {
        self.0.get(&key)
    }

    /// Makes durable what a path names, a file's content or a directory's entries, and nothing beneath.
    pub(super) fn sync(&mut self, path: &Path) -> io::Result<()> {
        let key = self.note(path)?.ok_or_else(|| io::Error::other("sync what is neither file nor directory"))?;
        let entries = if path.is_dir() { Some(self.entries(path)?) } else { None };
        let inode = self.0.get_mut(&key).ok_or_else(|| io::Error::other("sync an unknown inode"))?;
        if entries.is_none() {
            let content = File::from(memfd_create("durable", MemfdFlags::CLOEXEC)?);
            copy_sparse(&inode.file, &content)?;
            inode.content = Some(content);
        }
        inode.entries = entries;
        Ok(())
    }

    /// Makes a directory durable with all that is in it.
    pub(super) fn settle(&mut self, directory: &Path) -> io::Result<()> {
        self.sync(directory)?;
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_dir() {
                self.settle(&path)?;
            } else if metadata.is_file() {
                self.sync(&path)?;
            }
        }
        Ok(())
    }

    fn entries(&mut self, directory: &Path) -> io::Result<Entries> {
        let mut entries = Entries::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            // What went away in between was not there.
            if let Some(key) = self.note(&entry.path())? {
                entries.insert(entry.file_name(), key);
            }
        }
        Ok(entries)
    }

    /// Remembers the inode of a file or directory; `None` for what is neither (sockets do not survive) or is gone.
    fn note(&mut self, path: &Path) -> io::Result<Option<Key>> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() || metadata.is_file() => metadata,
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let key = key(&metadata);
        if let Entry::Vacant(unknown) = self.0.entry(key) {
            let file = File::open(path)?;
            unknown.insert(Inode { file, is_dir: metadata.is_dir(), content: None, entries: None });
        }
        Ok(Some(key))
    }
}

/// Copies a file's data and length, and no hole.
pub(super) fn copy_sparse(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < length {
        // `ENXIO`: no data from there to the end.
        offset = match seek(from, SeekFrom::Data(offset)) {
            Ok(offset) => offset,
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(offset))?;
        while offset < end {
            let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(buffer.len());
            let read = from.read_at(&mut buffer[..wanted], offset)?;
            if read == 0 {
                return Ok(());
            }
            to.write_all_at(&buffer[..read], offset)?;
            offset += read as u64;
        }
    }
    Ok(())
}
