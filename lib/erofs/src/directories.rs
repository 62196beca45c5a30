//! The end of an image: all directories, the counts of links, the superblock.
//!
//! Names are read in order twice. The first time tells how large each directory is, and with that where its inode and
//! its blocks lie; the second time they are written, one after the other, since every number is known by then. Inodes
//! of directories lie together, with the ends of their data behind them; their full blocks follow.

use std::fs::File;

use crate::error::{ErofsError, Fault, Limit};
use crate::format::{self, BLOCK, DIRENT, FileType, Inode, Layout, SLOT, Superblock, put};
use crate::names::{self, Description, Record, Target};
use crate::output::Output;
use crate::sorter::Sorted;
use crate::spool::Spool;
use crate::table::{Row, Table};
use crate::writer::{ImageWriter, narrow};
use crate::{Epoch, Summary};

/// What of a stream is held back.
const BUFFER: usize = 256 << 10;

const READ: &str = "read back what is known of the tree";

pub(crate) fn finish(writer: ImageWriter) -> Result<(File, Summary), ErofsError> {
    let ImageWriter { uuid, epoch, output, xattrs, descriptions, table, directories, names, links, .. } = writer;
    let nodes = writer.inodes;
    let mut finish = Finish { epoch, output, descriptions, table, names: names.finish(), nodes };
    finish.output.close_segment()?;
    finish.count_links(&links.finish())?;
    let extent = finish.measure()?;
    let root = finish.write(extent)?;
    let inodes = nodes + u64::from(directories);
    let blocks = finish.output.next();
    let superblock = Superblock { uuid, epoch, inodes, blocks, shared_at: xattrs.base(), chunked: writer.chunked };
    finish.output.write(&superblock.first_block(&root), 0)?;
    let summary = Summary {
        bytes: blocks * BLOCK as u64,
        nodes,
        directories: directories.into(),
        data_bytes: writer.data_bytes,
        kernel: if writer.chunked { (5, 15) } else { (5, 4) },
    };
    Ok((finish.output.finish()?, summary))
}

struct Finish {
    epoch: Epoch,
    output: Output,
    descriptions: Spool,
    table: Table,
    names: Sorted,
    nodes: u64,
}

/// What all directories take.
#[derive(Default)]
struct Extent {
    inode_bytes: u64,
    blocks: u64,
}

/// How full the blocks of a directory are: no entry crosses from one into the next.
#[derive(Default)]
struct Fill {
    full_blocks: u64,
    used: usize,
}

impl Fill {
    /// Takes an entry, and tells whether it begins another block.
    fn add(&mut self, name: &[u8]) -> bool {
        let entry = DIRENT + name.len();
        let begins = self.used + entry > BLOCK;
        if begins {
            self.full_blocks += 1;
            self.used = 0;
        }
        self.used += entry;
        begins
    }

    fn size(&self) -> u64 {
        self.full_blocks * BLOCK as u64 + self.used as u64
    }
}

/// Where a directory's last block lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Behind,
    InABlock,
}

impl End {
    fn of(index: u32, inode_bytes: usize, size: u64) -> Self {
        let before = if index == 0 { format::ROOT_AT } else { 0 };
        if before + inode_bytes + last_bytes(size) <= BLOCK { Self::Behind } else { Self::InABlock }
    }
}

/// What the last block of a directory holds: never nothing.
fn last_bytes(size: u64) -> usize {
    usize::try_from((size - 1) % BLOCK as u64).unwrap_or(0) + 1
}

impl Finish {
    /// Every node was written as if it had one name.
    fn count_links(&mut self, links: &Sorted) -> Result<(), ErofsError> {
        let mut records = links.records().map_err(ErofsError::io(READ))?;
        let mut current: Option<(u64, bool)> = None;
        let mut count = 1;
        loop {
            let record = records.next().map_err(ErofsError::io(READ))?;
            let next = record.and_then(|bytes| {
                let (number, rest) = bytes.split_first_chunk::<8>()?;
                Some((u64::from_be_bytes(*number), rest == [1]))
            });
            if next != current {
                if let Some((number, compact)) = current {
                    self.write_count(number, compact, count)?;
                }
                (current, count) = (next, 1);
            }
            if next.is_none() {
                return Ok(());
            }
            count += 1;
        }
    }

    fn write_count(&mut self, number: u64, compact: bool, count: u64) -> Result<(), ErofsError> {
        if count > Limit::Links.allowed() {
            let entry = self.name_of(number)?;
            return Err(ErofsError::Limit { entry, limit: Limit::Links, found: count });
        }
        let at = number * SLOT as u64;
        let mut bytes = Vec::with_capacity(4);
        put(&mut bytes, if compact { 2 } else { 4 }, count);
        self.output.patch(&bytes, at + if compact { format::COMPACT_LINKS_AT } else { format::EXTENDED_LINKS_AT })
    }

    /// The first name of a node, for messages.
    fn name_of(&mut self, wanted: u64) -> Result<String, ErofsError> {
        let mut records = self.names.records().map_err(ErofsError::io(READ))?;
        while let Some(bytes) = records.next().map_err(ErofsError::io(READ))? {
            let record = Record::parse(bytes).map_err(ErofsError::io(READ))?;
            if matches!(record.target, Target::Node(_, number) if number == wanted) {
                return Ok(names::path(&mut self.table, &self.descriptions, record.parent, record.name));
            }
        }
        Ok("?".to_owned())
    }

    /// Finds the size and place of every directory.
    fn measure(&mut self) -> Result<Extent, ErofsError> {
        let mut extent = Extent::default();
        let mut records = self.names.records().map_err(ErofsError::io(READ))?;
        let mut plan = Plan { table: &mut self.table, descriptions: &self.descriptions, epoch: self.epoch };
        let (mut parent, mut fill, mut children) = (0, Fill::default(), 0);
        let mut last = Vec::new();
        while let Some(bytes) = records.next().map_err(ErofsError::io(READ))? {
            let record = Record::parse(bytes).map_err(ErofsError::io(READ))?;
            if record.parent != parent {
                plan.place(parent, (&fill, children), &mut extent)?;
                (parent, fill, children) = (record.parent, Fill::default(), 0);
            } else if record.name == last {
                let entry = names::path(plan.table, plan.descriptions, parent, record.name);
                return Err(ErofsError::Duplicate { entry });
            }
            fill.add(record.name);
            if matches!(record.target, Target::Directory(_)) && !matches!(record.name, b"." | b"..") {
                children += 1;
            }
            last.clear();
            last.extend_from_slice(record.name);
        }
        plan.place(parent, (&fill, children), &mut extent)?;
        Ok(extent)
    }

    /// Writes all directories but the root's inode, which it gives back with what lies behind it.
    fn write(&mut self, extent: Extent) -> Result<Vec<u8>, ErofsError> {
        let whole = |fault: Fault| fault.at(|| "/".to_owned());
        let inodes = self.output.reserve(extent.inode_bytes.div_ceil(BLOCK as u64)).map_err(whole)?;
        let blocks = self.output.reserve(extent.blocks).map_err(whole)?;
        let mut second = Second {
            epoch: self.epoch,
            nodes: self.nodes,
            inodes: Stream::new(inodes),
            blocks: Stream::new(blocks),
            first_inode: inodes * BLOCK as u64,
            first_block: blocks,
            output: &mut self.output,
            table: &mut self.table,
            descriptions: &self.descriptions,
            root: Vec::new(),
        };
        let mut records = self.names.records().map_err(ErofsError::io(READ))?;
        let (mut parent, mut fill, mut block) = (0, Fill::default(), BlockBuilder::default());
        while let Some(bytes) = records.next().map_err(ErofsError::io(READ))? {
            let record = Record::parse(bytes).map_err(ErofsError::io(READ))?;
            if record.parent != parent {
                second.end(parent, &block.take())?;
                (parent, fill) = (record.parent, Fill::default());
            }
            if fill.add(record.name) {
                second.block(&block.take())?;
            }
            let (kind, number) = second.number(record.target)?;
            block.add(record.name, kind, number);
        }
        second.end(parent, &block.take())?;
        let Second { inodes, blocks, root, output, .. } = second;
        inodes.flush(output)?;
        blocks.flush(output)?;
        Ok(root)
    }
}

/// Decides where directories lie.
struct Plan<'a> {
    table: &'a mut Table,
    descriptions: &'a Spool,
    epoch: Epoch,
}

impl Plan<'_> {
    fn place(&mut self, index: u32, (fill, children): (&Fill, u32), extent: &mut Extent) -> Result<(), ErofsError> {
        let row = self.table.get(index).map_err(ErofsError::io(READ))?;
        let description = Description::read(self.descriptions, row.description).map_err(ErofsError::io(READ))?;
        let inode = inode(&description, children, fill.size());
        let bytes = inode_bytes(&inode, self.epoch);
        let end = End::of(index, bytes, fill.size());
        let bytes = (bytes + if end == End::Behind { fill.used } else { 0 }) as u64;
        let block = narrow(extent.blocks);
        let block = block.map_err(|fault| fault.at(|| names::path(self.table, self.descriptions, index, b"")))?;
        extent.blocks += fill.full_blocks + u64::from(end == End::InABlock);
        if index > 0 && extent.inode_bytes % BLOCK as u64 + bytes > BLOCK as u64 {
            // What fits a block lies within one; what does not begins with one.
            extent.inode_bytes = extent.inode_bytes.next_multiple_of(BLOCK as u64);
        }
        let row = Row { inode: extent.inode_bytes, size: fill.size(), block, children, ..row };
        if index > 0 {
            extent.inode_bytes = (extent.inode_bytes + bytes).next_multiple_of(SLOT as u64);
        }
        self.table.set(index, row).map_err(ErofsError::io(READ))
    }
}

fn inode(description: &Description, children: u32, size: u64) -> Inode {
    Inode {
        kind: FileType::Directory,
        owner: description.owner,
        layout: Layout::Plain,
        size,
        links: children.saturating_add(2),
        place: 0,
        ordinal: 0,
        xattr_bytes: description.xattrs.len(),
    }
}

fn inode_bytes(inode: &Inode, epoch: Epoch) -> usize {
    inode.xattr_bytes + if inode.is_compact(epoch) { format::COMPACT } else { format::EXTENDED }
}

/// Writes directories, in the order in which they were placed.
struct Second<'a> {
    epoch: Epoch,
    nodes: u64,
    inodes: Stream,
    blocks: Stream,
    first_inode: u64,
    first_block: u64,
    output: &'a mut Output,
    table: &'a mut Table,
    descriptions: &'a Spool,
    root: Vec<u8>,
}

impl Second<'_> {
    /// What stands in a directory for a target.
    fn number(&mut self, target: Target) -> Result<(u8, u64), ErofsError> {
        match target {
            Target::Node(kind, number) => Ok((kind, number)),
            Target::Directory(0) => Ok((FileType::Directory.number(), (format::ROOT_AT / SLOT) as u64)),
            Target::Directory(index) => {
                let row = self.table.get(index).map_err(ErofsError::io(READ))?;
                Ok((FileType::Directory.number(), (self.first_inode + row.inode) / SLOT as u64))
            }
        }
    }

    fn block(&mut self, bytes: &[u8]) -> Result<(), ErofsError> {
        let end = self.blocks.end();
        self.blocks.put(end, bytes, self.output)?;
        self.blocks.pad(BLOCK);
        Ok(())
    }

    /// Writes a directory's inode, and its last block.
    fn end(&mut self, index: u32, last: &[u8]) -> Result<(), ErofsError> {
        let row = self.table.get(index).map_err(ErofsError::io(READ))?;
        let description = Description::read(self.descriptions, row.description).map_err(ErofsError::io(READ))?;
        let inode = inode(&description, row.children, row.size);
        let end = End::of(index, inode_bytes(&inode, self.epoch), row.size);
        let has_blocks = end == End::InABlock || row.size > BLOCK as u64;
        let block = if has_blocks { self.first_block + u64::from(row.block) } else { 0 };
        let place = narrow(block).map_err(|fault| fault.at(|| "/".to_owned()))?;
        let layout = if end == End::Behind { Layout::Inline } else { Layout::Plain };
        let ordinal = u32::try_from((self.nodes + u64::from(index) + 1) & u64::from(u32::MAX)).unwrap_or(0);
        let mut bytes = Vec::new();
        Inode { layout, place, ordinal, ..inode }.encode(self.epoch, &mut bytes);
        bytes.extend_from_slice(&description.xattrs);
        match end {
            End::Behind => bytes.extend_from_slice(last),
            End::InABlock => self.block(last)?,
        }
        if index == 0 {
            self.root = bytes;
            return Ok(());
        }
        self.inodes.put(self.first_inode + row.inode, &bytes, self.output)
    }
}

/// Bytes that are written one after the other, with zeros between them.
struct Stream {
    at: u64,
    buffer: Vec<u8>,
}

impl Stream {
    fn new(block: u64) -> Self {
        Self { at: block * BLOCK as u64, buffer: Vec::new() }
    }

    fn end(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    fn put(&mut self, at: u64, bytes: &[u8], output: &mut Output) -> Result<(), ErofsError> {
        let gap = usize::try_from(at.saturating_sub(self.end())).unwrap_or(0);
        self.buffer.resize(self.buffer.len() + gap, 0);
        if self.buffer.len() >= BUFFER {
            output.write(&self.buffer, self.at)?;
            self.at = self.end();
            self.buffer.clear();
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn pad(&mut self, to: usize) {
        // The stream began at a multiple, and its buffer is only emptied whole.
        let end = self.end().next_multiple_of(to as u64) - self.at;
        self.buffer.resize(usize::try_from(end).unwrap_or(self.buffer.len()), 0);
    }

    fn flush(self, output: &mut Output) -> Result<(), ErofsError> {
        if self.buffer.is_empty() { Ok(()) } else { output.write(&self.buffer, self.at) }
    }
}

/// One block of a directory.
#[derive(Default)]
struct BlockBuilder {
    /// Number, kind, and where among the names its own begins.
    entries: Vec<(u64, u8, usize)>,
    names: Vec<u8>,
}

impl BlockBuilder {
    fn add(&mut self, name: &[u8], kind: u8, number: u64) {
        self.entries.push((number, kind, self.names.len()));
        self.names.extend_from_slice(name);
    }

    /// The block, as long as it is full.
    fn take(&mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK);
        let head = self.entries.len() * DIRENT;
        for (number, kind, at) in self.entries.drain(..) {
            put(&mut bytes, 8, number);
            put(&mut bytes, 2, (head + at) as u64);
            put(&mut bytes, 1, kind.into());
            put(&mut bytes, 1, 0);
        }
        bytes.append(&mut self.names);
        bytes
    }
}
