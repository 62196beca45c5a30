//! Where a disk is mounted: looked up one name after another, never through a link.
//!
//! A container runtime resolves links inside the root before its program runs. Here the program is running: it could put
//! a link in the way between two looks, and have a disk that it may write to mounted over what is not its own.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

/// What PATH_MAX and NAME_MAX leave, and no more names than anyone needs.
const MAX_BYTES: usize = 4000;
const MAX_NAME: usize = 255;
const MAX_NAMES: usize = 64;
/// The guest's own, at the top.
const TAKEN: [&str; 3] = ["proc", "sys", "dev"];

/// An absolute path of plain names, not the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place(Vec<String>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

impl Place {
    pub(super) fn parse(path: &str) -> Result<Self, String> {
        let names: Vec<String> = path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let bad = |why: &str| Err(format!("`{}` is {why}", path.chars().take(100).collect::<String>()));
        if !path.starts_with('/') {
            return bad("no absolute path");
        }
        if path.len() > MAX_BYTES || names.len() > MAX_NAMES || names.iter().any(|name| name.len() > MAX_NAME) {
            return bad("too long a path");
        }
        if path.contains('\0') || names.iter().any(|name| name == "." || name == "..") {
            return bad("no plain path");
        }
        match names.first() {
            None => bad("the root"),
            Some(top) if TAKEN.contains(&top.as_str()) => bad(&format!("in /{top}, which is the guest's own")),
            Some(_) => Ok(Self(names)),
        }
    }

    /// The directory, with what is missing of it made.
    pub(super) fn open_or_make(&self, root: BorrowedFd<'_>) -> Result<OwnedFd, String> {
        self.walk(root, &self.0, true)
    }

    pub(super) fn open(&self, root: BorrowedFd<'_>) -> Result<OwnedFd, String> {
        self.walk(root, &self.0, false)
    }

    /// The directory above, and the name in it.
    pub(super) fn open_parent(&self, root: BorrowedFd<'_>) -> Result<(OwnedFd, String), String> {
        let Some((name, above)) = self.0.split_last() else { return Err("the root has nothing above it".to_owned()) };
        Ok((self.walk(root, above, false)?, name.clone()))
    }

    fn walk(&self, root: BorrowedFd<'_>, names: &[String], make: bool) -> Result<OwnedFd, String> {
        let mut here = root.try_clone_to_owned().map_err(|error| format!("open the root: {error}"))?;
        for name in names {
            let opened = match step(&here, name) {
                Err(Errno::ENOENT) if make => {
                    // Somebody else may be faster: what is there then is looked at like anything else.
                    match mkdirat(&here, name.as_str(), Mode::from_bits_truncate(0o755)) {
                        Ok(()) | Err(Errno::EEXIST) => step(&here, name),
                        Err(errno) => Err(errno),
                    }
                }
                opened => opened,
            };
            here = opened.map_err(|errno| {
                if matches!(errno, Errno::ENOTDIR | Errno::ELOOP) {
                    return format!("`{name}` in {self} is a link or no directory");
                }
                format!("enter `{name}` of {self}: {}", errno.desc())
            })?;
        }
        Ok(here)
    }
}

fn step(directory: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn only_plain_absolute_paths_are_places() {
        assert_eq!(Place::parse("/a//b c/").unwrap().to_string(), "/a/b c");
        assert_eq!(Place::parse("/devices").unwrap().to_string(), "/devices");
        let deep = "/a".repeat(65);
        let long = format!("/{}", "a".repeat(256));
        for bad in ["", "a", "/", "//", "/a/../b", "/./a", "/proc", "/sys/x", "//dev/shm", "/a\0b", &deep, &long] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_missing_is_made_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let root = File::open(directory.path()).unwrap();
        let place = |path: &str| Place::parse(path).unwrap();
        assert!(place("/a/b").open(root.as_fd()).is_err());
        let made = place("/a/b").open_or_make(root.as_fd()).unwrap();
        let inode = fs::metadata(directory.path().join("a/b")).unwrap().ino();
        assert_eq!(nix::sys::stat::fstat(&made).unwrap().st_ino, inode);
        assert_eq!(place("/a/b").open_parent(root.as_fd()).unwrap().1, "b");

        fs::create_dir(directory.path().join("elsewhere")).unwrap();
        symlink("elsewhere", directory.path().join("link")).unwrap();
        symlink("/etc", directory.path().join("away")).unwrap();
        File::create(directory.path().join("file")).unwrap();
        for path in ["/link", "/link/x", "/away/x", "/file", "/file/x"] {
            let refused = place(path).open_or_make(root.as_fd()).unwrap_err();
            assert!(refused.contains("link or no directory"), "{path}: {refused}");
        }
        assert_eq!(fs::read_dir(directory.path().join("elsewhere")).unwrap().count(), 0);
    }
}
