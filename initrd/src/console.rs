//! The guest's console and the kernel's log.
//!
//! The console is the log of the image's program: init writes to it only when the program cannot run. Everything else
//! goes to the kernel's log, which `quiet` keeps off the console. Neither is worth failing for: errors are dropped.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;

use nix::libc;
use nix::sys::termios::{self, SetArg};

/// Opens the console without making it anyone's controlling terminal.
pub(crate) fn open() -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC).open("/dev/console")
}

/// Bytes go out as the program writes them: no newline translation, no echo, no signal characters.
pub(crate) fn make_raw(console: &impl AsFd) {
    if let Ok(mut settings) = termios::tcgetattr(console) {
        termios::cfmakeraw(&mut settings);
        let _ = termios::tcsetattr(console, SetArg::TCSANOW, &settings);
    }
}

/// Waits until everything written has left the serial line: powering off would cut it.
pub(crate) fn drain() {
    let _ = termios::tcdrain(std::io::stderr());
}

/// One line on the console, for the case that the program cannot run. The kernel gave init the console as its standard
/// error, which works whatever is mounted.
pub(crate) fn complain(line: &str) {
    let _ = std::io::stderr().write_all(format!("dataplane-init: {line}\n").as_bytes());
    drain();
    kernel_log(line);
}

/// One line in the kernel's log, at level `info`.
pub(crate) fn kernel_log(line: &str) {
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = log.write_all(format!("<6>dataplane-init: {line}\n").as_bytes());
    }
}
