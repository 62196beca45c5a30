//! Files of a guest: tar streams through, and what a guest says of a path.

use std::io;

use chrono::{DateTime, Utc};
use dataplane_api::types::{FileEntry, FileInfo, FileType};
use dataplane_api::{
    BodyError, ByteStream, Cx, Problem, ReadFiles, ReadFilesReply, StatFile, StatFileReply, WriteFiles, WriteFilesReply,
};
use dataplane_instances::{FileStream, GuestError, GuestPath};
use futures_util::StreamExt as _;
use futures_util::stream::unfold;

use super::{Dataplane, problems};

/// What a guest says of a path.
#[derive(Debug, serde::Deserialize)]
struct Told {
    name: String,
    #[serde(rename = "type")]
    kind: FileType,
    size_bytes: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime_ns: i64,
    target: Option<String>,
    entries: Option<Vec<Told>>,
    #[serde(default)]
    truncated: bool,
}

/// Either side's failure of an upload.
enum Failure {
    Guest(GuestError),
    Body(BodyError),
}

impl From<GuestError> for Failure {
    fn from(error: GuestError) -> Self {
        Self::Guest(error)
    }
}

pub(super) async fn read(service: &Dataplane, cx: Cx, request: ReadFiles) -> Result<ReadFilesReply, Problem> {
    let at = place(request.path, request.follow)?;
    let begun = tokio::select! {
        begun = service.instances.read_files(&request.instance_id, at) => begun,
        () = cx.hung_up() => Err(GuestError::HungUp),
    };
    let files = begun.map_err(|error| problems::of_guest(&error))?;
    Ok(ReadFilesReply::Ok { body: ByteStream::new(unfold(Some(files), next)) })
}

async fn next(files: Option<FileStream>) -> Option<(io::Result<bytes::Bytes>, Option<FileStream>)> {
    let mut files = files?;
    match files.next().await {
        Ok(Some(bytes)) => Some((Ok(bytes.into()), Some(files))),
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(error = %error, "files of a guest were sent in part");
            Some((Err(io::Error::other(error)), None))
        }
    }
}

pub(super) async fn write(service: &Dataplane, cx: Cx, request: WriteFiles) -> Result<WriteFilesReply, Problem> {
    let at = place(request.path, request.follow)?;
    let content = request.body.map(|chunk| chunk.map_err(Failure::Body));
    let work = service.instances.write_files(&request.instance_id, at, content);
    let done = tokio::select! {
        done = cx.timed("files", work) => done,
        () = cx.hung_up() => Err(Failure::Guest(GuestError::HungUp)),
    };
    match done {
        Ok(()) => Ok(WriteFilesReply::NoContent),
        Err(Failure::Guest(error)) => Err(problems::of_guest(&error)),
        Err(Failure::Body(error)) => Err(error.into()),
    }
}

pub(super) async fn stat(service: &Dataplane, request: StatFile) -> Result<StatFileReply, Problem> {
    let at = place(request.path, request.follow)?;
    let told = service.instances.look_at_file(&request.instance_id, at, request.list).await;
    let told = told.map_err(|error| problems::of_guest(&error))?;
    let told: Told = serde_json::from_slice(&told)
        .map_err(|_| problems::of_guest(&GuestError::Refused("what the guest says makes no sense".to_owned())))?;
    Ok(StatFileReply::Ok { body: info(told) })
}

fn place(path: Option<String>, follow: bool) -> Result<GuestPath, Problem> {
    let path = path.ok_or_else(|| Problem::invalid_field("path", "must be given"))?;
    Ok(GuestPath { path, follow })
}

fn info(mut told: Told) -> FileInfo {
    let truncated = told.truncated;
    let entries = told.entries.take().map(|entries| entries.into_iter().take(10_000).map(entry).collect());
    let FileEntry { name, type_, size_bytes, mode, uid, gid, modified_at, target } = entry(told);
    FileInfo { name, type_, size_bytes, mode, uid, gid, modified_at, target, entries, truncated }
}

fn entry(told: Told) -> FileEntry {
    FileEntry {
        name: short(told.name, 1024),
        type_: told.kind,
        size_bytes: told.size_bytes.min(MOST),
        mode: told.mode & 0o7777,
        uid: told.uid,
        gid: told.gid,
        modified_at: time_of(told.mtime_ns),
        target: told.target.map(|target| short(target, 8192)),
    }
}

/// What JSON numbers hold exactly.
const MOST: u64 = (1 << 53) - 1;

/// A guest may say anything, at any length.
fn short(text: String, most: usize) -> String {
    if text.len() <= most { text } else { text.chars().take(most).collect() }
}

fn time_of(unix_ns: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(unix_ns)
}
