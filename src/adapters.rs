//! What the instance manager asks of images and networks, answered by the managers that have them. Managers never know
//! each other; they meet here.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use dataplane_dns::Names;
use dataplane_ext4::{EmptyDisk, format_empty};
use dataplane_images::{Images, ImagesError};
use dataplane_instances::{ImageLease, ImageProgram, LinkError, Links, RootDiskError, RootDisks};
use dataplane_network::{ClaimError, Network, NetworkError};
use dataplane_store::Store;
use dataplane_types::{Digest, Gib, GuestPolicy, InstanceId, Link, Mac, PortMapping, WallClock};
use uuid::Uuid;

/// Images as root disks.
pub(crate) struct ImageDisks {
    pub(crate) images: Images,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn WallClock>,
}

#[async_trait]
impl RootDisks for ImageDisks {
    fn lease(&self, image: &str) -> Result<ImageLease, RootDiskError> {
        let lease = self.images.lease(image).map_err(|error| match error {
            ImagesError::NotReady { status, .. } => RootDiskError::NotReady(image.to_owned(), status.to_string()),
            ImagesError::Reference(_)
            | ImagesError::NotFound(_)
            | ImagesError::InUse { .. }
            | ImagesError::Conflict { .. }
            | ImagesError::Failed(_)
            | ImagesError::Store(_)
            | ImagesError::TaskLost => RootDiskError::NotFound(image.to_owned()),
        })?;
        let view = lease.view();
        Ok(ImageLease {
            id: view.id.clone(),
            digest: lease.digest(),
            filesystem: lease.filesystem().to_owned(),
            program: ImageProgram {
                entrypoint: view.entrypoint.clone(),
                cmd: view.cmd.clone(),
                env: view.env.clone(),
                working_dir: Some(view.working_dir.clone()),
                user: Some(view.user.clone()),
                stop_signal: Some(view.stop_signal.clone()),
            },
            hold: Box::new(lease),
        })
    }

    fn image_disk(&self, image: &Digest) -> PathBuf {
        self.store.layout().image_disk(image)
    }

    async fn make_writable(&self, path: &Path, size: Gib, uuid: Uuid) -> Result<(), RootDiskError> {
        let path = path.to_owned();
        let epoch = u32::try_from(self.clock.now().timestamp()).unwrap_or(0);
        let made = tokio::task::spawn_blocking(move || {
            // Hashes of names differ from disk to disk, as the random part of the uuid does.
            let seed = uuid.as_bytes();
            let hash_seed =
                [0, 4, 8, 12].map(|at| u32::from_le_bytes([seed[at], seed[at + 1], seed[at + 2], seed[at + 3]]));
            format_empty(&path, &EmptyDisk { bytes: size.bytes(), uuid, hash_seed, label: "writable", epoch })
        });
        match made.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.is_disk_full() => Err(RootDiskError::NoSpace),
            Ok(Err(error)) => Err(RootDiskError::Make(error.to_string())),
            Err(error) => Err(RootDiskError::Make(error.to_string())),
        }
    }
}

/// The network's links.
#[derive(Debug)]
pub(crate) struct NetworkLinks(pub(crate) Arc<Network>);

#[async_trait]
impl Links for NetworkLinks {
    fn claim(
        &self,
        id: &InstanceId,
        ip: Option<Ipv4Addr>,
        mac: Option<Mac>,
        ports: &[PortMapping],
    ) -> Result<Link, LinkError> {
        self.0.claim(id, ip, mac, ports).map_err(claim_error)
    }

    fn claim_ports(&self, id: &InstanceId, ports: &[PortMapping]) -> Result<(), LinkError> {
        self.0.claim_ports(id, ports).map_err(claim_error)
    }

    fn keep_ports(&self, id: &InstanceId, ports: &[PortMapping]) {
        self.0.keep_ports(id, ports);
    }

    async fn check_ports(&self, id: &InstanceId, ports: &[PortMapping]) -> Result<(), LinkError> {
        self.0.check_ports(id, ports).await.map_err(host_error)
    }

    fn adopt(&self, id: &InstanceId, link: &Link, policy: &GuestPolicy) -> Result<(), LinkError> {
        self.0.adopt(id, link, policy).map_err(claim_error)
    }

    fn release(&self, id: &InstanceId) {
        self.0.release(id);
    }

    async fn ensure(&self, id: &InstanceId, link: &Link, policy: &GuestPolicy, owner: u32) -> Result<(), LinkError> {
        // The VMM has no capability: owning the TAP is what lets it open it.
        self.0.ensure(id, link, policy, owner).await.map_err(host_error)
    }

    async fn limit(&self, id: &InstanceId, link: &Link, megabits: Option<u32>) -> Result<(), LinkError> {
        self.0.limit(id, link, megabits).await.map_err(host_error)
    }

    async fn remove(&self, link: &Link) -> Result<(), LinkError> {
        self.0.remove(link).await.map_err(host_error)
    }
}

/// The names that guests resolve: the ids of whoever holds an address.
#[derive(Debug)]
pub(crate) struct HeldNames(pub(crate) Arc<Network>);

impl Names for HeldNames {
    fn address_of(&self, host: &str) -> Option<Ipv4Addr> {
        self.0.address_of(&host.parse().ok()?)
    }

    fn host_of(&self, address: Ipv4Addr) -> Option<String> {
        self.0.holder_of(address).map(|id| id.to_string())
    }
}

fn claim_error(error: ClaimError) -> LinkError {
    let text = error.to_string();
    match error {
        ClaimError::AddressInUse { .. } | ClaimError::MacInUse { .. } => LinkError::InUse(text),
        ClaimError::PortInUse { .. } | ClaimError::PortOfHost { .. } => LinkError::PortInUse(text),
        ClaimError::Full { .. } => LinkError::Full(text),
        ClaimError::NotInSubnet { .. }
        | ClaimError::MacReserved { .. }
        | ClaimError::AlreadyHolds { .. }
        | ClaimError::OtherPlan { .. }
        | ClaimError::OtherTap { .. } => LinkError::Impossible(text),
    }
}

fn host_error(error: NetworkError) -> LinkError {
    match error {
        NetworkError::Port(error) => claim_error(error),
        NetworkError::SubnetOverlap { .. }
        | NetworkError::ForeignBridge { .. }
        | NetworkError::ForeignTap { .. }
        | NetworkError::ForeignInterface { .. }
        | NetworkError::UplinkMissing(_)
        | NetworkError::UplinkIsBridge(_)
        | NetworkError::UplinkName(_)
        | NetworkError::Egress(_)
        | NetworkError::Backend(_)
        | NetworkError::Teardown(_) => LinkError::Host(crate::chain(&error)),
    }
}
