//! An empty file system on a thin raw disk: an instance's writable layer, or a volume.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use uuid::Uuid;

use crate::Ext4Error;
use crate::template::Template;

/// The smallest disk that is made: four times its journal.
pub const MIN_DISK_BYTES: u64 = 64 << 20;

/// One past the largest: 2^32 blocks of 4 KiB.
const END_DISK_BYTES: u64 = 1 << 44;

/// What makes one empty disk different from another.
#[derive(Debug, Clone)]
pub struct EmptyDisk<'a> {
    /// The size that the guest sees, in bytes.
    pub bytes: u64,
    /// The file system's own identity; no two disks share one.
    pub uuid: Uuid,
    /// The seed of its directory hashes.
    pub hash_seed: [u32; 4],
    /// Its label, at most 16 bytes.
    pub label: &'a str,
    /// When it was made, in seconds since the epoch.
    pub epoch: u32,
}

/// Makes a new file (0600) that holds an empty file system and takes almost no space. The caller makes it durable.
///
/// # Errors
/// [`Ext4Error`]; no file is left behind.
pub fn format_empty(path: &Path, disk: &EmptyDisk<'_>) -> Result<(), Ext4Error> {
    if !disk.bytes.is_multiple_of(4096) || !(MIN_DISK_BYTES..END_DISK_BYTES).contains(&disk.bytes) {
        return Err(Ext4Error::Size { bytes: disk.bytes });
    }
    let io = |act| move |source| Ext4Error::Io { act, path: path.to_owned(), source };
    let template = Template::of(disk).map_err(Ext4Error::Format)?;
    let file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(io("create"))?;
    let written =
        file.set_len(disk.bytes).map_err(io("size")).and_then(|()| template.write(&file, disk).map_err(io("format")));
    if written.is_err() {
        // Best effort: the error below is the one to tell.
        let _ = std::fs::remove_file(path);
    }
    written
}
