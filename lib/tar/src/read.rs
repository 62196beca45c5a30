//! The entries of an archive, read header by header with every length bounded before it is believed.
//!
//! Reads forwards only: an entry's content may be taken before the next entry is asked for, and is skipped otherwise.

use std::io::{self, Read};

use tar::{GnuExtSparseHeader, Header};

use crate::sparse::{Region, RegionList, SparseFault, read_pax_map};
use crate::{BLOCK, Entry, EntryKind, Shown, pax};

/// How many headers one entry may have before it.
const MAX_HEADERS: usize = 8;

/// What an archive may cost at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One extended header, in bytes.
    pub header_bytes: u64,
    /// Data regions of a file with holes.
    pub regions: usize,
}

/// Why an archive was not understood.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It could not be read.
    #[error("read the archive")]
    Io(#[source] io::Error),
    /// Bytes that are no archive.
    #[error("{0}")]
    Corrupt(String),
    /// An entry that makes no sense.
    #[error("the entry {}: {reason}", Shown(.path))]
    Entry {
        /// Its name.
        path: Vec<u8>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An extended header larger than it may be.
    #[error("the size of an extended header may be at most {0}")]
    HeaderTooLong(u64),
    /// A file with more holes than it may have.
    #[error("the entry {}: the regions of a sparse file may be at most {allowed}", Shown(.path))]
    TooManyRegions {
        /// Its name.
        path: Vec<u8>,
        /// How many it may have.
        allowed: usize,
    },
}

/// What an archive is read from.
pub trait Input: Read {
    /// Leaves out so many bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when there are not so many.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;

    /// How many bytes there are still, where that is known.
    fn left(&self) -> Option<u64> {
        None
    }
}

/// An input that can only be read.
#[derive(Debug)]
pub struct Piped<R>(pub R);

impl<R: Read> Read for Piped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Input for Piped<R> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.0.by_ref().take(bytes), &mut io::sink())?;
        if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
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
    /// The true one: `path` then names a place for readers that know nothing of holes.
    name: Option<Vec<u8>>,
    size: Option<u64>,
    numbers: Vec<u64>,
}

/// Reads entries until the archive ends.
#[derive(Debug)]
pub struct Entries<I> {
    input: Counted<I>,
    limits: Limits,
    /// Where the next header lies.
    next: u64,
}

/// An input that knows how far it was read.
#[derive(Debug)]
struct Counted<I> {
    input: I,
    position: u64,
}

impl<I: Input> Read for Counted<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

fn corrupt(reason: impl Into<String>) -> Fault {
    Fault::Corrupt(reason.into())
}

fn fault(path: &[u8], reason: &'static str) -> Fault {
    Fault::Entry { path: path.to_owned(), reason }
}

fn cut_short(error: io::Error) -> Fault {
    if error.kind() == io::ErrorKind::UnexpectedEof { corrupt("it is truncated") } else { Fault::Io(error) }
}

impl<I: Input> Entries<I> {
    /// Of an archive that begins where the input is.
    pub fn new(input: I, limits: Limits) -> Self {
        Self { input: Counted { input, position: 0 }, limits, next: 0 }
    }

    /// The content of a region of the entry that was read last. Regions are to be taken in their order.
    ///
    /// # Errors
    /// [`Fault`] when the archive ends before the region.
    pub fn content(&mut self, region: &Region) -> Result<impl Read, Fault> {
        self.go_to(region.offset)?;
        Ok((&mut self.input).take(region.length))
    }

    /// The input, behind the last entry and whatever else was read.
    pub fn into_input(self) -> I {
        self.input.input
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// [`Fault`]; what follows would not be understood.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Fault> {
        let mut extended = Extended::default();
        for _ in 0..MAX_HEADERS {
            let Some((header, at)) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|error| corrupt(error.to_string()))?;
            match header.entry_type().as_byte() {
                b'g' => self.skip(at, size)?,
                b'x' => {
                    let data = self.extended_header(at, size)?;
                    read_pax(&data, &mut extended)?;
                }
                b'L' => extended.path = Some(until_nul(self.extended_header(at, size)?)),
                b'K' => extended.link = Some(until_nul(self.extended_header(at, size)?)),
                kind => {
                    let size = extended.size.unwrap_or(size);
                    return self.entry(&header, kind, (at, size), extended).map(Some);
                }
            }
        }
        Err(corrupt("an entry has too many headers"))
    }

    /// Reads a header; tells where its data begins.
    fn header(&mut self) -> Result<Option<(Header, u64)>, Fault> {
        let distance = self.next.saturating_sub(self.input.position);
        if self.input.input.left().is_some_and(|left| distance >= left) {
            return Ok(None);
        }
        self.go_to(self.next)?;
        let mut header = Header::new_old();
        let mut got = 0;
        while got < header.as_bytes().len() {
            match self.input.read(&mut header.as_mut_bytes()[got..]) {
                Ok(0) if got == 0 => return Ok(None),
                Ok(0) => return Err(corrupt("it ends within a header")),
                Ok(count) => got += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Io(error)),
            }
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(corrupt(format!("the header at byte {} has a wrong checksum", self.next)));
        }
        Ok(Some((header, self.next + BLOCK)))
    }

    /// Forwards to a place in the archive.
    fn go_to(&mut self, place: u64) -> Result<(), Fault> {
        let distance = place.checked_sub(self.input.position).ok_or_else(|| corrupt("it was read past this place"))?;
        if distance > 0 {
            self.input.input.skip(distance).map_err(cut_short)?;
            self.input.position = place;
        }
        Ok(())
    }

    /// The next header lies behind these data.
    fn skip(&mut self, at: u64, size: u64) -> Result<(), Fault> {
        let end = at.checked_add(size).and_then(|end| end.checked_next_multiple_of(BLOCK));
        let there_is = self.input.input.left().map_or(u64::MAX, |left| self.input.position.saturating_add(left));
        // The padding of the last one may be missing.
        let end = end.filter(|_| at.saturating_add(size) <= there_is);
        self.next = end.ok_or_else(|| corrupt("it is truncated"))?;
        Ok(())
    }

    fn extended_header(&mut self, at: u64, size: u64) -> Result<Vec<u8>, Fault> {
        if size > self.limits.header_bytes {
            return Err(Fault::HeaderTooLong(self.limits.header_bytes));
        }
        self.skip(at, size)?;
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        self.input.read_exact(&mut data).map_err(cut_short)?;
        Ok(data)
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: u8,
        (at, size): (u64, u64),
        mut extended: Extended,
    ) -> Result<Entry, Fault> {
        let path = extended.sparse.name.take().or(extended.path);
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link =
            extended.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned)).unwrap_or_default();
        let device = || -> io::Result<(u32, u32)> {
            Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
        };
        let device = || device().map_err(|_| fault(&path, "its device number is malformed"));
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
            _ => return Err(fault(&path, "its type is unknown")),
        };
        let owner = |own: Option<u64>, told: io::Result<u64>| {
            let id = own.map_or(told, Ok).ok().and_then(|id| u32::try_from(id).ok());
            id.filter(|id| *id != u32::MAX).ok_or_else(|| fault(&path, "its owner is out of range"))
        };
        let mode = header.mode().map_err(|_| fault(&path, "its mode is malformed"))?;
        let mode = u16::try_from(mode & 0o7777).unwrap_or(0);
        let (uid, gid) = (owner(extended.uid, header.uid())?, owner(extended.gid, header.gid())?);
        // Times before 1970 are stored as negative binary numbers.
        let mtime = extended.mtime.unwrap_or_else(|| (header.mtime().map_or(0, u64::cast_signed), 0));
        let xattrs = extended.xattrs;
        Ok(Entry { path, kind, mode, uid, gid, mtime, xattrs })
    }

    fn no_content(&mut self, at: u64, size: u64, kind: EntryKind) -> Result<EntryKind, Fault> {
        self.skip(at, size).map(|()| kind)
    }

    fn sparse_fault(&self, path: &[u8], why: SparseFault) -> Fault {
        match why {
            SparseFault::TooMany => Fault::TooManyRegions { path: path.to_owned(), allowed: self.limits.regions },
            SparseFault::Nonsense => fault(path, "its map of holes is malformed"),
        }
    }

    fn pax_sparse(&mut self, path: &[u8], (at, stored): (u64, u64), sparse: &PaxSparse) -> Result<EntryKind, Fault> {
        let size = sparse.size.unwrap_or(0);
        self.skip(at, stored)?;
        let max = self.limits.regions;
        let (list, map_bytes) = if sparse.is_1_0 {
            let read = read_pax_map(self.input.by_ref().take(stored), max);
            read.map_err(cut_short)?.map_err(|fault| self.sparse_fault(path, fault))?
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

    fn gnu_sparse(&mut self, path: &[u8], header: &Header, (at, stored): (u64, u64)) -> Result<EntryKind, Fault> {
        let gnu = header.as_gnu().ok_or_else(|| fault(path, "its header is not GNU's"))?;
        let malformed = |_| SparseFault::Nonsense;
        let size = gnu.real_size().map_err(malformed).map_err(|fault| self.sparse_fault(path, fault))?;
        let mut list = RegionList::new(self.limits.regions);
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
            self.input.read_exact(block.as_mut_bytes()).map_err(cut_short)?;
            data += BLOCK;
            if (data - at) / BLOCK > self.limits.regions as u64 {
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

fn read_pax(data: &[u8], extended: &mut Extended) -> Result<(), Fault> {
    let bad = || corrupt("an extended header is malformed");
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
            b"GNU.sparse.name" => extended.sparse.name = Some(value.to_vec()),
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
                if let Some(name) = key.strip_prefix(pax::XATTR) {
                    extended.xattrs.push((pax::plain_name(name), value.to_vec()));
                }
            }
        }
    }
    Ok(())
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}
