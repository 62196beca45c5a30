//! Where the format writer's bytes go: a sparse file that keeps only blocks which hold something.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// ext4's block size, and the grain at which zeros become holes.
pub(crate) const BLOCK: usize = 4096;

/// Writes into a file that already has its full length and reads as zeros.
#[derive(Debug)]
pub(crate) struct SparseSink<'a> {
    pub(crate) file: &'a File,
}

impl mkext4::RegionSink for SparseSink<'_> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut start = 0;
        let mut end = 0;
        for block in bytes.chunks(BLOCK) {
            if is_zero(block) {
                self.flush(offset, &bytes[start..end], start)?;
                start = end + block.len();
            }
            end += block.len();
        }
        self.flush(offset, &bytes[start..end], start)
    }

    fn zeros(&mut self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}

impl SparseSink<'_> {
    fn flush(&self, offset: u64, bytes: &[u8], start: usize) -> io::Result<()> {
        if bytes.is_empty() { Ok(()) } else { self.file.write_all_at(bytes, offset + start as u64) }
    }
}

pub(crate) fn is_zero(block: &[u8]) -> bool {
    // A full block of text differs in its first bytes; only zero runs are read to their end.
    block.chunks(16).all(|chunk| chunk.iter().fold(0, |seen, byte| seen | byte) == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use mkext4::RegionSink as _;

    use super::*;

    #[test]
    fn zero_blocks_stay_holes_and_content_survives() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let mut bytes = vec![0; 512 << 10];
        bytes[BLOCK * 3 + 5] = 7;
        bytes[BLOCK * 9] = 9;
        SparseSink { file: &file }.data(4096, &bytes).unwrap();
        let mut back = vec![1; bytes.len()];
        file.read_exact_at(&mut back, 4096).unwrap();
        assert!(back == bytes);
        assert!(file.metadata().unwrap().blocks() * 512 <= 4 * BLOCK as u64);
    }
}
