//! The files of a snapshot, in the real VMM's shapes: a configuration, a tree of states whose leaves are documents in
//! strings, and the memory with its holes.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::VmConfig;
use crate::control::{Fault, die};
use crate::memory::Memory;

const CONFIG: &str = "config.json";
const STATE: &str = "state.json";
const MEMORY: &str = "memory-ranges";
/// Where low memory ends and high memory begins.
const LOW_END: u64 = 3 << 30;
const HIGH_START: u64 = 4 << 30;
/// Where plugged memory begins: above anything that a test gives a VM.
const PLUGGED_START: u64 = 1 << 40;

/// A chain of messages, from the outermost to the cause.
type Chain = Vec<String>;

/// The directory that a URL names.
///
/// # Errors
/// The real VMM's messages.
pub(crate) fn directory(url: &str, act: &str) -> Result<PathBuf, Chain> {
    let failed = |message| vec![act.to_owned(), "Failed to send migratable component snapshot".into(), message];
    let path = url.strip_prefix("file://").ok_or_else(|| failed(format!("Could not extract path from URL: {url}")))?;
    let path = PathBuf::from(path);
    if path.is_dir() { Ok(path) } else { Err(failed(format!("Destination is not a directory: {path:?}"))) }
}

/// Writes one. Files that are there already are never replaced.
///
/// # Errors
/// The real VMM's messages; what is written by then stays.
pub(crate) fn write(directory: &Path, config: &VmConfig, memory: &Memory, fault: Option<Fault>) -> Result<(), Chain> {
    let failed = |act: &str, error: io::Error| {
        let send = "Failed to send migratable component snapshot".into();
        vec!["Cannot send VM snapshot".into(), send, act.to_owned(), error.to_string()]
    };
    let mut file =
        create(directory, CONFIG).map_err(|error| failed("Error creating VM config snapshot file", error))?;
    let text = config.raw.to_string();
    file.write_all(text.as_bytes()).map_err(|error| failed("Error writing VM config snapshot", error))?;
    let mut file = create(directory, STATE).map_err(|error| failed("Error creating VM state snapshot file", error))?;
    let ranges = ranges(config);
    let text = state(config, memory, &ranges).to_string();
    // A short write is no error to the real one.
    let written = if fault == Some(Fault::Full) { text.len() / 2 } else { text.len() };
    file.write_all(&text.as_bytes()[..written]).map_err(|error| failed("Error writing VM state snapshot", error))?;
    if fault == Some(Fault::Fail) {
        return Err(failed("Error writing sparse memory snapshot region", io::Error::other("Failed on demand")));
    }
    if ranges.is_empty() {
        if fault == Some(Fault::Die) {
            die();
        }
        return Ok(());
    }
    let file = create(directory, MEMORY).map_err(|error| failed("Error creating memory snapshot file", error))?;
    let length: u64 = ranges.iter().map(|(_, length)| length).sum();
    let length = if fault == Some(Fault::Truncate) { length - 4096 } else { length };
    let sized = file.set_len(length);
    match fault {
        Some(Fault::Die) => die(),
        Some(Fault::Full) => {
            let full = io::Error::from_raw_os_error(nix::libc::ENOSPC);
            return Err(failed("Error writing sparse memory snapshot region", full));
        }
        Some(Fault::Fail | Fault::Truncate | Fault::Busy | Fault::Stall) | None => {}
    }
    let written = sized.and_then(|()| memory.store(&file));
    written.map_err(|error| failed("Error writing sparse memory snapshot region", error))
}

fn create(directory: &Path, name: &str) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).mode(0o600).open(directory.join(name))
}

/// Guest addresses and lengths of what is saved; memory in a shared file is saved where it is.
fn ranges(config: &VmConfig) -> Vec<(u64, u64)> {
    let memory = &config.parsed.memory;
    if memory.zones.iter().flatten().any(|zone| zone.file.is_some() && zone.shared) {
        return Vec::new();
    }
    let size = memory.boot_size();
    let low = (0, size.min(LOW_END));
    let high = (HIGH_START, size.saturating_sub(LOW_END));
    let plugged = (PLUGGED_START, memory.hotplugged_size.unwrap_or(0));
    [low, high, plugged].into_iter().filter(|(_, length)| *length > 0).collect()
}

fn state(config: &VmConfig, memory: &Memory, ranges: &[(u64, u64)]) -> Value {
    let leaf = |state: &Value| json!({"snapshots": {}, "snapshot_data": {"state": state.to_string()}});
    let node = |snapshots: Map<String, Value>| json!({"snapshots": snapshots, "snapshot_data": null});
    let vcpus = (0..config.parsed.cpus.boot_vcpus).map(|vcpu| (vcpu.to_string(), leaf(&json!({"id": vcpu}))));
    let devices = config.device_ids().into_iter().map(|id| (id, leaf(&json!({"activated": true}))));
    let data: Vec<_> = ranges.iter().map(|(gpa, length)| json!({"gpa": gpa, "length": length})).collect();
    let memory_manager = json!({
        "memory_ranges": {"data": data},
        "guest_ram_mappings": [],
        "boot_ram": config.parsed.memory.boot_size(),
        "current_ram": config.offered().memory_bytes,
    });
    json!({
        "snapshots": {
            "cpu-manager": node(vcpus.collect()),
            "device-manager": node(devices.collect()),
            "memory-manager": leaf(&memory_manager),
        },
        "snapshot_data": {"state": json!({"clock": null, "mark": memory.mark}).to_string()},
    })
}

/// A snapshot that was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The ids of the devices whose states it holds.
    pub(crate) devices: Vec<String>,
    /// The mark that the guest's disk had.
    pub(crate) mark: u64,
    /// Whether memory is to be filled in from it.
    has_memory: bool,
    directory: PathBuf,
}

impl Loaded {
    /// Reads the state.
    ///
    /// # Errors
    /// The real VMM's messages.
    pub(crate) fn read(directory: PathBuf) -> Result<Self, Chain> {
        let tree: Tree = parse(&directory, STATE, "state")?;
        let leaf =
            |node: Option<&Tree>| node.and_then(|node| node.snapshot_data.as_ref()).map(|data| data.state.clone());
        let inner = |text: Option<String>| text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let mark = inner(leaf(Some(&tree))).and_then(|own| own["mark"].as_u64());
        let memory = inner(leaf(tree.snapshots.get("memory-manager")));
        let (Some(mark), Some(memory)) = (mark, memory) else {
            return Err(cannot_restore("Could not find VM config snapshot section".into()));
        };
        let devices = tree.snapshots.get("device-manager").into_iter().flat_map(|node| node.snapshots.keys().cloned());
        let has_memory = memory["memory_ranges"]["data"].as_array().is_some_and(|ranges| !ranges.is_empty());
        Ok(Self { devices: devices.collect(), mark, has_memory, directory })
    }

    /// Reads the memory: from the snapshot, or from the file that it lies in. Too short a file is no error.
    ///
    /// # Errors
    /// The real VMM's messages.
    pub(crate) fn memory(&self, config: &VmConfig) -> Result<Option<Memory>, Chain> {
        let lies_in = config.open_memory_file()?;
        let image = match lies_in {
            Some(file) => Some(file),
            None if self.has_memory => Some(File::open(self.directory.join(MEMORY)).map_err(|error| {
                vec!["Memory manager error".into(), "Error opening snapshot file".into(), error.to_string()]
            })?),
            None => None,
        };
        Ok(image.as_ref().and_then(Memory::load))
    }
}

/// Reads the configuration.
///
/// # Errors
/// The real VMM's messages.
pub(crate) fn read_config(directory: &Path) -> Result<VmConfig, Chain> {
    let raw: Value = parse(directory, CONFIG, "config")?;
    VmConfig::parse(raw.to_string().as_bytes()).map_err(|error| malformed("config", &error))
}

#[derive(Debug, Deserialize)]
struct Tree {
    #[serde(default)]
    snapshots: std::collections::BTreeMap<String, Tree>,
    snapshot_data: Option<Leaf>,
}

#[derive(Debug, Deserialize)]
struct Leaf {
    state: String,
}

fn parse<T: serde::de::DeserializeOwned>(directory: &Path, name: &str, what: &str) -> Result<T, Chain> {
    let path = directory.join(name);
    let text = std::fs::read(&path).map_err(|error| {
        let mut chain = cannot_restore(format!("Error opening VM {what} snapshot file {path:?}"));
        chain.push(error.to_string());
        chain
    })?;
    serde_json::from_slice(&text).map_err(|error| malformed(what, &error.to_string()))
}

fn malformed(what: &str, error: &str) -> Chain {
    let mut chain = cannot_restore(format!("Error deserialising VM {what} snapshot"));
    chain.push(error.to_owned());
    chain
}

fn cannot_restore(message: String) -> Chain {
    vec!["Cannot restore VM".into(), "Failed to receive migratable component snapshot".into(), message]
}
