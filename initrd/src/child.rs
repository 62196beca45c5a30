//! What a new process does before it becomes a program, and how it says where it failed: the image's program, and
//! programs that run for a host.
//!
//! Invariant: nothing but system calls with what was made ready before: no allocation, no lock, since init may have
//! threads. No shell, no change of a string. As execvp, without its fall-back to a shell.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::error::{CODE_NOT_EXECUTABLE, CODE_NOT_FOUND, CODE_NOT_READY};
use crate::sys::{self, Strings};
use crate::user::Identity;

/// Open files, soft and hard: more than a shell's 1024, which servers outgrow, and few enough that a program which
/// closes every possible descriptor before it starts is not held up.
const OPEN_FILES: (u64, u64) = (65_536, 1_048_576);

/// How many bytes a failed process reports.
pub(crate) const REPORT: usize = 5;

/// What a process is to become.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) candidates: Vec<CString>,
    pub(crate) argv: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) working_dir: CString,
    pub(crate) user: User,
}

/// As whom.
#[derive(Debug)]
pub(crate) struct User {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl User {
    pub(crate) fn of(identity: &Identity) -> Self {
        let groups = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        Self { uid: Uid::from_raw(identity.uid), gid: Gid::from_raw(identity.gid), groups }
    }

    pub(crate) fn uid(&self) -> u32 {
        self.uid.as_raw()
    }
}

/// Where it failed, as one byte on the pipe to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Prepare = 1,
    WorkingDir = 2,
    User = 3,
    Exec = 4,
}

/// What a process is to become, in words for whoever asked for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Named {
    pub(crate) program: String,
    pub(crate) working_dir: String,
    pub(crate) user: String,
}

/// A session of its own, its standard streams, and nothing of init's signals.
pub(crate) fn prepare(input: impl AsFd, output: impl AsFd, error: impl AsFd, terminal: bool) -> nix::Result<()> {
    setsid()?;
    sys::reset_signals();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    if terminal {
        sys::take_terminal(input.as_fd())?;
    }
    dup2_stdin(input)?;
    dup2_stdout(output)?;
    dup2_stderr(error)?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES.0, OPEN_FILES.1)?;
    setrlimit(Resource::RLIMIT_NPROC, RLIM_INFINITY, RLIM_INFINITY)
}

/// Becomes the program; returns only when that failed.
pub(crate) fn become_program(target: &Target, argv: &Strings<'_>, env: &Strings<'_>) -> (Stage, Errno) {
    // As root: a directory that only root may enter is a legal working directory.
    if let Err(errno) = chdir(target.working_dir.as_c_str()) {
        return (Stage::WorkingDir, errno);
    }
    if let Err(errno) = become_user(&target.user) {
        return (Stage::User, Errno::from_raw(errno.raw_os_error()));
    }
    (Stage::Exec, exec_first(&target.candidates, argv, env))
}

/// By the kernel's own calls: the C library's would ask threads that this process does not have.
fn become_user(user: &User) -> rustix::io::Result<()> {
    set_thread_groups(&user.groups)?;
    set_thread_res_gid(user.gid, user.gid, user.gid)?;
    set_thread_res_uid(user.uid, user.uid, user.uid)
}

fn exec_first(candidates: &[CString], argv: &Strings<'_>, env: &Strings<'_>) -> Errno {
    let mut verdict = Errno::ENOENT;
    for candidate in candidates {
        let candidate: &CStr = candidate;
        let errno = sys::exec(candidate, argv, env);
        if errno == Errno::EACCES {
            verdict = errno;
        } else if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR) {
            return errno;
        }
    }
    verdict
}

/// Says where it failed, and gives the exit code.
pub(crate) fn tell_failure(report: &OwnedFd, stage: Stage, errno: Errno) -> u8 {
    let number = (errno as i32).to_ne_bytes();
    let bytes = [stage as u8, number[0], number[1], number[2], number[3]];
    // Whoever reads it may be gone.
    let _ = nix::unistd::write(report, &bytes);
    code_of(stage as u8, errno)
}

/// The exit code, as shells have it.
fn code_of(stage: u8, errno: Errno) -> u8 {
    if stage == Stage::Exec as u8 && errno == Errno::ENOENT {
        CODE_NOT_FOUND
    } else if stage == Stage::Exec as u8 || stage == Stage::WorkingDir as u8 {
        CODE_NOT_EXECUTABLE
    } else {
        CODE_NOT_READY
    }
}

/// In the parent: the exit code, and the reason that a report tells of.
pub(crate) fn failure(report: [u8; REPORT], named: &Named) -> (u8, String) {
    let [stage, number @ ..] = report;
    let errno = Errno::from_raw(i32::from_ne_bytes(number));
    let why = if stage == Stage::WorkingDir as u8 {
        format!("enter {}: {}", named.working_dir, errno.desc())
    } else if stage == Stage::User as u8 {
        format!("become the user `{}`: {}", named.user, errno.desc())
    } else if stage != Stage::Exec as u8 {
        format!("prepare the process: {}", errno.desc())
    } else if errno == Errno::ENOENT {
        let exists = named.program.starts_with('/') && fs::metadata(&named.program).is_ok();
        if exists { "its interpreter or loader is not in the image" } else { "not found in the image" }.to_owned()
    } else if errno == Errno::EACCES {
        "not executable for this user".to_owned()
    } else if errno == Errno::ENOEXEC {
        "no format that the kernel can execute (another architecture, or a script without #!)".to_owned()
    } else {
        errno.desc().to_owned()
    };
    (code_of(stage, errno), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_codes_of_shells() {
        let named = Named { program: "/proc/self/exe".to_owned(), working_dir: "/w".to_owned(), user: "u".to_owned() };
        for (stage, errno, code, expected) in [
            (Stage::Exec, Errno::ENOENT, 127, "its interpreter"),
            (Stage::Exec, Errno::EACCES, 126, "not executable"),
            (Stage::Exec, Errno::ENOEXEC, 126, "no format"),
            (Stage::WorkingDir, Errno::EACCES, 126, "enter /w: "),
            (Stage::User, Errno::EPERM, 125, "become the user `u`: "),
            (Stage::Prepare, Errno::EINVAL, 125, "prepare the process: "),
        ] {
            let (reader, writer) = nix::unistd::pipe().unwrap();
            assert_eq!(tell_failure(&writer, stage, errno), code);
            let mut report = [0; REPORT];
            assert_eq!(nix::unistd::read(&reader, &mut report), Ok(REPORT));
            let (found, why) = failure(report, &named);
            assert_eq!(found, code, "{why}");
            assert!(why.starts_with(expected), "{why}");
        }
        let gone = Named { program: "/no/such/program".to_owned(), ..named };
        let number = (Errno::ENOENT as i32).to_ne_bytes();
        let report = [Stage::Exec as u8, number[0], number[1], number[2], number[3]];
        assert_eq!(failure(report, &gone), (127, "not found in the image".to_owned()));
    }
}
