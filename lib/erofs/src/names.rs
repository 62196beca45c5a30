//! Names and directories on their way to the end: how they are checked, recorded and found again.

use std::io;

use crate::Attributes;
use crate::error::{Fault, Limit};
use crate::format::{FileType, Owner};
use crate::sorter::Sorter;
use crate::spool::Spool;
use crate::table::Table;

/// A path in a message is no longer than about this.
const MAX_PATH: usize = 4096;

pub(crate) fn check_name(name: &[u8]) -> Result<(), Fault> {
    let reason = match name {
        b"" => "is empty",
        b"." | b".." => "means a directory already",
        _ if name.contains(&b'/') => "holds a '/'",
        _ if name.contains(&0) => "holds a NUL",
        _ => return Fault::within(Limit::NameBytes, name.len() as u64),
    };
    Err(Fault::Name(reason))
}

pub(crate) fn check_attributes(attributes: &Attributes<'_>) -> Result<(), Fault> {
    if attributes.mode > 0o7777 {
        return Err(Fault::Metadata { what: "mode", value: attributes.mode.into() });
    }
    check_nanoseconds(attributes.mtime.1)
}

pub(crate) fn check_nanoseconds(value: u32) -> Result<(), Fault> {
    if value > 999_999_999 { Err(Fault::Metadata { what: "number of nanoseconds", value }) } else { Ok(()) }
}

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A directory, by its index.
    Directory(u32),
    /// Another node, by what stands in a directory and its number.
    Node(u8, u64),
}

/// A name in a directory. Sorted as bytes, records come by directory and within it by name: no name holds the NUL that
/// ends it.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(crate) parent: u32,
    pub(crate) name: &'a [u8],
    pub(crate) target: Target,
}

const RECORD_TAIL: usize = 1 + 1 + 8;

pub(crate) fn record(names: &mut Sorter, (parent, name): (u32, &[u8]), kind: u8, number: u64) -> io::Result<()> {
    names.push(&[&parent.to_be_bytes(), name, &[0, kind], &number.to_le_bytes()])
}

/// A directory is named in its parent, and names itself and that. The root is its own parent.
pub(crate) fn record_directory(names: &mut Sorter, (parent, name): (u32, &[u8]), index: u32) -> io::Result<()> {
    let kind = FileType::Directory.number();
    if !name.is_empty() {
        record(names, (parent, name), kind, index.into())?;
    }
    record(names, (index, b"."), kind, index.into())?;
    record(names, (index, b".."), kind, parent.into())
}

impl<'a> Record<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> io::Result<Self> {
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let (parent, rest) = bytes.split_first_chunk::<4>().ok_or_else(broken)?;
        let (name, tail) = rest.split_at_checked(rest.len().wrapping_sub(RECORD_TAIL)).ok_or_else(broken)?;
        let (number, kind) = (tail.last_chunk::<8>().ok_or_else(broken)?, tail[1]);
        let number = u64::from_le_bytes(*number);
        let target = if kind == FileType::Directory.number() {
            Target::Directory(u32::try_from(number).map_err(|_| broken())?)
        } else {
            Target::Node(kind, number)
        };
        Ok(Self { parent: u32::from_be_bytes(*parent), name, target })
    }
}

/// Where a directory is, for messages: its parent and its name.
pub(crate) fn append_label(spool: &mut Spool, parent: u32, name: &[u8]) -> io::Result<()> {
    spool.append(&parent.to_le_bytes())?;
    spool.append(&[u8::try_from(name.len()).map_err(io::Error::other)?])?;
    spool.append(name)
}

/// What a directory is.
#[derive(Debug)]
pub(crate) struct Description {
    /// Where in the spool its label lies.
    pub(crate) label: u64,
    pub(crate) owner: Owner,
    pub(crate) xattrs: Vec<u8>,
}

const DESCRIPTION: usize = 8 + 2 + 4 + 4 + 8 + 4 + 4;

impl Description {
    pub(crate) fn append(&self, spool: &mut Spool) -> io::Result<()> {
        let length = u32::try_from(self.xattrs.len()).map_err(io::Error::other)?;
        let mut head = Vec::with_capacity(DESCRIPTION);
        head.extend_from_slice(&self.label.to_le_bytes());
        head.extend_from_slice(&self.owner.mode.to_le_bytes());
        head.extend_from_slice(&self.owner.uid.to_le_bytes());
        head.extend_from_slice(&self.owner.gid.to_le_bytes());
        head.extend_from_slice(&self.owner.mtime.0.to_le_bytes());
        head.extend_from_slice(&self.owner.mtime.1.to_le_bytes());
        head.extend_from_slice(&length.to_le_bytes());
        spool.append(&head)?;
        spool.append(&self.xattrs)
    }

    pub(crate) fn read(spool: &Spool, at: u64) -> io::Result<Self> {
        let mut head = [0; DESCRIPTION];
        spool.read(&mut head, at)?;
        let word = |at: usize| head[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let mut xattrs = vec![0; word(30) as usize];
        spool.read(&mut xattrs, at + DESCRIPTION as u64)?;
        let mode = u16::from_le_bytes([head[8], head[9]]);
        let mtime = (i64::from_le_bytes(long(18).to_le_bytes()), word(26));
        Ok(Self { label: long(0), owner: Owner { mode, uid: word(10), gid: word(14), mtime }, xattrs })
    }
}

pub(crate) fn label_of(spool: &Spool, description: u64) -> io::Result<u64> {
    let mut label = [0; 8];
    spool.read(&mut label, description)?;
    Ok(u64::from_le_bytes(label))
}

/// The path of an entry, or with an empty name that of the directory itself; the end of it where it is long.
pub(crate) fn path(table: &mut Table, spool: &Spool, directory: u32, name: &[u8]) -> String {
    let mut parts = Vec::new();
    if !name.is_empty() {
        parts.push(name.escape_ascii().to_string());
    }
    let mut length = 0;
    let mut at = directory;
    while at != 0 && length < MAX_PATH {
        // A message that cannot be made better is still made.
        let Ok((parent, name)) = label(table, spool, at) else { break };
        length += name.len() + 1;
        parts.push(name.escape_ascii().to_string());
        at = parent;
    }
    let start = if at == 0 { "/" } else { "…/" };
    parts.reverse();
    start.to_owned() + &parts.join("/")
}

fn label(table: &mut Table, spool: &Spool, index: u32) -> io::Result<(u32, Vec<u8>)> {
    let label = label_of(spool, table.get(index)?.description)?;
    let mut head = [0; 5];
    spool.read(&mut head, label)?;
    let [a, b, c, d, length] = head;
    let mut name = vec![0; usize::from(length)];
    spool.read(&mut name, label + 5)?;
    Ok((u32::from_le_bytes([a, b, c, d]), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_read_as_they_were_written() {
        let mut spool = Spool::new(&std::env::temp_dir()).unwrap();
        let owner = Owner { mode: 0o7755, uid: 1 << 31, gid: 70_000, mtime: (-5, 999_999_999) };
        spool.append(b"xyz").unwrap();
        Description { label: 1 << 40, owner, xattrs: vec![1, 2, 3] }.append(&mut spool).unwrap();
        let read = Description::read(&spool, 3).unwrap();
        assert_eq!((read.label, read.owner, &read.xattrs[..]), (1 << 40, owner, &[1, 2, 3][..]));
        assert_eq!(label_of(&spool, 3).unwrap(), 1 << 40);
    }

    #[test]
    fn records_sort_by_directory_and_then_by_the_bytes_of_the_name() {
        let mut names = Sorter::new(&std::env::temp_dir(), 1 << 20);
        for (parent, name) in [(256, &b"a"[..]), (1, b"ab"), (1, b"a"), (1, b"\xff"), (1, b"a\x01"), (1, b"-")] {
            record(&mut names, (parent, name), 1, 77).unwrap();
        }
        record_directory(&mut names, (1, b"sub"), 5).unwrap();
        let sorted = names.finish();
        let mut records = sorted.records().unwrap();
        let mut found = Vec::new();
        while let Some(bytes) = records.next().unwrap() {
            let record = Record::parse(bytes).unwrap();
            found.push((record.parent, record.name.to_vec(), record.target));
        }
        let node = Target::Node(1, 77);
        let expected = [
            (1, &b"-"[..], node),
            (1, b"a", node),
            (1, b"a\x01", node),
            (1, b"ab", node),
            (1, b"sub", Target::Directory(5)),
            (1, b"\xff", node),
            (5, b".", Target::Directory(5)),
            (5, b"..", Target::Directory(1)),
            (256, b"a", node),
        ];
        assert_eq!(found, expected.map(|(parent, name, target)| (parent, name.to_vec(), target)));
    }
}
