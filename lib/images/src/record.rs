//! An image's record on disk. Every version ever written stays readable.

use chrono::{DateTime, Utc};
use dataplane_oci::{Platform, Reference, RunConfig};
use dataplane_types::{Digest, ImageId, Labels};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::failure::LastFailure;

/// The version that is written.
pub(crate) const VERSION: u32 = 1;

/// What is to be remembered of an image. Its status is not: that follows from what is here and from running work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: ImageId,
    pub(crate) uuid: Uuid,
    /// Counts every change of the record.
    pub(crate) generation: u64,
    /// As the creator gave it.
    pub(crate) name: String,
    /// Normalised.
    pub(crate) reference: String,
    pub(crate) platform: Platform,
    pub(crate) labels: Labels,
    pub(crate) created_at: DateTime<Utc>,
    /// What there is to run; absent until the first success.
    pub(crate) content: Option<Content>,
    /// Earlier contents of the same name whose disks instances may still need.
    #[serde(default)]
    pub(crate) superseded: Vec<Digest>,
    /// Why the last attempt failed, if it did.
    pub(crate) failure: Option<LastFailure>,
}

/// A finished image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// The manifest's digest; names the disk.
    pub(crate) digest: Digest,
    /// What the registry answered for the tag: the digest of the index where there is one.
    pub(crate) top: Digest,
    /// Allocated bytes of the disk.
    pub(crate) size_bytes: u64,
    /// Its length.
    pub(crate) virtual_size_bytes: u64,
    /// How to run it.
    pub(crate) program: Program,
}

/// How an image wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) user: String,
    pub(crate) stop_signal: String,
    pub(crate) exposed_ports: Vec<String>,
}

impl From<&RunConfig> for Program {
    fn from(config: &RunConfig) -> Self {
        Self {
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            env: config.env.clone(),
            working_dir: config.working_dir.clone(),
            user: config.user.clone(),
            stop_signal: config.stop_signal.clone(),
            exposed_ports: config.exposed_ports.clone(),
        }
    }
}

impl Record {
    pub(crate) fn new(
        (id, name): (ImageId, String),
        reference: &Reference,
        (platform, labels): (Platform, Labels),
        created_at: DateTime<Utc>,
    ) -> Self {
        Self {
            version: VERSION,
            id,
            uuid: Uuid::new_v4(),
            generation: 1,
            name,
            reference: reference.to_string(),
            platform,
            labels,
            created_at,
            content: None,
            superseded: Vec::new(),
            failure: None,
        }
    }

    /// The digests of all disks that this record keeps.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.content.iter().map(|content| content.digest).chain(self.superseded.iter().copied())
    }

    /// Whether a request for this reference and platform is a request for this image.
    pub(crate) fn is_for(&self, reference: &str, platform: &Platform) -> bool {
        self.reference == reference && self.platform == *platform
    }

    /// The record after a success.
    pub(crate) fn with_content(mut self, content: Content) -> Self {
        if let Some(old) = self.content.take().filter(|old| old.digest != content.digest) {
            self.superseded.push(old.digest);
        }
        self.superseded.retain(|digest| *digest != content.digest);
        self.content = Some(content);
        self.failure = None;
        self.generation += 1;
        self
    }

    /// The record after a failure: content that was there stays.
    pub(crate) fn with_failure(mut self, failure: Option<LastFailure>) -> Self {
        self.failure = failure;
        self.generation += 1;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What version 1 looks like on disk. Never edit the file: a daemon somewhere has written it.
    #[test]
    fn version_1_stays_readable() {
        let golden = include_str!("../golden/record-1.json");
        let record: Record = serde_json::from_str(golden).unwrap();
        assert_eq!(serde_json::to_string_pretty(&record).unwrap(), golden.trim_end());
        assert_eq!(record.version, VERSION);
    }

    #[test]
    fn a_new_content_supersedes_the_old_one_until_it_comes_back() {
        let golden = include_str!("../golden/record-1.json");
        let record: Record = serde_json::from_str(golden).unwrap();
        let first = record.content.clone().unwrap();
        let second = Content { digest: Digest::from_bytes([9; 32]), ..first.clone() };
        let moved = record.with_content(second.clone());
        assert_eq!(moved.superseded.last(), Some(&first.digest));
        let back = moved.with_content(first.clone());
        assert!(!back.superseded.contains(&first.digest) && back.superseded.contains(&second.digest));
    }
}
