//! The entries of one layer's tar, read header by header with every length bounded before it is believed.
//!
//! Header fields are decoded by the `tar` crate; the framing is our own, since extended headers must be bounded and
//! their values are binary. Nothing is ever unpacked to the host's file system: an entry says where its content lies.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};

use tar::{GnuExtSparseHeader, Header};

use crate::sparse::{Region, RegionList, SparseFault, read_pax_map};
use crate::{ContentError, Limits, pax};

const BLOCK: u64 = 512;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Directory,
    File { size: u64, regions: Vec<Region> },
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// One entry as the archive tells it, names unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What extended headers say about the entry that follows them.
#[derive(Debug, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: PaxSparse,
}

#[derive(Debug, Default)]
struct PaxSparse {
    is_1_0: bool,
    size: Option<u64>,
    numbers: Vec<u64>,
}

/// Reads entries until the archive ends.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    layer: &'a str,
    limits: &'a Limits,
    input: BufReader<&'a File>,
    /// Where the next header lies.
    next: u64,
    length: u64,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(layer: &'a str, file: &'a File, length: u64, limits: &'a Limits) -> Result<Self, ContentError> {
        let mut input = BufReader::with_capacity(64 << 10, file);
        input.seek(SeekFrom::Start(0)).map_err(|error| ContentError::corrupt(layer, error))?;
        Ok(Self { layer, limits, input, next: 0, length })
    }

    fn corrupt(&self, reason: impl ToString) -> ContentError {
        ContentError::corrupt(self.layer, reason)
    }

    fn fault(&self, path: &[u8], reason: &'static str) -> ContentError {
        ContentError::Entry { layer: self.layer.to_owned(), entry: escaped(path), reason }
    }

    /// The next entry; `None` at the end.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, ContentError> {
        let mut extended = Extended::default();
        // One entry has at most a handful of headers before it.
        for _ in 0..8 {
            let Some((header, at)) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|error| self.corrupt(error))?;
            match header.entry_type().as_byte() {
                b'g' => self.skip(at, size)?,
                b'x' => {
                    let data = self.extended_header(at, size)?;
                    self.read_pax(&data, &mut extended)?;
                }
                b'L' => extended.path = Some(until_nul(self.extended_header(at, size)?)),
                b'K' => extended.link = Some(until_nul(self.extended_header(at, size)?)),
                kind => {
                    let size = extended.size.unwrap_or(size);
                    return self.entry(&header, kind, (at, size), extended).map(Some);
                }
            }
        }
        Err(self.corrupt("an entry has too many headers"))
    }

    /// Reads a header; tells where its data begins.
    fn header(&mut self) -> Result<Option<(Header, u64)>, ContentError> {
        if self.next >= self.length {
            return Ok(None);
        }
        let mut header = Header::new_old();
        self.seek_to(self.next)?;
        self.input.read_exact(header.as_mut_bytes()).map_err(|_| self.corrupt("it ends within a header"))?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(self.corrupt(format!("the header at byte {} has a wrong checksum", self.next)));
        }
        Ok(Some((header, self.next + BLOCK)))
    }

    fn seek_to(&mut self, position: u64) -> Result<(), ContentError> {
        let now = self.input.stream_position().map_err(|error| ContentError::corrupt(self.layer, error))?;
        let distance = i64::try_from(position).unwrap_or(i64::MAX) - i64::try_from(now).unwrap_or(0);
        self.input.seek_relative(distance).map_err(|error| ContentError::corrupt(self.layer, error))
    }

    fn skip(&mut self, at: u64, size: u64) -> Result<(), ContentError> {
        let end =
            at.checked_add(size).filter(|end| *end <= self.length).ok_or_else(|| self.corrupt("it is truncated"))?;
        self.next = end.next_multiple_of(BLOCK);
        Ok(())
    }

    fn extended_header(&mut self, at: u64, size: u64) -> Result<Vec<u8>, ContentError> {
        if size > self.limits.header_bytes {
            return Err(ContentError::limit(self.layer, "the size of an extended header", self.limits.header_bytes));
        }
        self.skip(at, size)?;
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        self.input.read_exact(&mut data).map_err(|error| self.corrupt(error))?;
        Ok(data)
    }

    fn read_pax(&self, data: &[u8], extended: &mut Extended) -> Result<(), ContentError> {
        let bad = || self.corrupt("an extended header is malformed");
        for record in pax::records(data) {
            let (key, value) = record.ok_or_else(bad)?;
            match key {
                b"path" => extended.path = Some(value.to_vec()).filter(|value| !value.is_empty()),
                b"linkpath" => extended.link = Some(value.to_vec()).filter(|value| !value.is_empty()),
                b"size" => extended.size = Some(pax::number(value).ok_or_else(bad)?),
                b"uid" => extended.uid = Some(pax::number(value).ok_or_else(bad)?),
                b"gid" => extended.gid = Some(pax::number(value).ok_or_else(bad)?),
                b"mtime" => extended.mtime = Some(pax::time(value).ok_or_else(bad)?),
                b"GNU.sparse.major" => extended.sparse.is_1_0 = value == b"1",
                b"GNU.sparse.name" => extended.path = Some(value.to_vec()),
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                    extended.sparse.size = Some(pax::number(value).ok_or_else(bad)?);
                }
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    extended.sparse.numbers.push(pax::number(value).ok_or_else(bad)?);
                }
                b"GNU.sparse.map" => {
                    let numbers = value.split(|byte| *byte == b',').map(pax::number);
                    extended.sparse.numbers = numbers.collect::<Option<_>>().ok_or_else(bad)?;
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        extended.xattrs.retain(|(known, _)| known != name);
                        extended.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: u8,
        (at, size): (u64, u64),
        extended: Extended,
    ) -> Result<Entry, ContentError> {
        let path = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link =
            extended.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned)).unwrap_or_default();
        let device = || -> io::Result<(u32, u32)> {
            Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
        };
        let device = || device().map_err(|_| self.fault(&path, "its device number is malformed"));
        let kind = match kind {
            b'0' | 0 if path.ends_with(b"/") => self.no_content(at, size, EntryKind::Directory)?,
            b'0' | 0 | b'7' if extended.sparse.size.is_some() => {
                self.pax_sparse(&path, (at, size), &extended.sparse)?
            }
            b'0' | 0 | b'7' => {
                self.skip(at, size)?;
                let regions = if size == 0 { Vec::new() } else { vec![Region { at: 0, offset: at, length: size }] };
                EntryKind::File { size, regions }
            }
            b'S' => self.gnu_sparse(&path, header, (at, size))?,
            b'5' => self.no_content(at, size, EntryKind::Directory)?,
            b'2' => self.no_content(at, size, EntryKind::Symlink(link))?,
            // A hard link may carry a size; only some old writers repeat the content behind it.
            b'1' => self.no_content(at, 0, EntryKind::HardLink(link))?,
            b'3' => device().and_then(|(major, minor)| self.no_content(at, size, EntryKind::Char(major, minor)))?,
            b'4' => device().and_then(|(major, minor)| self.no_content(at, size, EntryKind::Block(major, minor)))?,
            b'6' => self.no_content(at, size, EntryKind::Fifo)?,
            _ => return Err(self.fault(&path, "its type is unknown")),
        };
        let owner = |own: Option<u64>, told: io::Result<u64>| {
            let id = own.map_or(told, Ok).ok().and_then(|id| u32::try_from(id).ok());
            id.filter(|id| *id != u32::MAX).ok_or_else(|| self.fault(&path, "its owner is out of range"))
        };
        let mode = header.mode().map_err(|_| self.fault(&path, "its mode is malformed"))?;
        let mode = u16::try_from(mode & 0o7777).unwrap_or(0);
        let (uid, gid) = (owner(extended.uid, header.uid())?, owner(extended.gid, header.gid())?);
        // Times before 1970 are stored as negative binary numbers.
        let mtime = extended.mtime.unwrap_or_else(|| (header.mtime().map_or(0, u64::cast_signed), 0));
        let xattrs = extended.xattrs;
        Ok(Entry { path, kind, mode, uid, gid, mtime, xattrs })
    }

    fn no_content(&mut self, at: u64, size: u64, kind: EntryKind) -> Result<EntryKind, ContentError> {
        self.skip(at, size).map(|()| kind)
    }

    fn sparse_fault(&self, path: &[u8], fault: SparseFault) -> ContentError {
        match fault {
            SparseFault::TooMany => {
                ContentError::limit(escaped(path), "the regions of a sparse file", self.limits.sparse_regions as u64)
            }
            SparseFault::Nonsense => self.fault(path, "its map of holes is malformed"),
        }
    }

    fn pax_sparse(
        &mut self,
        path: &[u8],
        (at, stored): (u64, u64),
        sparse: &PaxSparse,
    ) -> Result<EntryKind, ContentError> {
        let size = sparse.size.unwrap_or(0);
        self.skip(at, stored)?;
        let max = self.limits.sparse_regions;
        let (list, map_bytes) = if sparse.is_1_0 {
            let after = self.next;
            self.seek_to(at)?;
            let read = read_pax_map(self.input.by_ref().take(stored), max);
            self.next = after;
            read.map_err(|_| self.corrupt("it is truncated"))?.map_err(|fault| self.sparse_fault(path, fault))?
        } else {
            let list =
                RegionList::from_numbers(&sparse.numbers, max).map_err(|fault| self.sparse_fault(path, fault))?;
            (list, 0)
        };
        let regions = stored
            .checked_sub(map_bytes)
            .ok_or(SparseFault::Nonsense)
            .and_then(|stored| list.finish(size, at + map_bytes, stored))
            .map_err(|fault| self.sparse_fault(path, fault))?;
        Ok(EntryKind::File { size, regions })
    }

    fn gnu_sparse(
        &mut self,
        path: &[u8],
        header: &Header,
        (at, stored): (u64, u64),
    ) -> Result<EntryKind, ContentError> {
        let gnu = header.as_gnu().ok_or_else(|| self.fault(path, "its header is not GNU's"))?;
        let malformed = |_| SparseFault::Nonsense;
        let size = gnu.real_size().map_err(malformed).map_err(|fault| self.sparse_fault(path, fault))?;
        let mut list = RegionList::new(self.limits.sparse_regions);
        let mut push = |regions: &[tar::GnuSparseHeader]| {
            regions.iter().filter(|region| !region.is_empty()).try_for_each(|region| {
                list.push(region.offset().map_err(malformed)?, region.length().map_err(malformed)?)
            })
        };
        let mut result = push(&gnu.sparse);
        let mut more = gnu.is_extended();
        let mut data = at;
        while more && result.is_ok() {
            let mut block = GnuExtSparseHeader::new();
            self.seek_to(data)?;
            self.input
                .read_exact(block.as_mut_bytes())
                .map_err(|_| ContentError::corrupt(self.layer, "it is truncated"))?;
            data += BLOCK;
            if (data - at) / BLOCK > self.limits.sparse_regions as u64 {
                return Err(self.sparse_fault(path, SparseFault::TooMany));
            }
            result = push(block.sparse());
            more = block.is_extended();
        }
        result.map_err(|fault| self.sparse_fault(path, fault))?;
        self.skip(data, stored)?;
        let regions = list.finish(size, data, stored).map_err(|fault| self.sparse_fault(path, fault))?;
        Ok(EntryKind::File { size, regions })
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// A name for a message: printable, and cut.
pub(crate) fn escaped(name: &[u8]) -> String {
    name[..name.len().min(300)].escape_ascii().to_string()
}
