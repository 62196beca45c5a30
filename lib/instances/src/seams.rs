//! What the instance manager needs of others, in its own words. The composition root supplies adapters.

use std::any::Any;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use dataplane_types::{Digest, Gib, GuestPolicy, ImageId, InstanceId, Link, Mac, PortMapping};
use uuid::Uuid;

/// A ready image that nobody deletes while this is held.
pub struct ImageLease {
    /// The image.
    pub id: ImageId,
    /// Digest of its manifest.
    pub digest: Digest,
    /// File system of its disk.
    pub filesystem: String,
    /// What it runs.
    pub program: ImageProgram,
    /// Dropped when the lease ends.
    pub hold: Box<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for ImageLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageLease").field("id", &self.id).field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// The part of an image's configuration that says what to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageProgram {
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Cmd.
    pub cmd: Vec<String>,
    /// Environment, `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// User.
    pub user: Option<String>,
    /// Stop signal.
    pub stop_signal: Option<String>,
}

/// Why an image or a disk cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RootDiskError {
    /// No image has that id, reference or digest.
    #[error("no image {0:?}; pull or import it first")]
    NotFound(String),
    /// The image exists and is not ready.
    #[error("image {0:?} is not ready: {1}")]
    NotReady(String, String),
    /// The disk is full.
    #[error("no space for the writable layer")]
    NoSpace,
    /// The disk could not be made.
    #[error("make the writable layer: {0}")]
    Make(String),
}

/// Disks to boot from.
#[async_trait]
pub trait RootDisks: Send + Sync {
    /// A ready image by id, reference or digest.
    ///
    /// # Errors
    /// [`RootDiskError::NotFound`], [`RootDiskError::NotReady`].
    fn lease(&self, image: &str) -> Result<ImageLease, RootDiskError>;

    /// Where the read-only disk of an image lies.
    fn image_disk(&self, image: &Digest) -> PathBuf;

    /// Makes a thin disk with an empty file system, synced.
    ///
    /// # Errors
    /// [`RootDiskError::NoSpace`], [`RootDiskError::Make`].
    async fn make_writable(&self, path: &Path, size: Gib, uuid: Uuid) -> Result<(), RootDiskError>;
}

/// Why a link cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// All addresses are taken.
    #[error("no address is left: {0}")]
    Full(String),
    /// The wanted address or MAC is somebody's.
    #[error("{0}")]
    InUse(String),
    /// A wanted port of the host is somebody's.
    #[error("{0}")]
    PortInUse(String),
    /// The wanted address can be nobody's here.
    #[error("{0}")]
    Impossible(String),
    /// The kernel refused.
    #[error("{0}")]
    Host(String),
}

/// Links between guests and the host.
#[async_trait]
pub trait Links: Send + Sync {
    /// Reserves an address, a MAC, a TAP name and ports of the host, in memory: durable once the caller's record is.
    ///
    /// # Errors
    /// [`LinkError`] but `Host`.
    fn claim(
        &self,
        id: &InstanceId,
        ip: Option<Ipv4Addr>,
        mac: Option<Mac>,
        ports: &[PortMapping],
    ) -> Result<Link, LinkError>;

    /// Reserves ports of the host beside those that the instance holds: all of them or none.
    ///
    /// # Errors
    /// [`LinkError::PortInUse`].
    fn claim_ports(&self, id: &InstanceId, ports: &[PortMapping]) -> Result<(), LinkError>;

    /// Gives back all ports that the instance holds but these.
    fn keep_ports(&self, id: &InstanceId, ports: &[PortMapping]);

    /// Whether no program of the host has these ports; those that the instance holds are its own.
    ///
    /// # Errors
    /// [`LinkError::PortInUse`], [`LinkError::Host`].
    async fn check_ports(&self, id: &InstanceId, ports: &[PortMapping]) -> Result<(), LinkError>;

    /// Takes over what a record names, at start.
    ///
    /// # Errors
    /// [`LinkError::InUse`] when two records name the same thing.
    fn adopt(&self, id: &InstanceId, link: &Link, policy: &GuestPolicy) -> Result<(), LinkError>;

    /// Gives back what the instance holds.
    fn release(&self, id: &InstanceId);

    /// Makes the link exist in the kernel, for a VMM that runs as `owner` to open, with what its guest may do; done
    /// already is a success, and where the guest runs its policy is changed.
    ///
    /// # Errors
    /// [`LinkError::Host`].
    async fn ensure(&self, id: &InstanceId, link: &Link, policy: &GuestPolicy, owner: u32) -> Result<(), LinkError>;

    /// Limits what passes over it each way to so many megabits per second, or no longer. It has to exist in the kernel;
    /// limited so already is a success.
    ///
    /// # Errors
    /// [`LinkError::Host`].
    async fn limit(&self, id: &InstanceId, link: &Link, megabits: Option<u32>) -> Result<(), LinkError>;

    /// Takes it out of the kernel; gone already is a success.
    ///
    /// # Errors
    /// [`LinkError::Host`].
    async fn remove(&self, link: &Link) -> Result<(), LinkError>;
}
