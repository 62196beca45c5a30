//! VMM processes: started so that they outlive the daemon, known by pid, start time and boot id, watched by pidfd.
//!
//! Invariant: every process started here is reaped here, and a signal goes through a pidfd, so it can never hit a
//! stranger that has inherited the pid. This module knows no VMM's protocol.

mod confine;
mod hand_over;
mod identity;
mod jail;
mod output;
mod watch;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

pub(crate) use hand_over::{hand_over, lend, make_run_dir_fresh, share, show_directory, take_back};
pub use identity::running_uid;
pub(crate) use identity::{find, pid_of};
pub(crate) use jail::{Jail, Needs};
pub(crate) use output::{Log, append_to, first_output, make_anew};
pub(crate) use watch::{Starting, Watched};

use self::confine::Confine;
use crate::{Launch, VM_UIDS, VmIdentity, VmmError, VmmProcess};

/// A program to start.
#[derive(Debug)]
pub(crate) struct Program {
    /// The binary.
    pub(crate) binary: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Where its standard output goes.
    pub(crate) stdout: File,
    /// Where its standard error goes.
    pub(crate) stderr: File,
    /// Descriptors that it inherits under the same numbers; all others are closed in it.
    pub(crate) inherit: Vec<OwnedFd>,
    /// What it is held to.
    pub(crate) jail: Jail,
}

/// Starts a program in a session of its own, without capabilities, with an empty environment, and watches it.
///
/// # Errors
/// [`VmmError::Binary`] when it cannot be started.
pub(crate) fn spawn(program: Program) -> Result<Watched, VmmError> {
    let failed = |source| VmmError::Binary { binary: program.binary.clone(), source };
    let mut command = Command::new(&program.binary);
    command
        .args(&program.arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(program.stdout.try_clone().map_err(failed)?)
        .stderr(program.stderr.try_clone().map_err(failed)?);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    let inherit = program.inherit.iter().map(AsRawFd::as_raw_fd).collect();
    let Jail { credentials, cgroup, ruleset } = program.jail;
    let (procs, cgroup) = cgroup.unzip();
    confine::before_exec(&mut command, Confine { inherit, credentials, procs, ruleset });
    let mut child = command.spawn().map_err(failed)?;
    watch_child(child.id(), cgroup).map_err(|source| {
        // A process that cannot be watched must not stay; that it is gone already is fine.
        let _gone = child.kill().and_then(|()| child.wait());
        failed(source)
    })
}

fn watch_child(pid: u32, cgroup: Option<PathBuf>) -> io::Result<Watched> {
    Watched::new(identity::of_child(pid)?, open_pidfd(pid)?, cgroup)
}

/// Takes up a process that is already there; `None` when it is gone or its pid now belongs to another process. The
/// cgroup is removed when it ends.
///
/// # Errors
/// [`VmmError::Host`] when `/proc` or the pidfd refuses.
pub(crate) fn adopt(process: &VmmProcess, cgroup: Option<PathBuf>) -> Result<Option<Watched>, VmmError> {
    let path = || PathBuf::from(format!("/proc/{}", process.pid));
    let refused = |source| VmmError::Host { act: "adopt", path: path(), source };
    let pidfd = match open_pidfd(process.pid) {
        Ok(pidfd) => pidfd,
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => return Ok(None),
        Err(error) => return Err(refused(error)),
    };
    if !find(process).map_err(refused)? {
        return Ok(None);
    }
    Watched::new(process.clone(), pidfd, cgroup).map(Some).map_err(refused)
}

/// The launch with the identity that the process really has: it may have been started under another configuration.
///
/// # Errors
/// [`VmmError::Host`] when `/proc` does not tell.
pub(crate) fn as_running(launch: &Launch, process: &VmmProcess) -> Result<Launch, VmmError> {
    let path = PathBuf::from(format!("/proc/{}/status", process.pid));
    let failed = |source| VmmError::Host { act: "read", path: path.clone(), source };
    let Some(uid) = identity::uid_of(process.pid).map_err(failed)? else { return Ok(launch.clone()) };
    let mut launch = launch.clone();
    launch.confinement.identity = VM_UIDS.contains(&uid).then(|| VmIdentity::of(uid));
    Ok(launch)
}

fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = pid_of(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Removes what a dead VMM left; what is not there is fine.
///
/// # Errors
/// [`VmmError::Host`].
pub(crate) fn remove_stale(path: &Path) -> Result<(), VmmError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(VmmError::Host { act: "remove", path: path.to_owned(), source }),
    }
}

/// Refuses a socket whose listener is not the process that is driven: a path may have been taken over.
///
/// # Errors
/// [`io::Error`] naming both pids.
pub(crate) fn check_peer(stream: &tokio::net::UnixStream, process: &VmmProcess) -> io::Result<()> {
    let credentials = rustix::net::sockopt::socket_peercred(stream.as_fd())?;
    if Some(credentials.pid) == pid_of(process.pid) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "the socket belongs to process {}, not to {}",
        Pid::as_raw(Some(credentials.pid)),
        process.pid
    )))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod confined_tests;
