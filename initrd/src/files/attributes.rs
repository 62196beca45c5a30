//! What a node is beside its content: owner, mode, time, extended attributes. By a descriptor that only names it, so that
//! nothing else that takes its name meanwhile is meant, and so that links, pipes and devices are not opened.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use dataplane_tar::Entry;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};
use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};

/// The longest list of names, and the longest value, that Linux has.
const MOST: usize = 64 << 10;
/// What a list of names mostly fits.
const FEW: usize = 256;
/// What all attributes of a node may take.
const MOST_IN_ALL: usize = 512 << 10;

/// Names and values.
pub(super) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Where system calls that want a path find a descriptor: the working directory is init's own /proc, since the root's is
/// that of the image's program.
fn path_of(node: &impl AsFd) -> String {
    let descriptors = if cfg!(test) { "/proc/self/fd" } else { "self/fd" };
    format!("{descriptors}/{}", node.as_fd().as_raw_fd())
}

/// All extended attributes of a node. A file system that has none is no failure.
pub(super) fn read(node: &impl AsFd) -> io::Result<Attributes> {
    let path = path_of(node);
    // Most nodes have none.
    let mut names = vec![0; FEW];
    let mut listed = listxattr(path.as_str(), &mut names);
    if listed == Err(rustix::io::Errno::RANGE) {
        names.resize(MOST, 0);
        listed = listxattr(path.as_str(), &mut names);
    }
    let length = match listed {
        Ok(0) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => return Ok(Vec::new()),
        length => length?,
    };
    let mut value = vec![0; MOST];
    let (mut all, mut total) = (Vec::new(), 0);
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let count = match getxattr(path.as_str(), name, &mut value) {
            // It is gone by now, or the kernel lists what it does not tell.
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => continue,
            count => count?,
        };
        total += name.len() + count;
        if total > MOST_IN_ALL {
            return Err(io::Error::other(format!("its extended attributes take more than {MOST_IN_ALL} bytes")));
        }
        all.push((name.to_vec(), value[..count].to_vec()));
    }
    Ok(all)
}

/// Why an extended attribute was not set.
#[derive(Debug, thiserror::Error)]
#[error("set the attribute {name}: {why}")]
pub(super) struct Refused {
    name: String,
    why: io::Error,
}

/// Gives a node what its entry tells. Times come last: see [`date`].
pub(super) fn apply(node: &impl AsFd, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchownat(node, c"", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?;
    let path = path_of(node);
    if !matches!(entry.kind, dataplane_tar::EntryKind::Symlink(_)) {
        // Behind the owner, whose change takes bits away.
        let mode = Mode::from_bits_truncate(entry.mode.into());
        fchmodat(AT_FDCWD, path.as_str(), mode, FchmodatFlags::FollowSymlink)?;
    }
    // Behind the owner too, for capabilities go with a change of it.
    for (name, value) in &entry.xattrs {
        setxattr(path.as_str(), name.as_slice(), value, XattrFlags::empty()).map_err(|errno| {
            let name = dataplane_tar::Shown(name).to_string();
            // Of a kind of its own: a value that a file system has no room for is no full disk.
            io::Error::other(Refused { name, why: errno.into() })
        })?;
    }
    Ok(())
}

/// Sets the time of a node's content.
pub(super) fn date(node: &impl AsFd, (seconds, nanos): (i64, u32)) -> io::Result<()> {
    let time = TimeSpec::new(seconds, nanos.into());
    Ok(utimensat(AT_FDCWD, path_of(node).as_str(), &time, &time, UtimensatFlags::FollowSymlink)?)
}
