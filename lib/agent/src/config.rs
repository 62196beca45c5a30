//! The configuration disk: a header and one JSON document, padded to whole sectors.
//!
//! Layout: 8 bytes magic, the length of the JSON as `u64` little-endian, the JSON, zeros up to a multiple of 4096.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The largest JSON document that a configuration disk holds, in bytes.
pub const MAX_CONFIG_BYTES: usize = 4 << 20;

const MAGIC: &[u8; 8] = b"DPCONF\0\x01";
const HEADER: usize = 16;
const SECTOR: usize = 4096;

/// Everything the guest's init must know. Strings are exact: no shell ever sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// The id of the instance.
    pub instance_id: String,
    /// The guest's host name.
    pub hostname: String,
    /// The fully qualified name, written to `/etc/hosts` beside the host name.
    pub fqdn: Option<String>,
    /// File system type of the image disk, as `mount(2)` wants it.
    pub image_filesystem: String,
    /// The program and its arguments (entrypoint, then cmd). Never empty.
    pub argv: Vec<String>,
    /// The environment, each `NAME=value`, in order. PATH and HOME are added in the guest when absent.
    pub env: Vec<String>,
    /// The working directory; made when missing.
    pub working_dir: String,
    /// The user as the image writes it: empty, `name`, `uid`, `name:group`, `uid:gid` and the mixed forms.
    pub user: String,
    /// The signal that asks the program to end, as a name (`SIGTERM`) or number.
    pub stop_signal: String,
    /// The guest's network; absent when the instance has none.
    pub network: Option<GuestNetwork>,
}

/// The one network device of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNetwork {
    /// The device's MAC, by which the guest finds it.
    pub mac: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Prefix length of the subnet.
    pub prefix_len: u8,
    /// The default gateway.
    pub gateway: Ipv4Addr,
    /// Name servers, in order.
    pub nameservers: Vec<Ipv4Addr>,
    /// Search domain of the resolver.
    pub search: Option<String>,
}

/// Why a configuration disk cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigDiskError {
    /// The magic is missing: this is some other disk.
    #[error("the disk does not begin with the configuration magic")]
    Magic,
    /// The length in the header is impossible.
    #[error("the configuration is {length} bytes long, {limit} are allowed")]
    Length {
        /// What the header (or the encoder) says.
        length: u64,
        /// What is allowed, or what the disk holds.
        limit: usize,
    },
    /// The document is no configuration.
    #[error("parse the configuration")]
    Parse(#[source] serde_json::Error),
}

impl GuestConfig {
    /// The bytes of the disk.
    ///
    /// # Errors
    /// [`ConfigDiskError::Length`] when the document would be larger than [`MAX_CONFIG_BYTES`].
    pub fn to_disk(&self) -> Result<Vec<u8>, ConfigDiskError> {
        let json = serde_json::to_vec(self).map_err(ConfigDiskError::Parse)?;
        if json.len() > MAX_CONFIG_BYTES {
            return Err(ConfigDiskError::Length { length: json.len() as u64, limit: MAX_CONFIG_BYTES });
        }
        let mut disk = Vec::with_capacity((HEADER + json.len()).next_multiple_of(SECTOR));
        disk.extend_from_slice(MAGIC);
        disk.extend_from_slice(&(json.len() as u64).to_le_bytes());
        disk.extend_from_slice(&json);
        disk.resize(disk.len().next_multiple_of(SECTOR), 0);
        Ok(disk)
    }

    /// Reads the bytes of a disk, or of its beginning.
    ///
    /// # Errors
    /// [`ConfigDiskError`] for anything that [`GuestConfig::to_disk`] did not write.
    pub fn from_disk(disk: &[u8]) -> Result<Self, ConfigDiskError> {
        let (header, rest) = disk.split_at_checked(HEADER).ok_or(ConfigDiskError::Magic)?;
        let (magic, length) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(ConfigDiskError::Magic);
        }
        let length = u64::from_le_bytes(length.try_into().map_err(|_| ConfigDiskError::Magic)?);
        let wrong = ConfigDiskError::Length { length, limit: rest.len().min(MAX_CONFIG_BYTES) };
        let json = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_CONFIG_BYTES)
            .and_then(|length| rest.get(..length));
        serde_json::from_slice(json.ok_or(wrong)?).map_err(ConfigDiskError::Parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> GuestConfig {
        GuestConfig {
            instance_id: "web".into(),
            hostname: "web".into(),
            fqdn: None,
            image_filesystem: "ext4".into(),
            argv: vec!["/bin/echo".into(), "a b".into(), "$(x)".into()],
            env: vec!["A=ä \n".into()],
            working_dir: "/".into(),
            user: String::new(),
            stop_signal: "SIGTERM".into(),
            network: None,
        }
    }

    #[test]
    fn a_disk_reads_back_exactly() {
        let disk = config().to_disk().unwrap();
        assert_eq!(disk.len() % SECTOR, 0);
        assert_eq!(GuestConfig::from_disk(&disk).unwrap(), config());
    }

    #[test]
    fn foreign_and_lying_disks_are_refused() {
        assert!(matches!(GuestConfig::from_disk(b""), Err(ConfigDiskError::Magic)));
        assert!(matches!(GuestConfig::from_disk(&[0; SECTOR]), Err(ConfigDiskError::Magic)));
        let mut disk = config().to_disk().unwrap();
        disk[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(GuestConfig::from_disk(&disk), Err(ConfigDiskError::Length { .. })));
        disk[8..16].copy_from_slice(&5u64.to_le_bytes());
        assert!(matches!(GuestConfig::from_disk(&disk), Err(ConfigDiskError::Parse(_))));
    }
}
