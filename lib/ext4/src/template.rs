//! What all empty file systems of one size and label have in common, computed once: some thirty blocks.
//!
//! Invariant: a disk differs from its template in nothing but its superblocks. Their `metadata_csum_seed` makes every
//! other checksum independent of the disk's own UUID, which would otherwise be part of each.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use mkext4::{FsBuilder, Options, RegionSink};

use crate::empty::EmptyDisk;
use crate::sink::{BLOCK, is_zero};

/// 16 MiB in blocks: the journal costs host memory and write traffic, and a single guest needs no more.
const JOURNAL_BLOCKS: u32 = 4096;

/// One inode for this many bytes, as everywhere, up to a size from which on a disk holds large files.
const BYTES_PER_INODE: u64 = 16 << 10;
const MAX_INODES: u64 = 8 << 20;

/// The UUID that the template's own checksums begin with. No disk has it.
const SEED: [u8; 16] = *b"dataplane-layer0";

/// How many templates are kept, and up to what size: that of a disk of some TiB. Most nodes use one or two sizes.
const KEPT: usize = 8;
const KEPT_BYTES: usize = 4 << 20;

/// Where the first superblock lies, and how long each is.
const SUPERBLOCK_OFFSET: usize = 1024;
const SUPERBLOCK: usize = 1024;

/// Offsets in a superblock (linux/fs/ext4/ext4.h).
const WRITE_TIME: usize = 0x30;
const MAGIC: usize = 0x38;
const CHECK_TIME: usize = 0x40;
const INCOMPATIBLE: usize = 0x60;
const UUID: usize = 0x68;
const HASH_SEED: usize = 0xec;
const MAKE_TIME: usize = 0x108;
const CHECKSUM_SEED: usize = 0x270;
const CHECKSUM: usize = 0x3fc;

/// `INCOMPAT_CSUM_SEED`, and the magic number.
const CSUM_SEED: u32 = 0x2000;
const MAGIC_BYTES: [u8; 2] = [0x53, 0xef];

/// An empty file system without an identity.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: u64,
    label: String,
    blocks: Vec<(u64, Vec<u8>)>,
}

static TEMPLATES: Mutex<Vec<Arc<Template>>> = Mutex::new(Vec::new());

impl Template {
    /// The template of a disk's size and label: the one that is there, or a new one.
    ///
    /// # Errors
    /// When there is no such file system.
    pub(crate) fn of(disk: &EmptyDisk<'_>) -> Result<Arc<Self>, mkext4::Error> {
        let kept = || TEMPLATES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept().iter().find(|one| one.bytes == disk.bytes && one.label == disk.label) {
            return Ok(Arc::clone(found));
        }
        // Two that need the same at once both make it: rare, and right.
        let made = Arc::new(Self::make(disk)?);
        if made.blocks.iter().map(|(_, run)| run.len()).sum::<usize>() <= KEPT_BYTES {
            let mut kept = kept();
            if kept.len() >= KEPT {
                kept.remove(0);
            }
            kept.push(Arc::clone(&made));
        }
        Ok(made)
    }

    fn make(disk: &EmptyDisk<'_>) -> Result<Self, mkext4::Error> {
        // The time is that of the files of every such disk, the same for all: it says nothing.
        let mut options = Options::new(disk.bytes, SEED, 0);
        options.label = Some(disk.label.to_owned());
        options.journal_blocks = Some(JOURNAL_BLOCKS);
        options.reserved_percent = 0;
        let inodes = (disk.bytes / BYTES_PER_INODE).min(MAX_INODES);
        options.inodes = mkext4::InodeCount::Exact(u32::try_from(inodes).unwrap_or(u32::MAX));
        let layout = FsBuilder::new(options).and_then(FsBuilder::seal)?;
        let mut blocks = Blocks::default();
        layout.writer(&mut blocks)?.finish()?;
        let mut template = Self { bytes: disk.bytes, label: disk.label.to_owned(), blocks: blocks.0 };
        for superblock in template.blocks.iter_mut().filter_map(|(offset, bytes)| superblock_of(*offset, bytes)) {
            let features = u32::from_le_bytes([0, 1, 2, 3].map(|at| superblock[INCOMPATIBLE + at]));
            put(superblock, INCOMPATIBLE, features | CSUM_SEED);
            put(superblock, CHECKSUM_SEED, raw_crc32c(&SEED));
        }
        Ok(template)
    }

    /// Writes the file system into a file of its length that reads as zeros.
    ///
    /// # Errors
    /// Whatever the system says.
    pub(crate) fn write(&self, file: &File, disk: &EmptyDisk<'_>) -> io::Result<()> {
        for (offset, bytes) in &self.blocks {
            if begins_group(*offset) {
                let mut own = bytes.clone();
                superblock_of(*offset, &mut own).into_iter().for_each(|superblock| identify(superblock, disk));
                file.write_all_at(&own, *offset)?;
            } else {
                file.write_all_at(bytes, *offset)?;
            }
        }
        Ok(())
    }
}

fn identify(superblock: &mut [u8], disk: &EmptyDisk<'_>) {
    superblock[UUID..UUID + 16].copy_from_slice(disk.uuid.as_bytes());
    for (at, word) in (HASH_SEED..).step_by(4).zip(disk.hash_seed) {
        put(superblock, at, word);
    }
    for time in [WRITE_TIME, CHECK_TIME, MAKE_TIME] {
        put(superblock, time, disk.epoch);
    }
    let checksum = raw_crc32c(&superblock[..CHECKSUM]);
    put(superblock, CHECKSUM, checksum);
}

/// The superblock in a block, if it is the first one or begins with a copy.
fn superblock_of(offset: u64, block: &mut [u8]) -> Option<&mut [u8]> {
    let start = if offset == 0 { SUPERBLOCK_OFFSET } else { 0 };
    let superblock = block.get_mut(start..start + SUPERBLOCK)?;
    // Group 0 begins with the first, other groups with a copy.
    (begins_group(offset) && superblock[MAGIC..MAGIC + 2] == MAGIC_BYTES).then_some(superblock)
}

/// A group has as many blocks as a block has bits.
fn begins_group(offset: u64) -> bool {
    offset.is_multiple_of(BLOCK as u64 * 8 * BLOCK as u64)
}

fn put(superblock: &mut [u8], at: usize, value: u32) {
    superblock[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// CRC-32C as ext4 takes it: without the inversion at the end.
fn raw_crc32c(bytes: &[u8]) -> u32 {
    !crc32c::crc32c(bytes)
}

/// Keeps blocks that hold something, as runs of which none reaches into the next group.
#[derive(Debug, Default)]
struct Blocks(Vec<(u64, Vec<u8>)>);

impl RegionSink for &mut Blocks {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offsets = (offset..).step_by(BLOCK);
        for (block, offset) in bytes.chunks(BLOCK).zip(offsets).filter(|(block, _)| !is_zero(block)) {
            match self.0.last_mut() {
                Some((start, run)) if *start + run.len() as u64 == offset && !begins_group(offset) => {
                    run.extend_from_slice(block);
                }
                Some(_) | None => self.0.push((offset, block.to_vec())),
            }
        }
        Ok(())
    }

    fn zeros(&mut self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}
