//! What is known of each directory while the tree grows: rows of fixed size in a nameless file, of which a bounded
//! number of pages is held in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const ROW: usize = 32;
const ROWS_PER_PAGE: usize = 128;
const PAGE: usize = ROW * ROWS_PER_PAGE;
/// 4 MiB of pages.
const MAX_PAGES: usize = 1024;

/// One directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where in the spool its description lies.
    pub(crate) description: u64,
    /// Where its inode will lie, from the start of all directories' inodes.
    pub(crate) inode: u64,
    /// How large it is.
    pub(crate) size: u64,
    /// Its first block, from the start of all directories' blocks.
    pub(crate) block: u32,
    /// Directories in it.
    pub(crate) children: u32,
}

impl Row {
    fn to_bytes(self) -> [u8; ROW] {
        let mut bytes = [0; ROW];
        bytes[..8].copy_from_slice(&self.description.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.inode.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.size.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.block.to_le_bytes());
        bytes[28..].copy_from_slice(&self.children.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let long = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let short = |at: usize| bytes[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
        Self { description: long(0), inode: long(8), size: long(16), block: short(24), children: short(28) }
    }
}

/// All directories.
#[derive(Debug)]
pub(crate) struct Table {
    file: File,
    /// Page `n` can only be in slot `n` modulo their number.
    slots: Vec<Slot>,
    max_pages: usize,
}

#[derive(Debug)]
struct Slot {
    page: u64,
    dirty: bool,
    bytes: Box<[u8]>,
}

impl Table {
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile_in(directory)?, slots: Vec::new(), max_pages: MAX_PAGES })
    }

    pub(crate) fn get(&mut self, index: u32) -> io::Result<Row> {
        let (slot, at) = self.slot(index)?;
        Ok(Row::from_bytes(&slot.bytes[at..at + ROW]))
    }

    pub(crate) fn set(&mut self, index: u32, row: Row) -> io::Result<()> {
        let (slot, at) = self.slot(index)?;
        slot.bytes[at..at + ROW].copy_from_slice(&row.to_bytes());
        slot.dirty = true;
        Ok(())
    }

    /// The slot that holds a row, filled, and where in it the row lies.
    fn slot(&mut self, index: u32) -> io::Result<(&mut Slot, usize)> {
        let page = u64::from(index) / ROWS_PER_PAGE as u64;
        let number = usize::try_from(page % self.max_pages as u64).map_err(io::Error::other)?;
        while self.slots.len() <= number {
            // New pages are empty, as those are that the file does not have yet.
            self.slots.push(Slot { page: self.slots.len() as u64, dirty: false, bytes: vec![0; PAGE].into() });
        }
        let slot = &mut self.slots[number];
        if slot.page != page {
            if slot.dirty {
                self.file.write_all_at(&slot.bytes, slot.page * PAGE as u64)?;
            }
            slot.bytes.fill(0);
            let mut read = 0;
            while read < PAGE {
                match self.file.read_at(&mut slot.bytes[read..], page * PAGE as u64 + read as u64)? {
                    0 => break,
                    more => read += more,
                }
            }
            (slot.page, slot.dirty) = (page, false);
        }
        Ok((slot, index as usize % ROWS_PER_PAGE * ROW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_when_their_page_goes() {
        let mut table = Table { max_pages: 3, ..Table::new(&std::env::temp_dir()).unwrap() };
        let row = |at: u32| Row {
            description: u64::from(at) << 33,
            inode: u64::MAX - u64::from(at),
            size: 7,
            block: at,
            children: u32::MAX - at,
        };
        let order = |at: u32| at.wrapping_mul(7919) % 2000;
        for at in 0..2000 {
            table.set(order(at), row(order(at))).unwrap();
        }
        for at in 0..2000 {
            assert_eq!(table.get(at).unwrap(), row(at));
        }
        assert_eq!(table.slots.len(), 3);
        assert_eq!(table.get(1_000_000).unwrap(), Row::default());
    }
}
