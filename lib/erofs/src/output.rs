//! The image's file: blocks are handed out in ascending order and each is written once, but for link counts.
//!
//! Inodes are small and do not come at once, so blocks for them are reserved some at a time (a segment), filled in
//! memory and written when no room is left. What is never written is zero, since the file began empty.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::error::{ErofsError, Fault, Limit};
use crate::format::{BLOCK, MAX_BLOCKS};

/// Blocks of the first segment, and of the largest.
const SEGMENT_BLOCKS: usize = 4;
const MAX_SEGMENT_BLOCKS: usize = 64;

/// Where the image goes.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    /// The first block that is not handed out.
    next: u64,
    segment: Segment,
    broken: bool,
}

#[derive(Debug, Default)]
struct Segment {
    first: u64,
    bytes: Vec<u8>,
    /// What is taken of each block.
    taken: Vec<usize>,
}

impl Output {
    /// Writes into an empty file, from its second block on.
    pub(crate) fn new(file: File) -> Result<Self, ErofsError> {
        let bytes = file.metadata().map_err(ErofsError::io("examine the image's file"))?.len();
        if bytes > 0 {
            return Err(ErofsError::NotEmpty { bytes });
        }
        Ok(Self { file, next: 1, segment: Segment::default(), broken: false })
    }

    /// The first block that is not handed out.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The first block in which anything that is placed from now on can lie.
    pub(crate) fn lowest(&self) -> u64 {
        if self.segment.taken.is_empty() { self.next } else { self.segment.first }
    }

    /// Hands out blocks that follow each other.
    pub(crate) fn reserve(&mut self, blocks: u64) -> Result<u64, Fault> {
        let end = self.next.saturating_add(blocks);
        if end > MAX_BLOCKS {
            // Whoever asked may have written a part already.
            self.broken = true;
            return Err(Fault::Limit(Limit::ImageBytes, end.saturating_mul(BLOCK as u64)));
        }
        Ok(std::mem::replace(&mut self.next, end))
    }

    /// Writes to blocks that are handed out, or will be by who writes.
    pub(crate) fn write(&mut self, bytes: &[u8], at: u64) -> Result<(), ErofsError> {
        if self.broken {
            return Err(ErofsError::Broken);
        }
        let written = self.file.write_all_at(bytes, at);
        self.broken = written.is_err();
        written.map_err(ErofsError::io("write the image"))
    }

    /// Later writes fail, too.
    pub(crate) fn give_up(&mut self) {
        self.broken = true;
    }

    /// Finds a place for what fits a block, within one block; for what is larger, from the start of one. Tells where.
    pub(crate) fn place(&mut self, bytes: &[u8], align: usize) -> Result<u64, Fault> {
        if bytes.len() > BLOCK {
            let first = self.reserve(bytes.len().div_ceil(BLOCK) as u64)?;
            let at = first * BLOCK as u64;
            self.write(bytes, at)?;
            return Ok(at);
        }
        if let Some(at) = self.segment.put(bytes, align) {
            return Ok(at);
        }
        self.flush()?;
        let blocks = (self.segment.taken.len() * 2).clamp(SEGMENT_BLOCKS, MAX_SEGMENT_BLOCKS);
        let first = self.reserve(blocks as u64)?;
        self.segment.open(first, blocks);
        self.segment.put(bytes, align).ok_or(Fault::Other(ErofsError::Broken))
    }

    fn flush(&mut self) -> Result<(), ErofsError> {
        let Some(last) = self.segment.taken.iter().rposition(|taken| *taken > 0) else { return Ok(()) };
        let end = last * BLOCK + self.segment.taken[last];
        let bytes = std::mem::take(&mut self.segment.bytes);
        self.write(&bytes[..end], self.segment.first * BLOCK as u64)?;
        self.segment.bytes = bytes;
        Ok(())
    }

    /// Nothing is placed any more: what of the segment is free can be handed out again where nothing follows it.
    pub(crate) fn close_segment(&mut self) -> Result<(), ErofsError> {
        self.flush()?;
        let segment = std::mem::take(&mut self.segment);
        let used = segment.taken.iter().filter(|taken| **taken > 0).count();
        if segment.first + segment.taken.len() as u64 == self.next {
            self.next = segment.first + used as u64;
        }
        Ok(())
    }

    /// Overwrites what was placed.
    pub(crate) fn patch(&mut self, bytes: &[u8], at: u64) -> Result<(), ErofsError> {
        self.write(bytes, at)
    }

    /// Gives the file the length of all blocks, and back.
    pub(crate) fn finish(self) -> Result<File, ErofsError> {
        if self.broken {
            return Err(ErofsError::Broken);
        }
        self.file.set_len(self.next * BLOCK as u64).map_err(ErofsError::io("set the image's length"))?;
        Ok(self.file)
    }
}

impl Segment {
    fn open(&mut self, first: u64, blocks: usize) {
        self.first = first;
        self.bytes.clear();
        self.bytes.resize(blocks * BLOCK, 0);
        self.taken.clear();
        self.taken.resize(blocks, 0);
    }

    /// Takes the block with the least room that is enough; the first empty one only after those.
    fn put(&mut self, bytes: &[u8], align: usize) -> Option<u64> {
        let starts = self.taken.iter().map(|taken| taken.next_multiple_of(align));
        let fitting = starts.enumerate().filter(|(_, start)| start + bytes.len() <= BLOCK);
        // Of equals the first: blocks fill up from the front.
        let (block, start) = fitting.min_by_key(|(_, start)| std::cmp::Reverse(*start))?;
        self.taken[block] = start + bytes.len();
        let at = block * BLOCK + start;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        Some(self.first * BLOCK as u64 + at as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> Output {
        Output::new(tempfile::tempfile().unwrap()).unwrap()
    }

    #[test]
    fn what_is_placed_lies_within_a_block_and_gaps_are_filled() {
        let mut output = output();
        assert_eq!(output.place(&[1; 3000], 32).unwrap(), 4096);
        assert_eq!(output.place(&[2; 2000], 32).unwrap(), 8192);
        assert_eq!(output.place(&[3; 1000], 32).unwrap(), 4096 + 3008);
        assert_eq!(output.place(&[4; 2096], 4).unwrap(), 8192 + 2000);
        assert_eq!(output.place(&[5; 4096], 32).unwrap(), 3 * 4096);
        assert_eq!(output.place(&[6; 5000], 32).unwrap(), 5 * 4096, "behind the segment");
        assert_eq!(output.place(&[7; 4000], 32).unwrap(), 4 * 4096);
        assert_eq!(output.place(&[8; 4000], 32).unwrap(), 7 * 4096, "a new segment");
        output.close_segment().unwrap();
        assert_eq!(output.next(), 8, "seven blocks of it go back");
        let file = output.finish().unwrap();
        let mut image = vec![0; 8 * 4096];
        file.read_exact_at(&mut image, 0).unwrap();
        for (at, byte) in [(4096, 1), (8192, 2), (7104, 3), (10_192, 4), (3 << 12, 5), (25_479, 6), (7 << 12, 8)] {
            assert_eq!(image[at], byte, "{at}");
        }
    }

    #[test]
    fn an_image_has_a_last_block() {
        let mut output = output();
        output.next = MAX_BLOCKS - 1;
        assert!(matches!(output.place(&[1], 32), Err(Fault::Limit(Limit::ImageBytes, _))));
        assert!(output.reserve(1).is_ok());
        assert!(matches!(output.reserve(1), Err(Fault::Limit(Limit::ImageBytes, _))));
        assert!(matches!(output.finish(), Err(ErofsError::Broken)), "a part may be missing");
    }

    #[test]
    fn a_file_that_holds_something_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1).unwrap();
        assert!(matches!(Output::new(file), Err(ErofsError::NotEmpty { bytes: 1 })));
    }
}
