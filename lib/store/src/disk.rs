//! The eight things that are done to the disk, behind a seam, so that a test can own it and stop it at any step.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// What the store asks of a disk. All calls block.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Reads a whole file of at most `max` bytes; a larger one is `InvalidData`.
    ///
    /// # Errors
    /// Whatever the system says.
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>>;
    /// Writes a new file, readable by its owner only (0600), without making it durable.
    ///
    /// # Errors
    /// Whatever the system says; `AlreadyExists` when the name is taken.
    fn write_temp(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's content durable.
    ///
    /// # Errors
    /// Whatever the system says. After one, nothing may be assumed of the file.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Renames, replacing what has the name.
    ///
    /// # Errors
    /// Whatever the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames, refusing when the name is taken (`AlreadyExists`).
    ///
    /// # Errors
    /// Whatever the system says.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// The names in a directory, sorted; a missing directory is empty.
    ///
    /// # Errors
    /// Whatever the system says.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;
    /// Removes a file, or a directory with everything in it. What is gone already is a success.
    ///
    /// # Errors
    /// Whatever the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory's entries durable.
    ///
    /// # Errors
    /// Whatever the system says.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;
}

/// The host's own file systems.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostDisk;

impl Disk for HostDisk {
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("larger than {max} bytes")));
        }
        Ok(bytes)
    }

    fn write_temp(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that renames")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that removes trees")]
    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}
