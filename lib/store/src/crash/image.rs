//! What a power cut may leave: names and contents are each as they are now or as they were last made durable.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::Path;

use super::inodes::{Entries, Inode, Inodes, copy_sparse, key};

/// Deeper than any data directory; a durable graph of directories that were moved about could be endless.
const MAX_DEPTH: usize = 32;

/// Which of the states that a power cut may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// All that was done, as after the death of the process alone.
    Everything,
    /// Only what was made durable: renames and files since are not there, nor is what anybody else wrote.
    Synced,
    /// Names as they are now, but contents only as far as they were made durable (else empty): what a file system
    /// leaves that writes its names first.
    SyncedContents,
    /// Contents as they are now, but under the names that were made durable.
    SyncedNames,
}

impl Image {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Everything, Self::Synced, Self::SyncedContents, Self::SyncedNames];

    fn durable_names(self) -> bool {
        match self {
            Self::Synced | Self::SyncedNames => true,
            Self::Everything | Self::SyncedContents => false,
        }
    }

    fn durable_contents(self) -> bool {
        match self {
            Self::Synced | Self::SyncedContents => true,
            Self::Everything | Self::SyncedNames => false,
        }
    }
}

/// Makes an image of `root` in the new directory `into`.
pub(super) fn make(inodes: &Inodes, image: Image, root: &Path, into: &Path) -> io::Result<()> {
    if image.durable_names() {
        let inode = inodes.get(key(&fs::metadata(root)?)).ok_or_else(|| io::Error::other("the root is unknown"))?;
        durable_directory(inodes, image, inode, into, 0)
    } else {
        live_directory(inodes, image, root, into)
    }
}

fn durable_directory(inodes: &Inodes, image: Image, inode: &Inode, into: &Path, depth: usize) -> io::Result<()> {
    new_directory(into, &inode.file.metadata()?)?;
    if depth == MAX_DEPTH {
        return Err(io::Error::other("durable directories are nested without end"));
    }
    for (name, key) in inode.entries.as_ref().unwrap_or(&Entries::new()) {
        let target = into.join(name);
        let inode = inodes.get(*key).ok_or_else(|| io::Error::other("a durable name of an unknown inode"))?;
        if inode.is_dir {
            durable_directory(inodes, image, inode, &target, depth + 1)?;
        } else {
            let content = if image.durable_contents() { inode.content.as_ref() } else { Some(&inode.file) };
            new_file(&target, &inode.file.metadata()?, content)?;
        }
    }
    Ok(())
}

fn live_directory(inodes: &Inodes, image: Image, from: &Path, into: &Path) -> io::Result<()> {
    new_directory(into, &fs::metadata(from)?)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), into.join(entry.file_name()));
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            live_directory(inodes, image, &path, &target)?;
        } else if metadata.is_file() {
            let live = File::open(&path)?;
            let durable = inodes.get(key(&metadata)).and_then(|inode| inode.content.as_ref());
            new_file(&target, &metadata, if image.durable_contents() { durable } else { Some(&live) })?;
        }
    }
    Ok(())
}

fn new_directory(path: &Path, like: &Metadata) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    dress(path, like)
}

fn new_file(path: &Path, like: &Metadata, content: Option<&File>) -> io::Result<()> {
    let file = File::options().write(true).create_new(true).open(path)?;
    if let Some(content) = content {
        copy_sparse(content, &file)?;
    }
    dress(path, like)
}

fn dress(path: &Path, like: &Metadata) -> io::Result<()> {
    let now = fs::metadata(path)?;
    if (now.uid(), now.gid()) != (like.uid(), like.gid()) {
        chown(path, Some(like.uid()), Some(like.gid()))?;
    }
    fs::set_permissions(path, like.permissions())
}
