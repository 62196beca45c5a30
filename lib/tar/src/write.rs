//! An archive as it is written: GNU's headers, and before them an extended header of the pax format for what they do
//! not hold (attributes, fractions of a second, long names). Files with holes go in GNU's own form.
//!
//! Both are read together by GNU tar, libarchive, Go and Python; a reader that knows no holes refuses the entry's type,
//! where pax's form of holes would pass for a file of another name and content.

use std::io::{self, Write};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use crate::{BLOCK, Entry, EntryKind, pax};

/// A block of what lies between entries, and twice behind the last.
const ZEROS: [u8; 512] = [0; 512];

/// What seven octal digits hold: more than Linux has of either.
const MAX_DEVICE: u32 = 0o7_777_777;

/// Writes entries, each followed by its content.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    /// What is still to come of the last entry's content.
    left: u64,
    /// What fills its last block.
    padding: u64,
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

impl<W: Write> Writer<W> {
    /// Nothing is written yet.
    pub fn new(out: W) -> Self {
        Self { out, left: 0, padding: 0 }
    }

    /// Begins an entry. Of a file the content of all its regions is to follow; where they lie in the archive is not
    /// looked at.
    ///
    /// # Errors
    /// The output's, and [`io::ErrorKind::InvalidInput`] when the last entry lacks content or this one makes no sense.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.finish_entry()?;
        let mut header = Header::new_gnu();
        let mut records = Vec::new();
        let fields = header.as_old_mut();
        fit(&mut fields.name, &entry.path, b"path", &mut records);
        if let EntryKind::Symlink(target) | EntryKind::HardLink(target) = &entry.kind {
            fit(&mut fields.linkname, target, b"linkpath", &mut records);
        }
        header.set_mode(entry.mode.into());
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        header.set_mtime(u64::try_from(entry.mtime.0).unwrap_or(0));
        if entry.mtime.0 < 0 || entry.mtime.1 > 0 {
            pax::write(&mut records, b"mtime", pax::time_text(entry.mtime).as_bytes());
        }
        for (name, value) in &entry.xattrs {
            pax::write(&mut records, &[pax::XATTR, &pax::key_name(name)].concat(), value);
        }
        let map = describe(&mut header, &entry.kind)?;
        header.set_cksum();
        self.extended(&records)?;
        self.out.write_all(header.as_bytes())?;
        map.iter().try_for_each(|block| self.out.write_all(block.as_bytes()))?;
        self.expect(header.entry_size()?);
        Ok(())
    }

    /// Some of the last entry's content.
    ///
    /// # Errors
    /// The output's, and [`io::ErrorKind::InvalidInput`] when it is more than was told of.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| invalid("more than the header says"))?;
        self.out.write_all(bytes)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// As [`Writer::entry`].
    pub fn finish(mut self) -> io::Result<W> {
        self.finish_entry()?;
        self.out.write_all(&[ZEROS, ZEROS].concat())?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn finish_entry(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(invalid("less than the header says"));
        }
        let padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or(0);
        self.out.write_all(&ZEROS[..padding])
    }

    fn expect(&mut self, size: u64) {
        (self.left, self.padding) = (size, size.next_multiple_of(BLOCK) - size);
    }

    fn extended(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        fit(&mut header.as_old_mut().name, b"PaxHeaders/entry", b"", &mut Vec::new());
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.expect(records.len() as u64);
        self.data(records)?;
        self.finish_entry()
    }
}

/// A text in its field, or as much of it as fits and the whole as a record.
fn fit(field: &mut [u8], text: &[u8], key: &[u8], records: &mut Vec<u8>) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    if length < text.len() {
        pax::write(records, key, text);
    }
}

/// Type, size and device of an entry; what of its map of holes does not fit the header.
fn describe(header: &mut Header, kind: &EntryKind) -> io::Result<Vec<GnuExtSparseHeader>> {
    header.set_size(0);
    let mut device = |entry_type, major: u32, minor: u32| {
        if major.max(minor) > MAX_DEVICE {
            return Err(invalid("a device number without room in a header"));
        }
        header.set_entry_type(entry_type);
        header.set_device_major(major)?;
        header.set_device_minor(minor)
    };
    match kind {
        EntryKind::Char(major, minor) => device(EntryType::Char, *major, *minor)?,
        EntryKind::Block(major, minor) => device(EntryType::Block, *major, *minor)?,
        EntryKind::Directory => header.set_entry_type(EntryType::Directory),
        EntryKind::Symlink(_) => header.set_entry_type(EntryType::Symlink),
        EntryKind::HardLink(_) => header.set_entry_type(EntryType::Link),
        EntryKind::Fifo => header.set_entry_type(EntryType::Fifo),
        EntryKind::File { size, regions } => {
            let stored: u64 = regions.iter().map(|region| region.length).sum();
            header.set_size(stored);
            if stored == *size {
                header.set_entry_type(EntryType::Regular);
            } else {
                let pairs = regions.iter().map(|region| (region.at, region.length));
                // A hole at the end is told by an empty region behind it.
                return map_of(header, *size, &pairs.chain([(*size, 0)]).collect::<Vec<_>>());
            }
        }
    }
    Ok(Vec::new())
}

fn map_of(header: &mut Header, size: u64, pairs: &[(u64, u64)]) -> io::Result<Vec<GnuExtSparseHeader>> {
    header.set_entry_type(EntryType::GNUSparse);
    let gnu = header.as_gnu_mut().ok_or_else(|| invalid("no header of GNU"))?;
    gnu.set_real_size(size);
    let (first, rest) = pairs.split_at(pairs.len().min(gnu.sparse.len()));
    fill(&mut gnu.sparse, first);
    gnu.set_is_extended(!rest.is_empty());
    let blocks = rest.chunks(GnuExtSparseHeader::new().sparse.len());
    let last = blocks.len().saturating_sub(1);
    let block = |(at, pairs)| {
        let mut block = GnuExtSparseHeader::new();
        fill(&mut block.sparse, pairs);
        block.set_is_extended(at < last);
        block
    };
    Ok(blocks.enumerate().map(block).collect())
}

fn fill(places: &mut [GnuSparseHeader], pairs: &[(u64, u64)]) {
    for (place, (at, length)) in places.iter_mut().zip(pairs) {
        place.set_offset(*at);
        place.set_length(*length);
    }
}

#[cfg(test)]
mod tests;
