//! Where things wait that come too early: a nameless file that bytes are appended to, and that is gone with its handle.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes that are held back before they are written.
const BUFFER: usize = 64 << 10;

/// An append-only file.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    /// What is written; the buffer's bytes follow.
    written: u64,
    buffer: Vec<u8>,
}

impl Spool {
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile_in(directory)?, written: 0, buffer: Vec::new() })
    }

    /// Where the next byte will lie.
    pub(crate) fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Reads what lies at an offset, written or not.
    pub(crate) fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let written = usize::try_from(self.written.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
        let (early, late) = bytes.split_at_mut(written);
        if !early.is_empty() {
            self.file.read_exact_at(early, at)?;
        }
        if !late.is_empty() {
            let from = usize::try_from(at.max(self.written) - self.written).unwrap_or(usize::MAX);
            let held = self.buffer.get(from..from.saturating_add(late.len()));
            late.copy_from_slice(held.ok_or(io::ErrorKind::UnexpectedEof)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_read_across_the_edge_of_the_buffer() {
        let mut spool = Spool::new(&std::env::temp_dir()).unwrap();
        spool.append(b"abcdef").unwrap();
        spool.flush().unwrap();
        spool.append(b"ghi").unwrap();
        assert_eq!(spool.end(), 9);
        for (at, expected) in [(0, &b"ab"[..]), (4, b"efgh"), (6, b"ghi"), (9, b"")] {
            let mut bytes = vec![0; expected.len()];
            spool.read(&mut bytes, at).unwrap();
            assert_eq!(bytes, expected);
        }
        assert!(spool.read(&mut [0; 2], 8).is_err());
    }
}
