//! Why an image could not be had: kept in its record, and shown to whoever waits for it.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use dataplane_ext4::Ext4Error;
use dataplane_oci::{ContentError, RegistryError};
use dataplane_store::StoreError;
use serde::{Deserialize, Serialize};

use crate::convert::ConvertError;

/// What kind of failure, in the words of the API's problems: who reads the image later is told the same as who waited
/// for it. Part of the record: words may be added, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The image itself is malformed, hostile, or beyond a limit.
    ImageInvalid,
    /// The image exists, but not for the platform asked for.
    ImageUnsupported,
    /// The registry answered what no registry should, and would again.
    ImagePullFailed,
    /// The registry wants other credentials.
    RegistryUnauthorized,
    /// The registry has no such image.
    RegistryNotFound,
    /// The registry could not be reached, or went on failing.
    RegistryUnavailable,
    /// The registry asks to come back later.
    RegistryRateLimited,
    /// The disk is full, or down to its reserve.
    NoSpace,
    /// The daemon ended before the work did, the image was deleted meanwhile, or a sender broke off.
    Unavailable,
    /// Something that should not happen.
    Internal,
}

impl FailureCode {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::ImageInvalid,
        Self::ImageUnsupported,
        Self::ImagePullFailed,
        Self::RegistryUnauthorized,
        Self::RegistryNotFound,
        Self::RegistryUnavailable,
        Self::RegistryRateLimited,
        Self::NoSpace,
        Self::Unavailable,
        Self::Internal,
    ];
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ImageInvalid => "image_invalid",
            Self::ImageUnsupported => "image_unsupported",
            Self::ImagePullFailed => "image_pull_failed",
            Self::RegistryUnauthorized => "registry_unauthorized",
            Self::RegistryNotFound => "registry_not_found",
            Self::RegistryUnavailable => "registry_unavailable",
            Self::RegistryRateLimited => "registry_rate_limited",
            Self::NoSpace => "no_space",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        })
    }
}

/// A failure as it is kept and shown in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// What kind.
    pub code: FailureCode,
    /// What happened, for people.
    pub message: String,
    /// When.
    pub at: DateTime<Utc>,
    /// For how many seconds from then on the registry wanted to be left alone, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

/// A failure as it happens. Its message holds no credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub code: FailureCode,
    /// What happened, for people.
    pub message: String,
    /// How long the registry wants to be left alone, where it says so; in whole seconds.
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    pub(crate) fn at(self, at: DateTime<Utc>) -> LastFailure {
        let retry_after_seconds = self.retry_after.map(|pause| pause.as_secs());
        LastFailure { code: self.code, message: self.message, at, retry_after_seconds }
    }

    fn of(code: FailureCode, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        message.truncate(message.char_indices().nth(1000).map_or(message.len(), |(at, _)| at));
        Self::new(code, message)
    }
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        let code = if error.is_disk_full() {
            FailureCode::NoSpace
        } else {
            match &error {
                ContentError::Io { .. } | ContentError::NoSpace { .. } => FailureCode::Internal,
                ContentError::Cancelled | ContentError::Input(_) => FailureCode::Unavailable,
                ContentError::Platform { .. } => FailureCode::ImageUnsupported,
                ContentError::Limit { .. }
                | ContentError::Entry { .. }
                | ContentError::Corrupt { .. }
                | ContentError::Digest { .. }
                | ContentError::Size { .. }
                | ContentError::Missing(_)
                | ContentError::NotAnImage { .. } => FailureCode::ImageInvalid,
            }
        };
        Self::of(code, &error)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let mut retry_after = None;
        let code = match error {
            RegistryError::Content(content) => return content.into(),
            RegistryError::Unauthorized { .. } => FailureCode::RegistryUnauthorized,
            RegistryError::NotFound { .. } => FailureCode::RegistryNotFound,
            RegistryError::Unavailable { .. } => FailureCode::RegistryUnavailable,
            RegistryError::Busy { retry_after: told, .. } => {
                retry_after = told;
                FailureCode::RegistryRateLimited
            }
            RegistryError::Protocol { .. } => FailureCode::ImagePullFailed,
            RegistryError::Setup(_) => FailureCode::Internal,
        };
        Self { retry_after, ..Self::of(code, &error) }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = if error.is_disk_full() { FailureCode::NoSpace } else { FailureCode::Internal };
        Self::of(code, &error)
    }
}

impl From<ConvertError> for Failure {
    fn from(error: ConvertError) -> Self {
        let code = match &error {
            ConvertError::Disk(source) | ConvertError::Node { source, .. } if source.is_disk_full() => {
                FailureCode::NoSpace
            }
            ConvertError::Disk(Ext4Error::Size { .. }) | ConvertError::Node { .. } => FailureCode::ImageInvalid,
            ConvertError::Disk(_) => FailureCode::Internal,
            ConvertError::Cancelled => FailureCode::Unavailable,
        };
        Self::of(code, &error)
    }
}

impl From<LastFailure> for Failure {
    fn from(last: LastFailure) -> Self {
        let retry_after = last.retry_after_seconds.map(Duration::from_secs);
        Self { code: last.code, message: last.message, retry_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_as_it_is_shown() {
        for code in FailureCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.to_string());
        }
    }
}
