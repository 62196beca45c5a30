//! One file's content on its way into the image: gathered into whole blocks, written in order, holes left out.
//!
//! What is written of a file lies together. Holes are left out in chunks; how large those are at least follows from
//! the file's size, so that its map stays small, and how large in the end from where the holes lie.

use std::io::{self, Read};

use crate::error::{ErofsError, Fault};
use crate::format::{BLOCK, FileType, HOLE, Inode, Layout, Owner, put};
use crate::writer::{ImageWriter, Node, fits_inline, narrow};

/// What is read and written at once.
const GATHER: usize = 256 << 10;
/// Zeros that are gathered; more are left out of the image's own file.
const FEW_ZEROS: u64 = 64 << 10;
/// Entries of the largest map of chunks.
const MAX_CHUNKS: u64 = 1 << 20;
/// The largest chunk is 2 to the power of this many blocks.
const MAX_CHUNK_BITS: u32 = 31;

/// Takes a file's content, in order. Dropped before [`finish`](Self::finish), it leaves no file, only unused blocks.
#[derive(Debug)]
pub struct FileWriter<'a> {
    writer: &'a mut ImageWriter,
    parent: u32,
    name: &'a [u8],
    owner: Owner,
    xattrs: Vec<u8>,
    size: u64,
    /// What came, but for holes at the end.
    came: u64,
    /// Holes at the end of what came: they may go on.
    hole: u64,
    /// Where the content begins in the image, and how much of it is written; whole blocks.
    start: u64,
    written: u64,
    chunk_bits: u32,
    /// Chunks that are left out: from, to.
    holes: Vec<(u64, u64)>,
}

impl<'a> FileWriter<'a> {
    pub(crate) fn new(
        writer: &'a mut ImageWriter,
        (parent, name): (u32, &'a [u8]),
        (owner, xattrs): (Owner, Vec<u8>),
        size: u64,
    ) -> Self {
        let blocks = size.div_ceil(BLOCK as u64);
        let chunk_bits = blocks.div_ceil(MAX_CHUNKS).max(1).next_power_of_two().trailing_zeros();
        let start = writer.output.next() * BLOCK as u64;
        writer.buffer.clear();
        let (came, hole, written, holes) = (0, 0, 0, Vec::new());
        Self { writer, parent, name, owner, xattrs, size, came, hole, start, written, chunk_bits, holes }
    }

    fn path(&mut self) -> String {
        self.writer.path(self.parent, self.name)
    }

    /// The next bytes.
    ///
    /// # Errors
    /// [`ErofsError::Length`] when they are more than was said; [`Limit::ImageBytes`](crate::Limit::ImageBytes);
    /// [`ErofsError::Io`].
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), ErofsError> {
        if bytes.is_empty() {
            // It does not end a hole either.
            return Ok(());
        }
        self.expect(bytes.len() as u64)?;
        self.end_hole()?;
        self.gather(bytes)?;
        self.came += bytes.len() as u64;
        self.writer.data_bytes += bytes.len() as u64;
        Ok(())
    }

    /// The next bytes are zero, and nothing is stored for them as far as whole blocks allow.
    ///
    /// # Errors
    /// [`ErofsError::Length`] when they are more than was said.
    pub fn hole(&mut self, bytes: u64) -> Result<(), ErofsError> {
        self.expect(bytes)?;
        self.hole += bytes;
        Ok(())
    }

    /// All of the content, from a reader, and ends the file.
    ///
    /// # Errors
    /// As [`data`](Self::data) and [`finish`](Self::finish); [`ErofsError::Content`] with what the reader said.
    pub fn fill(mut self, mut content: impl Read) -> Result<Node, ErofsError> {
        // One byte more than is expected tells whether there is more.
        let room = usize::try_from(self.size.saturating_add(1)).unwrap_or(GATHER).min(GATHER);
        let mut buffer = vec![0; room];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return self.finish(),
                Ok(read) => self.data(&buffer[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ErofsError::Content { entry: self.path(), source }),
            }
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// [`ErofsError::Length`] when less came than was said; [`Limit::ImageBytes`](crate::Limit::ImageBytes);
    /// [`ErofsError::Io`].
    pub fn finish(mut self) -> Result<Node, ErofsError> {
        let found = self.came + self.hole;
        if found != self.size {
            return Err(ErofsError::Length { entry: self.path(), declared: self.size, found });
        }
        self.end_hole()?;
        let placed = if self.holes.is_empty() { self.place_whole() } else { self.place_chunks() };
        let node = placed.map_err(|fault| fault.at(|| self.path()))?;
        self.writer.name(self.parent, self.name, node)
    }

    fn expect(&mut self, more: u64) -> Result<(), ErofsError> {
        let found = (self.came + self.hole).saturating_add(more);
        if found > self.size {
            return Err(ErofsError::Length { entry: self.path(), declared: self.size, found });
        }
        Ok(())
    }

    fn gather(&mut self, mut bytes: &[u8]) -> Result<(), ErofsError> {
        while !bytes.is_empty() {
            if self.writer.buffer.is_empty() && bytes.len() >= GATHER {
                let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK);
                self.write(whole)?;
                bytes = rest;
                continue;
            }
            let (some, rest) = bytes.split_at(bytes.len().min(GATHER - self.writer.buffer.len()));
            self.writer.buffer.extend_from_slice(some);
            if self.writer.buffer.len() == GATHER {
                self.flush()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Writes the whole blocks that are gathered; what is left is less than one.
    fn flush(&mut self) -> Result<(), ErofsError> {
        let buffer = std::mem::take(&mut self.writer.buffer);
        let whole = buffer.len() - buffer.len() % BLOCK;
        let written = self.write(&buffer[..whole]);
        self.writer.buffer = buffer;
        self.writer.buffer.drain(..whole);
        written
    }

    fn write(&mut self, blocks: &[u8]) -> Result<(), ErofsError> {
        let at = self.skip(blocks.len() as u64)?;
        if blocks.is_empty() { Ok(()) } else { self.writer.output.write(blocks, at) }
    }

    /// Takes the next bytes of the image, whole blocks, and tells where they are.
    fn skip(&mut self, bytes: u64) -> Result<u64, ErofsError> {
        let reserved = self.writer.output.reserve(bytes / BLOCK as u64);
        reserved.map_err(|fault| fault.at(|| self.path()))?;
        let at = self.start + self.written;
        self.written += bytes;
        Ok(at)
    }

    /// Settles how the hole before the next data, or before the end, is stored.
    fn end_hole(&mut self) -> Result<(), ErofsError> {
        if self.hole == 0 {
            return Ok(());
        }
        let chunk = (BLOCK as u64) << self.chunk_bits;
        let end = self.came + self.hole;
        let from = self.came.div_ceil(chunk);
        let to = if end == self.size { end.div_ceil(chunk) } else { end / chunk };
        if from < to {
            self.zeros(from * chunk - self.came)?;
            match self.holes.last_mut() {
                Some(last) if last.1 == from => last.1 = to,
                Some(_) | None => self.holes.push((from, to)),
            }
            self.zeros(end.saturating_sub(to * chunk))?;
        } else {
            self.zeros(self.hole)?;
        }
        (self.came, self.hole) = (end, 0);
        Ok(())
    }

    /// Zeros that must be there: many of them are blocks that are never written.
    fn zeros(&mut self, bytes: u64) -> Result<(), ErofsError> {
        let held = self.writer.buffer.len() as u64;
        let mut left = bytes;
        if bytes > FEW_ZEROS {
            let to_block = held.next_multiple_of(BLOCK as u64) - held;
            self.gather(&ZEROS[..usize::try_from(to_block).unwrap_or(0)])?;
            self.flush()?;
            left = (bytes - to_block) % BLOCK as u64;
            self.skip(bytes - to_block - left)?;
        }
        while left > 0 {
            let some = left.min(BLOCK as u64);
            self.gather(&ZEROS[..usize::try_from(some).unwrap_or(0)])?;
            left -= some;
        }
        Ok(())
    }

    /// Nothing was left out.
    fn place_whole(&mut self) -> Result<Node, Fault> {
        self.flush()?;
        let tail = std::mem::take(&mut self.writer.buffer);
        let inline = fits_inline(self.xattrs.len(), tail.len());
        if !inline && !tail.is_empty() {
            self.write_last(&tail)?;
        }
        let place = if self.written == 0 { 0 } else { narrow(self.start / BLOCK as u64)? };
        let layout = if inline { Layout::Inline } else { Layout::Plain };
        let inode = self.writer.inode(FileType::Regular, self.owner, layout, self.size);
        let node = self.writer.place(Inode { place, ..inode }, &self.xattrs, if inline { &tail } else { b"" });
        self.writer.buffer = tail;
        node
    }

    /// Writes the last block, which is not full.
    fn write_last(&mut self, tail: &[u8]) -> Result<(), ErofsError> {
        let at = self.skip(BLOCK as u64)?;
        self.writer.output.write(tail, at)
    }

    fn place_chunks(&mut self) -> Result<Node, Fault> {
        self.flush()?;
        let tail = std::mem::take(&mut self.writer.buffer);
        if !tail.is_empty() {
            self.write_last(&tail)?;
        }
        self.writer.buffer = tail;
        let finer = self.chunk_bits;
        let bits = self.coarsest(finer);
        let blocks_per_chunk = 1u64 << bits;
        let chunks = self.size.div_ceil((BLOCK as u64) << bits);
        let mut map = Vec::with_capacity(usize::try_from(chunks * 4).unwrap_or(0));
        let mut next = self.start / BLOCK as u64;
        let mut holes = self.holes.iter().map(|(from, to)| (from >> (bits - finer), to.div_ceil(1 << (bits - finer))));
        let mut hole = holes.next();
        for chunk in 0..chunks {
            hole = hole.and_then(|found| if chunk >= found.1 { holes.next() } else { Some(found) });
            let place = match hole {
                Some((from, _)) if chunk >= from => HOLE,
                Some(_) | None => {
                    let place = narrow(next)?;
                    next += blocks_per_chunk;
                    place
                }
            };
            put(&mut map, 4, place.into());
        }
        self.writer.chunked = true;
        let inode = self.writer.inode(FileType::Regular, self.owner, Layout::Chunked, self.size);
        self.writer.place(Inode { place: bits, ..inode }, &self.xattrs, &map)
    }

    /// The largest chunks of which each is a hole or holds data, but not both.
    fn coarsest(&self, finer: u32) -> u32 {
        let all = self.size.div_ceil((BLOCK as u64) << finer);
        let edges = self.holes.iter().flat_map(|(from, to)| [*from, *to]).filter(|edge| *edge != all);
        let common = edges.fold(0, |seen, edge| seen | edge).trailing_zeros();
        let enough = all.next_power_of_two().trailing_zeros();
        finer + common.min(enough).min(MAX_CHUNK_BITS - finer)
    }
}

static ZEROS: [u8; BLOCK] = [0; BLOCK];
