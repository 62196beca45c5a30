//! Landlock: a process that gives up all files but some, for good, and for all that it starts.
//!
//! Rules belong to files and directories, not to names: they hold over renames, and what a rule was made for must exist
//! by then. Where a rule's file is missing, the rule is left out: the VMM finds that out by itself.
#![expect(unsafe_code, reason = "the three system calls of Landlock have no safe form")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};

/// What may be done with a file, or below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading.
    Read,
    /// Reading and executing.
    Run,
    /// Reading, writing, making and removing files and sockets.
    Write,
}

/// A path and what may be done with it.
pub(crate) type Rule<'a> = (&'a Path, Access);

/// What every program needs: libraries, what the system tells, harmless devices.
pub(crate) const SYSTEM: &[(&str, Access)] = &[
    ("/usr", Access::Run),
    ("/bin", Access::Run),
    ("/sbin", Access::Run),
    ("/lib", Access::Run),
    ("/lib64", Access::Run),
    ("/etc/ld.so.cache", Access::Read),
    ("/etc/ld.so.preload", Access::Read),
    ("/etc/localtime", Access::Read),
    ("/proc", Access::Read),
    ("/sys", Access::Read),
    ("/dev/null", Access::Write),
    ("/dev/zero", Access::Write),
    ("/dev/random", Access::Read),
    ("/dev/urandom", Access::Read),
    ("/dev/userfaultfd", Access::Write),
];

// linux/landlock.h
const VERSION: libc::c_ulong = 1;
const PATH_BENEATH: libc::c_ulong = 1;
const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const TRUNCATE: u64 = 1 << 14;
/// What can be said of something that is no directory.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE;

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// The version of Landlock that this kernel has; `None` without it.
#[must_use]
pub fn landlock_version() -> Option<u32> {
    // SAFETY: with a null pointer, size 0 and this flag, the call only returns a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<RulesetAttr>(), 0usize, VERSION) };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

/// All rights over files that a version knows: what is not named in a ruleset is not restricted.
fn handled(version: u32) -> u64 {
    let rights = match version {
        0 => 0,
        1 => 13,
        2 => 14,
        // Later versions know ioctls of devices, networks and signals as well: those are other mechanisms' affair here.
        _ => 15,
    };
    (1 << rights) - 1
}

impl Access {
    const fn rights(self) -> u64 {
        match self {
            Self::Read => READ_FILE | READ_DIR,
            Self::Run => READ_FILE | READ_DIR | EXECUTE,
            Self::Write => READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | REMOVE_FILE | MAKE_REG | MAKE_SOCK,
        }
    }
}

/// A ruleset that forbids everything but these.
///
/// # Errors
/// What the system said.
pub(crate) fn ruleset(rules: &[Rule<'_>]) -> io::Result<OwnedFd> {
    let version = landlock_version().ok_or(io::ErrorKind::Unsupported)?;
    let attr = RulesetAttr { handled_access_fs: handled(version) };
    // SAFETY: the pointer and the size are those of a live structure, which the kernel only reads.
    let made = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size_of::<RulesetAttr>(), 0 as libc::c_ulong)
    };
    let made = i32::try_from(made).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just returned this descriptor, close-on-exec, and nobody else has it.
    let ruleset = unsafe { OwnedFd::from_raw_fd(made) };
    for (path, access) in rules {
        let opened = match open(*path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(opened) => opened,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => continue,
            Err(error) => return Err(error.into()),
        };
        let is_directory = FileType::from_raw_mode(fstat(&opened)?.st_mode) == FileType::Directory;
        let rights = if is_directory { access.rights() } else { access.rights() & OF_FILES };
        allow(&ruleset, &opened, rights & handled(version))?;
    }
    Ok(ruleset)
}

fn allow(ruleset: &OwnedFd, what: &OwnedFd, rights: u64) -> io::Result<()> {
    let attr = PathBeneathAttr { allowed_access: rights, parent_fd: what.as_raw_fd() };
    // SAFETY: both descriptors are open, and the pointer is that of a live structure, which the kernel only reads.
    let done = unsafe {
        let (add, none) = (libc::SYS_landlock_add_rule, 0 as libc::c_ulong);
        libc::syscall(add, ruleset.as_raw_fd(), PATH_BENEATH, &raw const attr, none)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Enters a ruleset, for good. Makes one system call only; takes that no new privileges can be had.
///
/// # Errors
/// What the system said.
pub(crate) fn enter(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is open; the call changes only what this process may do.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0 as libc::c_ulong) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
