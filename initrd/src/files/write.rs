//! A tar stream unpacked in a directory. Owner, mode, time and type of each entry are kept; holes stay holes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, makedev, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use tar::{Archive, Entry, EntryType};

use super::{Failed, Place};

const BUFFER: usize = 64 << 10;
/// What is left out of a file when it is all zeros.
const HOLE: usize = 4096;
/// So many directories get their own time back after their content was written.
const MAX_TIMES: usize = 65_536;

/// Unpacks the standard input at a place.
pub(super) fn tree(place: &Place) -> Result<(), Failed> {
    let base = place.open(OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let mut archive = Archive::new(BufReader::with_capacity(BUFFER, io::stdin()));
    let unreadable = |error: io::Error| Failed::refused(format!("read the tar stream: {error}"));
    let mut times = Vec::new();
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let path = safe(&entry.path_bytes())?;
        let failed = |error: io::Error| Failed::of("write", &path.to_string_lossy(), &error);
        if path.as_os_str().is_empty() {
            // The directory itself, which is there.
            continue;
        }
        let time = entry.header().mtime().unwrap_or(0);
        put(base.as_fd(), &path, &mut entry).map_err(failed)?;
        if entry.header().entry_type().is_dir() && times.len() < MAX_TIMES {
            times.push((path, time));
        }
    }
    for (path, time) in times.iter().rev() {
        let (parent, name) =
            parent(base.as_fd(), path).map_err(|error| Failed::of("date", &path.to_string_lossy(), &error))?;
        // A directory that somebody has removed meanwhile has no time.
        let _ = date(parent.as_fd(), &name, *time);
    }
    Ok(())
}

/// The path inside of the directory; none leads out of it.
fn safe(bytes: &[u8]) -> Result<PathBuf, Failed> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                let shown = String::from_utf8_lossy(bytes);
                return Err(Failed::refused(format!("the entry {shown} leads out of the directory")));
            }
        }
    }
    Ok(path)
}

/// The directory that holds a path, made when missing, found through no link; and the last name.
fn parent(base: BorrowedFd<'_>, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    let mut directory = base.try_clone_to_owned()?;
    for component in path.parent().into_iter().flat_map(Path::components) {
        let component = component.as_os_str();
        directory = match step(&directory, component) {
            Err(Errno::ENOENT) => {
                mkdirat(&directory, component, Mode::from_bits_truncate(0o755))?;
                step(&directory, component)?
            }
            found => found?,
        };
    }
    Ok((directory, PathBuf::from(name)))
}

fn step(directory: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(directory, name, OpenHow::new().flags(flags).resolve(resolve))
}

fn put(base: BorrowedFd<'_>, path: &Path, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let (parent, name) = parent(base, path)?;
    let header = entry.header().clone();
    let kind = header.entry_type();
    let mode = Mode::from_bits_truncate(header.mode()? & 0o7777);
    let special = |kind: SFlag| {
        // A FIFO's header may say nothing of a device.
        let device = if kind == SFlag::S_IFIFO {
            0
        } else {
            makedev(header.device_major()?.unwrap_or(0).into(), header.device_minor()?.unwrap_or(0).into())
        };
        clear(parent.as_fd(), &name)?;
        Ok::<_, io::Error>(mknodat(&parent, &name, kind, Mode::from_bits_truncate(0o600), device)?)
    };
    let target = || entry.link_name_bytes().map(|bytes| PathBuf::from(OsStr::from_bytes(&bytes))).ok_or(Errno::EINVAL);
    if kind == EntryType::Directory {
        match step(&parent, name.as_os_str()) {
            Ok(_there) => {}
            Err(Errno::ENOENT) => mkdirat(&parent, &name, Mode::from_bits_truncate(0o700))?,
            Err(errno) => return Err(errno.into()),
        }
    } else if kind == EntryType::Symlink {
        let target = target()?;
        clear(parent.as_fd(), &name)?;
        symlinkat(&target, &parent, &name)?;
    } else if kind == EntryType::Link {
        let target = safe(target()?.as_os_str().as_bytes()).map_err(|Failed(_, why)| io::Error::other(why))?;
        let (holder, first) = self::parent(base, &target)?;
        clear(parent.as_fd(), &name)?;
        // The owner and the rest are those of the first name.
        return Ok(linkat(&holder, &first, &parent, &name, AtFlags::empty())?);
    } else if kind == EntryType::Fifo {
        special(SFlag::S_IFIFO)?;
    } else if kind == EntryType::Char {
        special(SFlag::S_IFCHR)?;
    } else if kind == EntryType::Block {
        special(SFlag::S_IFBLK)?;
    } else if matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse) {
        clear(parent.as_fd(), &name)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = File::from(openat(&parent, &name, flags, Mode::from_bits_truncate(0o600))?);
        fill(file, entry)?;
    } else {
        return Err(io::Error::other(format!("an entry of type {:?} is not known", kind.as_byte() as char)));
    }
    let id = |id: io::Result<u64>| Ok::<_, io::Error>(u32::try_from(id?).map_err(|_| Errno::EOVERFLOW)?);
    let (uid, gid) = (Uid::from_raw(id(header.uid())?), Gid::from_raw(id(header.gid())?));
    fchownat(&parent, &name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if kind != EntryType::Symlink {
        // Behind the owner, whose change takes bits away. It is what was just made, or a directory.
        fchmodat(&parent, &name, mode, FchmodatFlags::FollowSymlink)?;
    }
    date(parent.as_fd(), &name, header.mtime()?)
}

fn date(parent: BorrowedFd<'_>, name: &Path, seconds: u64) -> io::Result<()> {
    let time = TimeSpec::new(i64::try_from(seconds).unwrap_or(i64::MAX), 0);
    Ok(utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}

/// Makes room for an entry. A directory in its place is a failure, as it is for other tools.
fn clear(parent: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes what an entry holds; what is all zeros is not written.
fn fill(mut file: File, content: &mut impl Read) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut length = 0u64;
    loop {
        let mut count = 0;
        while count < buffer.len() {
            match content.read(&mut buffer[count..])? {
                0 => break,
                more => count += more,
            }
        }
        if count == 0 {
            break;
        }
        for block in buffer[..count].chunks(HOLE) {
            if block.len() == HOLE && block.iter().all(|byte| *byte == 0) {
                file.seek(SeekFrom::Current(i64::try_from(HOLE).unwrap_or(0)))?;
            } else {
                file.write_all(block)?;
            }
        }
        length += count as u64;
    }
    file.set_len(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        for good in ["a/b", "./a/./b", "a//b/"] {
            assert_eq!(safe(good.as_bytes()).unwrap(), Path::new("a/b"), "{good}");
        }
        for bad in ["/etc/passwd", "../x", "a/../../x", "a/.."] {
            assert!(safe(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_are_not_followed_and_directories_are_made() {
        let base = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), base.path().join("link")).unwrap();
        let at = File::open(base.path()).unwrap();
        assert!(parent(at.as_fd(), Path::new("link/x")).is_err());
        assert!(parent(at.as_fd(), Path::new("a/b/x")).is_ok());
        assert!(base.path().join("a/b").is_dir());
    }

    #[test]
    fn zeros_are_holes() {
        use std::os::unix::fs::MetadataExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        let content = [vec![1; 5000], vec![0; 200_000], vec![2; 10], vec![0; 50_000]].concat();
        fill(file.reopen().unwrap(), &mut content.as_slice()).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), content);
        assert!(file.as_file().metadata().unwrap().blocks() * 512 < 100_000);
    }
}
