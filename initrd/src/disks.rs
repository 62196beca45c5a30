//! The guest's disks, found by serial: letters depend on the order in which the bus was walked.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dataplane_agent::{CONFIG_DISK_SERIAL, GuestConfig, IMAGE_DISK_SERIAL, MAX_CONFIG_BYTES, WRITABLE_DISK_SERIAL};

use crate::error::{During as _, InitError};
use crate::uevent::Uevents;

const LIMIT: Duration = Duration::from_secs(10);

/// The device files of the three disks.
#[derive(Debug)]
pub(crate) struct Disks {
    pub(crate) config: PathBuf,
    pub(crate) image: PathBuf,
    pub(crate) writable: PathBuf,
}

pub(crate) fn find(uevents: &Uevents) -> Result<Disks, InitError> {
    let block = Path::new("/sys/block");
    let found = |serial: &str| {
        let device = uevents.wait(LIMIT, || Ok(device_with_serial(&serials(block), serial)))?;
        device.map(|name| Path::new("/dev").join(name)).ok_or_else(|| InitError::NoDisk {
            serial: serial.to_owned(),
            seconds: LIMIT.as_secs(),
            found: describe(&serials(block)),
        })
    };
    Ok(Disks {
        config: found(CONFIG_DISK_SERIAL)?,
        image: found(IMAGE_DISK_SERIAL)?,
        writable: found(WRITABLE_DISK_SERIAL)?,
    })
}

/// The name of the disk with a serial.
pub(crate) fn named(serial: &str) -> Option<String> {
    device_with_serial(&serials(Path::new("/sys/block")), serial)
}

pub(crate) fn read_config(disk: &Path) -> Result<GuestConfig, InitError> {
    let mut content = Vec::new();
    let limit = MAX_CONFIG_BYTES as u64 + 4096;
    let file = File::open(disk).during("open the configuration disk", disk.display())?;
    file.take(limit).read_to_end(&mut content).during("read the configuration disk", disk.display())?;
    GuestConfig::from_disk(&content).map_err(InitError::Config)
}

/// Name and serial of every block device that has one.
fn serials(block: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(block) else { return Vec::new() };
    let named = entries.flatten().filter_map(|entry| {
        let serial = fs::read_to_string(entry.path().join("serial")).ok()?;
        Some((entry.file_name().into_string().ok()?, serial.trim_end_matches(['\n', '\0']).to_owned()))
    });
    named.collect()
}

fn device_with_serial(serials: &[(String, String)], wanted: &str) -> Option<String> {
    serials.iter().find(|(_, serial)| serial == wanted).map(|(name, _)| name.clone())
}

fn describe(serials: &[(String, String)]) -> String {
    if serials.is_empty() {
        return "no disks".to_owned();
    }
    serials.iter().map(|(name, serial)| format!("{name} (`{serial}`)")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests lay out a directory, no record")]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_its_serial() {
        let block = tempfile::tempdir().unwrap();
        for (name, serial) in [("vda", Some("writable")), ("vdb", Some("image\n")), ("loop0", None)] {
            fs::create_dir(block.path().join(name)).unwrap();
            if let Some(serial) = serial {
                fs::write(block.path().join(name).join("serial"), serial).unwrap();
            }
        }
        let serials = serials(block.path());
        assert_eq!(device_with_serial(&serials, "image").as_deref(), Some("vdb"));
        assert_eq!(device_with_serial(&serials, "writable").as_deref(), Some("vda"));
        assert_eq!(device_with_serial(&serials, "config"), None);
        assert!(describe(&serials).contains("vdb (`image`)"));
        assert_eq!(describe(&[]), "no disks");
    }
}
