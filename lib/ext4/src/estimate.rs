//! How large a disk a tree needs, counted before the tree is declared: the writer wants the size first.
//!
//! The count is an upper bound, and the result is rounded up to whole block groups: the file is sparse, so a generous
//! size costs nothing, while a short last group could not hold its own tables.

const BLOCK: u64 = 4096;
const GROUP_BLOCKS: u64 = 32768;
const MAX_INODES_PER_GROUP: u64 = 32768 / 2;

/// The smallest journal that the kernel accepts (`JBD2_MIN_JOURNAL_BLOCKS`); a read-only disk never uses it.
pub(crate) const JOURNAL_BLOCKS: u32 = 1024;

/// The running count.
#[derive(Debug, Clone, Copy, Default)]
pub struct Estimate {
    blocks: u64,
    inodes: u64,
}

impl Estimate {
    /// Counts a regular file of a size.
    pub fn file(&mut self, bytes: u64) {
        self.inodes += 1;
        // One extent spans at most a group, a tree block holds 340 of them.
        let data = bytes.div_ceil(BLOCK);
        self.blocks = self.blocks.saturating_add(data).saturating_add(data / GROUP_BLOCKS / 100 + 1);
    }

    /// Counts a symbolic link by the length of its target.
    pub fn symlink(&mut self, target: usize) {
        self.inodes += 1;
        self.blocks += u64::from(target > 59);
    }

    /// Counts a device or fifo.
    pub fn special(&mut self) {
        self.inodes += 1;
    }

    /// Counts a directory by its names' number and total length.
    pub fn directory(&mut self, names: usize, name_bytes: usize) {
        self.inodes += 1;
        // An entry has 8 bytes before its name and is padded to 4; hash-indexed blocks may be half full.
        let entries = (names as u64) * 12 + name_bytes as u64;
        self.blocks += entries.div_ceil(BLOCK) * 2 + 2;
    }

    /// Counts an inode's attributes, which take a block when they do not fit the inode.
    pub fn xattrs(&mut self) {
        self.blocks += 1;
    }

    /// Inodes to ask for: the reserved ones, `lost+found`, and those counted.
    pub(crate) fn inodes(&self) -> u64 {
        self.inodes + 16
    }

    /// The size of a disk that surely holds what was counted, in bytes.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let content = self.blocks.saturating_add(u64::from(JOURNAL_BLOCKS) + 64);
        let mut groups = content.div_ceil(GROUP_BLOCKS).max(self.inodes().div_ceil(MAX_INODES_PER_GROUP)).max(1);
        // Tables grow with the number of groups: add groups until all fits. Each round adds what was missing, so two
        // or three rounds do.
        for _ in 0..64 {
            let needed = content.saturating_add(self.overhead_blocks(groups));
            let wanted = needed.div_ceil(GROUP_BLOCKS);
            if wanted <= groups {
                break;
            }
            groups = wanted;
        }
        groups.saturating_mul(GROUP_BLOCKS * BLOCK)
    }

    fn overhead_blocks(&self, groups: u64) -> u64 {
        let table_blocks = self.inodes().div_ceil(groups).next_multiple_of(16).div_ceil(16);
        let descriptors = (groups * 32).div_ceil(BLOCK);
        // Every group counted as if it had a backup; a table that meets one is moved behind it, which may waste as
        // much as the table for each backup in a span of sixteen groups.
        groups * (1 + descriptors) + 2 * groups + groups * table_blocks + groups.div_ceil(16) * 6 * table_blocks
    }
}
