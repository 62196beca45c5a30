//! What the simulation reads of a `VmConfig`; everything else is kept and shown again by `vm.info`.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

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
pub(crate) struct Memory {
    pub(crate) size: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { size: 512 << 20 }
    }
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
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Vsock {
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

    /// The answer to `vm.info`.
    pub(crate) fn info(&self, state: &str) -> Value {
        json!({"config": self.raw, "state": state, "memory_actual_size": self.parsed.memory.size})
    }

    /// The ids of the devices whose drivers a guest brings up, in their order.
    pub(crate) fn device_ids(&self) -> Vec<String> {
        let disks = self.parsed.disks.iter().flatten().map(|disk| disk.id.clone());
        let nets = self.parsed.net.iter().flatten().map(|net| net.id.clone());
        let ids = disks.chain(nets).enumerate();
        ids.map(|(index, id)| id.unwrap_or_else(|| format!("_device{index}"))).collect()
    }
}
