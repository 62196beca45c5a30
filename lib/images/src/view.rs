//! An image as it is shown: its record and the work that runs on it, at one instant.

use std::fmt;

use chrono::{DateTime, Utc};
use dataplane_oci::Platform;
use dataplane_types::{Digest, ImageId, Labels};
use uuid::Uuid;

use crate::failure::LastFailure;
use crate::record::Record;

/// How far an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageStatus {
    /// Known, and about to be fetched.
    Pending,
    /// Being fetched.
    Pulling,
    /// Being turned into a disk.
    Converting,
    /// Usable.
    Ready,
    /// Not usable; the failure says why.
    Failed,
}

impl fmt::Display for ImageStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Pulling => "pulling",
            Self::Converting => "converting",
            Self::Ready => "ready",
            Self::Failed => "failed",
        })
    }
}

/// Bytes transferred, of how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// So far.
    pub done_bytes: u64,
    /// In all; 0 until it is known.
    pub total_bytes: u64,
}

/// An image at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageView {
    /// Its id.
    pub id: ImageId,
    /// As its creator named it.
    pub name: String,
    /// The same, normalised.
    pub reference: String,
    /// The manifest's digest, once there is content.
    pub digest: Option<Digest>,
    /// The tag, if the name has one.
    pub version: Option<String>,
    /// How far it is. An image that is fetched anew stays usable meanwhile.
    pub status: ImageStatus,
    /// How far its transfer is.
    pub progress: Progress,
    /// Why the last attempt failed, if it did.
    pub error: Option<LastFailure>,
    /// Allocated bytes of its disk.
    pub size_bytes: u64,
    /// The length of its disk.
    pub virtual_size_bytes: u64,
    /// What it runs on.
    pub platform: Platform,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// More arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// Where the program starts.
    pub working_dir: String,
    /// User and group.
    pub user: String,
    /// The signal that asks the program to end.
    pub stop_signal: String,
    /// `80/tcp` and the like.
    pub exposed_ports: Vec<String>,
    /// Its creator's labels.
    pub labels: Labels,
    /// When it was first asked for.
    pub created_at: DateTime<Utc>,
    /// Tells it from another of the same id.
    pub uuid: Uuid,
    /// Counts its changes.
    pub generation: u64,
}

impl ImageView {
    pub(crate) fn of(record: &Record, running: Option<(ImageStatus, Progress)>) -> Self {
        let content = record.content.as_ref();
        let run = content.map(|content| content.program.clone()).unwrap_or_default();
        let settled = match (content, &record.failure) {
            (Some(_), _) => ImageStatus::Ready,
            (None, Some(_)) => ImageStatus::Failed,
            (None, None) => ImageStatus::Pending,
        };
        let (status, progress) = running.unwrap_or((settled, Progress::default()));
        let reference: Option<dataplane_oci::Reference> = record.reference.parse().ok();
        Self {
            id: record.id.clone(),
            name: record.name.clone(),
            reference: record.reference.clone(),
            digest: content.map(|content| content.digest),
            version: reference.and_then(|reference| reference.tag().map(str::to_owned)),
            status,
            progress,
            error: record.failure.clone(),
            size_bytes: content.map_or(0, |content| content.size_bytes),
            virtual_size_bytes: content.map_or(0, |content| content.virtual_size_bytes),
            platform: record.platform.clone(),
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            env: run.env,
            working_dir: run.working_dir,
            user: run.user,
            stop_signal: run.stop_signal,
            exposed_ports: run.exposed_ports,
            labels: record.labels.clone(),
            created_at: record.created_at,
            uuid: record.uuid,
            generation: record.generation,
        }
    }
}
