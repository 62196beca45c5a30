//! Disks: opened and locked at boot, released when the VM object goes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use dataplane_agent::{CONFIG_DISK_SERIAL, GuestConfig, MAX_CONFIG_BYTES, WRITABLE_DISK_SERIAL};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::config::Disk;

/// Open file description locks cover the first sector, as far as conflicts go.
const LOCKED_BYTES: i64 = 4096;

/// Open disks; dropping them drops their locks.
#[derive(Debug)]
pub(crate) struct Disks {
    files: Vec<(Disk, File)>,
    /// The guest's configuration, when one disk holds one.
    pub(crate) guest: Option<GuestConfig>,
}

impl Disks {
    /// The one that the guest writes to.
    pub(crate) fn writable(&self) -> Option<&File> {
        let is_writable = |disk: &Disk| !disk.readonly && disk.serial.as_deref() == Some(WRITABLE_DISK_SERIAL);
        self.files.iter().find(|(disk, _)| is_writable(disk)).map(|(_, file)| file)
    }

    /// Locks all of them.
    ///
    /// # Errors
    /// The real VMM's chain of messages.
    pub(crate) fn lock(&self) -> Result<(), Vec<String>> {
        self.files.iter().try_for_each(|(disk, file)| lock(disk, file))
    }
}

/// Opens all; the real VMM locks them as a second step.
///
/// # Errors
/// The real VMM's chain of messages.
pub(crate) fn open(disks: &[Disk]) -> Result<Disks, Vec<String>> {
    let files = disks.iter().map(|disk| Ok((disk.clone(), open_one(disk)?))).collect::<Result<_, Vec<_>>>()?;
    let config = disks.iter().find(|disk| disk.serial.as_deref() == Some(CONFIG_DISK_SERIAL));
    let guest = config.and_then(|disk| read_config(&disk.path).ok());
    Ok(Disks { files, guest })
}

fn open_one(disk: &Disk) -> Result<File, Vec<String>> {
    let failed = |error: io::Error| {
        vec![
            "Error from device manager".into(),
            "Cannot open disk path".into(),
            format!("I/O error (path={} op=open)", disk.path.display()),
            error.to_string(),
        ]
    };
    File::options().read(true).write(!disk.readonly).open(&disk.path).map_err(failed)
}

fn lock(disk: &Disk, file: &File) -> Result<(), Vec<String>> {
    let (kind, name) = if disk.readonly { (libc::F_RDLCK, "Read") } else { (libc::F_WRLCK, "Write") };
    let lock = libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: 0,
        l_len: LOCKED_BYTES,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map(drop).map_err(|_| {
        vec![
            "Error locking disk images: Another instance likely holds a lock".into(),
            "Cannot lock images of all block devices".into(),
            format!("Failed to get {name} lock for disk image: {}", disk.path.display()),
            "The file is already locked".into(),
        ]
    })
}

fn read_config(path: &Path) -> io::Result<GuestConfig> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_CONFIG_BYTES as u64 + 4096).read_to_end(&mut bytes)?;
    GuestConfig::from_disk(&bytes).map_err(io::Error::other)
}
