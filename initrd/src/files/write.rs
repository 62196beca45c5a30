//! A tar stream unpacked in a directory. Owner, mode, time, type and extended attributes of each entry are kept; holes
//! stay holes. What cannot be kept is a failure.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};

use dataplane_tar::{Entries, Entry, EntryKind, Fault, Limits, Piped, Region};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, makedev, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::{Failed, Place, attributes, open_at};

const BUFFER: usize = 64 << 10;
/// What is left out of a file when it is all zeros.
const HOLE: usize = 4096;
/// So many directories get their own time back after their content was written.
const MAX_TIMES: usize = 65_536;
const LIMITS: Limits = Limits { header_bytes: 1 << 20, regions: 65_536 };
/// What may follow the end of an archive: the rest of a writer's last record.
const MAX_REST: u64 = 1 << 20;

type Archive<R> = Entries<Piped<BufReader<R>>>;

/// Unpacks a stream at a place.
pub(super) fn tree(place: &Place, input: impl Read) -> Result<(), Failed> {
    let base = place.open(OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let mut archive = Entries::new(Piped(BufReader::with_capacity(BUFFER, input)), LIMITS);
    let mut times = Vec::new();
    while let Some(entry) = archive.next_entry().map_err(unreadable)? {
        let path = safe(&entry.path)?;
        if path.as_os_str().is_empty() {
            // The directory itself, which is there.
            continue;
        }
        put(base.as_fd(), &path, &entry, &mut archive).map_err(|error| match error {
            Trouble::Here(error) => Failed::of("write", &path.to_string_lossy(), &error),
            Trouble::Archive(fault) => unreadable(fault),
        })?;
        if entry.kind == EntryKind::Directory && times.len() < MAX_TIMES {
            times.push((path, entry.mtime));
        }
    }
    let _ = io::copy(&mut archive.into_input().take(MAX_REST), &mut io::sink());
    for (path, time) in times.iter().rev() {
        // A directory that somebody has removed meanwhile has no time.
        if let Ok((parent, name)) = parent(base.as_fd(), path)
            && let Ok(directory) = step(&parent, name.as_os_str())
        {
            let _ = attributes::date(&directory, *time);
        }
    }
    Ok(())
}

fn unreadable(fault: Fault) -> Failed {
    let why = match &fault {
        Fault::Io(error) => format!("{fault}: {error}"),
        Fault::Corrupt(_) | Fault::Entry { .. } | Fault::HeaderTooLong(_) | Fault::TooManyRegions { .. } => {
            fault.to_string()
        }
    };
    Failed::refused(format!("read the tar stream: {why}"))
}

/// Why an entry was not written: the file system, or the archive.
#[derive(Debug)]
enum Trouble {
    Here(io::Error),
    Archive(Fault),
}

impl<E: Into<io::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Here(error.into())
    }
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

fn put(base: BorrowedFd<'_>, path: &Path, entry: &Entry, archive: &mut Archive<impl Read>) -> Result<(), Trouble> {
    let (parent, name) = parent(base, path)?;
    let node = match &entry.kind {
        EntryKind::Directory => {
            match step(&parent, name.as_os_str()) {
                Ok(_there) => {}
                Err(Errno::ENOENT) => mkdirat(&parent, &name, Mode::from_bits_truncate(0o700))?,
                Err(errno) => return Err(errno.into()),
            }
            step(&parent, name.as_os_str())?
        }
        EntryKind::HardLink(target) => {
            let target = safe(target).map_err(|Failed(_, why)| io::Error::other(why))?;
            let (holder, first) = self::parent(base, &target)?;
            clear(parent.as_fd(), &name)?;
            // The owner and the rest are those of the first name.
            return Ok(linkat(&holder, &first, &parent, &name, AtFlags::empty())?);
        }
        EntryKind::File { size, regions } => {
            clear(parent.as_fd(), &name)?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mut file = File::from(openat(&parent, &name, flags, Mode::from_bits_truncate(0o600))?);
            for region in regions {
                let mut content = archive.content(region).map_err(Trouble::Archive)?;
                fill(&mut file, region, &mut content)?;
            }
            file.set_len(*size)?;
            file.into()
        }
        EntryKind::Symlink(target) => {
            clear(parent.as_fd(), &name)?;
            symlinkat(OsStr::from_bytes(target), &parent, &name)?;
            made(parent.as_fd(), &name, |kind| kind.is_symlink())?
        }
        EntryKind::Fifo => special(parent.as_fd(), &name, SFlag::S_IFIFO, (0, 0))?,
        EntryKind::Char(major, minor) => special(parent.as_fd(), &name, SFlag::S_IFCHR, (*major, *minor))?,
        EntryKind::Block(major, minor) => special(parent.as_fd(), &name, SFlag::S_IFBLK, (*major, *minor))?,
    };
    attributes::apply(&node, entry)?;
    Ok(attributes::date(&node, entry.mtime)?)
}

fn special(parent: BorrowedFd<'_>, name: &Path, kind: SFlag, (major, minor): (u32, u32)) -> io::Result<OwnedFd> {
    clear(parent, name)?;
    mknodat(parent, name, kind, Mode::from_bits_truncate(0o600), makedev(major.into(), minor.into()))?;
    made(parent, name, |found| match kind {
        SFlag::S_IFCHR => found.is_char_device(),
        SFlag::S_IFBLK => found.is_block_device(),
        _ => found.is_fifo(),
    })
}

/// What was just made, by its name, and nothing that somebody has put in its place.
fn made(parent: BorrowedFd<'_>, name: &Path, is_it: impl Fn(std::fs::FileType) -> bool) -> io::Result<OwnedFd> {
    let node = open_at(parent, name, OFlag::O_PATH)?;
    if is_it(node.metadata()?.file_type()) {
        Ok(node.into())
    } else {
        Err(io::Error::other("somebody has put something else in its place"))
    }
}

/// Makes room for an entry. A directory in its place is a failure, as it is for other tools.
fn clear(parent: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes a region of a file; what is all zeros is not written.
fn fill(file: &mut File, region: &Region, content: &mut impl Read) -> Result<(), Trouble> {
    file.seek(SeekFrom::Start(region.at))?;
    let mut buffer = vec![0; BUFFER];
    let mut left = region.length;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = content.read_exact(&mut buffer[..most]);
        read.map_err(|error| Trouble::Archive(Fault::Io(error)))?;
        // As few calls as there are runs: each costs more than its bytes do.
        let is_hole = |block: &[u8]| block.len() == HOLE && block.iter().all(|byte| *byte == 0);
        let blocks: Vec<&[u8]> = buffer[..most].chunks(HOLE).collect();
        let mut at = 0;
        for run in blocks.chunk_by(|one, next| is_hole(one) == is_hole(next)) {
            let length: usize = run.iter().map(|block| block.len()).sum();
            if is_hole(run[0]) {
                file.seek(SeekFrom::Current(i64::try_from(length).unwrap_or(0)))?;
            } else {
                file.write_all(&buffer[at..at + length])?;
            }
            at += length;
        }
        left -= most as u64;
    }
    Ok(())
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
        let region = Region { at: 0, offset: 0, length: content.len() as u64 };
        let mut written = file.reopen().unwrap();
        fill(&mut written, &region, &mut content.as_slice()).unwrap();
        written.set_len(content.len() as u64).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), content);
        assert!(file.as_file().metadata().unwrap().blocks() * 512 < 100_000);
    }
}
