//! What the simulation reads of a `VmConfig`; everything else is kept, and shown again by `vm.info` and in snapshots.

use std::fs::File;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::guest::Offered;

/// The TAP's own MAC, which the real VMM reads when it opens the TAP, and writes into its configuration.
const HOST_MAC: &str = "02:fa:ce:00:00:01";

/// A stored configuration.
#[derive(Debug, Clone)]
pub(crate) struct VmConfig {
    /// As it was sent.
    pub(crate) raw: Value,
    pub(crate) parsed: Parsed,
}

/// The fields that have an effect here.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Parsed {
    #[serde(default)]
    pub(crate) payload: Option<Payload>,
    #[serde(default)]
    pub(crate) cpus: Cpus,
    #[serde(default)]
    pub(crate) memory: Memory,
    #[serde(default)]
    pub(crate) disks: Option<Vec<Disk>>,
    #[serde(default)]
    pub(crate) net: Option<Vec<Device>>,
    #[serde(default)]
    pub(crate) vsock: Option<Vsock>,
    #[serde(default)]
    pub(crate) serial: Option<Console>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Payload {
    pub(crate) kernel: Option<PathBuf>,
    pub(crate) initramfs: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Cpus {
    pub(crate) boot_vcpus: u32,
    pub(crate) max_vcpus: u32,
}

impl Default for Cpus {
    fn default() -> Self {
        Self { boot_vcpus: 1, max_vcpus: 1 }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Memory {
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) hotplug_method: Option<String>,
    #[serde(default)]
    pub(crate) hotplug_size: Option<u64>,
    #[serde(default)]
    pub(crate) hotplugged_size: Option<u64>,
    #[serde(default)]
    pub(crate) zones: Option<Vec<Zone>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { size: 512 << 20, hotplug_method: None, hotplug_size: None, hotplugged_size: None, zones: None }
    }
}

impl Memory {
    /// What the VM booted with.
    pub(crate) fn boot_size(&self) -> u64 {
        self.size + self.zones.iter().flatten().map(|zone| zone.size).sum::<u64>()
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Zone {
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) shared: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Disk {
    #[serde(default)]
    pub(crate) id: Option<String>,
    pub(crate) path: PathBuf,
    #[serde(default)]
    pub(crate) readonly: bool,
    #[serde(default)]
    pub(crate) serial: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Device {
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) host_mac: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Vsock {
    #[serde(default)]
    pub(crate) id: Option<String>,
    pub(crate) socket: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Console {
    pub(crate) mode: String,
}

impl VmConfig {
    /// # Errors
    /// What `vm.create` answers to a body that does not parse.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        let raw: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let parsed = Parsed::deserialize(&raw).map_err(|error| error.to_string())?;
        Ok(Self { raw, parsed })
    }

    /// The answer to `vm.info`; only a VM that has been built has devices.
    pub(crate) fn info(&self, state: &str, built: bool) -> Value {
        let memory = &self.parsed.memory;
        let size = memory.boot_size() + memory.hotplugged_size.unwrap_or(0);
        let mut info = json!({"config": self.raw, "state": state, "memory_actual_size": size});
        if built {
            info["device_tree"] = self.device_tree();
        }
        info
    }

    fn device_tree(&self) -> Value {
        let mut tree = Map::new();
        let growing = self.parsed.memory.hotplug_size.map(|_| "mem0".to_owned());
        let own = ["__rng", "__balloon"].map(str::to_owned);
        for id in self.device_ids().into_iter().chain(growing).chain(own) {
            let name = format!("_virtio-pci-{id}");
            tree.insert(name.clone(), json!({"id": name, "resources": [], "parent": null, "children": [id]}));
            tree.insert(id.clone(), json!({"id": id, "resources": [], "parent": name, "children": []}));
        }
        tree.into()
    }

    /// The ids of the devices whose drivers a guest brings up, in their order.
    pub(crate) fn device_ids(&self) -> Vec<String> {
        let disks = self.parsed.disks.iter().flatten().map(|disk| disk.id.clone());
        let nets = self.parsed.net.iter().flatten().map(|net| net.id.clone());
        let vsock = self.parsed.vsock.iter().map(|vsock| vsock.id.clone());
        disks.chain(nets).chain(vsock).flatten().collect()
    }

    /// What the real VMM adds to the configuration when it makes the devices: ids where none are given, and the MAC of
    /// the TAP itself.
    pub(crate) fn resolve(&mut self) {
        let mut number = 0;
        let mut name = |device: &mut Value, kind: &str| {
            if device.is_object() && device["id"].is_null() {
                device["id"] = format!("_{kind}{number}").into();
                number += 1;
            }
        };
        self.edit(|raw| {
            for (list, kind) in [("disks", "disk"), ("net", "net")] {
                for device in raw.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                    name(device, kind);
                    if list == "net" && device["host_mac"].is_null() {
                        device["host_mac"] = HOST_MAC.into();
                    }
                }
            }
            if let Some(vsock) = raw.get_mut("vsock") {
                name(vsock, "vsock");
            }
        });
    }

    /// Changes fields.
    pub(crate) fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        edit(&mut self.raw);
        if let Ok(parsed) = Parsed::deserialize(&self.raw) {
            self.parsed = parsed;
        }
    }

    /// What its guest is offered.
    pub(crate) fn offered(&self) -> Offered {
        let Parsed { cpus, memory, .. } = &self.parsed;
        let memory_bytes = memory.boot_size() + memory.hotplugged_size.unwrap_or(0);
        Offered { vcpus: cpus.boot_vcpus, memory_bytes }
    }

    /// The file that is the memory, when that is how it is configured.
    ///
    /// # Errors
    /// The chain of messages when it cannot be opened.
    pub(crate) fn open_memory_file(&self) -> Result<Option<File>, Vec<String>> {
        let file = self.parsed.memory.zones.iter().flatten().find_map(|zone| zone.file.as_ref());
        let open = |path| File::options().read(true).write(true).open(path);
        file.map(open).transpose().map_err(|error| vec!["Memory manager error".into(), error.to_string()])
    }
}
