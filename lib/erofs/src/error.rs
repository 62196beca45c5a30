//! Why an image could not be written.

use std::fmt;
use std::io;

/// A bound of the format or of Linux, which no image can exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The length of a name.
    NameBytes,
    /// The length of a symbolic link's target.
    TargetBytes,
    /// The length of an extended attribute's name, its namespace included.
    XattrNameBytes,
    /// The length of an extended attribute's value.
    XattrValueBytes,
    /// The names of all extended attributes of a node, each with an end mark: what one system call can list.
    XattrListBytes,
    /// All extended attributes of a node that have to lie beside it.
    XattrBytes,
    /// The same for the root directory, which must lie in the first block.
    RootXattrBytes,
    /// The names of one node.
    Links,
    /// The major number of a device.
    DeviceMajor,
    /// The minor number of a device.
    DeviceMinor,
    /// The size of a file, holes included.
    FileBytes,
    /// The size of the image, which is then of no further use.
    ImageBytes,
    /// Directories of one image.
    Directories,
}

impl Limit {
    /// The largest value that is allowed.
    #[must_use]
    pub fn allowed(self) -> u64 {
        match self {
            Self::NameBytes | Self::XattrNameBytes => 255,
            Self::TargetBytes | Self::DeviceMajor => 4095,
            Self::XattrValueBytes | Self::Links => 65_535,
            Self::XattrListBytes => 65_536,
            Self::XattrBytes => crate::xattr::ROOM as u64,
            Self::RootXattrBytes => crate::format::ROOT_ROOM as u64,
            Self::DeviceMinor => (1 << 20) - 1,
            Self::FileBytes => i64::MAX.unsigned_abs(),
            Self::ImageBytes => crate::format::MAX_BLOCKS * crate::format::BLOCK as u64,
            Self::Directories => u64::from(u32::MAX),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NameBytes => "the length of a name",
            Self::TargetBytes => "the length of a link's target",
            Self::XattrNameBytes => "the length of an attribute's name",
            Self::XattrValueBytes => "the length of an attribute's value",
            Self::XattrListBytes => "the length of all attribute names of a node",
            Self::XattrBytes => "the size of a node's attributes",
            Self::RootXattrBytes => "the size of the root's attributes",
            Self::Links => "the number of names of a node",
            Self::DeviceMajor => "a device's major number",
            Self::DeviceMinor => "a device's minor number",
            Self::FileBytes => "the size of a file",
            Self::ImageBytes => "the size of the image",
            Self::Directories => "the number of directories",
        })
    }
}

/// Why an image could not be written. Entries are named by their path from the image's root, with odd bytes escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErofsError {
    /// The system refused. The image is of no further use.
    #[error("{act}")]
    Io {
        /// What was to be done.
        act: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What the caller's reader said.
    #[error("read the content of {entry:?}")]
    Content {
        /// The file.
        entry: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The file to write into is not empty: an image relies on unwritten bytes being zero.
    #[error("the image's file holds {bytes} bytes already")]
    NotEmpty {
        /// Its size.
        bytes: u64,
    },
    /// No directory can hold this name.
    #[error("entry {entry:?}: its name {reason}")]
    Name {
        /// The entry.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two entries of one directory have the same name.
    #[error("entry {entry:?} is there twice")]
    Duplicate {
        /// The entry.
        entry: String,
    },
    /// A directory or node of another image was named.
    #[error("entry {entry:?}: {what} belongs to another image")]
    Unknown {
        /// The entry.
        entry: String,
        /// `its directory` or `the target of its hard link`.
        what: &'static str,
    },
    /// A file's content is longer or shorter than was said.
    #[error("entry {entry:?}: {declared} bytes were announced and {found} came")]
    Length {
        /// The file.
        entry: String,
        /// What was said.
        declared: u64,
        /// What came: all of it, or as much as was seen to be too much.
        found: u64,
    },
    /// A mode has bits beside the permissions, or a time has more than a second of nanoseconds.
    #[error("entry {entry:?}: {value} is no {what}")]
    Metadata {
        /// The entry.
        entry: String,
        /// `mode` or `number of nanoseconds`.
        what: &'static str,
        /// What was said.
        value: u32,
    },
    /// The target of a symbolic link is empty or holds a NUL.
    #[error("entry {entry:?}: the target of its symbolic link is empty or holds a NUL")]
    Target {
        /// The link.
        entry: String,
    },
    /// An extended attribute cannot be stored.
    #[error("entry {entry:?}: its extended attribute {name:?} {reason}")]
    Xattr {
        /// The entry.
        entry: String,
        /// The attribute, escaped.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// Something exceeds a bound.
    #[error("entry {entry:?}: {limit} is {found}, more than {allowed}", allowed = limit.allowed())]
    Limit {
        /// The entry.
        entry: String,
        /// The bound.
        limit: Limit,
        /// What was found.
        found: u64,
    },
    /// An earlier failure has left the image incomplete.
    #[error("the image was given up after an earlier failure")]
    Broken,
}

impl ErofsError {
    /// Whether the cause is a full disk or an exhausted quota.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// Whether the tree itself is at fault, not the host and not the content's source.
    #[must_use]
    pub fn is_bad_tree(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::Content { .. } | Self::NotEmpty { .. } | Self::Broken)
    }

    pub(crate) fn io(act: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { act, source }
    }
}

/// What is wrong with an entry whose path the caller of the check knows.
#[derive(Debug)]
pub(crate) enum Fault {
    Name(&'static str),
    Xattr { name: Vec<u8>, reason: &'static str },
    Metadata { what: &'static str, value: u32 },
    Target,
    Limit(Limit, u64),
    Other(ErofsError),
}

impl From<ErofsError> for Fault {
    fn from(error: ErofsError) -> Self {
        Self::Other(error)
    }
}

impl Fault {
    pub(crate) fn at(self, entry: impl FnOnce() -> String) -> ErofsError {
        match self {
            Self::Name(reason) => ErofsError::Name { entry: entry(), reason },
            Self::Xattr { name, reason } => {
                ErofsError::Xattr { entry: entry(), name: name.escape_ascii().to_string(), reason }
            }
            Self::Metadata { what, value } => ErofsError::Metadata { entry: entry(), what, value },
            Self::Target => ErofsError::Target { entry: entry() },
            Self::Limit(limit, found) => ErofsError::Limit { entry: entry(), limit, found },
            Self::Other(error) => error,
        }
    }

    pub(crate) fn within(limit: Limit, found: u64) -> Result<(), Self> {
        if found > limit.allowed() { Err(Self::Limit(limit, found)) } else { Ok(()) }
    }
}
