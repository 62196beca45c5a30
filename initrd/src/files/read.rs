//! Files and trees as tar streams, and what a path or a directory is.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, major, minor};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::{Failed, Place};

/// Deeper trees are refused: each level holds a descriptor.
const MAX_DEPTH: usize = 500;
/// So many names of files with several are remembered; of any more each name is a file of its own.
const MAX_LINKS: usize = 65_536;
/// How many entries of a directory are listed.
const MAX_LISTED: usize = 10_000;
const BUFFER: usize = 64 << 10;

struct Reader {
    tar: Builder<BufWriter<io::Stdout>>,
    links: BTreeMap<(u64, u64), PathBuf>,
}

/// Sends what lies at a place.
pub(super) fn tree(place: &Place) -> Result<(), Failed> {
    let here = place.open(OFlag::O_PATH)?;
    let mut tar = Builder::new(BufWriter::with_capacity(BUFFER, io::stdout()));
    tar.follow_symlinks(false);
    let mut reader = Reader { tar, links: BTreeMap::new() };
    let name = PathBuf::from(place.name());
    let open = |flags: OFlag| place.open(flags).map_err(|Failed(_, why)| io::Error::other(why));
    reader.add(&name, &here, &open, 0)?;
    let finished = reader.tar.into_inner().and_then(|mut out| out.flush());
    finished.map_err(|error| Failed::of("send", &place.path, &error))
}

impl Reader {
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
        let mut header = Header::new_gnu();
        header.set_metadata(&metadata);
        header.set_size(0);
        let kind = metadata.file_type();
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            self.tar.append_data(&mut header, path, io::empty()).map_err(failed)?;
            return self.add_children(path, open(OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(failed)?, depth);
        }
        if metadata.nlink() > 1 {
            let key = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&key) {
                header.set_entry_type(EntryType::Link);
                return self.tar.append_link(&mut header, path, first).map_err(failed);
            }
            if self.links.len() < MAX_LINKS {
                self.links.insert(key, path.to_owned());
            }
        }
        if kind.is_file() {
            let mut file = open(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).map_err(failed)?;
            if !file.metadata().map_err(failed)?.is_file() {
                return Err(Failed::refused(format!("{} has become something else", path.display())));
            }
            return self.tar.append_file(path, &mut file).map_err(failed);
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let target = readlinkat(here.as_fd(), c"").map_err(|errno| failed(errno.into()))?;
            return self.tar.append_link(&mut header, path, Path::new(&target)).map_err(failed);
        }
        let entry_type = if kind.is_fifo() {
            EntryType::Fifo
        } else if kind.is_char_device() {
            EntryType::Char
        } else if kind.is_block_device() {
            EntryType::Block
        } else {
            // A socket is nothing without its program.
            return Ok(());
        };
        header.set_entry_type(entry_type);
        let number = |of: fn(u64) -> u64| u32::try_from(of(metadata.rdev())).unwrap_or(0);
        header.set_device_major(number(major)).map_err(failed)?;
        header.set_device_minor(number(minor)).map_err(failed)?;
        self.tar.append_data(&mut header, path, io::empty()).map_err(failed)
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
            let Ok(here) = open_at(directory.as_fd(), &name, OFlag::O_PATH) else { continue };
            let child = path.join(OsStr::from_bytes(name.to_bytes()));
            let open = |flags: OFlag| open_at(directory.as_fd(), &name, flags);
            self.add(&child, &here, &open, depth + 1)?;
        }
        Ok(())
    }
}

fn open_at(directory: BorrowedFd<'_>, name: &CStr, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?.into())
}

/// Tells what lies at a place, and in it.
pub(super) fn look(place: &Place, list: bool) -> Result<(), Failed> {
    let failed = |error: io::Error| Failed::of("look at", &place.path, &error);
    let here = place.open(OFlag::O_PATH)?;
    let metadata = here.metadata().map_err(failed)?;
    let mut told = describe(place.name().as_bytes(), &here, &metadata);
    if list && metadata.is_dir() {
        let directory = place.open(OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let mut listing =
            Dir::from_fd(directory.try_clone().map_err(failed)?.into()).map_err(|it| failed(it.into()))?;
        let mut entries = Vec::new();
        let mut more = false;
        for entry in listing.iter() {
            let entry = entry.map_err(|errno| failed(errno.into()))?;
            let name: CString = entry.file_name().to_owned();
            if [c".", c".."].contains(&name.as_c_str()) {
                continue;
            }
            if entries.len() >= MAX_LISTED {
                more = true;
                break;
            }
            let Ok(here) = open_at(directory.as_fd(), &name, OFlag::O_PATH) else { continue };
            let metadata = here.metadata().map_err(failed)?;
            entries.push((name.to_bytes().to_vec(), describe(name.to_bytes(), &here, &metadata)));
        }
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        told["entries"] = entries.into_iter().map(|(_, entry)| entry).collect();
        told["truncated"] = more.into();
    }
    io::stdout().write_all(told.to_string().as_bytes()).map_err(failed)
}

fn describe(name: &[u8], here: &File, metadata: &Metadata) -> Value {
    let kind = metadata.file_type();
    let word = if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        "symlink"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_char_device() {
        "char_device"
    } else if kind.is_block_device() {
        "block_device"
    } else {
        "file"
    };
    let mut told = json!({
        "name": String::from_utf8_lossy(name),
        "type": word,
        "size_bytes": metadata.size(),
        "mode": metadata.mode() & 0o7777,
        "uid": metadata.uid(),
        "gid": metadata.gid(),
        "mtime_ns": metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
    });
    if kind.is_symlink()
        && let Ok(target) = readlinkat(here.as_fd(), c"")
    {
        told["target"] = target.to_string_lossy().into();
    }
    told
}
