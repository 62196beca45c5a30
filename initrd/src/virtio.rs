//! What kinds of virtio devices the machine has, as the bus names them before any of their drivers is loaded.

use std::fs;
use std::path::Path;

/// Device ids of the virtio specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Network = 1,
    Console = 3,
    Vsock = 19,
}

#[derive(Debug)]
pub(crate) struct Devices(Vec<u32>);

impl Devices {
    pub(crate) fn list() -> Self {
        Self(kinds(Path::new("/sys/bus/virtio/devices")))
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.0.contains(&(kind as u32))
    }
}

fn kinds(bus: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(bus) else { return Vec::new() };
    let texts = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("device")).ok());
    texts.filter_map(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()).collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests lay out a directory, no record")]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_hexadecimal() {
        let bus = tempfile::tempdir().unwrap();
        for (device, kind) in [("virtio0", "0x0001\n"), ("virtio1", "0x0013\n"), ("virtio2", "?")] {
            fs::create_dir(bus.path().join(device)).unwrap();
            fs::write(bus.path().join(device).join("device"), kind).unwrap();
        }
        let devices = Devices(kinds(bus.path()));
        assert!(devices.has(Kind::Network) && devices.has(Kind::Vsock) && !devices.has(Kind::Console));
        assert!(!Devices(kinds(Path::new("/nonexistent"))).has(Kind::Network));
    }
}
