//! Why the content of an image was not accepted, or could not be handled here.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use dataplane_types::Digest;

/// What is wrong with the content of an image, or with the host that unpacks it.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The host's disk refused.
    #[error("{act} {path:?}")]
    Io {
        /// What was to be done.
        act: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk is as full as it may become.
    #[error("{free} bytes are free, {needed} more are needed, and {reserved} are reserved")]
    NoSpace {
        /// What is free.
        free: u64,
        /// What the next step takes.
        needed: u64,
        /// What must stay free.
        reserved: u64,
    },
    /// The work was called off.
    #[error("called off")]
    Cancelled,
    /// The sender of an archive stopped sending or broke off.
    #[error("read the archive from its sender")]
    Input(#[source] io::Error),
    /// More of something than is accepted.
    #[error("{subject}: {limit} may be at most {allowed}")]
    Limit {
        /// The entry, blob or document.
        subject: String,
        /// What is limited.
        limit: Cow<'static, str>,
        /// How much is accepted.
        allowed: u64,
    },
    /// An entry that no image may have.
    #[error("entry {entry:?} of {layer}: {reason}")]
    Entry {
        /// The layer.
        layer: String,
        /// The entry's name, escaped.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Bytes that are not what their format says.
    #[error("{subject} is corrupt: {reason}")]
    Corrupt {
        /// The layer, blob or document.
        subject: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Content with another digest than declared.
    #[error("{subject} has the digest {found}, not {expected}")]
    Digest {
        /// What was hashed.
        subject: String,
        /// As declared.
        expected: Digest,
        /// As computed.
        found: Digest,
    },
    /// Content of another size than declared.
    #[error("{subject} does not have its declared size of {expected} bytes")]
    Size {
        /// What was counted.
        subject: String,
        /// As declared.
        expected: u64,
    },
    /// Something that the image refers to is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// The image exists, but not for this platform.
    #[error("there is no image for {wanted}; there is {available}")]
    Platform {
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: String,
    },
    /// A well-formed document of a kind that is no runnable image.
    #[error("{subject} is no container image: {reason}")]
    NotAnImage {
        /// The document.
        subject: String,
        /// Why it is none.
        reason: String,
    },
}

impl ContentError {
    pub(crate) fn io(act: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { act, path, source }
    }

    pub(crate) fn corrupt(subject: impl Into<String>, reason: impl ToString) -> Self {
        Self::Corrupt { subject: subject.into(), reason: reason.to_string() }
    }

    pub(crate) fn limit(subject: impl Into<String>, limit: impl Into<Cow<'static, str>>, allowed: u64) -> Self {
        Self::Limit { subject: subject.into(), limit: limit.into(), allowed }
    }

    /// Whether the cause is a disk without room: full, over its quota, or down to its reserve.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::NoSpace { .. })
            || matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}
