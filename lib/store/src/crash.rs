//! A disk that dies: [`CrashDisk`] stops at a chosen step and says what a power cut would then have left.
//!
//! It works on a real directory, so that other processes (a VMM) can write there too, and keeps apart what lies there
//! now and what was made durable: for each directory its entries at its last sync, for each file its content at its
//! last sync. A sync costs no real one. Only what went through the disk counts as durable; what was written past it is
//! dropped from every image that asks for durable contents. For tests; a daemon never ships it.

mod fuse;
mod image;
mod inodes;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use fuse::Fuse;
pub use image::Image;
use inodes::Inodes;

use crate::{Disk, HostDisk};

/// A directory whose durable content is known, behind a fuse that ends all of it at one step.
#[derive(Debug)]
pub struct CrashDisk {
    root: PathBuf,
    fuse: Fuse,
    inodes: Mutex<Inodes>,
}

impl CrashDisk {
    /// A disk over an existing directory. All that lies in it now counts as durable.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn new(root: &Path, fuse: Fuse) -> io::Result<Self> {
        let mut inodes = Inodes::default();
        inodes.settle(root)?;
        Ok(Self { root: root.to_owned(), fuse, inodes: Mutex::new(inodes) })
    }

    /// Takes all that lies in the directory now for durable: a test's way to begin from something that it has made.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn settle(&self) -> io::Result<()> {
        self.inodes().settle(&self.root)
    }

    /// Makes, in a new directory, what a power cut at this instant could have left. Nobody may be writing any more.
    ///
    /// # Errors
    /// When `into` exists or cannot be written.
    pub fn image(&self, image: Image, into: &Path) -> io::Result<()> {
        image::make(&self.inodes(), image, &self.root, into)
    }

    /// The power cut itself: puts an image in the place of the directory, so that absolute paths go on being true.
    ///
    /// # Errors
    /// When the image cannot be made.
    #[expect(clippy::disallowed_methods, reason = "moves whole trees of a test")]
    pub fn crash(&self, image: Image) -> io::Result<()> {
        let mut name = self.root.file_name().unwrap_or_default().to_owned();
        name.push(".image");
        let made = self.root.with_file_name(name);
        self.image(image, &made)?;
        fs::remove_dir_all(&self.root)?;
        fs::rename(&made, &self.root)
    }

    fn inodes(&self) -> MutexGuard<'_, Inodes> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step: `done` while the fuse holds, `halfway` (what a death in the middle leaves) when it blows here.
    fn step<T>(
        &self,
        what: &str,
        path: &Path,
        done: impl FnOnce(&mut Inodes) -> io::Result<T>,
        halfway: impl FnOnce(),
    ) -> io::Result<T> {
        // Held over the act, so that steps have an order.
        let mut inodes = self.inodes();
        let before = self.fuse.is_blown();
        let name = path.strip_prefix(&self.root).unwrap_or(path);
        match self.fuse.step(&format!("{what} {}", name.display())) {
            Ok(()) => done(&mut inodes),
            Err(error) => {
                if !before {
                    halfway();
                }
                Err(error)
            }
        }
    }
}

impl Disk for CrashDisk {
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        self.fuse.check()?;
        HostDisk.read(path, max)
    }

    fn write_temp(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let torn = || {
            let half = File::options().write(true).create_new(true).open(path);
            let _ = half.and_then(|mut file| file.write_all(&bytes[..bytes.len() / 2]));
        };
        self.step("write", path, |_| HostDisk.write_temp(path, bytes), torn)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.step("sync", path, |inodes| inodes.sync(path), || ())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename to", to, |_| HostDisk.rename(from, to), || ())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename to new", to, |_| HostDisk.rename_new(from, to), || ())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.fuse.check()?;
        HostDisk.list(directory)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let torn = || {
            let entries = HostDisk.list(path).unwrap_or_default();
            for entry in &entries[..entries.len() / 2] {
                let _ = HostDisk.remove(entry);
            }
        };
        self.step("remove", path, |_| HostDisk.remove(path), torn)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.step("sync", directory, |inodes| inodes.sync(directory), || ())
    }
}
