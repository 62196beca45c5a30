//! Instances: create, list, get, change, act, delete. Logs are next door.

use std::collections::BTreeMap;
use std::time::Duration;

use dataplane_api::types::{self, Fault, InstanceOperation, NetworkConfig, OperationKind};
use dataplane_api::{
    CreateInstance, CreateInstanceReply, Cx, DeleteInstance, DeleteInstanceReply, ETag, GetInstance, GetInstanceLogs,
    GetInstanceLogsReply, GetInstanceReply, IfMatch, InstancesApi, LabelFilter, ListInstances, ListInstancesReply,
    PatchInstance, PatchInstanceReply, PauseInstance, PauseInstanceReply, Problem, ProblemCode, RebootInstance,
    RebootInstanceReply, RestoreInstance, RestoreInstanceReply, ResumeInstance, ResumeInstanceReply, StandbyInstance,
    StandbyInstanceReply, StartInstance, StartInstanceReply, StopInstance, StopInstanceReply, WaitForInstance,
    WaitForInstanceReply, page,
};
use dataplane_instances::{
    Action, CreateRequest, ErrorRecord, InstanceState, NetworkRequest, OpKind, OpRecord, Patch, Precondition,
    RestartPolicy, StandbyClass, View,
};
use dataplane_types::{Gib, InstanceId, Mib};
use dataplane_vmm::Hypervisor;

use super::{Dataplane, problems};

impl InstancesApi for Dataplane {
    async fn list_instances(&self, _: Cx, request: ListInstances) -> Result<ListInstancesReply, Problem> {
        let views = self.instances.list();
        let wanted = views.iter().map(|view| self.to_wire(view)).filter(|instance| {
            LabelFilter::all_match(&request.label, &instance.labels)
                && (request.state.is_empty() || request.state.contains(&instance.state))
                && request.image.as_ref().is_none_or(|image| *image == instance.image)
        });
        let (items, next_cursor) = page(wanted, |item| item.id.as_str(), request.cursor.as_ref(), request.limit);
        Ok(ListInstancesReply::Ok { body: types::InstanceList { items, next_cursor } })
    }

    async fn create_instance(&self, cx: Cx, request: CreateInstance) -> Result<CreateInstanceReply, Problem> {
        let wanted = from_wire(request.body)?;
        let created = cx.timed("create", self.instances.create(wanted)).await;
        let created = created.map_err(|error| problems::of_create(&error))?;
        let body = self.to_wire(&created.view);
        let etag = etag(&created.view);
        if created.existed {
            return Ok(CreateInstanceReply::Ok { etag, body });
        }
        Ok(CreateInstanceReply::Created { etag, location: GetInstance::location(&body.id), body })
    }

    async fn get_instance(&self, _: Cx, request: GetInstance) -> Result<GetInstanceReply, Problem> {
        let view = self.instances.get(&request.instance_id).ok_or_else(|| not_found(&request.instance_id))?;
        Ok(GetInstanceReply::Ok { etag: etag(&view), body: self.to_wire(&view) })
    }

    async fn delete_instance(&self, cx: Cx, request: DeleteInstance) -> Result<DeleteInstanceReply, Problem> {
        let grace = seconds(request.grace_seconds);
        let precondition = request.if_match.map(precondition);
        let deleted = cx.timed("delete", self.instances.delete(&request.instance_id, grace, precondition)).await;
        deleted.map_err(|error| problems::of_delete(&error))?;
        Ok(DeleteInstanceReply::NoContent)
    }

    async fn patch_instance(&self, cx: Cx, request: PatchInstance) -> Result<PatchInstanceReply, Problem> {
        let types::PatchInstanceRequest { name, labels, memory_mb, vcpus, network, port_mappings } = request.body;
        let bandwidth_mbps = network.and_then(|network| network.bandwidth_mbps);
        let port_mappings = port_mappings.map(super::ports::mappings).transpose()?;
        let patch = Patch { name, labels, memory: memory_mb.map(Mib), vcpus, bandwidth_mbps, port_mappings };
        let work = self.instances.patch(&request.instance_id, patch, request.if_match.map(precondition));
        let view = cx.timed("patch", work).await.map_err(|error| problems::of_action(&error))?;
        Ok(PatchInstanceReply::Ok { etag: etag(&view), body: self.to_wire(&view) })
    }

    async fn start_instance(&self, cx: Cx, request: StartInstance) -> Result<StartInstanceReply, Problem> {
        let discard_snapshot = request.discard_snapshot;
        let action = Action { discard_snapshot, ..action(OpKind::Start, request.if_match) };
        let (etag, body) = self.act(cx, &request.instance_id, action).await?;
        Ok(StartInstanceReply::Ok { etag, body })
    }

    async fn stop_instance(&self, cx: Cx, request: StopInstance) -> Result<StopInstanceReply, Problem> {
        let (grace, discard_snapshot) = (seconds(request.body.grace_seconds), request.discard_snapshot);
        let action = Action { grace, discard_snapshot, ..action(OpKind::Stop, request.if_match) };
        let (etag, body) = self.act(cx, &request.instance_id, action).await?;
        Ok(StopInstanceReply::Ok { etag, body })
    }

    async fn reboot_instance(&self, cx: Cx, request: RebootInstance) -> Result<RebootInstanceReply, Problem> {
        let grace = seconds(request.body.grace_seconds);
        let action = Action { grace, ..action(OpKind::Reboot, request.if_match) };
        let (etag, body) = self.act(cx, &request.instance_id, action).await?;
        Ok(RebootInstanceReply::Ok { etag, body })
    }

    async fn pause_instance(&self, cx: Cx, request: PauseInstance) -> Result<PauseInstanceReply, Problem> {
        let (etag, body) = self.act(cx, &request.instance_id, action(OpKind::Pause, request.if_match)).await?;
        Ok(PauseInstanceReply::Ok { etag, body })
    }

    async fn resume_instance(&self, cx: Cx, request: ResumeInstance) -> Result<ResumeInstanceReply, Problem> {
        let (etag, body) = self.act(cx, &request.instance_id, action(OpKind::Resume, request.if_match)).await?;
        Ok(ResumeInstanceReply::Ok { etag, body })
    }

    async fn standby_instance(&self, cx: Cx, request: StandbyInstance) -> Result<StandbyInstanceReply, Problem> {
        let (etag, body) = self.act(cx, &request.instance_id, action(OpKind::Standby, request.if_match)).await?;
        Ok(StandbyInstanceReply::Ok { etag, body })
    }

    async fn restore_instance(&self, cx: Cx, request: RestoreInstance) -> Result<RestoreInstanceReply, Problem> {
        let (etag, body) = self.act(cx, &request.instance_id, action(OpKind::Restore, request.if_match)).await?;
        Ok(RestoreInstanceReply::Ok { etag, body })
    }

    async fn wait_for_instance(&self, _: Cx, request: WaitForInstance) -> Result<WaitForInstanceReply, Problem> {
        let patience = seconds(request.timeout_seconds);
        let (states, ready) = (request.state, request.ready);
        let wanted = move |view: &View| {
            let asked = !states.is_empty() || ready.is_some();
            (asked || view.record.op.is_none())
                && (states.is_empty() || states.contains(&state(view.state)))
                && ready.is_none_or(|ready| ready == view.ready)
        };
        let found = self.instances.wait(&request.instance_id, patience, wanted).await;
        let (view, came_true) = found.ok_or_else(|| not_found(&request.instance_id))?;
        let body = types::WaitResult { instance: self.to_wire(&view), timed_out: !came_true };
        Ok(WaitForInstanceReply::Ok { etag: etag(&view), body })
    }

    async fn get_instance_logs(&self, _: Cx, request: GetInstanceLogs) -> Result<GetInstanceLogsReply, Problem> {
        super::logs::answer(&self.instances, request).await
    }
}

/// An action that gives no grace and keeps a snapshot.
fn action(kind: OpKind, if_match: Option<IfMatch>) -> Action {
    Action { kind, grace: Duration::ZERO, discard_snapshot: false, precondition: if_match.map(precondition) }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

fn precondition(wanted: IfMatch) -> Precondition {
    Box::new(move |record| ETag::new(record.uuid, record.generation).require(Some(&wanted)).is_ok())
}

pub(super) fn not_found(id: &InstanceId) -> Problem {
    Problem::new(ProblemCode::InstanceNotFound, format!("no instance {id}"))
}

fn etag(view: &View) -> ETag {
    ETag::new(view.record.uuid, view.record.generation)
}

fn from_wire(body: types::CreateInstanceRequest) -> Result<CreateRequest, Problem> {
    let absent = NetworkConfig { enabled: true, ip: None, mac: None, bandwidth_mbps: None, egress: None };
    let network = body.network.unwrap_or(absent);
    let egress = network.egress.map(super::ports::egress).transpose()?;
    let port_mappings = super::ports::mappings(body.port_mappings.unwrap_or_default())?;
    Ok(CreateRequest {
        id: body.id,
        name: body.name,
        image: body.image,
        memory: Mib(body.memory_mb),
        memory_max: body.memory_max_mb.map(Mib),
        vcpus: body.vcpus,
        max_vcpus: body.max_vcpus,
        disk: Gib(body.disk_gb),
        env: body.env,
        entrypoint: body.entrypoint,
        cmd: body.cmd,
        user: body.user,
        working_dir: body.working_dir,
        hostname: body.hostname,
        network: NetworkRequest {
            enabled: network.enabled,
            ip: network.ip,
            mac: network.mac,
            bandwidth_mbps: network.bandwidth_mbps,
            egress,
        },
        port_mappings,
        labels: body.labels,
        hypervisor: body.hypervisor.map(|hypervisor| match hypervisor {
            types::Hypervisor::CloudHypervisor => Hypervisor::CloudHypervisor,
            types::Hypervisor::Qemu => Hypervisor::Qemu,
        }),
        standby: match body.standby {
            types::StandbyClass::Sparse => StandbyClass::Sparse,
            types::StandbyClass::Instant => StandbyClass::Instant,
        },
        restart_policy: match body.restart_policy {
            types::RestartPolicy::Never => RestartPolicy::Never,
            types::RestartPolicy::OnFailure => RestartPolicy::OnFailure,
            types::RestartPolicy::Always => RestartPolicy::Always,
        },
    })
}

impl Dataplane {
    async fn act(&self, cx: Cx, id: &InstanceId, action: Action) -> Result<(ETag, types::Instance), Problem> {
        let work = self.instances.act(id, action);
        let view = cx.timed("act", work).await.map_err(|error| problems::of_action(&error))?;
        Ok((etag(&view), self.to_wire(&view)))
    }

    fn to_wire(&self, view: &View) -> types::Instance {
        let record = &view.record;
        let spec = &record.spec;
        let (entrypoint, cmd) = spec.argv.split_at(spec.entrypoint_len.min(spec.argv.len()));
        let link = spec.link.as_ref();
        types::Instance {
            id: record.id.clone(),
            uuid: record.uuid,
            name: record.name.clone(),
            image: spec.image.clone(),
            image_digest: spec.image_digest,
            memory_mb: spec.memory.0,
            memory_max_mb: spec.memory_max.0,
            vcpus: spec.vcpus,
            max_vcpus: spec.max_vcpus,
            disk_gb: spec.disk.0,
            env: environment(&spec.env),
            entrypoint: entrypoint.to_vec(),
            cmd: cmd.to_vec(),
            user: if spec.user.is_empty() { "0".to_owned() } else { spec.user.clone() },
            working_dir: spec.working_dir.clone(),
            hostname: spec.hostname.clone(),
            network: NetworkConfig {
                enabled: link.is_some(),
                ip: link.map(|link| link.ip),
                mac: link.map(|link| link.mac),
                bandwidth_mbps: spec.bandwidth_mbps,
                egress: spec.policy.egress.as_deref().map(super::ports::egress_to_wire),
            },
            port_mappings: super::ports::mappings_to_wire(&spec.policy.port_mappings),
            labels: record.labels.clone(),
            hypervisor: match spec.hypervisor {
                Hypervisor::CloudHypervisor => types::Hypervisor::CloudHypervisor,
                Hypervisor::Qemu => types::Hypervisor::Qemu,
            },
            hypervisor_version: spec.hypervisor_version.clone(),
            standby: match record.request.standby {
                StandbyClass::Sparse => types::StandbyClass::Sparse,
                StandbyClass::Instant => types::StandbyClass::Instant,
            },
            restart_policy: match record.request.restart_policy {
                RestartPolicy::Never => types::RestartPolicy::Never,
                RestartPolicy::OnFailure => types::RestartPolicy::OnFailure,
                RestartPolicy::Always => types::RestartPolicy::Always,
            },
            state: state(view.state),
            operation: record.op.as_ref().map(operation),
            last_error: record.last_error.as_ref().map(fault),
            ready: view.ready,
            private_ip: link.map(|link| link.ip),
            mac: link.map(|link| link.mac),
            fqdn: link.map(|_| self.instances.dns().fqdn(&record.id)),
            exit_code: record.exit_code,
            has_snapshot: view.has_snapshot,
            created_at: record.created_at,
            started_at: record.started_at,
            stopped_at: record.stopped_at,
            generation: record.generation,
        }
    }
}

fn state(state: InstanceState) -> types::InstanceState {
    match state {
        InstanceState::Created => types::InstanceState::Created,
        InstanceState::Running => types::InstanceState::Running,
        InstanceState::Paused => types::InstanceState::Paused,
        InstanceState::Shutdown => types::InstanceState::Shutdown,
        InstanceState::Stopped => types::InstanceState::Stopped,
        InstanceState::Standby => types::InstanceState::Standby,
    }
}

fn operation(op: &OpRecord) -> InstanceOperation {
    let kind = match op.kind {
        OpKind::Create => OperationKind::Create,
        OpKind::Start => OperationKind::Start,
        OpKind::Stop => OperationKind::Stop,
        OpKind::Reboot => OperationKind::Reboot,
        OpKind::Pause => OperationKind::Pause,
        OpKind::Resume => OperationKind::Resume,
        OpKind::Standby => OperationKind::Standby,
        OpKind::Restore => OperationKind::Restore,
        OpKind::Resize => OperationKind::Resize,
        OpKind::Restart => OperationKind::Restart,
        OpKind::Delete => OperationKind::Delete,
    };
    InstanceOperation { kind, id: op.id.to_string(), since: op.since }
}

fn fault(error: &ErrorRecord) -> Fault {
    Fault { code: error.code.clone(), message: error.message.chars().take(4096).collect(), at: error.at }
}

/// A list of `NAME=value` as a map; of names given twice the last wins, as for a program that looks one up.
pub(super) fn environment(pairs: &[String]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
