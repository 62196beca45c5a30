//! The few system calls that no safe wrapper covers.
//!
//! Invariant: every function here is safe to call from anywhere; what a caller must promise is in its name or checked.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc;

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

/// Strings as execve(2) takes them, made ready before a fork.
#[derive(Debug)]
pub(crate) struct Strings<'a> {
    pointers: Vec<*const c_char>,
    owner: PhantomData<&'a [CString]>,
}

impl<'a> Strings<'a> {
    pub(crate) fn new(strings: &'a [CString]) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect();
        Self { pointers, owner: PhantomData }
    }
}

/// Becomes another program; returns only when that failed. Allocates nothing.
pub(crate) fn exec(path: &CStr, argv: &Strings<'_>, env: &Strings<'_>) -> Errno {
    // SAFETY: both lists end with a null pointer, and their strings are borrowed for as long as they are.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), env.pointers.as_ptr()) };
    Errno::last()
}

/// Becomes the program in an open file; returns only when that failed. Allocates nothing.
pub(crate) fn exec_file(file: BorrowedFd<'_>, argv: &Strings<'_>, env: &Strings<'_>) -> Errno {
    let (argv, env) = (argv.pointers.as_ptr().cast(), env.pointers.as_ptr().cast());
    // SAFETY: as in `exec`; the path is a constant.
    unsafe { libc::execveat(file.as_raw_fd(), c"".as_ptr(), argv, env, libc::AT_EMPTY_PATH) };
    Errno::last()
}

/// How many bytes can be read from a pipe now.
pub(crate) fn readable(pipe: BorrowedFd<'_>) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the kernel writes one int.
    let asked = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if asked == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}

/// The other end of a terminal's master, by no path.
pub(crate) fn terminal_of(master: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes flags and gives a descriptor.
    let opened = Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(opened) })
}

/// Makes a terminal the one of the calling process' session.
pub(crate) fn take_terminal(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: the request takes an integer.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Gives a terminal another size.
pub(crate) fn resize_terminal(master: BorrowedFd<'_>, rows: u16, columns: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads one `winsize`. A terminal that is gone has no size.
    unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

/// Makes a process that runs `child` and ends when that returns, with its code; in a control group, whose directory that
/// is, or in the caller's. Gives its pid.
///
/// For callers with threads: the new process may find any lock taken, and the C library does not know that it is one. So
/// it must do nothing but system calls with what was made ready before; it must neither allocate nor panic.
pub(crate) fn fork_for_system_calls_only(
    group: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> u8,
) -> nix::Result<i32> {
    /// Of clone(2), wider than the C library has it.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let arguments = libc::clone_args {
        flags: if group.is_some() { CLONE_INTO_CGROUP } else { 0 },
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD.unsigned_abs().into(),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: group.map_or(0, |group| group.as_raw_fd().unsigned_abs().into()),
    };
    // SAFETY: as fork(2): the new process has a copy of all memory and goes on here, on its own copy of this stack. It
    // keeps to system calls, as the name asks of it, and ends without running anything else.
    let made = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    if made == 0 {
        let code = child();
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(code.into()) }
    }
    i32::try_from(Errno::result(made)?).map_err(|_| Errno::EOVERFLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_made_beside_other_threads() {
        use nix::sys::wait::{WaitStatus, waitpid};
        let own = std::process::id();
        let parent = || u8::from(nix::unistd::getppid().as_raw().unsigned_abs() == own);
        let pid = nix::unistd::Pid::from_raw(fork_for_system_calls_only(None, parent).unwrap());
        assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 1)));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(fork_for_system_calls_only(Some(std::os::fd::AsFd::as_fd(&file)), || 0).is_err(), "no control group");
    }

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
