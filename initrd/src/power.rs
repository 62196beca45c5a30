//! The end of the guest: file systems made clean, machine off. Process 1 never returns from here.

use std::fs::{File, OpenOptions};
use std::io::Write as _;

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::{fchdir, pause, sync};

use crate::console;
use crate::root::Writable;

/// What keeps the kernel's own words off the console: they are not the program's.
#[derive(Debug)]
pub(crate) struct Quiet(Option<File>);

impl Quiet {
    /// Opened at the start: later, the path may lead elsewhere.
    pub(crate) fn prepare() -> Self {
        Self(OpenOptions::new().write(true).open("/proc/sys/kernel/printk").ok())
    }

    fn silence(&mut self) {
        if let Some(level) = &mut self.0 {
            let _ = level.write_all(b"0");
        }
    }
}

/// Makes the file systems clean as far as they let themselves be, and switches the machine off.
pub(crate) fn off(writable: Option<&Writable>, mut quiet: Quiet) -> ! {
    sync();
    if let Some(Writable(directory)) = writable {
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        let _ = mount(None::<&str>, "/", None::<&str>, read_only, None::<&str>);
        if fchdir(directory).is_ok() {
            let _ = mount(None::<&str>, ".", None::<&str>, read_only, None::<&str>);
        }
        sync();
    }
    console::drain();
    quiet.silence();
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    console::complain(&format!("switch the machine off: {error}"));
    loop {
        pause();
    }
}
