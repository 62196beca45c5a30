//! The entries of one layer's tar, within this crate's limits and with its errors.
//!
//! Nothing is ever unpacked to the host's file system: an entry says where its content lies.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};

use dataplane_tar::{Entry, Fault, Input, Shown};

use crate::{ContentError, Limits};

/// Reads entries until the archive ends.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    layer: &'a str,
    entries: dataplane_tar::Entries<Seekable<'a>>,
}

/// A file of known length, in which what is not wanted is not read.
#[derive(Debug)]
struct Seekable<'a> {
    file: BufReader<&'a File>,
    left: u64,
}

impl Read for Seekable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read(&mut buffer[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}

impl Input for Seekable<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let distance = i64::try_from(bytes).ok().filter(|_| bytes <= self.left);
        self.file.seek_relative(distance.ok_or(io::ErrorKind::UnexpectedEof)?)?;
        self.left -= bytes;
        Ok(())
    }

    fn left(&self) -> Option<u64> {
        Some(self.left)
    }
}

impl<'a> Entries<'a> {
    pub(crate) fn new(layer: &'a str, file: &'a File, length: u64, limits: &Limits) -> Result<Self, ContentError> {
        let mut file = BufReader::with_capacity(64 << 10, file);
        file.seek(SeekFrom::Start(0)).map_err(|error| ContentError::corrupt(layer, error))?;
        let limits = dataplane_tar::Limits { header_bytes: limits.header_bytes, regions: limits.sparse_regions };
        Ok(Self { layer, entries: dataplane_tar::Entries::new(Seekable { file, left: length }, limits) })
    }

    /// The next entry; `None` at the end.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, ContentError> {
        self.entries.next_entry().map_err(|fault| match fault {
            Fault::Io(error) => ContentError::corrupt(self.layer, error),
            Fault::Corrupt(reason) => ContentError::corrupt(self.layer, reason),
            Fault::Entry { path, reason } => {
                ContentError::Entry { layer: self.layer.to_owned(), entry: Shown(&path).to_string(), reason }
            }
            Fault::HeaderTooLong(allowed) => ContentError::limit(self.layer, "the size of an extended header", allowed),
            Fault::TooManyRegions { path, allowed } => {
                ContentError::limit(Shown(&path).to_string(), "the regions of a sparse file", allowed as u64)
            }
        })
    }
}
