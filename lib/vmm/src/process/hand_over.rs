//! Giving a VM's uid exactly the files that its launch names, and taking back what its VMM wrote.
//!
//! Invariant: every change is made to a descriptor that was opened without following a link, of the expected kind and
//! (unless several VMs share it) with one name only, so that no name that a VMM can change leads the daemon to another
//! file. Everything may be repeated.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, fstat, open, openat};
use rustix::process::{getegid, geteuid};

use crate::{DiskSpec, Launch, SHARED_GID, VM_UIDS, VmIdentity, VmmError};

/// More files than any VMM's snapshot has.
const MAX_ENTRIES: usize = 64;

/// Hands over what a launch names, or takes it back for a VMM that runs as the daemon. What is not there is left to the
/// VMM to complain about.
///
/// # Errors
/// [`VmmError::Host`] with the first file that is not what it should be, or cannot be changed.
pub(crate) fn hand_over(launch: &Launch) -> Result<(), VmmError> {
    let Some(identity) = launch.confinement.identity else { return take_all(launch) };
    for disk in &launch.spec.disks {
        if disk.readonly { show(disk, identity)? } else { give(&disk.path, identity, Kind::File)? }
    }
    let Some(memory) = &launch.spec.memory_file else { return Ok(()) };
    let_pass(memory.parent().unwrap_or(Path::new("/")), identity)?;
    give(memory, identity, Kind::File)
}

/// Lets the VM through a directory that is closed to others: it can open in it what it knows, and change nothing.
fn let_pass(directory: &Path, identity: VmIdentity) -> Result<(), VmmError> {
    let passed = || match open_as(directory, Kind::Directory) {
        Ok(opened) if Mode::from_raw_mode(fstat(&opened)?.st_mode).contains(Mode::XOTH) => Ok(()),
        Ok(opened) => set(&opened, geteuid(), Gid::from_raw(identity.gid), Mode::RWXU | Mode::XGRP),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    passed().map_err(|source| VmmError::Host { act: "open to the VM", path: directory.to_owned(), source })
}

fn take_all(launch: &Launch) -> Result<(), VmmError> {
    let mine = VmIdentity { uid: geteuid().as_raw(), gid: getegid().as_raw() };
    let disks = launch.spec.disks.iter().filter(|disk| !disk.readonly).map(|disk| disk.path.as_path());
    let files = disks.chain(launch.spec.memory_file.as_deref());
    let given = |path: &&Path| rustix::fs::lstat(*path).is_ok_and(|stat| VM_UIDS.contains(&stat.st_uid));
    files.filter(given).try_for_each(|path| give(path, mine, Kind::File))
}

/// Empties the directory of the sockets of what a dead VMM left, and lets the VMM make files in it. Those that the
/// daemon makes there stay its own: the VMM can neither remove nor rename them.
///
/// # Errors
/// [`VmmError::Host`].
pub(crate) fn make_run_dir_fresh(launch: &Launch) -> Result<(), VmmError> {
    let path = &launch.run_dir;
    let fresh = || {
        for entry in std::fs::read_dir(path)? {
            let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
            // A VMM locks one beside its socket, and refuses to start where another one does.
            if !(kind.is_file() && path.extension().is_some_and(|extension| extension == "lock")) {
                remove(&path, kind.is_dir())?;
            }
        }
        let opened = open_as(path, Kind::Directory)?;
        match launch.confinement.identity {
            Some(identity) => {
                set(&opened, geteuid(), Gid::from_raw(identity.gid), Mode::RWXU | Mode::RWXG | Mode::SVTX)
            }
            None => set(&opened, geteuid(), getegid(), Mode::RWXU),
        }
    };
    fresh().map_err(|source| VmmError::Host { act: "empty", path: path.clone(), source })
}

#[expect(clippy::disallowed_methods, reason = "these are the leavings of a VMM, of no worth to anybody")]
fn remove(path: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
}

/// Lets the VM read and write a file or a FIFO that stays the daemon's.
///
/// # Errors
/// [`VmmError::Host`].
pub(crate) fn share(file: &File, path: &Path, launch: &Launch) -> Result<(), VmmError> {
    let Some(identity) = launch.confinement.identity else { return Ok(()) };
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP;
    let shared = set(file, geteuid(), Gid::from_raw(identity.gid), mode);
    shared.map_err(|source| VmmError::Host { act: "share", path: path.to_owned(), source })
}

/// Lends a directory for the VMM to write into.
///
/// # Errors
/// [`VmmError::Host`].
pub(crate) fn lend(directory: &Path, launch: &Launch) -> Result<(), VmmError> {
    launch.confinement.identity.map_or(Ok(()), |identity| give(directory, identity, Kind::Directory))
}

/// Takes a directory back with all that the VMM wrote into it: from here on it can change no name in it.
///
/// # Errors
/// [`VmmError::Host`]: also for an entry that is no regular file, or has another name elsewhere.
pub(crate) fn take_back(directory: &Path, launch: &Launch) -> Result<(), VmmError> {
    if launch.confinement.identity.is_none() {
        return Ok(());
    }
    let taken = || {
        let opened = open_as(directory, Kind::Directory)?;
        set(&opened, geteuid(), getegid(), Mode::RWXU)?;
        each_entry(&opened, |file| set(file, geteuid(), getegid(), Mode::RUSR | Mode::WUSR))
    };
    taken().map_err(|source| VmmError::Host { act: "take back", path: directory.to_owned(), source })
}

/// Shows a directory of the daemon's and the files in it to the VMM, for reading.
///
/// # Errors
/// [`VmmError::Host`].
pub(crate) fn show_directory(directory: &Path, launch: &Launch) -> Result<(), VmmError> {
    let Some(identity) = launch.confinement.identity else { return Ok(()) };
    let gid = Gid::from_raw(identity.gid);
    let shown = || {
        let opened = open_as(directory, Kind::Directory)?;
        set(&opened, geteuid(), gid, Mode::RWXU | Mode::RGRP | Mode::XGRP)?;
        each_entry(&opened, |file| set(file, geteuid(), gid, Mode::RUSR | Mode::WUSR | Mode::RGRP))
    };
    shown().map_err(|source| VmmError::Host { act: "show", path: directory.to_owned(), source })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    /// A file that may have several names.
    SharedFile,
}

/// Makes it the VM's alone.
fn give(path: &Path, identity: VmIdentity, kind: Kind) -> Result<(), VmmError> {
    let mode = if kind == Kind::Directory { Mode::RWXU } else { Mode::RUSR | Mode::WUSR };
    let given = || match open_as(path, kind) {
        Ok(opened) => set(&opened, Uid::from_raw(identity.uid), Gid::from_raw(identity.gid), mode),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    given().map_err(|source| VmmError::Host { act: "hand over", path: path.to_owned(), source })
}

/// Lets the VM read a disk that stays the daemon's. One whose maker let its group read is meant for several VMs; one
/// that was private, or another VM's before, is this VM's alone.
fn show(disk: &DiskSpec, identity: VmIdentity) -> Result<(), VmmError> {
    let shown = || {
        let opened = match open_as(&disk.path, Kind::SharedFile) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let stat = fstat(&opened)?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        let gid = match stat.st_gid {
            _ if mode.contains(Mode::ROTH) => return Ok(()),
            SHARED_GID => SHARED_GID,
            gid if mode.contains(Mode::RGRP) && !VM_UIDS.contains(&gid) => SHARED_GID,
            _ => identity.gid,
        };
        if gid != SHARED_GID {
            check(&stat, Kind::File)?;
        }
        set(&opened, geteuid(), Gid::from_raw(gid), Mode::RUSR | Mode::RGRP)
    };
    shown().map_err(|source| VmmError::Host { act: "show", path: disk.path.clone(), source })
}

fn each_entry(directory: &OwnedFd, act: impl Fn(&OwnedFd) -> io::Result<()>) -> io::Result<()> {
    for (count, entry) in Dir::read_from(directory)?.enumerate() {
        let entry = entry?;
        if entry.file_name() == c"." || entry.file_name() == c".." {
            continue;
        }
        if count > MAX_ENTRIES {
            return Err(wrong("it holds more files than a snapshot has"));
        }
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{:?}: {error}", entry.file_name()));
        // Without waiting: it could be a FIFO.
        let file = openat(directory, entry.file_name(), READING, Mode::empty()).map_err(|error| named(error.into()))?;
        check(&fstat(&file)?, Kind::File).and_then(|()| act(&file)).map_err(named)?;
    }
    Ok(())
}

const READING: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

fn open_as(path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let opened = open(path, READING, Mode::empty())?;
    check(&fstat(&opened)?, kind)?;
    Ok(opened)
}

fn check(stat: &Stat, kind: Kind) -> io::Result<()> {
    match (kind, FileType::from_raw_mode(stat.st_mode)) {
        (Kind::Directory, FileType::Directory) | (Kind::SharedFile, FileType::RegularFile) => Ok(()),
        (Kind::File, FileType::RegularFile) if stat.st_nlink == 1 => Ok(()),
        (Kind::File, FileType::RegularFile) => Err(wrong("it has more than one name")),
        (Kind::Directory, _) => Err(wrong("it is no directory")),
        (Kind::File | Kind::SharedFile, _) => Err(wrong("it is no regular file")),
    }
}

fn wrong(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Owner first: a change of owner by somebody who is not root would clear mode bits.
fn set(file: impl AsFd, uid: Uid, gid: Gid, mode: Mode) -> io::Result<()> {
    let stat = fstat(&file)?;
    if (stat.st_uid, stat.st_gid) != (uid.as_raw(), gid.as_raw()) {
        fchown(&file, Some(uid), Some(gid))?;
    }
    if Mode::from_raw_mode(stat.st_mode) != mode {
        fchmod(&file, mode)?;
    }
    Ok(())
}
