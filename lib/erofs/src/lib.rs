//! Writes EROFS images, the read-only file system of Linux, in one pass and without privilege: no temporary tree, no
//! `mkfs`, no mount.
//!
//! A caller says the tree in whatever order it comes to know it, and streams contents as they come, one file at a
//! time; a directory has to be there before what is in it, but what it is like may be said later, and again. Names,
//! targets and attributes are bytes. The same calls give the same image.
//!
//! ```
//! use dataplane_erofs::{Attributes, Epoch, ImageWriter, Options, Special};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let scratch = std::env::temp_dir();
//! # let file = tempfile::tempfile_in(&scratch)?;
//! // let file = File::create_new("image.erofs")?;
//! let epoch = Epoch { seconds: 1_700_000_000, nanoseconds: 0 };
//! let mut image = ImageWriter::new(file, &Options { uuid: [7; 16], epoch, scratch: &scratch })?;
//!
//! let owned_by_root = Attributes { mode: 0o755, uid: 0, gid: 0, mtime: (1_700_000_000, 0), xattrs: &[] };
//! let root = image.root();
//! let usr = image.directory(root, b"usr", &owned_by_root)?;
//!
//! // Content in pieces, or from a reader.
//! let capability = [(b"security.capability".to_vec(), vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])];
//! let mut ping = image.file(usr, b"ping", &Attributes { xattrs: &capability, ..owned_by_root }, 11)?;
//! ping.data(b"\x7fELF")?;
//! ping.data(b"program")?;
//! let ping = ping.finish()?;
//! image.file(usr, b"motd", &Attributes { mode: 0o644, ..owned_by_root }, 6)?.fill(&b"hello\n"[..])?;
//!
//! // A disk of a tebibyte with four bytes on it.
//! let mut disk = image.file(root, b"disk", &owned_by_root, 1 << 40)?;
//! disk.hole(1 << 39)?;
//! disk.data(b"data")?;
//! disk.hole((1 << 39) - 4)?;
//! disk.finish()?;
//!
//! image.hard_link(root, b"ping", ping)?;
//! image.symlink(root, b"bin", b"usr", &owned_by_root)?;
//! image.special(root, b"null", Special::Char(1, 3), &Attributes { mode: 0o666, ..owned_by_root })?;
//! image.set_directory(root, &Attributes { mode: 0o700, ..owned_by_root })?;
//!
//! let (file, summary) = image.finish()?;
//! assert_eq!(file.metadata()?.len(), summary.bytes);
//! assert_eq!((summary.nodes, summary.directories), (5, 2));
//! assert_eq!(summary.kernel, (5, 15), "the disk's holes need it");
//! file.sync_all()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is written
//! Blocks of 4096 bytes, uncompressed. Every byte of content is written once, at its final place, together with its
//! inode where it is short: inodes lie between the data of files, some blocks of them at a time. Directories follow at
//! the end, when all names are known, and the superblock, which is the first block, is written last: an image that was
//! not finished is none.
//!
//! | feature | where | Linux |
//! |---|---|---|
//! | short inodes (32 bytes) | owners ≤ 65535, size < 4 GiB, and the time is the image's epoch | 5.4 |
//! | long inodes (64 bytes) | all others: any owner, size, and time to the nanosecond | 5.4 |
//! | data in blocks, the end of it behind the inode | files, symbolic links and directories | 5.4 |
//! | attributes beside the inode, and shared ones | the second of equal ones on; each of a kibibyte and more | 5.4 |
//! | checksum (CRC-32C) of the first block | always; older kernels do not look | 5.5 |
//! | data in chunks | files with holes of at least a block; no others | 5.15 |
//!
//! [`Summary::kernel`] says what an image needs. 5.4 is the first that mounts what is written without holes.
//!
//! # Bounds
//! Memory does not grow with the tree. In it are 8 MiB of names, 1 MiB of further names of nodes, 4 MiB of directories,
//! 1 MiB of attributes that may be shared, 256 KiB of inodes and as much of content; a few more for what points into
//! them, and for reading the names back. What exceeds that goes to nameless files in [`Options::scratch`], about 20
//! bytes and the name for each entry. The map of one file's holes takes at most 24 MiB while it is written, and that
//! only when it has half a million of them.
//!
//! What the format or Linux cannot hold is refused with the entry's path and the [`Limit`]. That a name is there twice,
//! or a node has too many names, is found at the end.
//!
//! # What is not decided here
//! Which attributes are kept, and what they mean: an access list is stored as programs see it, and whoever passes
//! one says the mode that goes with it. Nor where the file is, when it is flushed to the disk, or who may see it.

mod directories;
mod error;
mod file;
mod format;
mod names;
mod output;
mod sorter;
mod spool;
mod table;
mod writer;
mod xattr;

use std::path::Path;

pub use error::{ErofsError, Limit};
pub use file::FileWriter;
pub use writer::{Directory, ImageWriter, Node};

/// What makes an image what it is, beside its tree.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The file system's identity.
    pub uuid: [u8; 16],
    /// When it was made. Nodes with this time, to the nanosecond, need half the room.
    pub epoch: Epoch,
    /// A directory for scratch files, which have no names and go with the writer.
    pub scratch: &'a Path,
}

/// A time that an image can be made at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Epoch {
    /// Seconds since 1970.
    pub seconds: u64,
    /// Below a thousand million.
    pub nanoseconds: u32,
}

/// What a node is like, whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Permission bits, with setuid, setgid and sticky; nothing else.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change: seconds since 1970, or before it, and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes, full names and values, in any order.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// A node that has no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A character device: major, minor.
    Char(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The size of the image.
    pub bytes: u64,
    /// Nodes, without directories.
    pub nodes: u64,
    /// Directories, with the root.
    pub directories: u64,
    /// Content that was given, without holes.
    pub data_bytes: u64,
    /// The oldest Linux that mounts it.
    pub kernel: (u16, u16),
}
