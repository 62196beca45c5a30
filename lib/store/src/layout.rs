//! Every path of the data and runtime directories. Nobody else joins a string to a directory.

use std::path::{Path, PathBuf};

use dataplane_types::{Digest, ImageId, InstanceId, OperationId};
use uuid::Uuid;

/// How the name of a draft begins, where instances lie.
pub const DRAFT_PREFIX: &str = ".new-";

/// How the name of a snapshot that is being taken begins, in an instance's directory.
pub const SNAPSHOT_DRAFT_PREFIX: &str = "snapshot.new-";

/// How the name of a snapshot that has been used up begins, in an instance's directory.
pub const SNAPSHOT_SPENT_PREFIX: &str = "snapshot.spent-";

/// Length of an instance's directory name below the runtime directory: 8 hex digits.
pub const RUN_NAME_LENGTH: usize = 8;

/// Longest socket path that `sockaddr_un` holds (`sun_path` is 108 bytes with its NUL; unix(7)).
const SUN_PATH_MAX: usize = 107;

/// Longest file name that we put below an instance's runtime directory (`vsock.sock_` and a 10-digit port).
const LONGEST_SOCKET_NAME: usize = 21;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A directory must be absolute, so that it means the same to every process.
    #[error("{0:?} is not an absolute path")]
    NotAbsolute(PathBuf),
    /// Socket paths below it would not fit `sun_path`.
    #[error("{path:?} is too long: sockets below it would need {needed} bytes, 107 fit; choose a shorter directory")]
    TooLong {
        /// The runtime directory.
        path: PathBuf,
        /// What the longest socket path below it would need, in bytes.
        needed: usize,
    },
}

/// The data directory (what must survive) and the runtime directory (sockets).
#[derive(Debug, Clone)]
pub struct Layout {
    data: PathBuf,
    runtime: PathBuf,
}

impl Layout {
    /// A layout below two absolute directories. Touches nothing.
    ///
    /// # Errors
    /// [`LayoutError`] when a path is relative, or so long that sockets below it could not be bound.
    pub fn new(data: PathBuf, runtime: PathBuf) -> Result<Self, LayoutError> {
        for path in [&data, &runtime] {
            if !path.is_absolute() {
                return Err(LayoutError::NotAbsolute(path.clone()));
            }
        }
        let needed = runtime.as_os_str().len() + 1 + RUN_NAME_LENGTH + 1 + LONGEST_SOCKET_NAME;
        if needed > SUN_PATH_MAX {
            return Err(LayoutError::TooLong { path: runtime, needed });
        }
        Ok(Self { data, runtime })
    }

    /// The data directory itself.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The runtime directory itself.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// The file whose lock says that a daemon owns the data directory.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.data.join("lock")
    }

    /// The record of the data directory itself: layout version and uuid.
    #[must_use]
    pub fn node_record(&self) -> PathBuf {
        self.data.join("node.json")
    }

    /// Where things go before they are deleted; emptied at start.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.data.join("trash")
    }

    /// Kernels and initramfs images, each named by its SHA-256.
    #[must_use]
    pub fn boot(&self) -> PathBuf {
        self.data.join("boot")
    }

    /// One kernel or initramfs.
    #[must_use]
    pub fn boot_file(&self, digest: &Digest) -> PathBuf {
        self.boot().join(digest.hex())
    }

    /// Everything of the image manager.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// The image records, one JSON file each.
    #[must_use]
    pub fn image_records(&self) -> PathBuf {
        self.images().join("records")
    }

    /// The record of one image.
    #[must_use]
    pub fn image_record(&self, id: &ImageId) -> PathBuf {
        self.image_records().join(format!("{id}.json"))
    }

    /// The read-only disks made from images, shared by all their instances.
    #[must_use]
    pub fn image_disks(&self) -> PathBuf {
        self.images().join("disks")
    }

    /// The disk of one image, named by the manifest's digest.
    #[must_use]
    pub fn image_disk(&self, manifest: &Digest) -> PathBuf {
        self.image_disks().join(format!("{}.img", manifest.hex()))
    }

    /// Scratch space of running pulls and imports; emptied at start.
    #[must_use]
    pub fn image_work(&self) -> PathBuf {
        self.images().join("work")
    }

    /// The scratch directory of one pull or import.
    #[must_use]
    pub fn image_operation(&self, operation: &OperationId) -> PathBuf {
        self.image_work().join(operation.as_str())
    }

    /// All instances.
    #[must_use]
    pub fn instances(&self) -> PathBuf {
        self.data.join("instances")
    }

    /// The files of one instance.
    #[must_use]
    pub fn instance(&self, id: &InstanceId) -> InstancePaths {
        InstancePaths(self.instances().join(id.as_str()))
    }

    /// The files of an instance that is being made by an operation and does not exist yet.
    /// Instance ids hold no dot, so the name can never be an instance's.
    #[must_use]
    pub fn instance_draft(&self, operation: &OperationId) -> InstancePaths {
        InstancePaths(self.instances().join(format!("{DRAFT_PREFIX}{operation}")))
    }

    /// The runtime directory of one instance: the last 8 hex digits of its uuid.
    #[must_use]
    pub fn run(&self, uuid: &Uuid) -> PathBuf {
        let hex = uuid.simple().to_string();
        // Not the first ones: a version 7 uuid begins with the time, which many instances share.
        self.runtime.join(&hex[hex.len() - RUN_NAME_LENGTH..])
    }
}

/// The directory of one instance and what lies in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstancePaths(PathBuf);

impl InstancePaths {
    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The record: the one file that says what the instance is.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.0.join("instance.json")
    }

    /// The writable layer: a thin raw disk.
    #[must_use]
    pub fn writable_disk(&self) -> PathBuf {
        self.0.join("rootfs.img")
    }

    /// The read-only disk with the guest's configuration.
    #[must_use]
    pub fn config_disk(&self) -> PathBuf {
        self.0.join("config.img")
    }

    /// The committed snapshot: while it has this name, the instance is in standby.
    #[must_use]
    pub fn snapshot(&self) -> PathBuf {
        self.0.join("snapshot")
    }

    /// The snapshot that an operation is taking.
    #[must_use]
    pub fn snapshot_draft(&self, operation: &OperationId) -> PathBuf {
        self.0.join(format!("{SNAPSHOT_DRAFT_PREFIX}{operation}"))
    }

    /// The snapshot that an operation has used up.
    #[must_use]
    pub fn snapshot_spent(&self, operation: &OperationId) -> PathBuf {
        self.0.join(format!("{SNAPSHOT_SPENT_PREFIX}{operation}"))
    }

    /// Whether a path is that of a snapshot of this instance that is not, or no longer, the committed one.
    #[must_use]
    pub fn is_snapshot_leaving(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        path.parent() == Some(self.root())
            && (name.starts_with(SNAPSHOT_DRAFT_PREFIX) || name.starts_with(SNAPSHOT_SPENT_PREFIX))
    }

    /// What belongs to the VMM's own user.
    #[must_use]
    pub fn vm(&self) -> PathBuf {
        self.0.join("vm")
    }

    /// The guest's memory, where that is a file. Not in the snapshot: its path stays true over every rename.
    #[must_use]
    pub fn memory_file(&self) -> PathBuf {
        self.vm().join("memory.img")
    }

    /// Everything that is appended to and never renamed.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// What the guest's console said, for the whole life of the instance.
    #[must_use]
    pub fn serial_log(&self) -> PathBuf {
        self.logs().join("serial.log")
    }

    /// What the VMM processes said on standard error.
    #[must_use]
    pub fn vmm_log(&self) -> PathBuf {
        self.logs().join("vmm.log")
    }

    /// What the daemon did to the instance.
    #[must_use]
    pub fn dataplane_log(&self) -> PathBuf {
        self.logs().join("dataplane.log")
    }

    /// The events of one VMM generation.
    #[must_use]
    pub fn events(&self, generation: u64) -> PathBuf {
        self.logs().join(format!("events.{generation}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_and_overlong_directories_are_refused() {
        assert!(matches!(Layout::new("data".into(), "/run/d".into()), Err(LayoutError::NotAbsolute(_))));
        let long = PathBuf::from(format!("/{}", "r".repeat(90)));
        assert!(matches!(Layout::new("/data".into(), long), Err(LayoutError::TooLong { .. })));
    }

    #[test]
    fn every_socket_fits_sun_path() {
        let runtime =
            PathBuf::from(format!("/{}", "r".repeat(SUN_PATH_MAX - 1 - 1 - RUN_NAME_LENGTH - 1 - LONGEST_SOCKET_NAME)));
        let layout = Layout::new("/data".into(), runtime).unwrap();
        let socket = layout.run(&Uuid::nil()).join("x".repeat(LONGEST_SOCKET_NAME));
        assert_eq!(socket.as_os_str().len(), SUN_PATH_MAX);
    }
}
