//! What a child gives up between fork and exec. Everything here runs after `fork` in a process that has threads, so it
//! may only make system calls: no allocation, no lock, no formatting.
#![expect(unsafe_code, reason = "pre_exec and close_range have no safe form")]

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::Mode;
use rustix::io::{Errno, FdFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::jail::Credentials;
use crate::confinement::landlock;

/// Open files that a VMM may have: Cloud Hypervisor alone grows its table to this many.
const OPEN_FILES: u64 = 4096;

/// What differs from child to child.
#[derive(Debug)]
pub(super) struct Confine {
    /// The descriptors that it keeps beside its standard streams.
    pub(super) inherit: Vec<RawFd>,
    /// Whose process it becomes.
    pub(super) credentials: Option<Credentials>,
    /// The `cgroup.procs` of its cgroup.
    pub(super) procs: Option<File>,
    /// What Landlock leaves to it.
    pub(super) ruleset: Option<OwnedFd>,
}

/// Arranges that the child has a session of its own, no descriptor but its standard streams and what it inherits, no
/// capability and no way to one.
pub(super) fn before_exec(command: &mut Command, confine: Confine) {
    // SAFETY: it makes only system calls, on memory that was allocated before the fork.
    unsafe {
        command.pre_exec(move || confine.enter());
    }
}

impl Confine {
    fn enter(&self) -> io::Result<()> {
        rustix::process::setsid()?;
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        limit_resources()?;
        close_all_but(&self.inherit)?;
        if let Some(procs) = &self.procs {
            // 0 is the process that writes.
            rustix::io::write(procs, b"0")?;
        }
        clear_bounding_set()?;
        if let Some(credentials) = &self.credentials {
            credentials.enter()?;
        }
        drop_capabilities()?;
        self.ruleset.as_ref().map_or(Ok(()), landlock::enter)
    }
}

impl Credentials {
    /// The groups while it is still root, the uid last: nothing leads back.
    fn enter(&self) -> io::Result<()> {
        rustix::thread::set_thread_groups(&self.groups)?;
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid)?;
        rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid)?;
        Ok(())
    }
}

/// Room for open files, none for core dumps: those would hold the guest's memory.
fn limit_resources() -> io::Result<()> {
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < OPEN_FILES) {
        limit.current = Some(limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES)));
        rustix::process::setrlimit(Resource::Nofile, limit)?;
    }
    Ok(())
}

fn close_all_but(inherit: &[RawFd]) -> io::Result<()> {
    let flags = nix::libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC closes nothing now; it only marks descriptors of this child.
    let marked = unsafe { nix::libc::syscall(nix::libc::SYS_close_range, 3u32, u32::MAX, flags) };
    if marked != 0 {
        return Err(io::Error::last_os_error());
    }
    for fd in inherit {
        // SAFETY: the parent holds the descriptor open until spawn has returned, so the child's copy is open too.
        let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
        rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
    }
    Ok(())
}

/// Root gets its capabilities back at exec from the bounding set.
fn clear_bounding_set() -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    for number in 0..u64::BITS {
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // Past the last capability that this kernel has.
            Err(Errno::INVAL) => break,
            // Without CAP_SETPCAP; only root would get anything from the bounding set.
            Err(Errno::PERM) if !rustix::process::geteuid().is_root() => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}
