//! What a path or a directory is.

use std::ffi::CString;
use std::fs::{File, Metadata};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use nix::dir::Dir;
use nix::fcntl::{OFlag, readlinkat};
use serde_json::{Value, json};

use super::{Failed, Place, open_at};

/// How many entries of a directory are listed.
const MAX_LISTED: usize = 10_000;

/// Tells what lies at a place, and in it.
pub(super) fn tell(place: &Place, list: bool) -> Result<(), Failed> {
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
            let Ok(here) = open_at(directory.as_fd(), name.as_c_str(), OFlag::O_PATH) else { continue };
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
