//! The image's program: from the configuration to a process.
//!
//! Invariant: no shell, no change of a string. The program is process 1 of a process id namespace of its own, as in a
//! container runtime: images whose init insists on that run, and nothing in the image can see or trace the guest's
//! own init. It holds what its user gives it: every capability as root, none otherwise.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use dataplane_agent::GuestConfig;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, fchown, pipe2};

use crate::child::{self, Named, Stage, Target, User, failure, tell_failure};
use crate::error::{CODE_NOT_EXECUTABLE, During as _, InitError};
use crate::sys::Strings;
use crate::{console, environment, root, sys, user};

const MAX_PASSWD: u64 = 16 << 20;
pub(crate) const DATABASES: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// Starts the program and gives its pid, once it has been exec'ed.
pub(crate) fn start(config: &GuestConfig) -> Result<i32, InitError> {
    let target = plan(config)?;
    let (stdin, output) = streams(&target)?;
    let (argv, env) = (Strings::new(&target.argv), Strings::new(&target.env));
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).during("make", "a pipe")?;
    let own = File::open("/proc/self/ns/pid").during("open", "the process id namespace")?;
    unshare(CloneFlags::CLONE_NEWPID).during("make", "a process id namespace")?;
    let pid = sys::fork_for_system_calls_only(None, || {
        let ready = child::prepare(&stdin, &output, &output, false).and_then(|()| root::replace_proc());
        let (stage, errno) = match ready {
            Ok(()) => child::become_program(&target, &argv, &env),
            Err(errno) => (Stage::Prepare, errno),
        };
        tell_failure(&writer, stage, errno)
    });
    let pid = pid.during("make", "a process")?;
    drop(writer);
    // Later children, and threads, belong to init's own namespace again.
    setns(&own, CloneFlags::CLONE_NEWPID).during("go back to", "the process id namespace")?;
    let mut report = Vec::new();
    File::from(reader).read_to_end(&mut report).during("hear from", "the new process")?;
    match report.try_into() {
        Ok(report) => {
            let program = config.argv.first().cloned().unwrap_or_default();
            let (working_dir, user) = (config.working_dir.clone(), config.user.clone());
            let (code, why) = failure(report, &Named { program: program.clone(), working_dir, user });
            Err(InitError::Program { program, why, code })
        }
        // Its end was closed by the exec, or by the end of a process that was killed before.
        Err(_) => Ok(pid),
    }
}

/// What the process is to become, made ready while errors can still be told in full.
fn plan(config: &GuestConfig) -> Result<Target, InitError> {
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
    Ok(Target {
        candidates: strings(&environment::candidates(program, &env))?,
        argv: strings(&config.argv)?,
        env: strings(&env)?,
        working_dir: CString::new(working_dir)
            .map_err(|_| InitError::BadConfig("a string holds a zero byte".to_owned()))?,
        user: User::of(&identity),
    })
}

/// Its standard input, and its two outputs.
fn streams(target: &Target) -> Result<(File, OwnedFd), InitError> {
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
    fchown(&output, Some(Uid::from_raw(target.user.uid())), None).during("give the user", "the console")?;
    Ok((stdin, output.into()))
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
}
