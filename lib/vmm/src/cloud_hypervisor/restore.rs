//! What a snapshot becomes before it is restored: a copy whose configuration names the files of this launch.
//!
//! Invariant: devices keep their ids, order and shapes, since the state describes them; only names of host resources
//! change, and none of those in the snapshot is ever opened. The copy holds the two documents and a link to the memory.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Version;
use super::snapshot::{CONFIG, MEMORY, STATE, Snapshot};
use super::wire::{NET, Sockets, ZONE, listed_devices};
use crate::process::{remove_stale, show_directory};
use crate::{DiskSpec, Launch, VmSpec, VmmError};

/// How a VMM gets a snapshot's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// All of it before the restore succeeds; holes stay holes.
    Copy,
    /// Page by page, when the guest touches it.
    OnDemand,
    /// Mapped privately from the file.
    CopyOnWrite,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Copy => "Copy",
            Self::OnDemand => "OnDemand",
            Self::CopyOnWrite => "CopyOnWrite",
        }
    }
}

/// A snapshot's memory, as far as the mode depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ram {
    /// In a file of its own: nothing is restored.
    File,
    /// In a memfd. What this driver makes: its holes survive a restore, so that every snapshot is as small as the first.
    Shared,
    /// Anonymous, of this many bytes.
    Private(u64),
}

/// Below this a copy is as quick as anything.
const WORTH_PAGING: u64 = 1 << 30;
/// The first version that fills memory in the background when paging on demand, and then wants a processor for it.
const PREFAULTS: Version = (53, 0);
/// The first version that maps a snapshot's memory copy-on-write.
const MAPS: Version = (54, 0);

/// The mode for a version. Shared memory is always copied: paged on demand it is only what the guest has touched, and a
/// version that does not fill in the rest (52) would leave that rest out of the next snapshot without a word; filled in
/// (53) it has no holes any more. Mapped copy-on-write it would no longer be shared.
pub(super) fn mode(version: Version, ram: Ram, can_page: bool) -> Mode {
    match ram {
        Ram::File | Ram::Shared => Mode::Copy,
        Ram::Private(_) if version >= MAPS => Mode::CopyOnWrite,
        Ram::Private(bytes) if version < PREFAULTS && can_page && bytes > WORTH_PAGING => Mode::OnDemand,
        Ram::Private(_) => Mode::Copy,
    }
}

/// Whether any process may page its memory by itself (userfaultfd).
pub(super) fn can_page() -> bool {
    let switch = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
    switch.is_ok_and(|switch| switch.trim() == "1")
}

/// What kind of memory a configuration has.
pub(super) fn ram_of(config: &Value, memory_bytes: u64) -> Ram {
    let memory = &config["memory"];
    if memory["zones"].as_array().is_some_and(|zones| !zones.is_empty()) {
        Ram::File
    } else if memory["shared"] == true {
        Ram::Shared
    } else {
        Ram::Private(memory_bytes)
    }
}

/// The directory from which the VMM restores.
#[derive(Debug)]
pub(super) struct Copy {
    directory: PathBuf,
}

impl Copy {
    /// Makes it below the directory of the sockets, in place of one that was left there. Blocks.
    ///
    /// # Errors
    /// [`VmmError::Host`].
    pub(super) fn make(launch: &Launch, source: &Path, snapshot: &Snapshot) -> Result<Self, VmmError> {
        let copy = Self { directory: launch.run_dir.join("restore") };
        copy.remove()?;
        let directory = &copy.directory;
        let failed = |source| VmmError::Host { act: "make", path: directory.clone(), source };
        std::fs::DirBuilder::new().mode(0o700).create(directory).map_err(failed)?;
        copy.write(CONFIG, snapshot.config.to_string().as_bytes())?;
        copy.write(STATE, &snapshot.state)?;
        // It stays the daemon's own: a VMM that has loaded it cannot put another in its place.
        show_directory(directory, launch)?;
        if snapshot.memory_bytes > 0 {
            let memory = std::path::absolute(source.join(MEMORY)).map_err(failed)?;
            std::os::unix::fs::symlink(memory, directory.join(MEMORY)).map_err(failed)?;
        }
        Ok(copy)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), VmmError> {
        let path = self.directory.join(name);
        let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(bytes));
        written.map_err(|source| VmmError::Host { act: "write", path, source })
    }

    /// Removes it; that it is not there is fine. Only what [`Copy::make`] makes is removed.
    ///
    /// # Errors
    /// [`VmmError::Host`].
    pub(super) fn remove(&self) -> Result<(), VmmError> {
        for name in [CONFIG, STATE, MEMORY] {
            remove_stale(&self.directory.join(name))?;
        }
        match std::fs::remove_dir(&self.directory) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(VmmError::Host { act: "remove", path: self.directory.clone(), source }),
        }
    }
}

/// Puts the launch's resources into a snapshot's configuration.
///
/// # Errors
/// In words, what of the launch the snapshot does not have, or has beyond it.
pub(super) fn rewrite(config: &mut Value, launch: &Launch) -> Result<(), String> {
    let Launch { spec, run_dir, .. } = launch;
    check_devices(config, spec)?;
    for disk in &spec.disks {
        rewrite_disk(config, disk)?;
    }
    if let Some(net) = &spec.net {
        let device = device(config, "net", NET)?;
        set(device, "tap", net.tap.as_str())?;
        // The VMM would set it, and may not; the TAP has the right one.
        device.remove("host_mac");
    }
    rewrite_memory(config, spec)?;
    let vsock = Sockets::below(run_dir).vsock;
    set(part(config, "vsock")?, "socket", text(&vsock)?)?;
    let payload = part(config, "payload")?;
    set(payload, "kernel", text(&spec.kernel)?)?;
    set(payload, "initramfs", text(&spec.initramfs)?)?;
    set(payload, "cmdline", &spec.cmdline)?;
    for (name, mode) in [("serial", "Tty"), ("console", "Off")] {
        let console = part(config, name)?;
        set(console, "mode", mode)?;
        for path in ["file", "socket"] {
            console.remove(path);
        }
    }
    Ok(())
}

/// A device of the snapshot that the launch does not know would open whatever it once had.
fn check_devices(config: &Value, spec: &VmSpec) -> Result<(), String> {
    let vsock = config["vsock"]["id"].as_str();
    let net = spec.net.as_ref().map(|_| NET);
    let disks = spec.disks.iter().map(|disk| disk.serial.as_str());
    let known: BTreeSet<_> = disks.chain(net).chain(vsock).collect();
    match listed_devices(config).iter().find(|id| !known.contains(*id)) {
        Some(id) => Err(format!("it holds the device {id:?}, which the VM does not have")),
        None => Ok(()),
    }
}

fn rewrite_disk(config: &mut Value, disk: &DiskSpec) -> Result<(), String> {
    let device = device(config, "disks", &disk.serial)?;
    if device.get("readonly").and_then(Value::as_bool).unwrap_or(false) != disk.readonly {
        return Err(format!("the disk {:?} is read-only either in it or in the VM", disk.serial));
    }
    set(device, "path", text(&disk.path)?)
}

fn rewrite_memory(config: &mut Value, spec: &VmSpec) -> Result<(), String> {
    let memory = part(config, "memory")?;
    let zones = memory.get_mut("zones").and_then(Value::as_array_mut).filter(|zones| !zones.is_empty());
    match (zones.map(Vec::as_mut_slice), &spec.memory_file) {
        (None, None) => Ok(()),
        (Some([Value::Object(zone)]), Some(file)) if zone.get("id").is_some_and(|id| id == ZONE) => {
            set(zone, "file", text(file)?)
        }
        (Some(_), Some(_)) => Err("its memory is divided in another way".into()),
        (Some(_), None) => Err("its memory lies in a file, the VM's does not".into()),
        (None, Some(_)) => Err("its memory does not lie in a file, the VM's does".into()),
    }
}

/// Looks at the file of a rewritten configuration's memory: one that is too short would end the VMM later, in the middle
/// of anything. Blocks.
///
/// # Errors
/// In words.
pub(super) fn check_memory_file(config: &Value) -> Result<(), String> {
    let zone = &config["memory"]["zones"][0];
    let (Some(file), Some(size)) = (zone["file"].as_str(), zone["size"].as_u64()) else { return Ok(()) };
    match std::fs::metadata(file) {
        Ok(metadata) if metadata.len() == size => Ok(()),
        Ok(metadata) => {
            Err(format!("the memory file {file:?} is {} bytes long, {size} would be right", metadata.len()))
        }
        Err(error) => Err(format!("look at the memory file {file:?}: {error}")),
    }
}

fn part<'a>(config: &'a mut Value, name: &str) -> Result<&'a mut Map<String, Value>, String> {
    config.get_mut(name).and_then(Value::as_object_mut).ok_or_else(|| format!("{CONFIG} has no {name}"))
}

fn device<'a>(config: &'a mut Value, list: &str, id: &str) -> Result<&'a mut Map<String, Value>, String> {
    let devices = config.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
    let mut found =
        devices.filter_map(Value::as_object_mut).filter(|device| device.get("id").is_some_and(|it| it == id));
    match (found.next(), found.next()) {
        (Some(device), None) => Ok(device),
        (Some(_), Some(_)) => Err(format!("it holds two devices {id:?}")),
        (None, _) => Err(format!("it does not hold the device {id:?}, which the VM has")),
    }
}

/// Replaces a field that is there already, or that the VMM leaves out when it is empty.
fn set(object: &mut Map<String, Value>, name: &str, value: &str) -> Result<(), String> {
    match object.insert(name.to_owned(), value.into()) {
        None | Some(Value::String(_) | Value::Null) => Ok(()),
        Some(other) => Err(format!("{CONFIG} has {other} for {name}")),
    }
}

fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{path:?} is not UTF-8"))
}

#[cfg(test)]
mod tests;
