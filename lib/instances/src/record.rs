//! The record: what an instance should be, and what is being done to it. The only truth about it on disk.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use dataplane_types::{Digest, Gib, GuestPolicy, ImageId, InstanceId, Labels, Link, Mib, OperationId};
use dataplane_vmm::{Hypervisor, Purpose, Sizes, VmmProcess};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{CreateRequest, StandbyClass};

/// The version that is written. Every version ever written stays readable.
pub(crate) const RECORD_VERSION: u32 = 2;

/// One instance, as it lies on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the record's format.
    pub version: u32,
    /// Identity beyond the id: a thing that is made again under an old id has another one.
    pub uuid: Uuid,
    /// The id.
    pub id: InstanceId,
    /// Counts the changes of this record.
    pub generation: u64,
    /// What the client asked for: what a repeated create is compared with.
    pub request: CreateRequest,
    /// The name for people: as asked for, until it is changed.
    #[serde(default)]
    pub name: Option<String>,
    /// The labels: as asked for, until they are changed.
    #[serde(default)]
    pub labels: Labels,
    /// What it became.
    pub spec: Spec,
    /// What the instance must always run on.
    pub pins: Pins,
    /// The user that its VMM runs as, held as long as this record exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The operation in progress: durable before its first effect.
    pub op: Option<OpRecord>,
    /// The VMM process, from before it is spawned until it is known to be gone.
    pub vmm: Option<VmmRecord>,
    /// How many VMM processes this instance has had.
    pub vmm_generation: u64,
    /// What the VM that there is, or that is in the snapshot, was booted with.
    #[serde(default)]
    pub booted: Option<Booted>,
    /// Whether the VM is meant to run: what a restart policy asks.
    #[serde(default)]
    pub up: bool,
    /// The VMM generation that the restart or reboot in progress replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_from: Option<u64>,
    /// The last trouble; cleared when the VM next runs, or is in standby as it was to be.
    pub last_error: Option<ErrorRecord>,
    /// How the program ended last time.
    pub exit_code: Option<i32>,
    /// When the instance was made.
    pub created_at: DateTime<Utc>,
    /// When its VM was last booted.
    pub started_at: Option<DateTime<Utc>>,
    /// When its VM was last seen to have ended.
    pub stopped_at: Option<DateTime<Utc>>,
}

/// The request with every default and every property of the image filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The image's id when the instance was made.
    pub image: ImageId,
    /// The digest of its manifest: what the instance runs, whatever the id means later.
    pub image_digest: Digest,
    /// File system of the image disk.
    pub image_filesystem: String,
    /// Which VMM drives it.
    pub hypervisor: Hypervisor,
    /// The VMM's version when the instance was made.
    pub hypervisor_version: String,
    /// Memory at boot.
    pub memory: Mib,
    /// The most memory it may grow to.
    pub memory_max: Mib,
    /// Virtual CPUs at boot.
    pub vcpus: u32,
    /// The most virtual CPUs it may grow to.
    pub max_vcpus: u32,
    /// Size of the writable layer.
    pub disk: Gib,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Where the arguments begin in `argv`: what comes before is the entrypoint.
    pub entrypoint_len: usize,
    /// The whole environment, `NAME=value`.
    pub env: Vec<String>,
    /// The working directory.
    pub working_dir: String,
    /// The user, as the image or the client wrote it.
    pub user: String,
    /// The signal that asks the program to end.
    pub stop_signal: String,
    /// The guest's host name.
    pub hostname: String,
    /// The network link, held as long as this record exists.
    pub link: Option<Link>,
    /// The most that it sends, and the most that it receives, in megabits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_mbps: Option<u32>,
    /// What the network does for it, its ports of the host held as long as this record names them.
    #[serde(default, skip_serializing_if = "GuestPolicy::is_default")]
    pub policy: GuestPolicy,
}

/// Content-addressed things that are kept while an instance names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// The guest kernel.
    pub kernel: Digest,
    /// The initramfs.
    pub initramfs: Digest,
}

/// A VMM process that was, or is about to be, spawned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmmRecord {
    /// Which of the instance's VMM processes this is.
    pub generation: u64,
    /// Its identity; absent in the instant between intent and spawn.
    pub process: Option<VmmProcess>,
}

/// An operation in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpRecord {
    /// What is being done.
    pub kind: OpKind,
    /// Which attempt.
    pub id: OperationId,
    /// Since when.
    pub since: DateTime<Utc>,
    /// For a standby: that the VM was paused before, and is left so when it cannot be done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_paused: bool,
    /// For a resize: to what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Sizes>,
}

/// The sizes with which a VM was booted: they shape it until it is booted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booted {
    /// What it had at first.
    pub boot: Sizes,
    /// What it can grow to.
    pub max: Sizes,
}

/// What can be done to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpKind {
    /// Made and started.
    Create,
    /// Started: from nothing, or again in the VMM of a guest that has shut down.
    Start,
    /// Stopped: the guest is asked, then its VMM ended.
    Stop,
    /// Stopped and started.
    Reboot,
    /// Started anew from the record, after the guest itself asked for a reset.
    Restart,
    /// Paused.
    Pause,
    /// Let go on.
    Resume,
    /// Put into standby: paused, written to disk, its VMM ended.
    Standby,
    /// Brought back from standby.
    Restore,
    /// Given other sizes.
    Resize,
    /// Taken away with everything it has.
    Delete,
}

impl std::fmt::Display for OpKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reboot => "reboot",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Standby => "standby",
            Self::Restore => "restore",
            Self::Resize => "resize",
            Self::Delete => "delete",
        })
    }
}

/// Trouble, in words a client may read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// A stable word.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// The environment of the image, overlaid by the client's: same names replaced in place, new ones appended in order.
pub(crate) fn merge_env(image: &[String], own: &BTreeMap<String, String>) -> Vec<String> {
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let mut merged: Vec<String> = image
        .iter()
        .map(|pair| own.get(&name(pair)).map_or_else(|| pair.clone(), |value| format!("{}={value}", name(pair))))
        .collect();
    let known: Vec<String> = image.iter().map(|pair| name(pair)).collect();
    merged.extend(own.iter().filter(|(key, _)| !known.contains(key)).map(|(key, value)| format!("{key}={value}")));
    merged
}

impl Spec {
    /// What it has, or is to boot with.
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes { vcpus: self.vcpus, memory: self.memory }
    }

    /// What a VM that is booted from it has.
    pub(crate) fn to_boot(&self) -> Booted {
        Booted { boot: self.sizes(), max: Sizes { vcpus: self.max_vcpus, memory: self.memory_max } }
    }
}

impl Record {
    /// That a VMM is to be started, under the next number.
    pub(crate) fn intend(&mut self, purpose: Purpose, version: &str) {
        self.vmm_generation += 1;
        self.vmm = Some(VmmRecord { generation: self.vmm_generation, process: None });
        if purpose == Purpose::Boot {
            self.booted = Some(self.spec.to_boot());
            version.clone_into(&mut self.spec.hypervisor_version);
        }
    }

    /// Brings a record of an older version to the present one.
    pub(crate) fn upgrade(mut self) -> Self {
        if self.version == 1 {
            self.name = self.request.name.clone();
            self.labels = self.request.labels.clone();
            self.up = self.vmm.is_some();
            // Version 1 booted VMs that could not grow.
            self.booted = self.vmm.as_ref().map(|_| Booted { boot: self.spec.sizes(), max: self.spec.sizes() });
            self.version = 2;
        }
        self
    }

    /// Whether the memory of its VM is a file.
    pub(crate) fn is_instant(&self) -> bool {
        self.request.standby == StandbyClass::Instant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_environment_wins_in_place() {
        let image = ["PATH=/bin".to_owned(), "A=1".to_owned()];
        let own = BTreeMap::from([("A".to_owned(), "2=3".to_owned()), ("B".to_owned(), String::new())]);
        assert_eq!(merge_env(&image, &own), ["PATH=/bin", "A=2=3", "B="]);
    }

    #[test]
    fn every_version_stays_readable() {
        let [one, two] = [include_str!("../golden/record-v1.json"), include_str!("../golden/record-v2.json")];
        let upgraded = serde_json::from_str::<Record>(one).unwrap().upgrade();
        let record: Record = serde_json::from_str(two).unwrap();
        assert_eq!(upgraded, record);
        assert_eq!(record.clone().upgrade(), record);
        let again: serde_json::Value = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(two).unwrap());
    }
}
