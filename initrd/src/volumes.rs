//! Disks beside the three that every guest has: mounted, unmounted, frozen and thawed at the host's word.
//!
//! Invariant: nothing but such a disk is touched, wherever the image's links and the program's mounts lead; a disk of
//! which "unmounted" is said is in nobody's use; what is frozen thaws by itself. What is mounted is what the kernel
//! says, since the program may mount too. Every call here may wait for a disk, and belongs into a thread of its own.

mod freezer;
mod holders;
mod mounts;
mod place;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dataplane_agent::{Answer, Ask, CONFIG_DISK_SERIAL, IMAGE_DISK_SERIAL, WRITABLE_DISK_SERIAL};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::libc::dev_t;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, fstatat, makedev};
use nix::unistd::fchdir;

use self::freezer::Freezer;
pub(crate) use self::holders::read;
use self::mounts::Mount;
use self::place::Place;
use crate::disks;
use crate::uevent::Uevents;

/// How long a disk that was just plugged in may take to appear.
const APPEARS: Duration = Duration::from_secs(5);
/// File systems that lie on one disk and say so in what they are.
const FILESYSTEMS: [&str; 3] = ["ext4", "erofs", "xfs"];
/// The disks that the guest itself stands on.
const OWN: [&str; 3] = [IMAGE_DISK_SERIAL, WRITABLE_DISK_SERIAL, CONFIG_DISK_SERIAL];

#[derive(Debug)]
pub(crate) struct Volumes {
    /// Init's own /proc: it shows every process, whatever lies at the path by now.
    proc: OwnedFd,
    /// Serials of the disks that are being worked on.
    busy: Mutex<BTreeSet<String>>,
    freezer: Freezer,
}

/// A disk that is there.
#[derive(Debug)]
struct Disk {
    path: String,
    device: dev_t,
}

/// A disk that is being worked on, until this is dropped.
#[derive(Debug)]
struct Turn<'a> {
    busy: &'a Mutex<BTreeSet<String>>,
    serial: &'a str,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(self.serial);
    }
}

impl Volumes {
    /// Init's own /proc.
    pub(crate) fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }

    pub(crate) fn new(proc: OwnedFd) -> Self {
        Self { proc, busy: Mutex::default(), freezer: Freezer::default() }
    }

    pub(crate) fn serve(&self, ask: Ask) -> Result<Answer, String> {
        let (Ask::Mount { serial, .. } | Ask::Unmount { serial } | Ask::Freeze { serial, .. } | Ask::Thaw { serial }) =
            &ask
        else {
            return Err("this is no question about a disk".to_owned());
        };
        if OWN.contains(&serial.as_str()) {
            return Err(format!("the disk `{serial}` is the guest's own"));
        }
        let _turn = self.turn(serial)?;
        match &ask {
            Ask::Mount { serial, path, filesystem, readonly } => self.mount(serial, path, filesystem, *readonly),
            Ask::Unmount { serial } => self.unmount(serial),
            Ask::Freeze { serial, thaw_after_ms } => self.freeze(serial, *thaw_after_ms),
            Ask::Thaw { serial } => self.thaw(serial),
            Ask::Ping
            | Ask::Sync
            | Ask::SetClock { .. }
            | Ask::ReadClock
            | Ask::OnlineCpus
            | Ask::Processes { .. }
            | Ask::Process { .. }
            | Ask::Kill { .. }
            | Ask::ReadUsage => Ok(()),
        }?;
        Ok(Answer::Done)
    }

    /// One at a time for each disk: who comes second is told so, and does not wait.
    fn turn<'a>(&'a self, serial: &'a str) -> Result<Turn<'a>, String> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(serial.to_owned()) {
            return Err(format!("the disk `{serial}` is being worked on"));
        }
        Ok(Turn { busy: &self.busy, serial })
    }

    fn mount(&self, serial: &str, path: &str, filesystem: &str, readonly: bool) -> Result<(), String> {
        let place = Place::parse(path)?;
        if !FILESYSTEMS.contains(&filesystem) {
            return Err(format!("`{filesystem}` is none of {}", FILESYSTEMS.join(", ")));
        }
        let disk = appeared(serial)?;
        match self.mounts_of(&disk)?.as_slice() {
            [] => {}
            [there] if there.path == place.to_string() && there.readonly == readonly => return Ok(()),
            elsewhere => return Err(format!("the disk `{serial}` is mounted at {}", paths(elsewhere))),
        }
        let root = open_root()?;
        let directory = place.open_or_make(root.as_fd())?;
        // Devices and set-user-id programs are the image's business, not a disk's that may come from elsewhere.
        let mut flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
        flags.set(MsFlags::MS_RDONLY, readonly);
        let options = (filesystem == "ext4" && !readonly).then_some("discard");
        enter(directory.as_fd())?;
        mount(Some(disk.path.as_str()), ".", Some(filesystem), flags, options).map_err(|errno| {
            if errno == Errno::ENODEV {
                return format!("the guest's kernel knows no file system `{filesystem}`");
            }
            format!("mount {} ({filesystem}) on {place}: {}", disk.path, errno.desc())
        })
    }

    fn unmount(&self, serial: &str) -> Result<(), String> {
        if self.freezer.is_frozen(serial) {
            return Err(format!("the disk `{serial}` is frozen"));
        }
        let Some(disk) = found(serial)? else { return Ok(()) };
        match self.mounts_of(&disk)?.as_slice() {
            [] => {}
            [there] => self.unmount_at(&disk, there)?,
            several => return Err(format!("the disk `{serial}` is mounted at {}", paths(several))),
        }
        // Other mount namespaces have mounts of their own. Nothing else tells of all of them.
        match open(disk.path.as_str(), OFlag::O_RDONLY | OFlag::O_EXCL | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(_) => Ok(()),
            Err(Errno::EBUSY) => {
                let holders = holders::mounting(self.proc.as_fd(), disk.device);
                Err(format!("the disk `{serial}` is still mounted elsewhere, held {holders}"))
            }
            Err(errno) => Err(format!("look whether {} is in use: {}", disk.path, errno.desc())),
        }
    }

    fn unmount_at(&self, disk: &Disk, there: &Mount) -> Result<(), String> {
        let place = Place::parse(&there.path)?;
        let (directory, name) = place.open_parent(open_root()?.as_fd())?;
        enter(directory.as_fd())?;
        let seen = fstatat(&directory, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|errno| format!("look at {place}: {}", errno.desc()))?;
        if seen.st_dev != disk.device {
            return Err(format!("something else is mounted over {place}"));
        }
        umount2(name.as_str(), MntFlags::UMOUNT_NOFOLLOW).map_err(|errno| {
            if errno != Errno::EBUSY {
                return format!("unmount {place}: {}", errno.desc());
            }
            let mut text = format!("{place} is busy, held {}", holders::using(self.proc.as_fd(), disk.device));
            let below = self.mounts().map(|mounts| mounts::below(&mounts, there)).unwrap_or_default();
            if !below.is_empty() {
                text.push_str(&format!("; mounted in it: {}", below.join(", ")));
            }
            text
        })
    }

    fn freeze(&self, serial: &str, thaw_after_ms: u64) -> Result<(), String> {
        let disk = found(serial)?.ok_or_else(|| format!("there is no disk `{serial}`"))?;
        let file = self.open_mounted(&disk)?.ok_or_else(|| format!("the disk `{serial}` is not mounted"))?;
        self.freezer.freeze(serial, file, thaw_after_ms)
    }

    fn thaw(&self, serial: &str) -> Result<(), String> {
        if self.freezer.thaw(serial)? {
            return Ok(());
        }
        // Frozen by somebody else, perhaps.
        let Some(disk) = found(serial)? else { return Ok(()) };
        self.open_mounted(&disk)?.map_or(Ok(()), |file| freezer::thaw_now(file.as_fd()))
    }

    /// Something on the disk's file system, when that is mounted.
    fn open_mounted(&self, disk: &Disk) -> Result<Option<OwnedFd>, String> {
        let Some(there) = self.mounts_of(disk)?.into_iter().next() else { return Ok(None) };
        let place = Place::parse(&there.path)?;
        let directory = place.open(open_root()?.as_fd())?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let file = nix::fcntl::openat(&directory, ".", flags, Mode::empty());
        let file = file.map_err(|errno| format!("open {place}: {}", errno.desc()))?;
        let seen = nix::sys::stat::fstat(&file).map_err(|errno| format!("look at {place}: {}", errno.desc()))?;
        if seen.st_dev != disk.device {
            return Err(format!("something else is mounted over {place}"));
        }
        Ok(Some(file))
    }

    fn mounts(&self) -> Result<Vec<Mount>, String> {
        let text = read(self.proc.as_fd(), "self/mountinfo").map_err(|error| format!("list mounts: {error}"))?;
        Ok(mounts::parse(&text))
    }

    fn mounts_of(&self, disk: &Disk) -> Result<Vec<Mount>, String> {
        let mut mounts = self.mounts()?;
        mounts.retain(|mount| mount.device == disk.device);
        Ok(mounts)
    }
}

fn paths(mounts: &[Mount]) -> String {
    mounts.iter().map(|mount| mount.path.as_str()).collect::<Vec<_>>().join(", ")
}

fn open_root() -> Result<OwnedFd, String> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open("/", flags, Mode::empty()).map_err(|errno| format!("open the root: {}", errno.desc()))
}

/// Makes a directory this thread's own working directory: what was looked up is what is mounted on, with no second
/// look-up that could end elsewhere.
fn enter(directory: BorrowedFd<'_>) -> Result<(), String> {
    unshare(CloneFlags::CLONE_FS).and_then(|()| fchdir(directory)).map_err(|errno| format!("enter: {}", errno.desc()))
}

fn found(serial: &str) -> Result<Option<Disk>, String> {
    let Some(name) = disks::named(serial) else { return Ok(None) };
    let number = format!("/sys/block/{name}/dev");
    let text = fs::read_to_string(&number).map_err(|error| format!("read {number}: {error}"))?;
    let device = device(&text).ok_or_else(|| format!("read {number}: `{}`", text.trim()))?;
    Ok(Some(Disk { path: format!("/dev/{name}"), device }))
}

/// Waits for a disk that was just plugged in.
fn appeared(serial: &str) -> Result<Disk, String> {
    let uevents = Uevents::open().map_err(|error| error.chain())?;
    let mut trouble = None;
    let disk = uevents.wait(APPEARS, || match found(serial) {
        Ok(disk) => Ok(disk),
        Err(error) => {
            trouble = Some(error);
            Ok(None)
        }
    });
    let disk = disk.map_err(|error| error.chain())?;
    disk.ok_or_else(|| trouble.unwrap_or_else(|| format!("there is no disk `{serial}`")))
}

/// `254:16` as the kernel's number.
fn device(text: &str) -> Option<dev_t> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(makedev(major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn volumes() -> Volumes {
        Volumes::new(File::open("/proc").unwrap().into())
    }

    #[test]
    fn the_guests_own_disks_are_left_alone() {
        for serial in OWN {
            let serial = serial.to_owned();
            let refused = volumes().serve(Ask::Freeze { serial, thaw_after_ms: 1 }).unwrap_err();
            assert!(refused.contains("own"), "{refused}");
        }
        assert!(volumes().serve(Ask::Ping).is_err());
    }

    #[test]
    fn what_is_not_there_is_unmounted_and_thawed() {
        let serial = || "no-such-disk-here".to_owned();
        assert_eq!(volumes().serve(Ask::Unmount { serial: serial() }), Ok(Answer::Done));
        assert_eq!(volumes().serve(Ask::Thaw { serial: serial() }), Ok(Answer::Done));
        assert!(volumes().serve(Ask::Freeze { serial: serial(), thaw_after_ms: 1 }).unwrap_err().contains("no disk"));
    }

    #[test]
    fn a_disk_is_worked_on_once_at_a_time() {
        let volumes = volumes();
        let turn = volumes.turn("a").unwrap();
        assert!(volumes.turn("a").is_err());
        assert!(volumes.turn("b").is_ok());
        drop(turn);
        assert!(volumes.turn("a").is_ok());
    }

    #[test]
    fn a_mount_is_refused_before_anything_is_made() {
        let mount = |path: &str, filesystem: &str| {
            let (path, filesystem) = (path.to_owned(), filesystem.to_owned());
            volumes().serve(Ask::Mount { serial: "x".into(), path, filesystem, readonly: true }).unwrap_err()
        };
        assert!(mount("/data", "proc").contains("none of"));
        assert!(mount("/proc/x", "ext4").contains("/proc"));
        assert!(mount("data", "ext4").contains("absolute"));
    }

    #[test]
    fn device_numbers() {
        assert_eq!(device("254:16\n"), Some(makedev(254, 16)));
        assert_eq!(device("254"), None);
    }
}
