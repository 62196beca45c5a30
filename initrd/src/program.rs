//! The image's program: from the configuration to a process.
//!
//! Invariant: no shell, no change of a string. The program is process 1 of a process id namespace of its own, as in a
//! container runtime: images whose init insists on that run, and nothing in the image can see or trace the guest's
//! own init. It holds what its user gives it: every capability as root, none otherwise.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use dataplane_agent::GuestConfig;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fchown, pipe2, setgroups, setresgid, setresuid,
    setsid,
};

use crate::error::{CODE_NOT_EXECUTABLE, CODE_NOT_FOUND, CODE_NOT_READY, During as _, InitError};
use crate::user::Identity;
use crate::{console, environment, root, sys, user};

/// Open files, soft and hard: more than a shell's 1024, which servers outgrow, and few enough that a program which
/// closes every possible descriptor before it starts is not held up.
pub(crate) const OPEN_FILES: (u64, u64) = (65_536, 1_048_576);
const MAX_PASSWD: u64 = 16 << 20;
pub(crate) const DATABASES: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// Everything that the new process needs, made ready while errors can still be told in full.
#[derive(Debug)]
struct Plan {
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    working_dir: String,
    identity: Identity,
    stdin: File,
    output: OwnedFd,
}

/// Where a new process failed, as one byte on the pipe to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Prepare = 1,
    WorkingDir = 2,
    User = 3,
    Exec = 4,
}

/// Starts the program and gives its pid, once it has been exec'ed.
pub(crate) fn start(config: &GuestConfig) -> Result<i32, InitError> {
    let plan = plan(config)?;
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).during("make", "a pipe")?;
    let own = File::open("/proc/self/ns/pid").during("open", "the process id namespace")?;
    unshare(CloneFlags::CLONE_NEWPID).during("make", "a process id namespace")?;
    let pid = sys::fork_single_threaded(|| {
        let (stage, errno) = become_program(&plan);
        let mut report = vec![stage as u8];
        report.extend_from_slice(&(errno as i32).to_ne_bytes());
        let _ = File::from(writer).write_all(&report);
        i32::from(CODE_NOT_READY)
    });
    let pid = pid.during("make", "a process")?;
    // Later children, and threads, belong to init's own namespace again.
    setns(&own, CloneFlags::CLONE_NEWPID).during("go back to", "the process id namespace")?;
    let mut report = Vec::new();
    File::from(reader).read_to_end(&mut report).during("hear from", "the new process")?;
    match report.split_first() {
        None => Ok(pid),
        Some((stage, errno)) => {
            let errno = errno.try_into().map_or(Errno::EIO, |bytes| Errno::from_raw(i32::from_ne_bytes(bytes)));
            Err(failure(config, *stage, errno))
        }
    }
}

fn plan(config: &GuestConfig) -> Result<Plan, InitError> {
    let program = config.argv.first().ok_or_else(|| InitError::BadConfig("there is no program to run".to_owned()))?;
    let [passwd, group] = DATABASES.map(read_database);
    let identity = user::resolve(&config.user, &passwd?, &group?)
        .map_err(|source| InitError::User { user: config.user.clone(), source })?;
    let env = environment::complete(&config.env, &config.hostname, &identity.home);
    let strings = |strings: &[String]| {
        environment::c_strings(strings).map_err(|_| InitError::BadConfig("a string holds a zero byte".to_owned()))
    };
    let working_dir = format!("/{}", config.working_dir.trim_start_matches('/'));
    make_working_dir(Path::new(&working_dir)).map_err(|error| InitError::Program {
        program: program.clone(),
        why: format!("make the working directory {working_dir}: {error}"),
        code: CODE_NOT_EXECUTABLE,
    })?;
    let stdin = File::open("/dev/null").during("open", "/dev/null")?;
    let output = match console::open() {
        Ok(console) => {
            console::make_raw(&console);
            console
        }
        // A machine without any console: the program's words go nowhere, as they would on the console.
        Err(_) => OpenOptions::new().write(true).open("/dev/null").during("open", "/dev/null")?,
    };
    // The user may open its own standard streams again by /dev/stdout.
    fchown(&output, Some(Uid::from_raw(identity.uid)), None).during("give the user", "the console")?;
    Ok(Plan {
        candidates: strings(&environment::candidates(program, &env))?,
        argv: strings(&config.argv)?,
        env: strings(&env)?,
        working_dir,
        identity,
        stdin,
        output: output.into(),
    })
}

/// A missing file is an empty one. Bytes that are no text spoil their own line only.
pub(crate) fn read_database(path: &str) -> Result<String, InitError> {
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return Ok(String::new());
    }
    let mut content = Vec::new();
    let file = File::open(path).during("open", path)?;
    file.take(MAX_PASSWD).read_to_end(&mut content).during("read", path)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn make_working_dir(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// In the new process. Returns only when it failed.
fn become_program(plan: &Plan) -> (Stage, Errno) {
    if let Err(errno) = prepare(plan) {
        return (Stage::Prepare, errno);
    }
    // As root: a directory that only root may enter is a legal working directory.
    if let Err(errno) = chdir(plan.working_dir.as_str()) {
        return (Stage::WorkingDir, errno);
    }
    if let Err(errno) = become_user(&plan.identity) {
        return (Stage::User, errno);
    }
    (Stage::Exec, exec(plan))
}

fn prepare(plan: &Plan) -> nix::Result<()> {
    setsid()?;
    sys::reset_signals();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    dup2_stdin(&plan.stdin)?;
    dup2_stdout(&plan.output)?;
    dup2_stderr(&plan.output)?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES.0, OPEN_FILES.1)?;
    setrlimit(Resource::RLIMIT_NPROC, RLIM_INFINITY, RLIM_INFINITY)?;
    root::replace_proc()
}

fn become_user(identity: &Identity) -> nix::Result<()> {
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups)?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

/// As execvp, without its fall-back to a shell.
fn exec(plan: &Plan) -> Errno {
    let mut verdict = Errno::ENOENT;
    for candidate in &plan.candidates {
        let Err(errno) = execve(candidate, &plan.argv, &plan.env);
        if errno == Errno::EACCES {
            verdict = errno;
        } else if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR) {
            return errno;
        }
    }
    verdict
}

fn failure(config: &GuestConfig, stage: u8, errno: Errno) -> InitError {
    let program = config.argv.first().cloned().unwrap_or_default();
    let fail = |why: String, code| InitError::Program { program: program.clone(), why, code };
    if stage == Stage::WorkingDir as u8 {
        return fail(format!("enter {}: {}", config.working_dir, errno.desc()), CODE_NOT_EXECUTABLE);
    }
    if stage == Stage::User as u8 {
        return fail(format!("become the user `{}`: {}", config.user, errno.desc()), CODE_NOT_READY);
    }
    if stage != Stage::Exec as u8 {
        return fail(format!("prepare the process: {}", errno.desc()), CODE_NOT_READY);
    }
    if errno == Errno::ENOENT {
        let exists = program.starts_with('/') && fs::metadata(&program).is_ok();
        let why = if exists { "its interpreter or loader is not in the image" } else { "not found in the image" };
        return fail(why.to_owned(), CODE_NOT_FOUND);
    }
    let why = if errno == Errno::EACCES {
        "not executable for this user"
    } else if errno == Errno::ENOEXEC {
        "no format that the kernel can execute (another architecture, or a script without #!)"
    } else {
        errno.desc()
    };
    fail(why.to_owned(), CODE_NOT_EXECUTABLE)
}

/// Whether the kernel throws this signal away instead of delivering it: process 1 of a namespace gets no signal whose
/// action is the default one. `proc` is init's own /proc.
pub(crate) fn discards(proc: BorrowedFd<'_>, pid: i32, signal: i32) -> bool {
    let path = format!("{pid}/status");
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let mut status = String::new();
    let read = nix::fcntl::openat(proc.as_fd(), path.as_str(), flags, Mode::empty())
        .map_err(std::io::Error::from)
        .and_then(|file| File::from(file).take(64 << 10).read_to_string(&mut status));
    read.is_ok() && signal != libc::SIGKILL && has_default_action(&status, signal)
}

/// Neither caught, nor blocked, nor ignored on purpose.
fn has_default_action(status: &str, signal: i32) -> bool {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let (Some(caught), Some(blocked), Some(ignored)) = (mask("SigCgt"), mask("SigBlk"), mask("SigIgn")) else {
        return false;
    };
    let bit = u32::try_from(signal - 1).ok().and_then(|shift| 1u64.checked_shl(shift)).unwrap_or(0);
    (caught | blocked | ignored) & bit == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_with_the_default_action_is_discarded() {
        let status = "Name:\tsh\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000000004\nSigCgt:\t0000001000004000\n";
        for (signal, discarded) in [(15, false), (37, false), (1, false), (3, false), (2, true), (10, true)] {
            assert_eq!(has_default_action(status, signal), discarded, "{signal}");
        }
        assert!(!has_default_action("Name:\tsh\n", 15));
    }

    #[test]
    fn failures_have_the_codes_of_shells() {
        let config: GuestConfig = serde_json::from_str(
            r#"{"instance_id":"a","hostname":"a","fqdn":null,"image_filesystem":"ext4","argv":["/proc/self/exe"],
                "env":[],"working_dir":"/w","user":"u","stop_signal":"TERM","network":null}"#,
        )
        .unwrap();
        for (stage, errno, code, why) in [
            (Stage::Exec, Errno::ENOENT, 127, "its interpreter"),
            (Stage::Exec, Errno::EACCES, 126, "not executable"),
            (Stage::Exec, Errno::ENOEXEC, 126, "no format"),
            (Stage::WorkingDir, Errno::EACCES, 126, "enter /w"),
            (Stage::User, Errno::EPERM, 125, "become the user `u`"),
            (Stage::Prepare, Errno::EINVAL, 125, "prepare the process"),
        ] {
            let error = failure(&config, stage as u8, errno);
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().starts_with("start `/proc/self/exe`: "), "{error}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
