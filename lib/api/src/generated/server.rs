//! Operations, traits and routes. Generated from `openapi.yaml` by `make generate`: do not edit.

#![allow(clippy::all, clippy::too_many_lines, clippy::unwrap_used, unused_qualifications)]

use std::future::Future;
use std::sync::Arc;
use super::{rules, types};
use crate::input::FromInput;
use crate::reply::IntoReply;
use crate::router::Routes;
use crate::{Cx, Input, Operation, Problem, Reply, Runtime};
mod operations {
    use crate::Operation;
    pub(super) const GET_HEALTH: Operation = Operation {
        id: "get_health",
        method: "GET",
        path: "/health",
        auth: false,
        scopes: &[],
        query: &[],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[200u16, 400u16, 403u16, 406u16, 500u16],
    };
    pub(super) const GET_READINESS: Operation = Operation {
        id: "get_readiness",
        method: "GET",
        path: "/readyz",
        auth: false,
        scopes: &[],
        query: &[],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[200u16, 400u16, 403u16, 406u16, 500u16, 503u16],
    };
    pub(super) const GET_SPEC_YAML: Operation = Operation {
        id: "get_spec_yaml",
        method: "GET",
        path: "/spec.yaml",
        auth: false,
        scopes: &[],
        query: &[],
        produces: &["application/yaml"],
        consumes: &[],
        needs_body: false,
        statuses: &[200u16, 400u16, 403u16, 406u16, 500u16],
    };
    pub(super) const GET_SPEC_JSON: Operation = Operation {
        id: "get_spec_json",
        method: "GET",
        path: "/spec.json",
        auth: false,
        scopes: &[],
        query: &[],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[200u16, 400u16, 403u16, 406u16, 500u16],
    };
    pub(super) const LIST_IMAGES: Operation = Operation {
        id: "list_images",
        method: "GET",
        path: "/images",
        auth: true,
        scopes: &[],
        query: &["limit", "cursor", "label"],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[200u16, 400u16, 401u16, 403u16, 406u16, 429u16, 500u16, 503u16],
    };
    pub(super) const CREATE_IMAGE: Operation = Operation {
        id: "create_image",
        method: "POST",
        path: "/images",
        auth: true,
        scopes: &[],
        query: &[],
        produces: &["application/json"],
        consumes: &["application/json"],
        needs_body: true,
        statuses: &[
            200u16, 201u16, 202u16, 400u16, 401u16, 403u16, 406u16, 408u16, 409u16,
            413u16, 415u16, 422u16, 429u16, 500u16, 503u16, 507u16,
        ],
    };
    pub(super) const IMPORT_IMAGE: Operation = Operation {
        id: "import_image",
        method: "POST",
        path: "/images/import",
        auth: true,
        scopes: &[],
        query: &["name", "id"],
        produces: &["application/json"],
        consumes: &["application/x-tar"],
        needs_body: true,
        statuses: &[
            200u16, 201u16, 400u16, 401u16, 403u16, 406u16, 408u16, 409u16, 413u16,
            415u16, 422u16, 429u16, 500u16, 503u16, 507u16,
        ],
    };
    pub(super) const GET_IMAGE: Operation = Operation {
        id: "get_image",
        method: "GET",
        path: "/images/{image_id}",
        auth: true,
        scopes: &[],
        query: &[],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 429u16, 500u16, 503u16,
        ],
    };
    pub(super) const DELETE_IMAGE: Operation = Operation {
        id: "delete_image",
        method: "DELETE",
        path: "/images/{image_id}",
        auth: true,
        scopes: &[],
        query: &[],
        produces: &[],
        consumes: &[],
        needs_body: false,
        statuses: &[
            204u16, 400u16, 401u16, 403u16, 404u16, 409u16, 412u16, 429u16, 500u16,
            503u16,
        ],
    };
    pub(super) const LIST_INSTANCES: Operation = Operation {
        id: "list_instances",
        method: "GET",
        path: "/instances",
        auth: true,
        scopes: &[],
        query: &["limit", "cursor", "label", "state", "image"],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[200u16, 400u16, 401u16, 403u16, 406u16, 429u16, 500u16, 503u16],
    };
    pub(super) const CREATE_INSTANCE: Operation = Operation {
        id: "create_instance",
        method: "POST",
        path: "/instances",
        auth: true,
        scopes: &[],
        query: &[],
        produces: &["application/json"],
        consumes: &["application/json"],
        needs_body: true,
        statuses: &[
            200u16, 201u16, 400u16, 401u16, 403u16, 404u16, 406u16, 408u16, 409u16,
            413u16, 415u16, 422u16, 429u16, 500u16, 503u16, 507u16,
        ],
    };
    pub(super) const GET_INSTANCE: Operation = Operation {
        id: "get_instance",
        method: "GET",
        path: "/instances/{instance_id}",
        auth: true,
        scopes: &[],
        query: &[],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 429u16, 500u16, 503u16,
        ],
    };
    pub(super) const PATCH_INSTANCE: Operation = Operation {
        id: "patch_instance",
        method: "PATCH",
        path: "/instances/{instance_id}",
        auth: true,
        scopes: &[],
        query: &[],
        produces: &["application/json"],
        consumes: &["application/merge-patch+json", "application/json"],
        needs_body: true,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 408u16, 409u16, 412u16,
            413u16, 415u16, 422u16, 429u16, 500u16, 503u16, 507u16,
        ],
    };
    pub(super) const DELETE_INSTANCE: Operation = Operation {
        id: "delete_instance",
        method: "DELETE",
        path: "/instances/{instance_id}",
        auth: true,
        scopes: &[],
        query: &["grace_seconds"],
        produces: &[],
        consumes: &[],
        needs_body: false,
        statuses: &[
            204u16, 400u16, 401u16, 403u16, 404u16, 409u16, 412u16, 429u16, 500u16,
            503u16, 507u16,
        ],
    };
    pub(super) const START_INSTANCE: Operation = Operation {
        id: "start_instance",
        method: "POST",
        path: "/instances/{instance_id}/start",
        auth: true,
        scopes: &[],
        query: &["discard_snapshot"],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 409u16, 412u16, 422u16,
            429u16, 500u16, 503u16, 507u16,
        ],
    };
    pub(super) const STOP_INSTANCE: Operation = Operation {
        id: "stop_instance",
        method: "POST",
        path: "/instances/{instance_id}/stop",
        auth: true,
        scopes: &[],
        query: &["discard_snapshot"],
        produces: &["application/json"],
        consumes: &["application/json"],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 408u16, 409u16, 412u16,
            413u16, 415u16, 422u16, 429u16, 500u16, 503u16, 507u16,
        ],
    };
    pub(super) const REBOOT_INSTANCE: Operation = Operation {
        id: "reboot_instance",
        method: "POST",
        path: "/instances/{instance_id}/reboot",
        auth: true,
        scopes: &[],
        query: &[],
        produces: &["application/json"],
        consumes: &["application/json"],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 408u16, 409u16, 412u16,
            413u16, 415u16, 422u16, 429u16, 500u16, 503u16, 507u16,
        ],
    };
    pub(super) const PAUSE_INSTANCE: Operation = Operation {
        id: "pause_instance",
        method: "POST",
        path: "/instances/{instance_id}/pause",
        auth: true,
        scopes: &[],
        query: &[],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 409u16, 412u16, 422u16,
            429u16, 500u16, 503u16, 507u16,
        ],
    };
    pub(super) const RESUME_INSTANCE: Operation = Operation {
        id: "resume_instance",
        method: "POST",
        path: "/instances/{instance_id}/resume",
        auth: true,
        scopes: &[],
        query: &[],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 409u16, 412u16, 422u16,
            429u16, 500u16, 503u16, 507u16,
        ],
    };
    pub(super) const STANDBY_INSTANCE: Operation = Operation {
        id: "standby_instance",
        method: "POST",
        path: "/instances/{instance_id}/standby",
        auth: true,
        scopes: &[],
        query: &[],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 409u16, 412u16, 422u16,
            429u16, 500u16, 503u16, 507u16,
        ],
    };
    pub(super) const RESTORE_INSTANCE: Operation = Operation {
        id: "restore_instance",
        method: "POST",
        path: "/instances/{instance_id}/restore",
        auth: true,
        scopes: &[],
        query: &[],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 409u16, 412u16, 422u16,
            429u16, 500u16, 503u16, 507u16,
        ],
    };
    pub(super) const WAIT_FOR_INSTANCE: Operation = Operation {
        id: "wait_for_instance",
        method: "GET",
        path: "/instances/{instance_id}/wait",
        auth: true,
        scopes: &[],
        query: &["state", "ready", "timeout_seconds"],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 429u16, 500u16, 503u16,
        ],
    };
    pub(super) const EXEC_IN_INSTANCE: Operation = Operation {
        id: "exec_in_instance",
        method: "POST",
        path: "/instances/{instance_id}/exec",
        auth: true,
        scopes: &["exec"],
        query: &[],
        produces: &["application/json"],
        consumes: &["application/json"],
        needs_body: true,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 408u16, 409u16, 413u16,
            415u16, 422u16, 429u16, 500u16, 503u16,
        ],
    };
    pub(super) const ATTACH_EXEC: Operation = Operation {
        id: "attach_exec",
        method: "GET",
        path: "/instances/{instance_id}/exec",
        auth: true,
        scopes: &["exec"],
        query: &[],
        produces: &[],
        consumes: &[],
        needs_body: false,
        statuses: &[
            101u16, 400u16, 401u16, 403u16, 404u16, 406u16, 409u16, 426u16, 429u16,
            500u16, 503u16,
        ],
    };
    pub(super) const LIST_PROCESSES: Operation = Operation {
        id: "list_processes",
        method: "GET",
        path: "/instances/{instance_id}/processes",
        auth: true,
        scopes: &["exec"],
        query: &[],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 409u16, 422u16, 429u16,
            500u16, 503u16,
        ],
    };
    pub(super) const GET_PROCESS: Operation = Operation {
        id: "get_process",
        method: "GET",
        path: "/instances/{instance_id}/processes/{pid}",
        auth: true,
        scopes: &["exec"],
        query: &["wait_seconds"],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 409u16, 422u16, 429u16,
            500u16, 503u16,
        ],
    };
    pub(super) const KILL_PROCESS: Operation = Operation {
        id: "kill_process",
        method: "DELETE",
        path: "/instances/{instance_id}/processes/{pid}",
        auth: true,
        scopes: &["exec"],
        query: &[],
        produces: &[],
        consumes: &[],
        needs_body: false,
        statuses: &[
            204u16, 400u16, 401u16, 403u16, 404u16, 409u16, 422u16, 429u16, 500u16,
            503u16,
        ],
    };
    pub(super) const SIGNAL_PROCESS: Operation = Operation {
        id: "signal_process",
        method: "POST",
        path: "/instances/{instance_id}/processes/{pid}/signal",
        auth: true,
        scopes: &["exec"],
        query: &[],
        produces: &[],
        consumes: &["application/json"],
        needs_body: true,
        statuses: &[
            204u16, 400u16, 401u16, 403u16, 404u16, 408u16, 409u16, 413u16, 415u16,
            422u16, 429u16, 500u16, 503u16,
        ],
    };
    pub(super) const READ_FILES: Operation = Operation {
        id: "read_files",
        method: "GET",
        path: "/instances/{instance_id}/files",
        auth: true,
        scopes: &["exec"],
        query: &["path", "follow"],
        produces: &["application/x-tar"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 409u16, 422u16, 429u16,
            500u16, 503u16,
        ],
    };
    pub(super) const WRITE_FILES: Operation = Operation {
        id: "write_files",
        method: "PUT",
        path: "/instances/{instance_id}/files",
        auth: true,
        scopes: &["exec"],
        query: &["path", "follow"],
        produces: &[],
        consumes: &["application/x-tar"],
        needs_body: true,
        statuses: &[
            204u16, 400u16, 401u16, 403u16, 404u16, 408u16, 409u16, 415u16, 422u16,
            429u16, 500u16, 503u16, 507u16,
        ],
    };
    pub(super) const STAT_FILE: Operation = Operation {
        id: "stat_file",
        method: "GET",
        path: "/instances/{instance_id}/files/stat",
        auth: true,
        scopes: &["exec"],
        query: &["path", "follow", "list"],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 409u16, 422u16, 429u16,
            500u16, 503u16,
        ],
    };
    pub(super) const GET_INSTANCE_STATS: Operation = Operation {
        id: "get_instance_stats",
        method: "GET",
        path: "/instances/{instance_id}/stats",
        auth: true,
        scopes: &[],
        query: &["pss"],
        produces: &["application/json"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 400u16, 401u16, 403u16, 404u16, 406u16, 429u16, 500u16, 503u16,
        ],
    };
    pub(super) const GET_INSTANCE_LOGS: Operation = Operation {
        id: "get_instance_logs",
        method: "GET",
        path: "/instances/{instance_id}/logs",
        auth: true,
        scopes: &[],
        query: &["source", "tail", "offset", "follow"],
        produces: &["text/event-stream", "text/plain"],
        consumes: &[],
        needs_body: false,
        statuses: &[
            200u16, 204u16, 400u16, 401u16, 403u16, 404u16, 406u16, 429u16, 500u16,
            503u16,
        ],
    };
}
/// Every operation of the document; the router answers nothing else.
pub const OPERATIONS: &[Operation] = &[
    operations::GET_HEALTH,
    operations::GET_READINESS,
    operations::GET_SPEC_YAML,
    operations::GET_SPEC_JSON,
    operations::LIST_IMAGES,
    operations::CREATE_IMAGE,
    operations::IMPORT_IMAGE,
    operations::GET_IMAGE,
    operations::DELETE_IMAGE,
    operations::LIST_INSTANCES,
    operations::CREATE_INSTANCE,
    operations::GET_INSTANCE,
    operations::PATCH_INSTANCE,
    operations::DELETE_INSTANCE,
    operations::START_INSTANCE,
    operations::STOP_INSTANCE,
    operations::REBOOT_INSTANCE,
    operations::PAUSE_INSTANCE,
    operations::RESUME_INSTANCE,
    operations::STANDBY_INSTANCE,
    operations::RESTORE_INSTANCE,
    operations::WAIT_FOR_INSTANCE,
    operations::EXEC_IN_INSTANCE,
    operations::ATTACH_EXEC,
    operations::LIST_PROCESSES,
    operations::GET_PROCESS,
    operations::KILL_PROCESS,
    operations::SIGNAL_PROCESS,
    operations::READ_FILES,
    operations::WRITE_FILES,
    operations::STAT_FILE,
    operations::GET_INSTANCE_STATS,
    operations::GET_INSTANCE_LOGS,
];
/// The operations of `guest`.
pub trait GuestApi: Send + Sync + 'static {
    /// `POST /instances/{instance_id}/exec`: Run a program in the guest, wait for it, and answer what it said.
    fn exec_in_instance(
        &self,
        cx: Cx,
        request: ExecInInstance,
    ) -> impl Future<Output = Result<ExecInInstanceReply, Problem>> + Send;
    /// `GET /instances/{instance_id}/exec`: Run a program in the guest, interactively, over a WebSocket.
    fn attach_exec(
        &self,
        cx: Cx,
        request: AttachExec,
    ) -> impl Future<Output = Result<AttachExecReply, Problem>> + Send;
    /// `GET /instances/{instance_id}/processes`: The processes that were started by exec.
    fn list_processes(
        &self,
        cx: Cx,
        request: ListProcesses,
    ) -> impl Future<Output = Result<ListProcessesReply, Problem>> + Send;
    /// `GET /instances/{instance_id}/processes/{pid}`: One process that was started by exec, now or once it has ended.
    fn get_process(
        &self,
        cx: Cx,
        request: GetProcess,
    ) -> impl Future<Output = Result<GetProcessReply, Problem>> + Send;
    /// `DELETE /instances/{instance_id}/processes/{pid}`: Kill a process and all that it has started. One that has ended is none the worse for it.
    fn kill_process(
        &self,
        cx: Cx,
        request: KillProcess,
    ) -> impl Future<Output = Result<KillProcessReply, Problem>> + Send;
    /// `POST /instances/{instance_id}/processes/{pid}/signal`: Send a signal to a process that was started by exec.
    fn signal_process(
        &self,
        cx: Cx,
        request: SignalProcess,
    ) -> impl Future<Output = Result<SignalProcessReply, Problem>> + Send;
    /// `GET /instances/{instance_id}/files`: A file or a tree of the guest, as a tar stream.
    fn read_files(
        &self,
        cx: Cx,
        request: ReadFiles,
    ) -> impl Future<Output = Result<ReadFilesReply, Problem>> + Send;
    /// `PUT /instances/{instance_id}/files`: Unpack a tar stream in a directory of the guest.
    fn write_files(
        &self,
        cx: Cx,
        request: WriteFiles,
    ) -> impl Future<Output = Result<WriteFilesReply, Problem>> + Send;
    /// `GET /instances/{instance_id}/files/stat`: What lies at a path of the guest, and in a directory.
    fn stat_file(
        &self,
        cx: Cx,
        request: StatFile,
    ) -> impl Future<Output = Result<StatFileReply, Problem>> + Send;
    /// `GET /instances/{instance_id}/stats`: What the instance uses, as the guest, its VMM and the host count it.
    fn get_instance_stats(
        &self,
        cx: Cx,
        request: GetInstanceStats,
    ) -> impl Future<Output = Result<GetInstanceStatsReply, Problem>> + Send;
}
/// The operations of `images`.
pub trait ImagesApi: Send + Sync + 'static {
    /// `GET /images`: List images in the order of their ids.
    fn list_images(
        &self,
        cx: Cx,
        request: ListImages,
    ) -> impl Future<Output = Result<ListImagesReply, Problem>> + Send;
    /// `POST /images`: Pull an image and make a bootable disk of it.
    fn create_image(
        &self,
        cx: Cx,
        request: CreateImage,
    ) -> impl Future<Output = Result<CreateImageReply, Problem>> + Send;
    /// `POST /images/import`: Make a bootable disk of an uploaded archive.
    fn import_image(
        &self,
        cx: Cx,
        request: ImportImage,
    ) -> impl Future<Output = Result<ImportImageReply, Problem>> + Send;
    /// `GET /images/{image_id}`: One image.
    fn get_image(
        &self,
        cx: Cx,
        request: GetImage,
    ) -> impl Future<Output = Result<GetImageReply, Problem>> + Send;
    /// `DELETE /images/{image_id}`: Delete an image that no instance needs.
    fn delete_image(
        &self,
        cx: Cx,
        request: DeleteImage,
    ) -> impl Future<Output = Result<DeleteImageReply, Problem>> + Send;
}
/// The operations of `instances`.
pub trait InstancesApi: Send + Sync + 'static {
    /// `GET /instances`: List instances in the order of their ids.
    fn list_instances(
        &self,
        cx: Cx,
        request: ListInstances,
    ) -> impl Future<Output = Result<ListInstancesReply, Problem>> + Send;
    /// `POST /instances`: Create an instance and start it.
    fn create_instance(
        &self,
        cx: Cx,
        request: CreateInstance,
    ) -> impl Future<Output = Result<CreateInstanceReply, Problem>> + Send;
    /// `GET /instances/{instance_id}`: One instance.
    fn get_instance(
        &self,
        cx: Cx,
        request: GetInstance,
    ) -> impl Future<Output = Result<GetInstanceReply, Problem>> + Send;
    /// `PATCH /instances/{instance_id}`: Change an instance.
    fn patch_instance(
        &self,
        cx: Cx,
        request: PatchInstance,
    ) -> impl Future<Output = Result<PatchInstanceReply, Problem>> + Send;
    /// `DELETE /instances/{instance_id}`: Stop an instance and remove all it had, from any state.
    fn delete_instance(
        &self,
        cx: Cx,
        request: DeleteInstance,
    ) -> impl Future<Output = Result<DeleteInstanceReply, Problem>> + Send;
    /// `POST /instances/{instance_id}/start`: Start an instance.
    fn start_instance(
        &self,
        cx: Cx,
        request: StartInstance,
    ) -> impl Future<Output = Result<StartInstanceReply, Problem>> + Send;
    /// `POST /instances/{instance_id}/stop`: Stop an instance.
    fn stop_instance(
        &self,
        cx: Cx,
        request: StopInstance,
    ) -> impl Future<Output = Result<StopInstanceReply, Problem>> + Send;
    /// `POST /instances/{instance_id}/reboot`: Reboot an instance.
    fn reboot_instance(
        &self,
        cx: Cx,
        request: RebootInstance,
    ) -> impl Future<Output = Result<RebootInstanceReply, Problem>> + Send;
    /// `POST /instances/{instance_id}/pause`: Pause an instance.
    fn pause_instance(
        &self,
        cx: Cx,
        request: PauseInstance,
    ) -> impl Future<Output = Result<PauseInstanceReply, Problem>> + Send;
    /// `POST /instances/{instance_id}/resume`: Let a paused instance go on.
    fn resume_instance(
        &self,
        cx: Cx,
        request: ResumeInstance,
    ) -> impl Future<Output = Result<ResumeInstanceReply, Problem>> + Send;
    /// `POST /instances/{instance_id}/standby`: Put an instance into standby.
    fn standby_instance(
        &self,
        cx: Cx,
        request: StandbyInstance,
    ) -> impl Future<Output = Result<StandbyInstanceReply, Problem>> + Send;
    /// `POST /instances/{instance_id}/restore`: Bring an instance back from standby.
    fn restore_instance(
        &self,
        cx: Cx,
        request: RestoreInstance,
    ) -> impl Future<Output = Result<RestoreInstanceReply, Problem>> + Send;
    /// `GET /instances/{instance_id}/wait`: Wait until an instance is as wanted.
    fn wait_for_instance(
        &self,
        cx: Cx,
        request: WaitForInstance,
    ) -> impl Future<Output = Result<WaitForInstanceReply, Problem>> + Send;
    /// `GET /instances/{instance_id}/logs`: What the guest, its VMM or the daemon said.
    fn get_instance_logs(
        &self,
        cx: Cx,
        request: GetInstanceLogs,
    ) -> impl Future<Output = Result<GetInstanceLogsReply, Problem>> + Send;
}
/// The operations of `system`.
pub trait SystemApi: Send + Sync + 'static {
    /// `GET /health`: Whether the daemon answers at all.
    fn get_health(
        &self,
        cx: Cx,
        request: GetHealth,
    ) -> impl Future<Output = Result<GetHealthReply, Problem>> + Send;
    /// `GET /readyz`: Whether the host has what instances need, check by check.
    fn get_readiness(
        &self,
        cx: Cx,
        request: GetReadiness,
    ) -> impl Future<Output = Result<GetReadinessReply, Problem>> + Send;
    /// `GET /spec.yaml`: This document, byte for byte.
    fn get_spec_yaml(
        &self,
        cx: Cx,
        request: GetSpecYaml,
    ) -> impl Future<Output = Result<GetSpecYamlReply, Problem>> + Send;
    /// `GET /spec.json`: This document as JSON.
    fn get_spec_json(
        &self,
        cx: Cx,
        request: GetSpecJson,
    ) -> impl Future<Output = Result<GetSpecJsonReply, Problem>> + Send;
}
/// All operations.
pub trait Api: GuestApi + ImagesApi + InstancesApi + SystemApi {}
impl<T: GuestApi + ImagesApi + InstancesApi + SystemApi> Api for T {}
/// The routes of the document, and nothing else.
pub fn router<A: Api>(api: Arc<A>, runtime: Runtime) -> axum::Router {
    Routes::new(api, runtime)
        .add(
            &operations::GET_HEALTH,
            |api: Arc<A>, cx: Cx, request: GetHealth| async move {
                api.get_health(cx, request).await
            },
        )
        .add(
            &operations::GET_READINESS,
            |api: Arc<A>, cx: Cx, request: GetReadiness| async move {
                api.get_readiness(cx, request).await
            },
        )
        .add(
            &operations::GET_SPEC_YAML,
            |api: Arc<A>, cx: Cx, request: GetSpecYaml| async move {
                api.get_spec_yaml(cx, request).await
            },
        )
        .add(
            &operations::GET_SPEC_JSON,
            |api: Arc<A>, cx: Cx, request: GetSpecJson| async move {
                api.get_spec_json(cx, request).await
            },
        )
        .add(
            &operations::LIST_IMAGES,
            |api: Arc<A>, cx: Cx, request: ListImages| async move {
                api.list_images(cx, request).await
            },
        )
        .add(
            &operations::CREATE_IMAGE,
            |api: Arc<A>, cx: Cx, request: CreateImage| async move {
                api.create_image(cx, request).await
            },
        )
        .add(
            &operations::IMPORT_IMAGE,
            |api: Arc<A>, cx: Cx, request: ImportImage| async move {
                api.import_image(cx, request).await
            },
        )
        .add(
            &operations::GET_IMAGE,
            |api: Arc<A>, cx: Cx, request: GetImage| async move {
                api.get_image(cx, request).await
            },
        )
        .add(
            &operations::DELETE_IMAGE,
            |api: Arc<A>, cx: Cx, request: DeleteImage| async move {
                api.delete_image(cx, request).await
            },
        )
        .add(
            &operations::LIST_INSTANCES,
            |api: Arc<A>, cx: Cx, request: ListInstances| async move {
                api.list_instances(cx, request).await
            },
        )
        .add(
            &operations::CREATE_INSTANCE,
            |api: Arc<A>, cx: Cx, request: CreateInstance| async move {
                api.create_instance(cx, request).await
            },
        )
        .add(
            &operations::GET_INSTANCE,
            |api: Arc<A>, cx: Cx, request: GetInstance| async move {
                api.get_instance(cx, request).await
            },
        )
        .add(
            &operations::PATCH_INSTANCE,
            |api: Arc<A>, cx: Cx, request: PatchInstance| async move {
                api.patch_instance(cx, request).await
            },
        )
        .add(
            &operations::DELETE_INSTANCE,
            |api: Arc<A>, cx: Cx, request: DeleteInstance| async move {
                api.delete_instance(cx, request).await
            },
        )
        .add(
            &operations::START_INSTANCE,
            |api: Arc<A>, cx: Cx, request: StartInstance| async move {
                api.start_instance(cx, request).await
            },
        )
        .add(
            &operations::STOP_INSTANCE,
            |api: Arc<A>, cx: Cx, request: StopInstance| async move {
                api.stop_instance(cx, request).await
            },
        )
        .add(
            &operations::REBOOT_INSTANCE,
            |api: Arc<A>, cx: Cx, request: RebootInstance| async move {
                api.reboot_instance(cx, request).await
            },
        )
        .add(
            &operations::PAUSE_INSTANCE,
            |api: Arc<A>, cx: Cx, request: PauseInstance| async move {
                api.pause_instance(cx, request).await
            },
        )
        .add(
            &operations::RESUME_INSTANCE,
            |api: Arc<A>, cx: Cx, request: ResumeInstance| async move {
                api.resume_instance(cx, request).await
            },
        )
        .add(
            &operations::STANDBY_INSTANCE,
            |api: Arc<A>, cx: Cx, request: StandbyInstance| async move {
                api.standby_instance(cx, request).await
            },
        )
        .add(
            &operations::RESTORE_INSTANCE,
            |api: Arc<A>, cx: Cx, request: RestoreInstance| async move {
                api.restore_instance(cx, request).await
            },
        )
        .add(
            &operations::WAIT_FOR_INSTANCE,
            |api: Arc<A>, cx: Cx, request: WaitForInstance| async move {
                api.wait_for_instance(cx, request).await
            },
        )
        .add(
            &operations::EXEC_IN_INSTANCE,
            |api: Arc<A>, cx: Cx, request: ExecInInstance| async move {
                api.exec_in_instance(cx, request).await
            },
        )
        .add(
            &operations::ATTACH_EXEC,
            |api: Arc<A>, cx: Cx, request: AttachExec| async move {
                api.attach_exec(cx, request).await
            },
        )
        .add(
            &operations::LIST_PROCESSES,
            |api: Arc<A>, cx: Cx, request: ListProcesses| async move {
                api.list_processes(cx, request).await
            },
        )
        .add(
            &operations::GET_PROCESS,
            |api: Arc<A>, cx: Cx, request: GetProcess| async move {
                api.get_process(cx, request).await
            },
        )
        .add(
            &operations::KILL_PROCESS,
            |api: Arc<A>, cx: Cx, request: KillProcess| async move {
                api.kill_process(cx, request).await
            },
        )
        .add(
            &operations::SIGNAL_PROCESS,
            |api: Arc<A>, cx: Cx, request: SignalProcess| async move {
                api.signal_process(cx, request).await
            },
        )
        .add(
            &operations::READ_FILES,
            |api: Arc<A>, cx: Cx, request: ReadFiles| async move {
                api.read_files(cx, request).await
            },
        )
        .add(
            &operations::WRITE_FILES,
            |api: Arc<A>, cx: Cx, request: WriteFiles| async move {
                api.write_files(cx, request).await
            },
        )
        .add(
            &operations::STAT_FILE,
            |api: Arc<A>, cx: Cx, request: StatFile| async move {
                api.stat_file(cx, request).await
            },
        )
        .add(
            &operations::GET_INSTANCE_STATS,
            |api: Arc<A>, cx: Cx, request: GetInstanceStats| async move {
                api.get_instance_stats(cx, request).await
            },
        )
        .add(
            &operations::GET_INSTANCE_LOGS,
            |api: Arc<A>, cx: Cx, request: GetInstanceLogs| async move {
                api.get_instance_logs(cx, request).await
            },
        )
        .build()
}
/// What `GET /health` is asked.
#[derive(Debug)]
pub struct GetHealth {}
impl FromInput for GetHealth {
    async fn from_input(_input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {})
    }
}
/// What `GET /health` answers, when nothing is wrong.
#[derive(Debug)]
pub enum GetHealthReply {
    /// 200: It does.
    Ok {
        /// The body.
        body: types::Health,
    },
}
impl IntoReply for GetHealthReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { body } => Reply::json(200u16, &body),
        }
    }
}
/// What `GET /readyz` is asked.
#[derive(Debug)]
pub struct GetReadiness {}
impl FromInput for GetReadiness {
    async fn from_input(_input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {})
    }
}
/// What `GET /readyz` answers, when nothing is wrong.
#[derive(Debug)]
pub enum GetReadinessReply {
    /// 200: Every required check passes.
    Ok {
        /// The body.
        body: types::Readiness,
    },
    /// 503: At least one required check fails; its remedy says what to do.
    ServiceUnavailable {
        /// The body.
        body: types::Readiness,
    },
}
impl IntoReply for GetReadinessReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { body } => Reply::json(200u16, &body),
            Self::ServiceUnavailable { body } => Reply::json(503u16, &body),
        }
    }
}
/// What `GET /spec.yaml` is asked.
#[derive(Debug)]
pub struct GetSpecYaml {}
impl FromInput for GetSpecYaml {
    async fn from_input(_input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {})
    }
}
/// What `GET /spec.yaml` answers, when nothing is wrong.
#[derive(Debug)]
pub enum GetSpecYamlReply {
    /// 200: The OpenAPI 3.1 document as it was written.
    Ok {
        /// The body.
        body: bytes::Bytes,
    },
}
impl IntoReply for GetSpecYamlReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { body } => Reply::bytes(200u16, "application/yaml", body),
        }
    }
}
/// What `GET /spec.json` is asked.
#[derive(Debug)]
pub struct GetSpecJson {}
impl FromInput for GetSpecJson {
    async fn from_input(_input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {})
    }
}
/// What `GET /spec.json` answers, when nothing is wrong.
#[derive(Debug)]
pub enum GetSpecJsonReply {
    /// 200: The same OpenAPI 3.1 document, converted.
    Ok {
        /// The body.
        body: bytes::Bytes,
    },
}
impl IntoReply for GetSpecJsonReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { body } => Reply::bytes(200u16, "application/json", body),
        }
    }
}
/// What `GET /images` is asked.
#[derive(Debug)]
pub struct ListImages {
    /// The most items that one page may hold.
    pub limit: u32,
    /// Where to go on, from the `next_cursor` of the page before.
    pub cursor: Option<crate::Cursor>,
    /// Only items with this label, written `key=value`; repeated, with all of these.
    pub label: Vec<crate::LabelFilter>,
}
impl FromInput for ListImages {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            limit: input.query("limit", &rules::LIST_IMAGES_LIMIT)?.unwrap_or(100),
            cursor: input.query("cursor", &rules::LIST_IMAGES_CURSOR)?,
            label: input.query_all("label", &rules::LIST_IMAGES_LABEL)?,
        })
    }
}
/// What `GET /images` answers, when nothing is wrong.
#[derive(Debug)]
pub enum ListImagesReply {
    /// 200: One page of images.
    Ok {
        /// The body.
        body: types::ImageList,
    },
}
impl IntoReply for ListImagesReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { body } => Reply::json(200u16, &body),
        }
    }
}
/// What `POST /images` is asked.
#[derive(Debug)]
pub struct CreateImage {
    /// `respond-async` asks not to wait for the work (RFC 7240); anything else is ignored.
    pub prefer: Option<crate::Prefer>,
    /// The body.
    pub body: types::CreateImageRequest,
}
impl FromInput for CreateImage {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            prefer: input.header("Prefer", &rules::CREATE_IMAGE_PREFER)?,
            body: input.json(&rules::CREATE_IMAGE_REQUEST).await?,
        })
    }
}
/// What `POST /images` answers, when nothing is wrong.
#[derive(Debug)]
pub enum CreateImageReply {
    /// 200: The image was there already.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::Image,
    },
    /// 201: The image is ready.
    Created {
        /// The version of the resource.
        etag: crate::ETag,
        /// The path of the resource.
        location: String,
        /// The body.
        body: types::Image,
    },
    /// 202: The work goes on (`Prefer` asked not to wait for it).
    Accepted {
        /// The version of the resource.
        etag: crate::ETag,
        /// The path of the resource.
        location: String,
        /// The body.
        body: types::Image,
    },
}
impl IntoReply for CreateImageReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
            Self::Created { etag, location, body } => {
                Reply::json(201u16, &body)
                    .header("etag", etag.as_str())
                    .header("location", &location)
            }
            Self::Accepted { etag, location, body } => {
                Reply::json(202u16, &body)
                    .header("etag", etag.as_str())
                    .header("location", &location)
                    .header("preference-applied", "respond-async")
            }
        }
    }
}
/// What `POST /images/import` is asked.
#[derive(Debug)]
pub struct ImportImage {
    /// The name to give the image; default is what the archive says.
    pub name: Option<String>,
    /// The id to give the image; default is made from the name.
    pub id: Option<dataplane_types::ImageId>,
    /// The body, as it arrives.
    pub body: crate::BodyStream,
}
impl FromInput for ImportImage {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            name: input.query("name", &rules::IMPORT_IMAGE_NAME)?,
            id: input.query("id", &rules::IMPORT_IMAGE_ID)?,
            body: input.stream(),
        })
    }
}
/// What `POST /images/import` answers, when nothing is wrong.
#[derive(Debug)]
pub enum ImportImageReply {
    /// 200: The same content was there already under this id.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::Image,
    },
    /// 201: The image is ready.
    Created {
        /// The version of the resource.
        etag: crate::ETag,
        /// The path of the resource.
        location: String,
        /// The body.
        body: types::Image,
    },
}
impl IntoReply for ImportImageReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
            Self::Created { etag, location, body } => {
                Reply::json(201u16, &body)
                    .header("etag", etag.as_str())
                    .header("location", &location)
            }
        }
    }
}
/// What `GET /images/{image_id}` is asked.
#[derive(Debug)]
pub struct GetImage {
    /// The image's id.
    pub image_id: dataplane_types::ImageId,
}
impl FromInput for GetImage {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            image_id: input.path("image_id", &rules::GET_IMAGE_IMAGE_ID)?,
        })
    }
}
impl GetImage {
    /// The path `/images/{image_id}`.
    #[must_use]
    pub fn location(image_id: &dataplane_types::ImageId) -> String {
        format!("/images/{image_id}")
    }
}
/// What `GET /images/{image_id}` answers, when nothing is wrong.
#[derive(Debug)]
pub enum GetImageReply {
    /// 200: The image.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::Image,
    },
}
impl IntoReply for GetImageReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
        }
    }
}
/// What `DELETE /images/{image_id}` is asked.
#[derive(Debug)]
pub struct DeleteImage {
    /// The image's id.
    pub image_id: dataplane_types::ImageId,
    /// Act only if the resource still has one of these entity tags (RFC 9110).
    pub if_match: Option<crate::IfMatch>,
}
impl FromInput for DeleteImage {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            image_id: input.path("image_id", &rules::DELETE_IMAGE_IMAGE_ID)?,
            if_match: input.header("If-Match", &rules::DELETE_IMAGE_IF_MATCH)?,
        })
    }
}
/// What `DELETE /images/{image_id}` answers, when nothing is wrong.
#[derive(Debug)]
pub enum DeleteImageReply {
    /// 204: It is gone.
    NoContent,
}
impl IntoReply for DeleteImageReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::NoContent => Reply::empty(204u16),
        }
    }
}
/// What `GET /instances` is asked.
#[derive(Debug)]
pub struct ListInstances {
    /// The most items that one page may hold.
    pub limit: u32,
    /// Where to go on, from the `next_cursor` of the page before.
    pub cursor: Option<crate::Cursor>,
    /// Only items with this label, written `key=value`; repeated, with all of these.
    pub label: Vec<crate::LabelFilter>,
    /// Only instances in this state; repeated, in any of these.
    pub state: Vec<types::InstanceState>,
    /// Only instances of this image (its id).
    pub image: Option<dataplane_types::ImageId>,
}
impl FromInput for ListInstances {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            limit: input.query("limit", &rules::LIST_INSTANCES_LIMIT)?.unwrap_or(100),
            cursor: input.query("cursor", &rules::LIST_INSTANCES_CURSOR)?,
            label: input.query_all("label", &rules::LIST_INSTANCES_LABEL)?,
            state: input.query_all("state", &rules::LIST_INSTANCES_STATE)?,
            image: input.query("image", &rules::LIST_INSTANCES_IMAGE)?,
        })
    }
}
/// What `GET /instances` answers, when nothing is wrong.
#[derive(Debug)]
pub enum ListInstancesReply {
    /// 200: One page of instances.
    Ok {
        /// The body.
        body: types::InstanceList,
    },
}
impl IntoReply for ListInstancesReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { body } => Reply::json(200u16, &body),
        }
    }
}
/// What `POST /instances` is asked.
#[derive(Debug)]
pub struct CreateInstance {
    /// The body.
    pub body: types::CreateInstanceRequest,
}
impl FromInput for CreateInstance {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            body: input.json(&rules::CREATE_INSTANCE_REQUEST).await?,
        })
    }
}
/// What `POST /instances` answers, when nothing is wrong.
#[derive(Debug)]
pub enum CreateInstanceReply {
    /// 200: The same request was carried out before; this is the instance as it is now.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::Instance,
    },
    /// 201: The instance exists and its virtual machine runs.
    Created {
        /// The version of the resource.
        etag: crate::ETag,
        /// The path of the resource.
        location: String,
        /// The body.
        body: types::Instance,
    },
}
impl IntoReply for CreateInstanceReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
            Self::Created { etag, location, body } => {
                Reply::json(201u16, &body)
                    .header("etag", etag.as_str())
                    .header("location", &location)
            }
        }
    }
}
/// What `GET /instances/{instance_id}` is asked.
#[derive(Debug)]
pub struct GetInstance {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
}
impl FromInput for GetInstance {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::GET_INSTANCE_INSTANCE_ID)?,
        })
    }
}
impl GetInstance {
    /// The path `/instances/{instance_id}`.
    #[must_use]
    pub fn location(instance_id: &dataplane_types::InstanceId) -> String {
        format!("/instances/{instance_id}")
    }
}
/// What `GET /instances/{instance_id}` answers, when nothing is wrong.
#[derive(Debug)]
pub enum GetInstanceReply {
    /// 200: The instance.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::Instance,
    },
}
impl IntoReply for GetInstanceReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
        }
    }
}
/// What `PATCH /instances/{instance_id}` is asked.
#[derive(Debug)]
pub struct PatchInstance {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// Act only if the resource still has one of these entity tags (RFC 9110).
    pub if_match: Option<crate::IfMatch>,
    /// The body.
    pub body: types::PatchInstanceRequest,
}
impl FromInput for PatchInstance {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::PATCH_INSTANCE_INSTANCE_ID)?,
            if_match: input.header("If-Match", &rules::PATCH_INSTANCE_IF_MATCH)?,
            body: input.json(&rules::PATCH_INSTANCE_REQUEST).await?,
        })
    }
}
/// What `PATCH /instances/{instance_id}` answers, when nothing is wrong.
#[derive(Debug)]
pub enum PatchInstanceReply {
    /// 200: The instance as it is now.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::Instance,
    },
}
impl IntoReply for PatchInstanceReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
        }
    }
}
/// What `DELETE /instances/{instance_id}` is asked.
#[derive(Debug)]
pub struct DeleteInstance {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// How long the guest's program may take to end after its stop signal; 0 ends it at once.
    pub grace_seconds: u32,
    /// Act only if the resource still has one of these entity tags (RFC 9110).
    pub if_match: Option<crate::IfMatch>,
}
impl FromInput for DeleteInstance {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::DELETE_INSTANCE_INSTANCE_ID)?,
            grace_seconds: input
                .query("grace_seconds", &rules::DELETE_INSTANCE_GRACE_SECONDS)?
                .unwrap_or(10),
            if_match: input.header("If-Match", &rules::DELETE_INSTANCE_IF_MATCH)?,
        })
    }
}
/// What `DELETE /instances/{instance_id}` answers, when nothing is wrong.
#[derive(Debug)]
pub enum DeleteInstanceReply {
    /// 204: It is gone.
    NoContent,
}
impl IntoReply for DeleteInstanceReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::NoContent => Reply::empty(204u16),
        }
    }
}
/// What `POST /instances/{instance_id}/start` is asked.
#[derive(Debug)]
pub struct StartInstance {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// Whether the snapshot of an instance in standby may be thrown away. What was in memory is then lost; the disk is kept.
    pub discard_snapshot: bool,
    /// Act only if the resource still has one of these entity tags (RFC 9110).
    pub if_match: Option<crate::IfMatch>,
}
impl FromInput for StartInstance {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::START_INSTANCE_INSTANCE_ID)?,
            discard_snapshot: input
                .query("discard_snapshot", &rules::START_INSTANCE_DISCARD_SNAPSHOT)?
                .unwrap_or(false),
            if_match: input.header("If-Match", &rules::START_INSTANCE_IF_MATCH)?,
        })
    }
}
/// What `POST /instances/{instance_id}/start` answers, when nothing is wrong.
#[derive(Debug)]
pub enum StartInstanceReply {
    /// 200: It is so.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::Instance,
    },
}
impl IntoReply for StartInstanceReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
        }
    }
}
/// What `POST /instances/{instance_id}/stop` is asked.
#[derive(Debug)]
pub struct StopInstance {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// Whether the snapshot of an instance in standby may be thrown away. What was in memory is then lost; the disk is kept.
    pub discard_snapshot: bool,
    /// Act only if the resource still has one of these entity tags (RFC 9110).
    pub if_match: Option<crate::IfMatch>,
    /// The body; its defaults where there is none.
    pub body: types::GraceRequest,
}
impl FromInput for StopInstance {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::STOP_INSTANCE_INSTANCE_ID)?,
            discard_snapshot: input
                .query("discard_snapshot", &rules::STOP_INSTANCE_DISCARD_SNAPSHOT)?
                .unwrap_or(false),
            if_match: input.header("If-Match", &rules::STOP_INSTANCE_IF_MATCH)?,
            body: input.json_or_default(&rules::GRACE_REQUEST).await?,
        })
    }
}
/// What `POST /instances/{instance_id}/stop` answers, when nothing is wrong.
#[derive(Debug)]
pub enum StopInstanceReply {
    /// 200: It is so.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::Instance,
    },
}
impl IntoReply for StopInstanceReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
        }
    }
}
/// What `POST /instances/{instance_id}/reboot` is asked.
#[derive(Debug)]
pub struct RebootInstance {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// Act only if the resource still has one of these entity tags (RFC 9110).
    pub if_match: Option<crate::IfMatch>,
    /// The body; its defaults where there is none.
    pub body: types::GraceRequest,
}
impl FromInput for RebootInstance {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::REBOOT_INSTANCE_INSTANCE_ID)?,
            if_match: input.header("If-Match", &rules::REBOOT_INSTANCE_IF_MATCH)?,
            body: input.json_or_default(&rules::GRACE_REQUEST).await?,
        })
    }
}
/// What `POST /instances/{instance_id}/reboot` answers, when nothing is wrong.
#[derive(Debug)]
pub enum RebootInstanceReply {
    /// 200: It is so.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::Instance,
    },
}
impl IntoReply for RebootInstanceReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
        }
    }
}
/// What `POST /instances/{instance_id}/pause` is asked.
#[derive(Debug)]
pub struct PauseInstance {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// Act only if the resource still has one of these entity tags (RFC 9110).
    pub if_match: Option<crate::IfMatch>,
}
impl FromInput for PauseInstance {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::PAUSE_INSTANCE_INSTANCE_ID)?,
            if_match: input.header("If-Match", &rules::PAUSE_INSTANCE_IF_MATCH)?,
        })
    }
}
/// What `POST /instances/{instance_id}/pause` answers, when nothing is wrong.
#[derive(Debug)]
pub enum PauseInstanceReply {
    /// 200: It is so.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::Instance,
    },
}
impl IntoReply for PauseInstanceReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
        }
    }
}
/// What `POST /instances/{instance_id}/resume` is asked.
#[derive(Debug)]
pub struct ResumeInstance {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// Act only if the resource still has one of these entity tags (RFC 9110).
    pub if_match: Option<crate::IfMatch>,
}
impl FromInput for ResumeInstance {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::RESUME_INSTANCE_INSTANCE_ID)?,
            if_match: input.header("If-Match", &rules::RESUME_INSTANCE_IF_MATCH)?,
        })
    }
}
/// What `POST /instances/{instance_id}/resume` answers, when nothing is wrong.
#[derive(Debug)]
pub enum ResumeInstanceReply {
    /// 200: It is so.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::Instance,
    },
}
impl IntoReply for ResumeInstanceReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
        }
    }
}
/// What `POST /instances/{instance_id}/standby` is asked.
#[derive(Debug)]
pub struct StandbyInstance {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// Act only if the resource still has one of these entity tags (RFC 9110).
    pub if_match: Option<crate::IfMatch>,
}
impl FromInput for StandbyInstance {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input
                .path("instance_id", &rules::STANDBY_INSTANCE_INSTANCE_ID)?,
            if_match: input.header("If-Match", &rules::STANDBY_INSTANCE_IF_MATCH)?,
        })
    }
}
/// What `POST /instances/{instance_id}/standby` answers, when nothing is wrong.
#[derive(Debug)]
pub enum StandbyInstanceReply {
    /// 200: It is so.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::Instance,
    },
}
impl IntoReply for StandbyInstanceReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
        }
    }
}
/// What `POST /instances/{instance_id}/restore` is asked.
#[derive(Debug)]
pub struct RestoreInstance {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// Act only if the resource still has one of these entity tags (RFC 9110).
    pub if_match: Option<crate::IfMatch>,
}
impl FromInput for RestoreInstance {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input
                .path("instance_id", &rules::RESTORE_INSTANCE_INSTANCE_ID)?,
            if_match: input.header("If-Match", &rules::RESTORE_INSTANCE_IF_MATCH)?,
        })
    }
}
/// What `POST /instances/{instance_id}/restore` answers, when nothing is wrong.
#[derive(Debug)]
pub enum RestoreInstanceReply {
    /// 200: It is so.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::Instance,
    },
}
impl IntoReply for RestoreInstanceReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
        }
    }
}
/// What `GET /instances/{instance_id}/wait` is asked.
#[derive(Debug)]
pub struct WaitForInstance {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// The state to wait for; repeated, any of these.
    pub state: Vec<types::InstanceState>,
    /// Whether the guest's program shall be ready.
    pub ready: Option<bool>,
    /// How long to wait at most.
    pub timeout_seconds: u32,
}
impl FromInput for WaitForInstance {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input
                .path("instance_id", &rules::WAIT_FOR_INSTANCE_INSTANCE_ID)?,
            state: input.query_all("state", &rules::WAIT_FOR_INSTANCE_STATE)?,
            ready: input.query("ready", &rules::WAIT_FOR_INSTANCE_READY)?,
            timeout_seconds: input
                .query("timeout_seconds", &rules::WAIT_FOR_INSTANCE_TIMEOUT_SECONDS)?
                .unwrap_or(60),
        })
    }
}
impl WaitForInstance {
    /// The path `/instances/{instance_id}/wait`.
    #[must_use]
    pub fn location(instance_id: &dataplane_types::InstanceId) -> String {
        format!("/instances/{instance_id}/wait")
    }
}
/// What `GET /instances/{instance_id}/wait` answers, when nothing is wrong.
#[derive(Debug)]
pub enum WaitForInstanceReply {
    /// 200: How it is now.
    Ok {
        /// The version of the resource.
        etag: crate::ETag,
        /// The body.
        body: types::WaitResult,
    },
}
impl IntoReply for WaitForInstanceReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { etag, body } => {
                Reply::json(200u16, &body).header("etag", etag.as_str())
            }
        }
    }
}
/// What `POST /instances/{instance_id}/exec` is asked.
#[derive(Debug)]
pub struct ExecInInstance {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// The body.
    pub body: types::ExecRequest,
}
impl FromInput for ExecInInstance {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input
                .path("instance_id", &rules::EXEC_IN_INSTANCE_INSTANCE_ID)?,
            body: input.json(&rules::EXEC_REQUEST).await?,
        })
    }
}
/// What `POST /instances/{instance_id}/exec` answers, when nothing is wrong.
#[derive(Debug)]
pub enum ExecInInstanceReply {
    /// 200: The program ran, could not be started, or was killed when its time was over.
    Ok {
        /// The body.
        body: types::ExecResult,
    },
}
impl IntoReply for ExecInInstanceReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { body } => Reply::json(200u16, &body),
        }
    }
}
/// What `GET /instances/{instance_id}/exec` is asked.
#[derive(Debug)]
pub struct AttachExec {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// The connection, to be taken over.
    pub upgrade: crate::Upgrade,
}
impl FromInput for AttachExec {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::ATTACH_EXEC_INSTANCE_ID)?,
            upgrade: input.upgrade(&rules::EXEC_REQUEST).await?,
        })
    }
}
impl AttachExec {
    /// The path `/instances/{instance_id}/exec`.
    #[must_use]
    pub fn location(instance_id: &dataplane_types::InstanceId) -> String {
        format!("/instances/{instance_id}/exec")
    }
}
/// What `GET /instances/{instance_id}/exec` answers, when nothing is wrong.
#[derive(Debug)]
pub enum AttachExecReply {
    /// 101: The WebSocket is open.
    Switching {
        /// What is said on the WebSocket.
        body: crate::SocketReply,
    },
}
impl IntoReply for AttachExecReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Switching { body } => Reply::socket(body),
        }
    }
}
/// What `GET /instances/{instance_id}/processes` is asked.
#[derive(Debug)]
pub struct ListProcesses {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
}
impl FromInput for ListProcesses {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::LIST_PROCESSES_INSTANCE_ID)?,
        })
    }
}
impl ListProcesses {
    /// The path `/instances/{instance_id}/processes`.
    #[must_use]
    pub fn location(instance_id: &dataplane_types::InstanceId) -> String {
        format!("/instances/{instance_id}/processes")
    }
}
/// What `GET /instances/{instance_id}/processes` answers, when nothing is wrong.
#[derive(Debug)]
pub enum ListProcessesReply {
    /// 200: All of them.
    Ok {
        /// The body.
        body: types::ProcessList,
    },
}
impl IntoReply for ListProcessesReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { body } => Reply::json(200u16, &body),
        }
    }
}
/// What `GET /instances/{instance_id}/processes/{pid}` is asked.
#[derive(Debug)]
pub struct GetProcess {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// The process, as programs of the guest number it.
    pub pid: u32,
    /// How long to wait for its end.
    pub wait_seconds: u32,
}
impl FromInput for GetProcess {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::GET_PROCESS_INSTANCE_ID)?,
            pid: input.path("pid", &rules::GET_PROCESS_PID)?,
            wait_seconds: input
                .query("wait_seconds", &rules::GET_PROCESS_WAIT_SECONDS)?
                .unwrap_or(0),
        })
    }
}
impl GetProcess {
    /// The path `/instances/{instance_id}/processes/{pid}`.
    #[must_use]
    pub fn location(instance_id: &dataplane_types::InstanceId, pid: &u32) -> String {
        format!("/instances/{instance_id}/processes/{pid}")
    }
}
/// What `GET /instances/{instance_id}/processes/{pid}` answers, when nothing is wrong.
#[derive(Debug)]
pub enum GetProcessReply {
    /// 200: How it is now. Of several with the same number it is the one that was started last.
    Ok {
        /// The body.
        body: types::Process,
    },
}
impl IntoReply for GetProcessReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { body } => Reply::json(200u16, &body),
        }
    }
}
/// What `DELETE /instances/{instance_id}/processes/{pid}` is asked.
#[derive(Debug)]
pub struct KillProcess {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// The process, as programs of the guest number it.
    pub pid: u32,
}
impl FromInput for KillProcess {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::KILL_PROCESS_INSTANCE_ID)?,
            pid: input.path("pid", &rules::KILL_PROCESS_PID)?,
        })
    }
}
/// What `DELETE /instances/{instance_id}/processes/{pid}` answers, when nothing is wrong.
#[derive(Debug)]
pub enum KillProcessReply {
    /// 204: The signal is sent.
    NoContent,
}
impl IntoReply for KillProcessReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::NoContent => Reply::empty(204u16),
        }
    }
}
/// What `POST /instances/{instance_id}/processes/{pid}/signal` is asked.
#[derive(Debug)]
pub struct SignalProcess {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// The process, as programs of the guest number it.
    pub pid: u32,
    /// The body.
    pub body: types::SignalRequest,
}
impl FromInput for SignalProcess {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::SIGNAL_PROCESS_INSTANCE_ID)?,
            pid: input.path("pid", &rules::SIGNAL_PROCESS_PID)?,
            body: input.json(&rules::SIGNAL_REQUEST).await?,
        })
    }
}
/// What `POST /instances/{instance_id}/processes/{pid}/signal` answers, when nothing is wrong.
#[derive(Debug)]
pub enum SignalProcessReply {
    /// 204: It is sent, or the process has ended.
    NoContent,
}
impl IntoReply for SignalProcessReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::NoContent => Reply::empty(204u16),
        }
    }
}
/// What `GET /instances/{instance_id}/files` is asked.
#[derive(Debug)]
pub struct ReadFiles {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// An absolute path in the guest, without `..`. It must be given.
    pub path: Option<String>,
    /// Whether links on the way to the path, and at its end, are followed, inside of the guest's root. Otherwise a link on the way is refused, and one at the end is itself what is meant.
    pub follow: bool,
}
impl FromInput for ReadFiles {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::READ_FILES_INSTANCE_ID)?,
            path: input.query("path", &rules::READ_FILES_PATH)?,
            follow: input.query("follow", &rules::READ_FILES_FOLLOW)?.unwrap_or(false),
        })
    }
}
impl ReadFiles {
    /// The path `/instances/{instance_id}/files`.
    #[must_use]
    pub fn location(instance_id: &dataplane_types::InstanceId) -> String {
        format!("/instances/{instance_id}/files")
    }
}
/// What `GET /instances/{instance_id}/files` answers, when nothing is wrong.
#[derive(Debug)]
pub enum ReadFilesReply {
    /// 200: The stream.
    Ok {
        /// The body.
        body: crate::ByteStream,
    },
}
impl IntoReply for ReadFilesReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { body } => Reply::stream(200u16, "application/x-tar", body),
        }
    }
}
/// What `PUT /instances/{instance_id}/files` is asked.
#[derive(Debug)]
pub struct WriteFiles {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// An absolute path in the guest, without `..`. It must be given.
    pub path: Option<String>,
    /// Whether links on the way to the path, and at its end, are followed, inside of the guest's root. Otherwise a link on the way is refused, and one at the end is itself what is meant.
    pub follow: bool,
    /// The body, as it arrives.
    pub body: crate::BodyStream,
}
impl FromInput for WriteFiles {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::WRITE_FILES_INSTANCE_ID)?,
            path: input.query("path", &rules::WRITE_FILES_PATH)?,
            follow: input.query("follow", &rules::WRITE_FILES_FOLLOW)?.unwrap_or(false),
            body: input.stream(),
        })
    }
}
/// What `PUT /instances/{instance_id}/files` answers, when nothing is wrong.
#[derive(Debug)]
pub enum WriteFilesReply {
    /// 204: All of it is there.
    NoContent,
}
impl IntoReply for WriteFilesReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::NoContent => Reply::empty(204u16),
        }
    }
}
/// What `GET /instances/{instance_id}/files/stat` is asked.
#[derive(Debug)]
pub struct StatFile {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// An absolute path in the guest, without `..`. It must be given.
    pub path: Option<String>,
    /// Whether links on the way to the path, and at its end, are followed, inside of the guest's root. Otherwise a link on the way is refused, and one at the end is itself what is meant.
    pub follow: bool,
    /// Whether with what a directory holds, by name.
    pub list: bool,
}
impl FromInput for StatFile {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input.path("instance_id", &rules::STAT_FILE_INSTANCE_ID)?,
            path: input.query("path", &rules::STAT_FILE_PATH)?,
            follow: input.query("follow", &rules::STAT_FILE_FOLLOW)?.unwrap_or(false),
            list: input.query("list", &rules::STAT_FILE_LIST)?.unwrap_or(false),
        })
    }
}
impl StatFile {
    /// The path `/instances/{instance_id}/files/stat`.
    #[must_use]
    pub fn location(instance_id: &dataplane_types::InstanceId) -> String {
        format!("/instances/{instance_id}/files/stat")
    }
}
/// What `GET /instances/{instance_id}/files/stat` answers, when nothing is wrong.
#[derive(Debug)]
pub enum StatFileReply {
    /// 200: What it is.
    Ok {
        /// The body.
        body: types::FileInfo,
    },
}
impl IntoReply for StatFileReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { body } => Reply::json(200u16, &body),
        }
    }
}
/// What `GET /instances/{instance_id}/stats` is asked.
#[derive(Debug)]
pub struct GetInstanceStats {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// Whether the VMM's proportional share of memory is wanted.
    pub pss: bool,
}
impl FromInput for GetInstanceStats {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input
                .path("instance_id", &rules::GET_INSTANCE_STATS_INSTANCE_ID)?,
            pss: input.query("pss", &rules::GET_INSTANCE_STATS_PSS)?.unwrap_or(false),
        })
    }
}
impl GetInstanceStats {
    /// The path `/instances/{instance_id}/stats`.
    #[must_use]
    pub fn location(instance_id: &dataplane_types::InstanceId) -> String {
        format!("/instances/{instance_id}/stats")
    }
}
/// What `GET /instances/{instance_id}/stats` answers, when nothing is wrong.
#[derive(Debug)]
pub enum GetInstanceStatsReply {
    /// 200: What could be had.
    Ok {
        /// The body.
        body: types::InstanceStats,
    },
}
impl IntoReply for GetInstanceStatsReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Ok { body } => Reply::json(200u16, &body),
        }
    }
}
/// What `GET /instances/{instance_id}/logs` is asked.
#[derive(Debug)]
pub struct GetInstanceLogs {
    /// The instance's id.
    pub instance_id: dataplane_types::InstanceId,
    /// Whose words; absent means `app`.
    pub source: Option<types::LogSource>,
    /// How many of the last lines to begin with.
    pub tail: u32,
    /// The offset to begin at, instead of `tail`; 0 is the beginning.
    pub offset: Option<u64>,
    /// Whether to go on with new lines as they come.
    pub follow: bool,
    /// The id of the last event that arrived.
    pub last_event_id: Option<u64>,
    /// What `Accept` asks for.
    pub accept: GetInstanceLogsAccept,
}
impl FromInput for GetInstanceLogs {
    async fn from_input(input: &mut Input) -> Result<Self, Problem> {
        Ok(Self {
            instance_id: input
                .path("instance_id", &rules::GET_INSTANCE_LOGS_INSTANCE_ID)?,
            source: input.query("source", &rules::GET_INSTANCE_LOGS_SOURCE)?,
            tail: input.query("tail", &rules::GET_INSTANCE_LOGS_TAIL)?.unwrap_or(100),
            offset: input.query("offset", &rules::GET_INSTANCE_LOGS_OFFSET)?,
            follow: input
                .query("follow", &rules::GET_INSTANCE_LOGS_FOLLOW)?
                .unwrap_or(false),
            last_event_id: input
                .header("Last-Event-ID", &rules::GET_INSTANCE_LOGS_LAST_EVENT_ID)?,
            accept: GetInstanceLogsAccept::of(input.accepted()),
        })
    }
}
impl GetInstanceLogs {
    /// The path `/instances/{instance_id}/logs`.
    #[must_use]
    pub fn location(instance_id: &dataplane_types::InstanceId) -> String {
        format!("/instances/{instance_id}/logs")
    }
}
/// The media types of `GET /instances/{instance_id}/logs`, the default first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GetInstanceLogsAccept {
    /// `text/event-stream`
    EventStream,
    /// `text/plain`
    Plain,
}
impl GetInstanceLogsAccept {
    fn of(media: &str) -> Self {
        match media {
            "text/plain" => Self::Plain,
            _ => Self::EventStream,
        }
    }
}
/// What `GET /instances/{instance_id}/logs` answers, when nothing is wrong.
#[derive(Debug)]
pub enum GetInstanceLogsReply {
    /// 200: The output, chosen by `Accept`; events are the default.
    OkEventStream {
        /// The body.
        body: crate::SseStream,
    },
    /// 200: The output, chosen by `Accept`; events are the default.
    OkPlain {
        /// The body.
        body: crate::ByteStream,
    },
    /// 204: There is nothing behind `Last-Event-ID`, or the instance was deleted a while ago.
    NoContent,
}
impl IntoReply for GetInstanceLogsReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::OkEventStream { body } => Reply::events(200u16, body),
            Self::OkPlain { body } => Reply::stream(200u16, "text/plain", body),
            Self::NoContent => Reply::empty(204u16),
        }
    }
}
