//! VMM processes that no record can name: spawned in the instant before the daemon died. Found by the instance's own
//! runtime directory, which is part of every VMM's command line.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The most of a command line that is looked at, in bytes.
const MAX_CMDLINE: usize = 64 << 10;

/// How long a killed process may take to be gone.
const KILL_TIMEOUT_SECONDS: i64 = 10;

/// Kills every orphan of a runtime directory and waits until it is gone.
///
/// # Errors
/// Whatever the system says; `TimedOut` for a process that is still there.
pub(crate) async fn end_all(run_dir: &Path, binaries: &[String]) -> io::Result<()> {
    for pid in find(run_dir, binaries) {
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
        let pidfd = match pidfd_open(raw, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => continue,
            Err(errno) => return Err(errno.into()),
        };
        // The descriptor pins the process: if it is still the one that was found, nobody else can be hit.
        if !find(run_dir, binaries).contains(&pid) {
            continue;
        }
        tracing::warn!(vmm.pid = pid, run_dir = %run_dir.display(), "ending a VMM that no record names");
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
        tokio::task::spawn_blocking(move || wait_gone(&pidfd)).await??;
    }
    Ok(())
}

/// Whether a process has been given a path below a runtime directory, whatever its program is.
pub(crate) fn belongs(pid: u32, run_dir: &Path) -> bool {
    let needle = below(run_dir);
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(needle.len()).any(|part| part == needle))
}

fn below(run_dir: &Path) -> Vec<u8> {
    let mut needle = run_dir.as_os_str().as_bytes().to_vec();
    needle.push(b'/');
    needle
}

/// A pidfd is readable once its process has ended (pidfd_open(2)).
fn wait_gone(pidfd: &OwnedFd) -> io::Result<()> {
    let timeout = rustix::event::Timespec { tv_sec: KILL_TIMEOUT_SECONDS, tv_nsec: 0 };
    match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// Process ids whose program is `binary` and whose arguments name a path below `run_dir`.
fn find(run_dir: &Path, binaries: &[String]) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let needle = below(run_dir);
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| names(&line[..line.len().min(MAX_CMDLINE)], &needle, binaries))
        })
        .collect()
}

fn names(cmdline: &[u8], needle: &[u8], binaries: &[String]) -> bool {
    let mut arguments = cmdline.split(|byte| *byte == 0);
    let program = arguments.next().unwrap_or_default();
    let program = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    binaries.iter().any(|binary| binary.as_bytes() == program)
        && arguments.any(|argument| argument.windows(needle.len()).any(|window| window == needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_vmm_with_this_directory_matches() {
        let binaries = ["cloud-hypervisor".to_owned()];
        let needle = b"/run/d/0123abcd/";
        let line = b"/usr/bin/cloud-hypervisor\0--api-socket\0path=/run/d/0123abcd/ch.sock\0";
        assert!(names(line, needle, &binaries));
        assert!(!names(line, b"/run/d/ffffffff/", &binaries));
        assert!(!names(b"tail\0-f\0/run/d/0123abcd/x\0", needle, &binaries));
        assert!(!names(b"", needle, &binaries));
    }
}
