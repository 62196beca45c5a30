//! Why a disk could not be made.

use std::io;
use std::path::PathBuf;

/// Why a disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// The system refused.
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
    /// The size asked for cannot hold a file system, or exceeds what the format holds.
    #[error("{bytes} bytes is no size for a disk: a multiple of 4096, at least {MIN}, below 16 TiB", MIN = crate::MIN_DISK_BYTES)]
    Size {
        /// The size asked for.
        bytes: u64,
    },
    /// A name, link target or attribute name is not UTF-8, which the writer requires.
    #[error("{what} {name:?} is not UTF-8")]
    NotUtf8 {
        /// `name`, `link target` or `attribute name`.
        what: &'static str,
        /// The bytes, escaped.
        name: String,
    },
    /// An extended attribute cannot be stored.
    #[error("extended attribute {name:?} of {bytes} bytes cannot be stored: {reason}")]
    Xattr {
        /// The attribute.
        name: String,
        /// The length of its value.
        bytes: usize,
        /// Why not.
        reason: &'static str,
    },
    /// The image's own `/lost+found` is more than the empty directory that every ext4 has.
    #[error("the image has a /lost+found of its own, which ext4 reserves")]
    LostAndFound,
    /// The format writer refused.
    #[error("write the file system")]
    Format(#[source] mkext4::Error),
}

impl Ext4Error {
    /// Whether the cause is a full disk or an exhausted quota.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let source = match self {
            Self::Io { source, .. } | Self::Format(mkext4::Error::Io(source)) => source,
            Self::Size { .. } | Self::NotUtf8 { .. } | Self::Xattr { .. } | Self::LostAndFound | Self::Format(_) => {
                return false;
            }
        };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the tree itself is at fault, not the host.
    #[must_use]
    pub fn is_bad_tree(&self) -> bool {
        matches!(self, Self::NotUtf8 { .. } | Self::Xattr { .. } | Self::LostAndFound)
    }
}
