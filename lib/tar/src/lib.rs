//! Tar archives as a stream of entries, in and out: names and attributes of any bytes, files with holes.
//!
//! Invariant: nothing an archive says is believed before it is bounded, and no content of a file is held in memory.
//! Header fields are coded by the `tar` crate; the framing is our own, since that crate's splits binary attributes at
//! line ends, reads long names without a bound, and knows only one form of holes. Knows no file system.

mod pax;
mod read;
mod sparse;
mod write;

use std::fmt;

pub use read::{Entries, Fault, Input, Limits, Piped};
pub use sparse::Region;
pub use write::Writer;

const BLOCK: u64 = 512;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A file of this size, of which only the regions are in the archive.
    File {
        /// In bytes, holes included.
        size: u64,
        /// Ascending, and within the size.
        regions: Vec<Region>,
    },
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// Another name of an entry before it.
    HardLink(Vec<u8>),
    /// A character device: major, minor.
    Char(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// One entry as an archive tells it, names unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since the epoch, nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes: full names and values, as many as one name has.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A name for a message: printable, and cut.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..self.0.len().min(300)].escape_ascii().fmt(formatter)
    }
}
