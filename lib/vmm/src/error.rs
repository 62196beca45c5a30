//! What can go wrong with a VMM. Every error answers two questions: may it be tried again, and did it do anything.

use std::io;
use std::path::PathBuf;

/// What a failed call has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Nobody knows: ask for the state before going on.
    Unknown,
}

/// A failed call to a VMM.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// The binary is missing or cannot be run.
    #[error("run {binary:?}")]
    Binary {
        /// The program.
        binary: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The binary runs, but is not one that can be driven.
    #[error("{binary:?} cannot be used: {message}")]
    Unsuitable {
        /// The program.
        binary: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The process ended before it answered.
    #[error("the VMM ended at its start ({status}): {message}")]
    EndedAtStart {
        /// Its exit status.
        status: String,
        /// The end of what it wrote to standard error.
        message: String,
    },
    /// The VMM answered that it will not.
    #[error("the VMM refused {call}: {message}")]
    Refused {
        /// The call.
        call: &'static str,
        /// The VMM's own words, cut to 2,000 characters.
        message: String,
    },
    /// The VMM is not there, or the connection broke in the middle.
    #[error("talk to the VMM ({call})")]
    Unreachable {
        /// The call.
        call: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The VMM did not answer in time.
    #[error("the VMM did not answer {call} within {seconds} s")]
    Timeout {
        /// The call.
        call: &'static str,
        /// The deadline.
        seconds: u64,
    },
    /// The VMM answered something that it never should.
    #[error("the VMM's answer to {call} makes no sense: {message}")]
    Nonsense {
        /// The call.
        call: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The guest's agent does not listen yet.
    #[error("the guest's agent does not listen yet")]
    AgentNotListening,
    /// A host file or process could not be handled.
    #[error("{act} {path:?}")]
    Host {
        /// What was to be done.
        act: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A snapshot is not whole, or not one of this VM.
    #[error("the snapshot in {directory:?} cannot be used: {message}")]
    Snapshot {
        /// Where it is.
        directory: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Something asked for earlier has not been done yet by the guest or the VMM.
    #[error("{call} must wait: {what}")]
    Pending {
        /// The call.
        call: &'static str,
        /// What it waits for.
        what: String,
    },
    /// The VMM, in this version or on this host, cannot do that.
    #[error("this VMM cannot {0}")]
    Unsupported(&'static str),
    /// The process is still there after SIGKILL.
    #[error("process {0} is still there after SIGKILL")]
    Unkillable(u32),
}

impl VmmError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. } | Self::AgentNotListening | Self::Pending { .. })
    }

    /// Whether it failed because a file system is full.
    #[must_use]
    pub fn no_space(&self) -> bool {
        match self {
            Self::Refused { message, .. } => message.contains("No space left on device"),
            Self::Unreachable { source, .. } | Self::Host { source, .. } | Self::Binary { source, .. } => {
                source.kind() == io::ErrorKind::StorageFull
            }
            Self::Unsuitable { .. }
            | Self::EndedAtStart { .. }
            | Self::Timeout { .. }
            | Self::Nonsense { .. }
            | Self::AgentNotListening
            | Self::Snapshot { .. }
            | Self::Pending { .. }
            | Self::Unsupported(_)
            | Self::Unkillable(_) => false,
        }
    }

    /// What the call has done.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Nonsense { .. } | Self::Unkillable(_) => {
                Effect::Unknown
            }
            Self::Binary { .. }
            | Self::Unsuitable { .. }
            | Self::EndedAtStart { .. }
            | Self::Refused { .. }
            | Self::AgentNotListening
            | Self::Snapshot { .. }
            | Self::Pending { .. }
            | Self::Unsupported(_)
            | Self::Host { .. } => Effect::None,
        }
    }
}
