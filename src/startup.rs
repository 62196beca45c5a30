//! From a configuration to a running daemon, and back: lock, layout, boot files, network, images, instances, listeners.
//!
//! The order is the safety: nothing is touched before the lock is held, nothing is served before every record has been
//! read and every living VMM adopted.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dataplane_dns::{DnsError, Responder};
use dataplane_images::{ImageOptions, Images, ImagesError};
use dataplane_instances::{BootFiles, Deps, GuestDns, HostLimits, Instances, OpenError};
use dataplane_network::{Backend, Kernel, Network, NetworkConfig, NetworkError, NoBackend};
use dataplane_store::{DirectoryLock, Layout, LayoutError, LockError, Store, StoreError};
use dataplane_types::{Mib, SystemClock};
use dataplane_vmm::{Confiner, HostFacts, SelectError, UidPool, Vmm};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::adapters::{HeldNames, ImageDisks, NetworkLinks};
use crate::boot::{self, BootError};
use crate::memory::Tidying;
use crate::server::{self, Server, ServerError};
use crate::service::{Checks, Dataplane};
use crate::{Config, chain};

/// The version of the data directory's layout that this daemon writes.
const LAYOUT_VERSION: u32 = 1;

/// How long work on instances may take to finish when the daemon stops; the next start finishes the rest.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// DATA_DIR or RUNTIME_DIR.
    #[error("DATA_DIR or RUNTIME_DIR")]
    Layout(#[from] LayoutError),
    /// Another daemon has the data directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The data directory.
    #[error("open the data directory")]
    Store(#[from] StoreError),
    /// The data directory was written by a newer daemon.
    #[error("the data directory has layout version {found}; this daemon knows up to {LAYOUT_VERSION}")]
    LayoutVersion {
        /// The version that was found.
        found: u32,
    },
    /// Kernel or initramfs.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// No usable VMM.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// Netlink could not be opened.
    #[error("open the host's network")]
    Netlink(#[source] std::io::Error),
    /// Bridge or rules.
    #[error("bring up the network")]
    Network(#[from] NetworkError),
    /// The name server.
    #[error("start the name server")]
    Dns(#[from] DnsError),
    /// Images.
    #[error("open the images")]
    Images(#[from] ImagesError),
    /// Instances.
    #[error("open the instances")]
    Instances(#[from] OpenError),
    /// Listeners.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// What the daemon drives.
pub struct Backends {
    /// The VMM drivers, the preferred one first.
    pub vmms: Vec<Arc<dyn Vmm>>,
    /// File names of their binaries.
    pub vmm_binaries: Vec<String>,
    /// The network.
    pub network: Arc<dyn Backend>,
}

impl Backends {
    /// The host's own: the drivers that the configuration and the host allow, and the kernel's network.
    ///
    /// # Errors
    /// [`StartError`] when there is no usable VMM, or no netlink.
    pub fn of_host(config: &Config) -> Result<Self, StartError> {
        let facts = HostFacts::read();
        let binaries = [config.cloud_hypervisor_bin.clone(), config.qemu_bin.clone()];
        let [cloud_hypervisor, qemu] = binaries.clone();
        let chosen = dataplane_vmm::choose(config.hypervisor, cloud_hypervisor.clone(), qemu.clone(), &facts)?;
        tracing::info!(vmm.hypervisor = %chosen.driver.hypervisor(), vmm.version = chosen.driver.version(), reason = chosen.reason, "hypervisor chosen");
        let mut vmms = vec![chosen.driver];
        let preferred = vmms[0].hypervisor();
        let others = dataplane_vmm::available(cloud_hypervisor, qemu, &facts);
        vmms.extend(others.into_iter().filter(|vmm| vmm.hypervisor() != preferred));
        let name = |path: PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        let vmm_binaries = binaries.into_iter().flatten().filter_map(name).collect();
        let network: Arc<dyn Backend> = if config.host_network {
            Arc::new(Kernel::start().map_err(StartError::Netlink)?)
        } else {
            Arc::new(NoBackend)
        };
        Ok(Self { vmms, vmm_binaries, network })
    }
}

/// The record of the data directory itself.
#[derive(Debug, Serialize, Deserialize)]
struct NodeRecord {
    version: u32,
    uuid: Uuid,
}

/// A running daemon.
#[derive(Debug)]
pub struct App {
    server: Server,
    instances: Instances,
    network: Arc<Network>,
    confiner: Confiner,
    _tidying: Tidying,
    _lock: DirectoryLock,
}

impl App {
    /// The TCP address that is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Stops serving: no new requests, streams are told, requests in flight are finished within 5 s. VMs go on.
    pub async fn stop(self) {
        self.server.stop().await;
        self.instances.stop(STOP_PATIENCE).await;
        if tokio::time::timeout(STOP_PATIENCE, self.network.settle()).await.is_err() {
            tracing::warn!("TAPs of instances that are gone are left to the next start");
        }
        if let Some(groups) = self.confiner.cgroups() {
            groups.retire();
        }
        tracing::info!("stopped; virtual machines go on");
    }
}

/// Starts the daemon.
///
/// # Errors
/// [`StartError`]: nothing is served then, and no VM was touched.
pub async fn start(config: Config, backends: Backends) -> Result<App, StartError> {
    let layout = Layout::new(config.data_dir.clone(), config.runtime_dir.clone())?;
    let store = Store::new(layout);
    let (lock, owner) = open_data_directory(&store)?;
    let boot = take_in_boot_files(&store, &config)?;
    let confiner = confine(&config, &store, owner, &backends.vmms);
    let network = Arc::new(Network::new(
        NetworkConfig {
            bridge: config.bridge.clone(),
            plan: config.plan,
            uplink: config.uplink.clone(),
            dns_server: config.dns_server,
            owner,
        },
        Arc::clone(&backends.network),
    ));
    let clock = Arc::new(SystemClock);
    let options = ImageOptions {
        plain_http: config.registry_plain_http.clone(),
        reserved_bytes: config.reserved_bytes,
        ..ImageOptions::new(clock.clone())
    };
    let images = Images::open(store.clone(), options).await?;
    let deps = Deps {
        store: store.clone(),
        clock: clock.clone(),
        disks: Arc::new(ImageDisks { images: images.clone(), store: store.clone(), clock: clock.clone() }),
        links: Arc::new(NetworkLinks(Arc::clone(&network))),
        vmms: backends.vmms.clone(),
        vmm_binaries: backends.vmm_binaries,
        boot,
        limits: host_limits(),
        dns: guest_dns(&config),
        reserved_bytes: config.reserved_bytes,
        log_limit: config.log_limit.bytes(),
        confiner: confiner.clone(),
        uids: Mutex::new(UidPool::new(owner.as_u64_pair().1)),
    };
    let opened = Instances::open(deps).await?;
    let instances = opened.instances().clone();
    // With the records known: the rules are replaced together with what they hold of guests that run.
    network.start().await?;
    sweep(&network, &instances).await;
    let names = serve_names(&config, &network, backends.network.is_real())?;
    let in_use = |digest: &_| instances.user_of_image(digest).is_some();
    images.collect(in_use).await?;
    store.sync_top()?;
    let checks = Checks {
        vmms: backends.vmms,
        network: Arc::clone(&network),
        names,
        store,
        reserved_bytes: config.reserved_bytes,
        confiner: confiner.clone(),
    };
    let service = Dataplane::new(images, instances.clone(), checks);
    let server = server::serve(&config, service).await?;
    let instances = opened.go_on();
    tracing::info!(address = %server.address(), socket = %config.socket_path.display(), data = %config.data_dir.display(), "serving");
    Ok(App { server, instances, network, confiner, _tidying: Tidying::start(), _lock: lock })
}

/// The mark of a data directory, when there is one.
pub(crate) fn read_owner(store: &Store) -> Result<Option<Uuid>, StartError> {
    let node = store.load::<NodeRecord>(&store.layout().node_record())?;
    match node {
        Some(node) if node.version > LAYOUT_VERSION => Err(StartError::LayoutVersion { found: node.version }),
        node => Ok(node.map(|node| node.uuid)),
    }
}

/// Takes the data directory, made where there is none, and says by which mark all is known that belongs to it.
pub(crate) fn open_data_directory(store: &Store) -> Result<(DirectoryLock, Uuid), StartError> {
    let layout = store.layout();
    store.create_dir(layout.data(), 0o711)?;
    store.create_dir(layout.runtime(), 0o711)?;
    let lock = DirectoryLock::acquire(&layout.lock())?;
    store.create_dir(&layout.trash(), 0o700)?;
    let owner = match read_owner(store)? {
        Some(owner) => owner,
        None => {
            let node = NodeRecord { version: LAYOUT_VERSION, uuid: Uuid::new_v4() };
            store.replace(&layout.node_record(), &node)?;
            node.uuid
        }
    };
    for directory in [layout.data(), &layout.boot()] {
        store.sweep_temporaries(directory)?;
    }
    let swept = store.empty_dir(&layout.trash())?;
    if swept > 0 {
        tracing::info!(entries = swept, "finished deletions that were cut short");
    }
    Ok((lock, owner))
}

fn take_in_boot_files(store: &Store, config: &Config) -> Result<BootFiles, StartError> {
    let kernel = boot::take_in(store, &config.kernel_path)?;
    let initramfs = boot::take_in(store, &config.initrd_path)?;
    tracing::info!(kernel = %kernel, initramfs = %initramfs, "new instances are pinned to these");
    Ok(BootFiles { kernel, initramfs })
}

/// How VMMs are confined on this host, as far as it can and its operator wants.
fn confine(config: &Config, store: &Store, owner: Uuid, vmms: &[Arc<dyn Vmm>]) -> Confiner {
    let layout = store.layout();
    let boot = layout.boot();
    let binaries = [&config.cloud_hypervisor_bin, &config.qemu_bin].into_iter().flatten().map(PathBuf::as_path);
    let paths: Vec<&Path> = [layout.data(), layout.runtime(), &boot].into_iter().chain(binaries).collect();
    let hardware = vmms.iter().any(|vmm| vmm.capabilities().hardware_virtualization);
    let devices: &[&Path] = if hardware { &[Path::new("/dev/kvm"), Path::new("/dev/net/tun")] } else { &[] };
    let uuid = owner.simple().to_string();
    let confiner = Confiner::probe(config.confinement, &uuid[24..], &paths, devices);
    for (part, outcome) in confiner.report() {
        match outcome {
            Ok(how) => tracing::info!(part, how, "VMMs are confined"),
            Err(reason) => tracing::warn!(part, reason, "VMMs are not confined"),
        }
    }
    confiner
}

/// Where a name server is asked.
const DNS_PORT: u16 = 53;

/// The gateway first, which knows the names of the domain; then who knows all others, for while the daemon restarts.
/// A resolver on the host's loopback is asked by the daemon, and would be another one in a guest.
fn guest_dns(config: &Config) -> GuestDns {
    let upstream = Some(config.dns_server).filter(|server| !server.is_loopback());
    let nameservers = [config.plan.gateway()].into_iter().chain(upstream).collect();
    GuestDns { nameservers, domain: config.dns_domain.clone() }
}

/// Answers guests on the gateway address, once every record has been read: no name that exists is denied.
fn serve_names(config: &Config, network: &Arc<Network>, is_real: bool) -> Result<Option<Arc<Responder>>, StartError> {
    if !is_real {
        return Ok(None);
    }
    let responder = Responder::start(
        dataplane_dns::Config {
            gateway: config.plan.gateway(),
            port: DNS_PORT,
            device: config.bridge.to_string(),
            subnet: config.plan.subnet(),
            domain: config.dns_domain.clone(),
            upstream: SocketAddr::from((IpAddr::V4(config.dns_server), DNS_PORT)),
            limits: dataplane_dns::Limits::default(),
        },
        Arc::new(HeldNames(Arc::clone(network))),
    )?;
    Ok(Some(Arc::new(responder)))
}

/// Removes TAPs of ours that no record names.
async fn sweep(network: &Network, instances: &Instances) {
    let keep: Vec<_> = instances
        .list()
        .iter()
        .filter_map(|view| view.record.spec.link.as_ref().map(|link| link.tap.clone()))
        .collect();
    match network.sweep(&keep).await {
        Ok(removed) => {
            removed.iter().for_each(|tap| tracing::info!(network.tap = tap, "removed a TAP that no record names"))
        }
        Err(error) => tracing::warn!(error = %chain(&error), "sweep TAPs"),
    }
}

/// What this host has, for requests that can never be met.
fn host_limits() -> HostLimits {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let memory = rustix::system::sysinfo();
    let bytes = u64::from(memory.mem_unit) * memory.totalram;
    HostLimits { vcpus: u32::try_from(cpus).unwrap_or(u32::MAX), memory: Mib(bytes >> 20) }
}
