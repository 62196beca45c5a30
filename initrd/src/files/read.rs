//! Files and trees as tar streams.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use dataplane_tar::{Entry, EntryKind, Region, Writer};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{major, minor};
use nix::unistd::{Whence, lseek};

use super::{Failed, Place, attributes, open_at};

/// Deeper trees are refused: each level holds a descriptor.
const MAX_DEPTH: usize = 500;
/// So many names of files with several are remembered; of any more each name is a file of its own.
const MAX_LINKS: usize = 65_536;
/// So many holes of a file are kept; behind them it is sent with its zeros.
const MAX_REGIONS: usize = 16_384;
const BUFFER: usize = 64 << 10;

struct Reader<W: Write> {
    tar: Writer<W>,
    links: BTreeMap<(u64, u64), PathBuf>,
    buffer: Vec<u8>,
}

/// Sends what lies at a place.
pub(super) fn tree(place: &Place, out: impl Write) -> Result<(), Failed> {
    let here = place.open(OFlag::O_PATH)?;
    let tar = Writer::new(BufWriter::with_capacity(BUFFER, out));
    let mut reader = Reader { tar, links: BTreeMap::new(), buffer: vec![0; BUFFER] };
    let name = PathBuf::from(place.name());
    let open = |flags: OFlag| place.open(flags).map_err(|Failed(_, why)| io::Error::other(why));
    reader.add(&name, &here, &open, 0)?;
    reader.tar.finish().map(drop).map_err(|error| Failed::of("send", &place.path, &error))
}

impl<W: Write> Reader<W> {
    /// `here` is a name only; `open` opens the same for use.
    fn add(
        &mut self,
        path: &Path,
        here: &File,
        open: &dyn Fn(OFlag) -> io::Result<File>,
        depth: usize,
    ) -> Result<(), Failed> {
        let failed = |error: io::Error| Failed::of("read", &path.to_string_lossy(), &error);
        let metadata = here.metadata().map_err(failed)?;
        let entry = |kind, xattrs| entry(path, kind, &metadata, xattrs);
        let kind = metadata.file_type();
        if !kind.is_dir() && metadata.nlink() > 1 {
            let key = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&key) {
                let first = first.as_os_str().as_bytes().to_vec();
                return self.tar.entry(&entry(EntryKind::HardLink(first), Vec::new())).map_err(failed);
            }
            if self.links.len() < MAX_LINKS {
                self.links.insert(key, path.to_owned());
            }
        }
        let xattrs = attributes::read(here).map_err(failed)?;
        if kind.is_file() {
            let file = open(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).map_err(failed)?;
            return self.add_file(&file, |metadata, kind| self::entry(path, kind, metadata, xattrs)).map_err(failed);
        }
        let number = |of: fn(u64) -> u64| u32::try_from(of(metadata.rdev())).unwrap_or(0);
        let what = if kind.is_dir() {
            EntryKind::Directory
        } else if kind.is_symlink() {
            let target = readlinkat(here.as_fd(), c"").map_err(|errno| failed(errno.into()))?;
            EntryKind::Symlink(target.as_bytes().to_vec())
        } else if kind.is_fifo() {
            EntryKind::Fifo
        } else if kind.is_char_device() {
            EntryKind::Char(number(major), number(minor))
        } else if kind.is_block_device() {
            EntryKind::Block(number(major), number(minor))
        } else {
            // A socket is nothing without its program.
            return Ok(());
        };
        self.tar.entry(&entry(what, xattrs)).map_err(failed)?;
        if kind.is_dir() {
            let directory = open(OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(failed)?;
            self.add_children(path, directory, depth)?;
        }
        Ok(())
    }

    /// What is told of it beforehand is what it is now: neither more nor less of it is sent.
    fn add_file(&mut self, file: &File, entry: impl FnOnce(&Metadata, EntryKind) -> Entry) -> io::Result<()> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it has become something else"));
        }
        let (size, regions) = (metadata.size(), regions(file, &metadata)?);
        self.tar.entry(&entry(&metadata, EntryKind::File { size, regions: regions.clone() }))?;
        for Region { mut at, mut length, .. } in regions {
            while length > 0 {
                let most = self.buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
                let count = match file.read_at(&mut self.buffer[..most], at) {
                    Ok(0) => return Err(io::Error::other("it has become shorter while it was read")),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    count => count?,
                };
                self.tar.data(&self.buffer[..count])?;
                (at, length) = (at + count as u64, length - count as u64);
            }
        }
        Ok(())
    }

    fn add_children(&mut self, path: &Path, directory: File, depth: usize) -> Result<(), Failed> {
        if depth >= MAX_DEPTH {
            return Err(Failed::refused(format!("{} lies deeper than {MAX_DEPTH} directories", path.display())));
        }
        let failed = |error: io::Error| Failed::of("read", &path.to_string_lossy(), &error);
        let mut listing =
            Dir::from_fd(directory.try_clone().map_err(failed)?.into()).map_err(|it| failed(it.into()))?;
        for entry in listing.iter() {
            let entry = entry.map_err(|errno| failed(errno.into()))?;
            let name: CString = entry.file_name().to_owned();
            if [c".", c".."].contains(&name.as_c_str()) {
                continue;
            }
            // One that is gone by now is not there.
            let Ok(here) = open_at(directory.as_fd(), name.as_c_str(), OFlag::O_PATH) else { continue };
            let child = path.join(OsStr::from_bytes(name.to_bytes()));
            let open = |flags: OFlag| open_at(directory.as_fd(), name.as_c_str(), flags);
            self.add(&child, &here, &open, depth + 1)?;
        }
        Ok(())
    }
}

fn entry(path: &Path, kind: EntryKind, metadata: &Metadata, xattrs: attributes::Attributes) -> Entry {
    let mut path = path.as_os_str().as_bytes().to_vec();
    if kind == EntryKind::Directory {
        path.push(b'/');
    }
    Entry {
        path,
        kind,
        mode: u16::try_from(metadata.mode() & 0o7777).unwrap_or(0),
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0)),
        xattrs,
    }
}

/// Where a file has content.
fn regions(file: &File, metadata: &Metadata) -> io::Result<Vec<Region>> {
    let size = metadata.size();
    let region = |at, end| Region { at, offset: 0, length: end - at };
    // One that takes as much as it is long has no holes that would be worth it.
    if size == 0 || metadata.blocks().saturating_mul(512) >= size {
        return Ok(if size == 0 { Vec::new() } else { vec![region(0, size)] });
    }
    let seek = |from: u64, whence| lseek(file, i64::try_from(from).unwrap_or(i64::MAX), whence);
    let mut regions = Vec::new();
    let mut end = 0;
    while end < size {
        let begin = match seek(end, Whence::SeekData) {
            // Nothing but a hole from here on, or nothing at all any more.
            Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL) => end,
            begin => u64::try_from(begin?).unwrap_or(size).min(size),
        };
        end = if regions.len() + 1 < MAX_REGIONS { seek(begin, Whence::SeekHole) } else { Err(Errno::EINVAL) }
            .ok()
            .and_then(|end| u64::try_from(end).ok())
            .map_or(size, |end| end.min(size));
        if end <= begin {
            break;
        }
        regions.push(region(begin, end));
    }
    Ok(regions)
}
