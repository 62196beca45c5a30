//! What an initramfs of ours consists of: an init program, modules in load order, mount points, a console.
//!
//! Invariant: `/etc/modules` names every module file, one path per line, in an order in which each can be loaded at
//! once; what the root file system needs stands first. Reads the files it is told to pack; writes none.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cpio::{Archive, CpioError};
use crate::modules::Module;

/// What a guest needs, in groups: root disks, the agent's channel, network, the rest.
pub(crate) const GUEST_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "erofs",
    "overlay",
    "virtio_console",
    "vsock",
    "vmw_vsock_virtio_transport",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_rng",
    "pvpanic",
    "pvpanic_pci",
    "button",
    "evdev",
    "virtio_balloon",
    "virtio_mem",
];

#[derive(Debug, Error)]
pub(crate) enum InitramfsError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Cpio(#[from] CpioError),
}

/// A further file: where it goes in the archive, and where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Extra {
    pub(crate) to: String,
    pub(crate) from: PathBuf,
}

/// The uncompressed archive.
pub(crate) fn assemble(init: &Path, modules: Vec<Module>, extras: &[Extra]) -> Result<Vec<u8>, InitramfsError> {
    let mut archive = Archive::default();
    for mount_point in ["proc", "sys", "dev", "run", "mnt"] {
        archive.directory(mount_point, 0o755)?;
    }
    archive.char_device("dev/console", 0o600, (5, 1))?;
    archive.file("init", 0o755, read(init)?)?;
    let mut order = String::new();
    for module in modules {
        let path = format!("lib/modules/{}.ko", module.name);
        order.push_str(&format!("/{path}\n"));
        archive.file(&path, 0o644, module.content)?;
    }
    archive.file("etc/modules", 0o644, order.into_bytes())?;
    for extra in extras {
        let mode =
            fs::metadata(&extra.from).map_err(|source| InitramfsError::Read { path: extra.from.clone(), source })?;
        let mode = mode.permissions().mode() & 0o755;
        archive.file(extra.to.trim_start_matches('/'), mode, read(&extra.from)?)?;
    }
    Ok(archive.finish()?)
}

fn read(path: &Path) -> Result<Vec<u8>, InitramfsError> {
    fs::read(path).map_err(|source| InitramfsError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(archive: &[u8], needle: &[u8]) -> bool {
        archive.windows(needle.len()).any(|window| window == needle)
    }

    #[test]
    fn the_list_of_modules_keeps_their_order() {
        let init = tempfile::NamedTempFile::new().unwrap();
        let module = |name: &str| Module { name: name.to_owned(), content: name.as_bytes().to_vec() };
        let modules = vec![module("virtio"), module("erofs"), module("button")];
        let extras = [Extra { to: "/bin/tool".to_owned(), from: init.path().to_owned() }];
        let archive = assemble(init.path(), modules, &extras).unwrap();
        assert!(contains(&archive, b"/lib/modules/virtio.ko\n/lib/modules/erofs.ko\n/lib/modules/button.ko\n"));
        for path in [b"dev/console\0".as_slice(), b"mnt\0", b"init\0", b"bin/tool\0", b"lib/modules/erofs.ko\0"] {
            assert!(contains(&archive, path));
        }
    }

    #[test]
    fn a_missing_init_is_named() {
        let error = assemble(Path::new("/nonexistent/init"), Vec::new(), &[]).unwrap_err();
        assert_eq!(error.to_string(), "read /nonexistent/init");
    }
}
