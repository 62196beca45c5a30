//! Kernel modules: which of them this machine needs, and when.
//!
//! `/etc/modules` names the files in an order in which each can be loaded at once; within a group that order is kept,
//! and a group needs nothing but [`Group::Disks`]. A file that is not there belongs to a kernel that has the code built
//! in. Loading is most of a boot's time, so what has no device here is left out.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::init_module;

use crate::console;
use crate::error::{During as _, InitError};
use crate::virtio::{Devices, Kind};

const LIST: &str = "/etc/modules";
const NO_PARAMETERS: &CStr = c"";

/// When a module is needed, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// The bus, the disks and the overlay. Any module that this table does not know is taken to be needed by them.
    Disks,
    /// The image's file system, unless it is the one that every kernel has.
    Erofs,
    Serial,
    Vsock,
    Network,
    /// Nothing before the program's start needs these.
    Late,
}

const GROUPS: &[(&str, Group)] = &[
    ("libcrc32c", Group::Erofs),
    ("erofs", Group::Erofs),
    ("virtio_console", Group::Serial),
    ("vsock", Group::Vsock),
    ("vmw_vsock_virtio_transport_common", Group::Vsock),
    ("vmw_vsock_virtio_transport", Group::Vsock),
    ("failover", Group::Network),
    ("net_failover", Group::Network),
    ("virtio_net", Group::Network),
    ("virtio_rng", Group::Late),
    ("pvpanic", Group::Late),
    ("pvpanic_pci", Group::Late),
    ("button", Group::Late),
    ("evdev", Group::Late),
    ("virtio_balloon", Group::Late),
    ("virtio_mem", Group::Late),
];

/// The modules of the initramfs.
#[derive(Debug)]
pub(crate) struct Modules(Vec<(Group, String)>);

/// Modules whose files are open, so that they can be loaded when the initramfs is gone.
#[derive(Debug)]
pub(crate) struct Late(Vec<(String, File)>);

impl Modules {
    pub(crate) fn list() -> Result<Self, InitError> {
        match std::fs::read_to_string(LIST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(Vec::new())),
            list => Ok(Self(parse(&list.during("read", LIST)?))),
        }
    }

    /// The bus and the disks.
    pub(crate) fn load_disks(&self) -> Result<(), InitError> {
        self.load(Group::Disks)
    }

    /// The image's file system.
    pub(crate) fn load_filesystem(&self, name: &str) -> Result<(), InitError> {
        if name == "erofs" { self.load(Group::Erofs) } else { Ok(()) }
    }

    /// The agent's channel and the network, as far as the machine has the devices.
    pub(crate) fn load_devices(&self, devices: &Devices) -> Result<(), InitError> {
        let wanted = [(Kind::Console, Group::Serial), (Kind::Vsock, Group::Vsock), (Kind::Network, Group::Network)];
        for (_, group) in wanted.into_iter().filter(|(kind, _)| devices.has(*kind)) {
            self.load(group)?;
        }
        Ok(())
    }

    /// Opens what can wait.
    pub(crate) fn open_late(&self) -> Result<Late, InitError> {
        let mut files = Vec::new();
        for path in self.paths(Group::Late) {
            if let Some(file) = open(path)? {
                files.push((path.to_owned(), file));
            }
        }
        Ok(Late(files))
    }

    fn load(&self, group: Group) -> Result<(), InitError> {
        for path in self.paths(group) {
            let Some(file) = open(path)? else { continue };
            load(&file).during("load the module", path)?;
        }
        Ok(())
    }

    fn paths(&self, group: Group) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(of, _)| *of == group).map(|(_, path)| path.as_str())
    }
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

/// Loads a module without its signature, whose check costs more than all the rest: what the kernel and this program came
/// from is what the module came from. A kernel that insists gets it whole.
fn load(mut file: &File) -> io::Result<()> {
    let mut whole = Vec::new();
    file.read_to_end(&mut whole)?;
    let loaded = match init_module(without_signature(&whole), NO_PARAMETERS) {
        Err(Errno::EKEYREJECTED | Errno::EPERM) => init_module(&whole, NO_PARAMETERS),
        loaded => loaded,
    };
    match loaded {
        // Loaded or built in already, or a driver that refuses to stay where its device is missing.
        Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A signed module ends with its signature, twelve bytes of description, the last four of which are the signature's
/// length, and a marker.
fn without_signature(module: &[u8]) -> &[u8] {
    const MARKER: &[u8] = b"~Module signature appended~\n";
    const DESCRIPTION: usize = 12;
    let signed = || {
        let described = module.strip_suffix(MARKER)?;
        let length = u32::from_be_bytes(*described.last_chunk()?);
        let end = described.len().checked_sub(DESCRIPTION)?.checked_sub(usize::try_from(length).ok()?)?;
        described.get(..end)
    };
    signed().unwrap_or(module)
}

fn parse(list: &str) -> Vec<(Group, String)> {
    let paths = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    paths.map(|path| (group_of(path), path.to_owned())).collect()
}

fn group_of(path: &str) -> Group {
    let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().replace('-', "_");
    GROUPS.iter().find(|(name, _)| *name == stem).map_or(Group::Disks, |(_, group)| *group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_has_its_time_and_keeps_its_place() {
        let list = "# order matters\n/m/virtio.ko\n/m/virtio_blk.ko\n\n/m/erofs.ko\n/m/new.ko\n/m/virtio_balloon.ko\n\
            /m/failover.ko\n/m/net_failover.ko\n/m/virtio-net.ko\n/m/virtio-rng.ko\n";
        let modules = Modules(parse(list));
        let of = |group| modules.paths(group).collect::<Vec<_>>();
        assert_eq!(of(Group::Disks), ["/m/virtio.ko", "/m/virtio_blk.ko", "/m/new.ko"]);
        assert_eq!(of(Group::Erofs), ["/m/erofs.ko"]);
        assert_eq!(of(Group::Network), ["/m/failover.ko", "/m/net_failover.ko", "/m/virtio-net.ko"]);
        assert_eq!(of(Group::Late), ["/m/virtio_balloon.ko", "/m/virtio-rng.ko"]);
        assert!(of(Group::Vsock).is_empty());
    }

    #[test]
    fn a_signature_is_cut_and_nothing_else() {
        let signed =
            [b"ELF...".as_slice(), b"signature", &[0; 8], &9u32.to_be_bytes(), b"~Module signature appended~\n"];
        assert_eq!(without_signature(&signed.concat()), b"ELF...");
        let lying = [b"ELF".as_slice(), &[0xff; 12], b"~Module signature appended~\n"].concat();
        for module in [b"".as_slice(), b"ELF...", b"~Module signature appended~\n", &lying] {
            assert_eq!(without_signature(module), module);
        }
    }
}
