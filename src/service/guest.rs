//! What is inside of a guest: programs as one exchange, processes, counts. WebSockets are next door.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use dataplane_api::types::{self, ExecOutput, ExecRequest, ExecResult};
use dataplane_api::{
    AttachExec, AttachExecReply, Cx, ExecInInstance, ExecInInstanceReply, GetInstanceStats, GetInstanceStatsReply,
    GetProcess, GetProcessReply, GuestApi, KillProcess, KillProcessReply, ListProcesses, ListProcessesReply, Problem,
    ReadFiles, ReadFilesReply, SignalProcess, SignalProcessReply, StatFile, StatFileReply, WriteFiles, WriteFilesReply,
};
use dataplane_instances::{Exec, ExitStatus, GuestUsage, Output, ProcessInfo, Ran, Run, Stats, TtySize};

use super::{Dataplane, attach, files, problems, signals};

impl GuestApi for Dataplane {
    async fn exec_in_instance(&self, cx: Cx, request: ExecInInstance) -> Result<ExecInInstanceReply, Problem> {
        let run = run_of(request.body)?;
        let work = self.instances.run(&request.instance_id, run, cx.hung_up());
        let ran = cx.timed("exec", work).await.map_err(|error| problems::of_guest(&error))?;
        Ok(ExecInInstanceReply::Ok { body: result(ran) })
    }

    async fn attach_exec(&self, _: Cx, request: AttachExec) -> Result<AttachExecReply, Problem> {
        let AttachExec { instance_id, upgrade } = request;
        self.instances.accepts_guest_work(&instance_id).map_err(|error| problems::of_guest(&error))?;
        let instances = self.instances.clone();
        let body = upgrade.with(|reader, writer| attach::talk(instances, instance_id, reader, writer));
        Ok(AttachExecReply::Switching { body })
    }

    async fn list_processes(&self, _: Cx, request: ListProcesses) -> Result<ListProcessesReply, Problem> {
        let found = self.instances.processes(&request.instance_id).await;
        let found = found.map_err(|error| problems::of_guest(&error))?;
        let body = types::ProcessList { items: found.into_iter().map(process).collect() };
        Ok(ListProcessesReply::Ok { body })
    }

    async fn get_process(&self, cx: Cx, request: GetProcess) -> Result<GetProcessReply, Problem> {
        let patience = Duration::from_secs(request.wait_seconds.into());
        let found = tokio::select! {
            found = self.instances.process(&request.instance_id, request.pid, patience) => found,
            () = cx.hung_up() => return Err(Problem::new(dataplane_api::ProblemCode::RequestTimeout, "hung up")),
        };
        Ok(GetProcessReply::Ok { body: process(found.map_err(|error| problems::of_guest(&error))?) })
    }

    async fn kill_process(&self, _: Cx, request: KillProcess) -> Result<KillProcessReply, Problem> {
        let sent = self.instances.signal(&request.instance_id, request.pid, signals::KILL, true).await;
        sent.map_err(|error| problems::of_guest(&error))?;
        Ok(KillProcessReply::NoContent)
    }

    async fn signal_process(&self, _: Cx, request: SignalProcess) -> Result<SignalProcessReply, Problem> {
        let types::SignalRequest { signal, group } = request.body;
        let number = signals::parse(&signal)
            .ok_or_else(|| Problem::invalid_field("signal", "is neither a signal's name nor a number from 1 to 64"))?;
        let sent = self.instances.signal(&request.instance_id, request.pid, number, group).await;
        sent.map_err(|error| problems::of_guest(&error))?;
        Ok(SignalProcessReply::NoContent)
    }

    async fn read_files(&self, cx: Cx, request: ReadFiles) -> Result<ReadFilesReply, Problem> {
        files::read(self, cx, request).await
    }

    async fn write_files(&self, cx: Cx, request: WriteFiles) -> Result<WriteFilesReply, Problem> {
        files::write(self, cx, request).await
    }

    async fn stat_file(&self, _: Cx, request: StatFile) -> Result<StatFileReply, Problem> {
        files::stat(self, request).await
    }

    async fn get_instance_stats(&self, _: Cx, request: GetInstanceStats) -> Result<GetInstanceStatsReply, Problem> {
        let stats = self.instances.stats(&request.instance_id, request.pss).await;
        let stats = stats.ok_or_else(|| super::instances::not_found(&request.instance_id))?;
        Ok(GetInstanceStatsReply::Ok { body: counts(stats) })
    }
}

/// What a request says of the program itself.
pub(super) fn exec_of(request: &ExecRequest) -> Exec {
    // Bounded by the document.
    let size = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    let tty = request.tty.then(|| TtySize { rows: size(request.rows), columns: size(request.columns) });
    Exec {
        argv: request.command.clone(),
        env: request.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        working_dir: request.cwd.clone(),
        user: request.user.clone(),
        tty,
        detach: request.detach,
    }
}

fn run_of(request: ExecRequest) -> Result<Run, Problem> {
    let exec = exec_of(&request);
    let stdin = match (request.stdin, request.stdin_base64) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid_field("stdin_base64", "cannot be given together with stdin"));
        }
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => {
            STANDARD.decode(text).map_err(|_| Problem::invalid_field("stdin_base64", "is no base64"))?
        }
        (None, None) => Vec::new(),
    };
    let timeout = request.timeout_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    Ok(Run { exec, stdin, timeout, max_output: usize::try_from(request.max_output_bytes).unwrap_or(usize::MAX) })
}

fn result(ran: Ran) -> ExecResult {
    let (exit_code, signal) = ran.status.map_or((None, None), ending);
    ExecResult {
        pid: ran.pid,
        exit_code,
        signal,
        reason: ran.reason,
        timed_out: ran.timed_out,
        stdout: output(ran.stdout),
        stderr: output(ran.stderr),
        duration_ms: u64::try_from(ran.took.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Exit code and signal: one of them.
pub(super) fn ending(status: ExitStatus) -> (Option<u32>, Option<u32>) {
    match status {
        ExitStatus::Code(code) => (Some(code.into()), None),
        ExitStatus::Signal(signal) => (None, Some(signal.into())),
    }
}

fn output(output: Output) -> ExecOutput {
    let Output { bytes, truncated } = output;
    // A character that was cut in two does not make a text into something else.
    let cut = bytes.len() - if truncated { half_a_character(&bytes) } else { 0 };
    match String::from_utf8(bytes.get(..cut).unwrap_or(&bytes).to_vec()) {
        Ok(text) => ExecOutput { text: Some(text), base64: None, truncated },
        Err(_) => ExecOutput { text: None, base64: Some(STANDARD.encode(&bytes)), truncated },
    }
}

/// How many bytes at the end are the beginning of a character.
fn half_a_character(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => bytes.len() - error.valid_up_to(),
        Ok(_) | Err(_) => 0,
    }
}

fn process(info: ProcessInfo) -> types::Process {
    let (exit_code, signal) = info.ended.map_or((None, None), |end| ending(end.status));
    types::Process {
        pid: info.pid,
        // The guest may say anything.
        command: info.argv.into_iter().take(512).map(|word| word.chars().take(512).collect()).collect(),
        tty: info.tty,
        detached: info.detached,
        running: info.ended.is_none(),
        started_at: time_of(info.started_ns),
        ended_at: info.ended.map(|end| time_of(end.at_ns)),
        exit_code,
        signal,
    }
}

fn time_of(unix_ns: u64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(i64::try_from(unix_ns).unwrap_or(i64::MAX))
}

/// What JSON numbers hold exactly.
const MOST: u64 = (1 << 53) - 1;

fn counts(stats: Stats) -> types::InstanceStats {
    types::InstanceStats {
        at: Utc::now(),
        guest: stats.guest.map(guest),
        vmm: stats.vmm.map(|vmm| types::VmmStats {
            pid: vmm.pid,
            cpu_seconds: thousandths(vmm.cpu_ms),
            rss_bytes: vmm.rss.min(MOST),
            pss_bytes: vmm.pss.map(|pss| pss.min(MOST)),
            threads: vmm.threads.min(MOST),
        }),
        disk: stats.disk.map(|disk| types::DiskStats {
            used_bytes: disk.used.min(MOST),
            read_bytes: disk.read.map(|read| read.min(MOST)),
            written_bytes: disk.written.map(|written| written.min(MOST)),
        }),
        network: stats.network.map(|tap| types::NetworkStats {
            received_bytes: tap.received_bytes.min(MOST),
            received_packets: tap.received_packets.min(MOST),
            sent_bytes: tap.sent_bytes.min(MOST),
            sent_packets: tap.sent_packets.min(MOST),
        }),
    }
}

fn guest(usage: GuestUsage) -> types::GuestStats {
    let bytes = |kib: u64| kib.saturating_mul(1024).min(MOST);
    types::GuestStats {
        cpu_seconds: thousandths(usage.user_ms.saturating_add(usage.system_ms)),
        cpu_user_seconds: thousandths(usage.user_ms),
        cpu_system_seconds: thousandths(usage.system_ms),
        cpu_steal_seconds: thousandths(usage.steal_ms),
        uptime_seconds: thousandths(usage.uptime_ms),
        memory_total_bytes: bytes(usage.memory_total_kib),
        memory_available_bytes: bytes(usage.memory_available_kib),
        memory_cached_bytes: bytes(usage.memory_cached_kib),
        disk_total_bytes: usage.disk_total_bytes.min(MOST),
        disk_available_bytes: usage.disk_available_bytes.min(MOST),
        tasks: usage.tasks.min(MOST),
        load_1m: thousandths(usage.load_1m_milli),
        agent_rss_bytes: Some(bytes(usage.agent_rss_kib)).filter(|count| *count > 0),
    }
}

/// Exact for all that fits a JSON number.
fn thousandths(count: u64) -> f64 {
    Duration::from_millis(count.min(MOST)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_when_its_last_character_was_cut() {
        let cut = |bytes: &[u8], truncated| output(Output { bytes: bytes.to_vec(), truncated });
        let text = |text: &str, truncated| ExecOutput { text: Some(text.to_owned()), base64: None, truncated };
        assert_eq!(cut("aä".as_bytes(), false), text("aä", false));
        assert_eq!(cut(&"aä".as_bytes()[..2], true), text("a", true));
        let base64 = |encoded: &str, truncated| ExecOutput { text: None, base64: Some(encoded.to_owned()), truncated };
        assert_eq!(cut(&"aä".as_bytes()[..2], false), base64("YcM=", false));
        assert_eq!(cut(b"\xff", true), base64("/w==", true));
    }
}
