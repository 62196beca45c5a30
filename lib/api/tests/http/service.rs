//! A service with one image and one instance, whose answers the tests know.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use dataplane_api::types::{self, HealthStatus, Hypervisor, ImageStatus, InstanceState, NetworkConfig};
use dataplane_api::*;
use dataplane_types::InstanceId;
use futures_util::{StreamExt as _, stream};
use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Service {
    /// What `create_instance` was asked.
    pub(crate) created: Mutex<Vec<types::CreateInstanceRequest>>,
    /// What `patch_instance` was asked.
    pub(crate) patched: Mutex<Vec<types::PatchInstanceRequest>>,
    /// How many bytes `import_image` read.
    pub(crate) imported: Mutex<usize>,
    /// `create_image` tells the first, waits for the second and tells the third.
    pub(crate) begun: Notify,
    pub(crate) go: Notify,
    pub(crate) done: Notify,
}

pub(crate) const UUID: uuid::Uuid = uuid::Uuid::from_u128(0x0198_c0f0_a7b1_7c5e_9d3f_2a4b_6c8d_0e1f);

pub(crate) fn image(id: &str) -> types::Image {
    let json = serde_json::json!({
        "id": id, "name": "docker.io/library/nginx:1.29", "status": "ready", "entrypoint": [], "cmd": ["nginx"],
        "env": {}, "exposed_ports": ["80/tcp"], "labels": {}, "created_at": "2026-01-02T03:04:05Z",
    });
    serde_json::from_value(json).unwrap()
}

pub(crate) fn instance(id: &str, generation: u64) -> types::Instance {
    types::Instance {
        id: id.parse().unwrap(),
        uuid: UUID,
        name: None,
        image: "img-nginx".parse().unwrap(),
        image_digest: format!("sha256:{}", "0a".repeat(32)).parse().unwrap(),
        memory_mb: 1024,
        memory_max_mb: 1024,
        vcpus: 2,
        max_vcpus: 2,
        disk_gb: 10,
        env: [("PATH".to_owned(), "/bin".to_owned())].into(),
        entrypoint: vec![],
        cmd: vec!["nginx".to_owned()],
        user: "0".to_owned(),
        working_dir: "/".to_owned(),
        hostname: id.to_owned(),
        network: NetworkConfig::default(),
        port_mappings: Vec::new(),
        labels: [("tier".to_owned(), "web".to_owned())].into(),
        hypervisor: Hypervisor::Qemu,
        hypervisor_version: "7.2".to_owned(),
        standby: types::StandbyClass::Sparse,
        restart_policy: types::RestartPolicy::Never,
        state: InstanceState::Running,
        operation: None,
        last_error: None,
        ready: true,
        private_ip: Some("192.168.100.2".parse().unwrap()),
        mac: Some("02:d0:c0:a8:64:02".parse().unwrap()),
        fqdn: None,
        exit_code: None,
        has_snapshot: false,
        created_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        started_at: None,
        stopped_at: None,
        generation,
    }
}

impl SystemApi for Service {
    async fn get_health(&self, _cx: Cx, _request: GetHealth) -> Result<GetHealthReply, Problem> {
        Ok(GetHealthReply::Ok { body: types::Health { status: HealthStatus::Ok } })
    }
    async fn get_readiness(&self, _cx: Cx, _request: GetReadiness) -> Result<GetReadinessReply, Problem> {
        let check = types::ReadinessCheck {
            name: "data_dir".to_owned(),
            ok: false,
            required: true,
            detail: None,
            remedy: Some("make it writable".to_owned()),
        };
        Ok(GetReadinessReply::ServiceUnavailable { body: types::Readiness { ready: false, checks: vec![check] } })
    }
    async fn get_spec_yaml(&self, _cx: Cx, _request: GetSpecYaml) -> Result<GetSpecYamlReply, Problem> {
        Ok(GetSpecYamlReply::Ok { body: Bytes::from_static(SPEC_YAML.as_bytes()) })
    }
    async fn get_spec_json(&self, _cx: Cx, _request: GetSpecJson) -> Result<GetSpecJsonReply, Problem> {
        Ok(GetSpecJsonReply::Ok { body: Bytes::from_static(SPEC_JSON.as_bytes()) })
    }
}

impl ImagesApi for Service {
    async fn list_images(&self, _cx: Cx, request: ListImages) -> Result<ListImagesReply, Problem> {
        let all = ["img-a", "img-b", "img-c"].map(image);
        let (items, next_cursor) = page(all, |it| it.id.as_str(), request.cursor.as_ref(), request.limit);
        Ok(ListImagesReply::Ok { body: types::ImageList { items, next_cursor } })
    }
    async fn create_image(&self, cx: Cx, request: CreateImage) -> Result<CreateImageReply, Problem> {
        let mut body = image("img-nginx");
        let (etag, location) = (ETag::of_parts(&["x"]), GetImage::location(&body.id));
        if request.prefer.is_some_and(|prefer| prefer.respond_async) {
            body.status = ImageStatus::Pending;
            return Ok(CreateImageReply::Accepted { location, etag, body });
        }
        match request.body.name.as_str() {
            "panic" => panic!("as it was told"),
            "wait" => {
                self.begun.notify_one();
                self.go.notified().await;
                self.done.notify_one();
            }
            "busy" => {
                let problem = Problem::new(ProblemCode::RegistryRateLimited, "the registry asks to wait");
                return Err(problem.with_retry_after(Duration::from_secs(7)).with_inner(Some("429"), "slow down"));
            }
            _ => cx.phase("pull", Duration::from_millis(12)),
        }
        Ok(CreateImageReply::Created { location, etag, body })
    }
    async fn import_image(&self, _cx: Cx, mut request: ImportImage) -> Result<ImportImageReply, Problem> {
        while let Some(chunk) = request.body.next().await {
            *self.imported.lock().unwrap() += chunk?.len();
        }
        let body = image("img-imported");
        let location = GetImage::location(&body.id);
        Ok(ImportImageReply::Created { location, etag: ETag::of_parts(&["y"]), body })
    }
    async fn get_image(&self, _cx: Cx, request: GetImage) -> Result<GetImageReply, Problem> {
        match request.image_id.as_str() {
            "img-nginx" => Ok(GetImageReply::Ok { etag: ETag::of_parts(&["x"]), body: image("img-nginx") }),
            other => Err(Problem::new(ProblemCode::ImageNotFound, format!("there is no image {other}"))),
        }
    }
    async fn delete_image(&self, _cx: Cx, request: DeleteImage) -> Result<DeleteImageReply, Problem> {
        ETag::of_parts(&["x"]).require(request.if_match.as_ref())?;
        Ok(DeleteImageReply::NoContent)
    }
}

fn acted(id: &InstanceId, if_match: Option<&IfMatch>) -> Result<(ETag, types::Instance), Problem> {
    let etag = ETag::new(UUID, 3);
    etag.require(if_match)?;
    Ok((etag, instance(id.as_str(), 3)))
}

impl InstancesApi for Service {
    async fn list_instances(&self, _cx: Cx, request: ListInstances) -> Result<ListInstancesReply, Problem> {
        let all = ["a", "b", "c", "d", "e"].map(|id| instance(id, 1));
        let wanted = |it: &types::Instance| {
            LabelFilter::all_match(&request.label, &it.labels)
                && (request.state.is_empty() || request.state.contains(&it.state))
                && request.image.as_ref().is_none_or(|image| *image == it.image)
        };
        let all = all.into_iter().filter(wanted);
        let (items, next_cursor) = page(all, |it| it.id.as_str(), request.cursor.as_ref(), request.limit);
        Ok(ListInstancesReply::Ok { body: types::InstanceList { items, next_cursor } })
    }
    async fn create_instance(&self, _cx: Cx, request: CreateInstance) -> Result<CreateInstanceReply, Problem> {
        let id = request.body.id.clone().unwrap();
        self.created.lock().unwrap().push(request.body);
        let body = instance(id.as_str(), 1);
        let (location, etag) = (GetInstance::location(&id), ETag::new(body.uuid, body.generation));
        Ok(CreateInstanceReply::Created { location, etag, body })
    }
    async fn get_instance(&self, _cx: Cx, request: GetInstance) -> Result<GetInstanceReply, Problem> {
        Ok(GetInstanceReply::Ok { etag: ETag::new(UUID, 3), body: instance(request.instance_id.as_str(), 3) })
    }
    async fn delete_instance(&self, _cx: Cx, request: DeleteInstance) -> Result<DeleteInstanceReply, Problem> {
        ETag::new(UUID, 3).require(request.if_match.as_ref())?;
        assert!(request.grace_seconds <= 3600, "the rule has checked it");
        Ok(DeleteInstanceReply::NoContent)
    }
    async fn patch_instance(&self, _cx: Cx, request: PatchInstance) -> Result<PatchInstanceReply, Problem> {
        let (etag, body) = acted(&request.instance_id, request.if_match.as_ref())?;
        self.patched.lock().unwrap().push(request.body);
        Ok(PatchInstanceReply::Ok { etag, body })
    }
    async fn start_instance(&self, _cx: Cx, request: StartInstance) -> Result<StartInstanceReply, Problem> {
        if !request.discard_snapshot && request.instance_id.as_str() == "standing-by" {
            return Err(Problem::new(ProblemCode::HasSnapshot, "it has a snapshot"));
        }
        let (etag, body) = acted(&request.instance_id, request.if_match.as_ref())?;
        Ok(StartInstanceReply::Ok { etag, body })
    }
    async fn stop_instance(&self, _cx: Cx, request: StopInstance) -> Result<StopInstanceReply, Problem> {
        let (etag, body) = acted(&request.instance_id, request.if_match.as_ref())?;
        Ok(StopInstanceReply::Ok { etag, body })
    }
    async fn reboot_instance(&self, _cx: Cx, request: RebootInstance) -> Result<RebootInstanceReply, Problem> {
        let (etag, body) = acted(&request.instance_id, request.if_match.as_ref())?;
        Ok(RebootInstanceReply::Ok { etag, body })
    }
    async fn pause_instance(&self, _cx: Cx, request: PauseInstance) -> Result<PauseInstanceReply, Problem> {
        let (etag, body) = acted(&request.instance_id, request.if_match.as_ref())?;
        Ok(PauseInstanceReply::Ok { etag, body })
    }
    async fn resume_instance(&self, _cx: Cx, request: ResumeInstance) -> Result<ResumeInstanceReply, Problem> {
        let (etag, body) = acted(&request.instance_id, request.if_match.as_ref())?;
        Ok(ResumeInstanceReply::Ok { etag, body })
    }
    async fn standby_instance(&self, _cx: Cx, request: StandbyInstance) -> Result<StandbyInstanceReply, Problem> {
        let (etag, body) = acted(&request.instance_id, request.if_match.as_ref())?;
        let body = types::Instance { state: InstanceState::Standby, has_snapshot: true, ready: false, ..body };
        Ok(StandbyInstanceReply::Ok { etag, body })
    }
    async fn restore_instance(&self, _cx: Cx, request: RestoreInstance) -> Result<RestoreInstanceReply, Problem> {
        let (etag, body) = acted(&request.instance_id, request.if_match.as_ref())?;
        Ok(RestoreInstanceReply::Ok { etag, body })
    }
    async fn wait_for_instance(&self, _cx: Cx, request: WaitForInstance) -> Result<WaitForInstanceReply, Problem> {
        let instance = instance(request.instance_id.as_str(), 3);
        let body = types::WaitResult { instance, timed_out: request.timeout_seconds == 0 };
        Ok(WaitForInstanceReply::Ok { etag: ETag::new(UUID, 3), body })
    }
    async fn get_instance_logs(&self, _cx: Cx, request: GetInstanceLogs) -> Result<GetInstanceLogsReply, Problem> {
        if request.last_event_id == Some(99) {
            return Ok(GetInstanceLogsReply::NoContent);
        }
        Ok(match request.accept {
            GetInstanceLogsAccept::EventStream => {
                let first = stream::iter([SseEvent::data("hello").with_id(6)]);
                let rest =
                    if request.follow { stream::pending().left_stream() } else { stream::empty().right_stream() };
                GetInstanceLogsReply::OkEventStream { body: SseStream::new(first.chain(rest)) }
            }
            GetInstanceLogsAccept::Plain => {
                let chunks = stream::iter([Ok(Bytes::from_static(b"hello\n"))]);
                GetInstanceLogsReply::OkPlain { body: ByteStream::new(chunks) }
            }
        })
    }
}

impl GuestApi for Service {
    async fn exec_in_instance(&self, cx: Cx, request: ExecInInstance) -> Result<ExecInInstanceReply, Problem> {
        let ExecInInstance { instance_id: _, body } = request;
        if body.command == ["wait"] {
            self.begun.notify_one();
            cx.hung_up().await;
            self.done.notify_one();
        }
        let said = |text: String| types::ExecOutput { text: Some(text), base64: None, truncated: false };
        let body = types::ExecResult {
            pid: Some(7),
            exit_code: Some(0),
            signal: None,
            reason: None,
            timed_out: false,
            stdout: said(body.command.join(" ")),
            stderr: said(String::new()),
            duration_ms: 1,
        };
        Ok(ExecInInstanceReply::Ok { body })
    }

    /// Says back what it is told, and the command at the end.
    async fn attach_exec(&self, _cx: Cx, request: AttachExec) -> Result<AttachExecReply, Problem> {
        let body = request.upgrade.with(|mut reader, mut writer| async move {
            let Some(first) = reader.next().await else { return };
            let wanted = match reader.parse_first::<types::ExecRequest>(&first) {
                Ok(wanted) => wanted,
                Err(problem) => return writer.end(problem.code().to_string(), reader).await,
            };
            while let Some(message) = reader.next().await {
                if message.is_empty() {
                    return writer.end(wanted.command.join(" "), reader).await;
                }
                writer.send(message).await;
            }
        });
        Ok(AttachExecReply::Switching { body })
    }

    async fn list_processes(&self, _cx: Cx, _request: ListProcesses) -> Result<ListProcessesReply, Problem> {
        Ok(ListProcessesReply::Ok { body: types::ProcessList { items: vec![process(7)] } })
    }

    async fn get_process(&self, _cx: Cx, request: GetProcess) -> Result<GetProcessReply, Problem> {
        Ok(GetProcessReply::Ok { body: process(request.pid) })
    }

    async fn kill_process(&self, _cx: Cx, _request: KillProcess) -> Result<KillProcessReply, Problem> {
        Ok(KillProcessReply::NoContent)
    }

    async fn signal_process(&self, _cx: Cx, _request: SignalProcess) -> Result<SignalProcessReply, Problem> {
        Ok(SignalProcessReply::NoContent)
    }

    async fn read_files(&self, _cx: Cx, _request: ReadFiles) -> Result<ReadFilesReply, Problem> {
        let body = ByteStream::new(stream::iter([Ok(Bytes::from_static(&[0; 1024]))]));
        Ok(ReadFilesReply::Ok { body })
    }

    async fn write_files(&self, _cx: Cx, request: WriteFiles) -> Result<WriteFilesReply, Problem> {
        let mut body = request.body;
        while let Some(chunk) = body.next().await {
            chunk?;
        }
        Ok(WriteFilesReply::NoContent)
    }

    async fn stat_file(&self, _cx: Cx, _request: StatFile) -> Result<StatFileReply, Problem> {
        let body = serde_json::json!({ "name": "a", "type": "file", "size_bytes": 1, "mode": 420, "uid": 0, "gid": 0,
            "modified_at": "2026-01-02T03:04:05Z" });
        Ok(StatFileReply::Ok { body: serde_json::from_value(body).unwrap() })
    }

    async fn get_instance_stats(&self, _cx: Cx, _request: GetInstanceStats) -> Result<GetInstanceStatsReply, Problem> {
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        let body = types::InstanceStats { at, guest: None, vmm: None, disk: None, network: None };
        Ok(GetInstanceStatsReply::Ok { body })
    }
}

fn process(pid: u32) -> types::Process {
    types::Process {
        pid,
        command: vec!["sleep".to_owned()],
        tty: false,
        detached: true,
        running: true,
        started_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        ended_at: None,
        exit_code: None,
        signal: None,
    }
}
