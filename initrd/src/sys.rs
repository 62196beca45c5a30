//! The few system calls that no safe wrapper covers.
//!
//! Invariant: every function here is safe to call from anywhere; what a caller must promise is in its name or checked.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{ForkResult, fork};

use crate::clock::SEED_BYTES;

/// The last signal number.
const LAST_SIGNAL: i32 = 64;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(u8),
    Killed(u8),
}

/// Takes one ended child. `None`: no child has ended, or there is none. Real-time signals are ordinary signals here,
/// unlike in the wrapper of the library.
pub(crate) fn reap() -> Option<(i32, Ended)> {
    let mut status = 0;
    // SAFETY: `status` is valid for writes for the whole call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    Some((pid, decode(status)))
}

/// Whether any child is left, ended or not.
pub(crate) fn has_children() -> bool {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::uninit();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for writes for the whole call, and is not read.
    unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) == 0 }
}

fn decode(status: i32) -> Ended {
    let low = |value: i32| u8::try_from(value & 0xff).unwrap_or(u8::MAX);
    if libc::WIFSIGNALED(status) {
        Ended::Killed(low(libc::WTERMSIG(status)))
    } else {
        Ended::Exited(low(libc::WEXITSTATUS(status)))
    }
}

/// Sends any signal, real-time ones included. A process that is gone is no error.
pub(crate) fn signal(pid: i32, number: i32) {
    // SAFETY: takes and returns integers only.
    unsafe { libc::kill(pid, number) };
}

/// Every signal back to its default action.
pub(crate) fn reset_signals() {
    for number in 1..=LAST_SIGNAL {
        // SAFETY: installs no handler. Numbers that cannot be set are refused by the kernel, which is as well.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// Accepts a connection: non-blocking, closed on exec.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: null addresses ask for none to be written.
    let accepted = unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
    let accepted = Errno::result(accepted)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(accepted) })
}

/// Mixes 32 bytes into the kernel's random pool and credits them in full. Only for bytes that nobody else knows.
pub(crate) fn add_entropy(random: BorrowedFd<'_>, seed: &[u8; SEED_BYTES]) -> nix::Result<()> {
    /// `struct rand_pool_info` of random(4), with its flexible array.
    #[repr(C)]
    struct PoolInfo {
        entropy_count: libc::c_int,
        buf_size: libc::c_int,
        buf: [u8; SEED_BYTES],
    }
    const BYTES: libc::c_int = 32;
    const { assert!(SEED_BYTES == 32) };
    const RNDADDENTROPY: libc::Ioctl = nix::request_code_write!(b'R', 0x03, 2 * size_of::<libc::c_int>());
    let info = PoolInfo { entropy_count: BYTES * 8, buf_size: BYTES, buf: *seed };
    // SAFETY: the kernel reads the header and `buf_size` bytes behind it, all of which `info` holds.
    Errno::result(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const info) }).map(drop)
}

/// Has the kernel's generator draw a new key from the random pool (random(4)).
pub(crate) fn reseed_random(random: BorrowedFd<'_>) -> nix::Result<()> {
    const RNDRESEEDCRNG: libc::Ioctl = nix::request_code_none!(b'R', 0x07);
    // SAFETY: the request has no argument.
    Errno::result(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) }).map(drop)
}

/// Freezes the file system that the descriptor lies on, or thaws it (ioctl_fs(2), `FIFREEZE` and `FITHAW`). Freezing
/// waits for writers.
pub(crate) fn freeze(file: BorrowedFd<'_>, freeze: bool) -> nix::Result<()> {
    const FIFREEZE: libc::Ioctl = nix::request_code_readwrite!(b'X', 119, size_of::<libc::c_int>());
    const FITHAW: libc::Ioctl = nix::request_code_readwrite!(b'X', 120, size_of::<libc::c_int>());
    let request = if freeze { FIFREEZE } else { FITHAW };
    // SAFETY: the kernel ignores the argument of both.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), request, 0) }).map(drop)
}

/// Forks and runs `child` in the new process, which ends with the code that it returns. Gives the child's pid.
///
/// Refuses when the caller has more than one thread: the child could find any lock taken.
pub(crate) fn fork_single_threaded(child: impl FnOnce() -> i32) -> nix::Result<i32> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(Errno::EBUSY);
    }
    // SAFETY: the only thread forks, so the child finds every lock and the allocator in a usable state.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends the process at once; nothing of the parent's state is touched by exit handlers.
            unsafe { libc::_exit(outcome.unwrap_or(1)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses() {
        assert_eq!(decode(0), Ended::Exited(0));
        assert_eq!(decode(7 << 8), Ended::Exited(7));
        assert_eq!(decode(255 << 8), Ended::Exited(255));
        assert_eq!(decode(9), Ended::Killed(9));
        assert_eq!(decode(11 | 0x80), Ended::Killed(11));
        assert_eq!(decode(37), Ended::Killed(37));
    }
}
