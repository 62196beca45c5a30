//! Kernel modules: those that the boot waits for, and those that can come after the program has started.
//!
//! `/etc/modules` names the files in an order in which each can be loaded at once. A file that is not there belongs to
//! a kernel that has the code built in.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::console;
use crate::error::{During as _, InitError};

const LIST: &str = "/etc/modules";
const NO_PARAMETERS: &CStr = c"";

/// Nothing before the program's start needs these.
const LATE: &[&str] = &["virtio_rng", "pvpanic", "pvpanic_pci", "button", "evdev", "virtio_balloon", "virtio_mem"];

/// Modules whose files are open, so that they can be loaded when the initramfs is gone.
#[derive(Debug, Default)]
pub(crate) struct Late(Vec<(String, File)>);

/// Loads what the boot waits for and opens the rest.
pub(crate) fn load_early() -> Result<Late, InitError> {
    let list = match std::fs::read_to_string(LIST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Late::default()),
        list => list.during("read", LIST)?,
    };
    let (early, late) = split(&list);
    for path in early {
        let Some(file) = open(path)? else { continue };
        load(&file).during("load the module", path)?;
    }
    let mut files = Vec::new();
    for path in late {
        if let Some(file) = open(path)? {
            files.push((path.to_owned(), file));
        }
    }
    Ok(Late(files))
}

impl Late {
    /// Loads them. A device of this kind that fails is no reason to end a running program.
    pub(crate) fn load(self) {
        for (path, file) in self.0 {
            if let Err(error) = load(&file) {
                console::kernel_log(&format!("load the module {path}: {error}"));
            }
        }
    }
}

fn open(path: &str) -> Result<Option<File>, InitError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).during("open the module", path),
    }
}

fn load(file: &File) -> Result<(), Errno> {
    match finit_module(file, NO_PARAMETERS, ModuleInitFlags::empty()) {
        // Loaded or built in already, or a driver that refuses to stay where its device is missing.
        Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The paths of the list, in order: early ones, late ones.
fn split(list: &str) -> (Vec<&str>, Vec<&str>) {
    let paths = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    paths.partition(|path| {
        let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        !LATE.contains(&stem.replace('-', "_").as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_boot_does_not_need_comes_late() {
        let list = "# order matters\n/m/virtio.ko\n/m/virtio_blk.ko\n\n/m/virtio_balloon.ko\n/m/virtio_net.ko\n\
            /m/virtio-rng.ko\n";
        let (early, late) = split(list);
        assert_eq!(early, ["/m/virtio.ko", "/m/virtio_blk.ko", "/m/virtio_net.ko"]);
        assert_eq!(late, ["/m/virtio_balloon.ko", "/m/virtio-rng.ko"]);
    }
}
