//! From a request to a record on disk: image, address, disks, one rename that commits. Nothing is left of a failure.

use std::path::PathBuf;

use dataplane_agent::{GuestConfig, GuestNetwork};
use dataplane_store::InstancePaths;
use dataplane_types::{InstanceId, Link, OperationId};
use dataplane_vmm::{Capabilities, Purpose, Vmm};
use std::sync::Arc;
use tokio::task::block_in_place;
use uuid::Uuid;

use crate::plan::SeenLink;
use crate::record::{OpKind, OpRecord, Pins, RECORD_VERSION, Spec};
use crate::request::Program;
use crate::{CreateError, CreateRequest, Deps, ImageLease, LinkError, Record, StandbyClass};

/// A committed instance that has not been started.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) record: Record,
    pub(crate) paths: InstancePaths,
    /// Whether the record says already that its next VMM is to be started.
    pub(crate) intended: bool,
    /// What is known of its link.
    pub(crate) link: SeenLink,
}

/// Makes the instance exist, or nothing. The image stays lent until the caller has shown the instance to those who ask
/// whether an image is needed.
pub(crate) async fn prepare(
    deps: &Deps,
    id: &InstanceId,
    request: CreateRequest,
) -> Result<(Draft, ImageLease), CreateError> {
    request.check(&deps.limits)?;
    let driver = choose(deps, &request)?;
    check_class(&request, driver.capabilities())?;
    let needed = if request.standby == StandbyClass::Instant { request.memory.bytes() } else { 0 };
    check_space(deps, needed)?;
    let lease = deps.disks.lease(&request.image)?;
    let program = request.program(&lease)?;
    let network = &request.network;
    let ports = &request.port_mappings;
    // Before they are held: what an instance holds is its own.
    deps.links.check_ports(id, ports).await?;
    let link = if network.enabled { Some(deps.links.claim(id, network.ip, network.mac, ports)?) } else { None };
    let uid = deps.claim_uid().inspect_err(|_| deps.links.release(id))?;
    let spec = resolve(id, &request, driver.as_ref(), (&lease, program), link);
    let mut record = new_record(deps, id, request, spec, uid);
    // The intent to start the first VMM becomes durable with the instance itself.
    record.intend(Purpose::Boot, driver.version());
    let operation = record.op.as_ref().map_or_else(OperationId::generate, |op| op.id.clone());
    let draft = deps.store.layout().instance_draft(&operation);
    // At the same time: each waits for the kernel. A TAP that no record names is swept at the next start.
    let (committed, link_is_up) = tokio::join!(commit(deps, &record, &draft), ensure(deps, &record));
    if committed.is_err() {
        take_back(deps, &record, &draft).await;
    }
    let link = if link_is_up { SeenLink::Up } else { SeenLink::Unknown };
    committed.map(|paths| (Draft { record, paths, intended: true, link }, lease))
}

/// Lets go of all that a failed create had: what resists is taken away by the next start.
async fn take_back(deps: &Deps, record: &Record, draft: &InstancePaths) {
    let id = &record.id;
    if let Some(link) = &record.spec.link
        && let Err(error) = deps.links.remove(link).await
    {
        tracing::warn!(instance.id = %id, error = %error, "remove the TAP of a failed create");
    }
    deps.links.release(id);
    deps.release_uid(record.uid);
    if let Err(error) = block_in_place(|| deps.store.discard(draft.root())) {
        tracing::error!(instance.id = %id, error = %error, "discard the draft of a failed create");
    }
}

/// Makes the link exist, limited as the record says before anything can pass over it.
pub(crate) async fn raise(deps: &Deps, record: &Record, link: &Link) -> Result<(), LinkError> {
    deps.links.ensure(&record.id, link, &record.spec.policy, deps.confiner.owner(record.uid)).await?;
    deps.links.limit(&record.id, link, record.spec.bandwidth_mbps).await
}

/// Whether the link is there. Why not is said when it is tried again, by the instance itself.
async fn ensure(deps: &Deps, record: &Record) -> bool {
    match &record.spec.link {
        Some(link) => raise(deps, record, link).await.is_ok(),
        None => false,
    }
}

/// The request with everything filled in.
fn resolve(
    id: &InstanceId,
    request: &CreateRequest,
    driver: &dyn Vmm,
    (lease, program): (&ImageLease, Program),
    link: Option<Link>,
) -> Spec {
    Spec {
        image: lease.id.clone(),
        image_digest: lease.digest,
        image_filesystem: lease.filesystem.clone(),
        hypervisor: driver.hypervisor(),
        hypervisor_version: driver.version().to_owned(),
        memory: request.memory,
        memory_max: request.memory_max.unwrap_or(request.memory),
        vcpus: request.vcpus,
        max_vcpus: request.max_vcpus.unwrap_or(request.vcpus),
        disk: request.disk,
        argv: program.argv,
        entrypoint_len: program.entrypoint_len,
        env: program.env,
        working_dir: program.working_dir,
        user: program.user,
        stop_signal: program.stop_signal,
        hostname: request.hostname.clone().unwrap_or_else(|| id.to_string()),
        link,
        bandwidth_mbps: request.network.bandwidth_mbps,
        policy: request.policy(),
    }
}

/// The record of an instance that is being created.
fn new_record(deps: &Deps, id: &InstanceId, request: CreateRequest, spec: Spec, uid: u32) -> Record {
    let now = deps.clock.now();
    let create = OpKind::Create;
    Record {
        version: RECORD_VERSION,
        uuid: Uuid::now_v7(),
        id: id.clone(),
        generation: 1,
        spec,
        name: request.name.clone(),
        labels: request.labels.clone(),
        request,
        uid: Some(uid),
        pins: Pins { kernel: deps.boot.kernel, initramfs: deps.boot.initramfs },
        op: Some(OpRecord { kind: create, id: OperationId::generate(), since: now, from_paused: false, target: None }),
        vmm: None,
        vmm_generation: 0,
        booted: None,
        up: true,
        restart_from: None,
        last_error: None,
        exit_code: None,
        created_at: now,
        started_at: None,
        stopped_at: None,
    }
}

async fn commit(deps: &Deps, record: &Record, draft: &InstancePaths) -> Result<InstancePaths, CreateError> {
    let store = &deps.store;
    let config = guest_config(deps, record).to_disk()?;
    block_in_place(|| {
        store.create_dir(draft.root(), 0o711)?;
        store.create_dir(&draft.logs(), 0o700)?;
        store.create_dir(&draft.vm(), 0o700)
    })?;
    let writable = draft.writable_disk();
    deps.disks.make_writable(&writable, record.spec.disk, record.uuid).await?;
    let paths = store.layout().instance(&record.id);
    block_in_place(|| {
        store.draft_bytes(&draft.config_disk(), &config)?;
        // Only so that there is one to read: the VMM makes it anew when a crash takes it.
        store.draft_bytes(&draft.serial_log(), b"")?;
        store.draft(&draft.record(), record)?;
        // Together and at once: each fsync on its own would wait for the disk's journal anew.
        let contents: [PathBuf; 3] = [writable, draft.config_disk(), draft.record()];
        store.commit_new(draft.root(), paths.root(), &contents)
    })?;
    Ok(paths)
}

fn choose<'a>(deps: &'a Deps, request: &CreateRequest) -> Result<&'a Arc<dyn Vmm>, CreateError> {
    match request.hypervisor {
        Some(wanted) => {
            deps.vmms.iter().find(|vmm| vmm.hypervisor() == wanted).ok_or(CreateError::NoHypervisor(wanted))
        }
        None => deps.vmms.first().ok_or_else(|| LinkError::Host("no hypervisor at all".into()).into()),
    }
}

/// Refuses a class of standby that this VMM does not have, or that cannot be had together with growing.
fn check_class(request: &CreateRequest, capabilities: Capabilities) -> Result<(), CreateError> {
    if request.standby == StandbyClass::Sparse {
        return Ok(());
    }
    if !capabilities.memory_file {
        return Err(CreateError::NotSupported("this hypervisor has no instant standby".to_owned()));
    }
    if request.memory_max.is_some_and(|max| max != request.memory) {
        return Err(CreateError::NotSupported(
            "an instance with instant standby cannot grow: memory_max_mb must equal memory_mb".to_owned(),
        ));
    }
    Ok(())
}

fn check_space(deps: &Deps, needed: u64) -> Result<(), CreateError> {
    let free = deps.store.free_bytes()?;
    if free.saturating_sub(needed) < deps.reserved_bytes {
        return Err(CreateError::NoSpace { free, reserved: deps.reserved_bytes });
    }
    Ok(())
}

fn guest_config(deps: &Deps, record: &Record) -> GuestConfig {
    let spec = &record.spec;
    GuestConfig {
        instance_id: record.id.to_string(),
        hostname: spec.hostname.clone(),
        fqdn: Some(deps.dns.fqdn(&record.id)),
        image_filesystem: spec.image_filesystem.clone(),
        argv: spec.argv.clone(),
        env: spec.env.clone(),
        working_dir: spec.working_dir.clone(),
        user: spec.user.clone(),
        stop_signal: spec.stop_signal.clone(),
        network: spec.link.as_ref().map(|link| GuestNetwork {
            mac: link.mac.to_string(),
            address: link.ip,
            prefix_len: link.prefix_len,
            gateway: link.gateway,
            nameservers: deps.dns.nameservers.clone(),
            search: Some(deps.dns.domain.clone()),
        }),
    }
}
