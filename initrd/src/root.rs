//! The guest's file systems: the overlay that becomes the root, and what a container runtime mounts below it.
//!
//! Invariant: the initramfs is emptied only when it is one, and what lies in an image is looked up only after the
//! change of root, so that the image's links never lead out of it. `/run` and `/tmp` are the image's own.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use nix::unistd::{chdir, chroot};

use crate::disks::Disks;
use crate::error::{During as _, InitError};

const IMAGE: &str = "/mnt/image";
const WRITABLE: &str = "/mnt/writable";
const ROOT: &str = "/mnt/root";
/// `RAMFS_MAGIC` of the kernel: an initramfs without tmpfs.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// `redirect_dir`: a directory of the image can be renamed, as on any other file system.
const OVERLAY: &str = "lowerdir=/mnt/image,upperdir=/mnt/writable/upper,workdir=/mnt/writable/work,redirect_dir=on";

const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// The file system with the writable layer, held open because no path leads to it any more.
#[derive(Debug)]
pub(crate) struct Writable(pub(crate) File);

/// Whether the root is the kernel's own, in memory.
pub(crate) fn is_initramfs() -> bool {
    statfs("/").is_ok_and(|root| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&root.filesystem_type()))
}

/// What init itself needs before there is a root.
pub(crate) fn mount_for_boot() -> Result<(), InitError> {
    mount_one("proc", "/proc", "proc", SAFE, "")?;
    mount_one("sysfs", "/sys", "sysfs", SAFE, "")?;
    mount_one("devtmpfs", "/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755")
}

/// Image below, writable layer above, as one tree.
pub(crate) fn assemble(disks: &Disks, image_filesystem: &str) -> Result<Writable, InitError> {
    for directory in [IMAGE, WRITABLE, ROOT] {
        fs::create_dir_all(directory).during("make the mount point", directory)?;
    }
    let read_only = MsFlags::MS_RDONLY | MsFlags::MS_NOATIME;
    mount_one(&disks.image.to_string_lossy(), IMAGE, image_filesystem, read_only, "")?;
    mount_one(&disks.writable.to_string_lossy(), WRITABLE, "ext4", MsFlags::MS_NOATIME, "discard")?;
    make_upper(Path::new(IMAGE), Path::new(WRITABLE)).during("make", "the upper layer")?;
    mount_one("overlay", ROOT, "overlay", MsFlags::MS_NOATIME, OVERLAY)?;
    let writable = File::open(WRITABLE).during("open", WRITABLE)?;
    Ok(Writable(writable))
}

/// The upper directory is the root of the running system, so it has the owner and the mode of the image's root. It
/// gets its name last: a directory of that name is complete.
#[expect(clippy::disallowed_methods, reason = "the guest's own layer, not a record of the host")]
fn make_upper(image: &Path, writable: &Path) -> io::Result<()> {
    let (upper, unfinished, work) = (writable.join("upper"), writable.join("upper.new"), writable.join("work"));
    make_directory(&work)?;
    if fs::symlink_metadata(&upper).is_ok() {
        return Ok(());
    }
    make_directory(&unfinished)?;
    let root = fs::symlink_metadata(image)?;
    chown(&unfinished, Some(root.uid()), Some(root.gid()))?;
    fs::set_permissions(&unfinished, root.permissions())?;
    fs::rename(&unfinished, &upper)
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Makes the overlay the root, and gives the initramfs' memory back.
pub(crate) fn switch() -> Result<(), InitError> {
    for mounted in ["/proc", "/sys", "/dev"] {
        umount2(mounted, MntFlags::MNT_DETACH).during("unmount", mounted)?;
    }
    if is_initramfs() {
        let device = fs::symlink_metadata("/").during("look at", "the initramfs")?.dev();
        empty(Path::new("/"), device);
    }
    chdir(ROOT).during("enter", ROOT)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).during("move the root to", "/")?;
    chroot(".").during("change the root to", ROOT)?;
    chdir("/").during("enter", "/")
}

/// Removes what lies on `device`. What cannot be removed costs memory and nothing else.
fn empty(directory: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.dev() != device {
            continue;
        }
        if metadata.is_dir() {
            empty(&path, device);
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
}

/// What a container runtime mounts, inside the new root.
pub(crate) fn mount_api() -> Result<(), InitError> {
    for directory in ["/proc", "/sys", "/dev"] {
        make_directory(Path::new(directory)).during("make the mount point", directory)?;
    }
    mount_one("proc", "/proc", "proc", SAFE, "")?;
    mount_one("sysfs", "/sys", "sysfs", SAFE, "")?;
    mount_one("devtmpfs", "/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755")?;
    for directory in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        make_directory(Path::new(directory)).during("make the mount point", directory)?;
    }
    let no_exec = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount_one("devpts", "/dev/pts", "devpts", no_exec, "newinstance,ptmxmode=0666,mode=0620,gid=5")?;
    mount_one("shm", "/dev/shm", "tmpfs", SAFE, "mode=1777")?;
    // A kernel may be built without message queues.
    let _ = mount_one("mqueue", "/dev/mqueue", "mqueue", SAFE, "");
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/core", "/proc/kcore"),
    ] {
        match symlink(target, link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.during("make the link", link)?,
        }
    }
    Ok(())
}

/// Init's own view of the processes, kept open: the path will lead to the program's.
pub(crate) fn hold_proc() -> Result<OwnedFd, InitError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open("/proc", flags, Mode::empty()).during("open", "/proc")
}

/// Puts the caller's /proc in the place of init's. Called in the program's own process id namespace.
pub(crate) fn replace_proc() -> nix::Result<()> {
    umount2("/proc", MntFlags::MNT_DETACH)?;
    mount(Some("proc"), "/proc", Some("proc"), SAFE, None::<&str>)
}

fn mount_one(source: &str, target: &str, kind: &str, flags: MsFlags, options: &str) -> Result<(), InitError> {
    let options = Some(options).filter(|options| !options.is_empty());
    mount(Some(source), target, Some(kind), flags, options)
        .during("mount", format_args!("{source} ({kind}) on {target}"))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests lay out a directory, no record")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_upper_layer_looks_like_the_images_root() {
        let (image, writable) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::set_permissions(image.path(), fs::Permissions::from_mode(0o751)).unwrap();
        fs::create_dir(writable.path().join("upper.new")).unwrap();
        make_upper(image.path(), writable.path()).unwrap();
        let upper = writable.path().join("upper");
        assert_eq!(fs::metadata(&upper).unwrap().mode() & 0o7777, 0o751);

        // The second boot finds what the first one left, whatever the program made of it.
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o700)).unwrap();
        make_upper(image.path(), writable.path()).unwrap();
        assert_eq!(fs::metadata(&upper).unwrap().mode() & 0o7777, 0o700);
        assert!(!writable.path().join("upper.new").exists());
    }

    #[test]
    fn emptying_takes_links_for_links() {
        let (old, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(kept.path().join("file"), "").unwrap();
        fs::create_dir_all(old.path().join("lib/modules")).unwrap();
        fs::write(old.path().join("lib/modules/a.ko"), "").unwrap();
        symlink(kept.path(), old.path().join("link")).unwrap();
        let device = fs::metadata(old.path()).unwrap().dev();
        empty(old.path(), device + 1);
        assert!(old.path().join("lib/modules/a.ko").exists());
        empty(old.path(), device);
        assert_eq!(fs::read_dir(old.path()).unwrap().count(), 0);
        assert!(kept.path().join("file").exists());
    }
}
