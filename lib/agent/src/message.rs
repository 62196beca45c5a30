//! The control messages, one JSON document per frame of stream 0.
//!
//! A conversation begins with the host's [`HostMessage::Hello`], which carries a nonce; the guest answers with
//! [`GuestMessage::Hello`] and the same nonce. The host drops everything before that answer: it belongs to an earlier
//! conversation. The guest then repeats what the host may have missed: `Started`, and `Exited` until it is acknowledged.

use serde::{Deserialize, Serialize};

/// The protocol's version. A guest answers with its own; a newer field is ignored by an older reader.
pub const PROTOCOL_VERSION: u32 = 1;

/// How the image's program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It returned, or could not be started (127: not found, 126: found but not executable, as shells say it).
    Code(u8),
    /// A signal ended it.
    Signal(u8),
}

impl ExitStatus {
    /// One number, as shells write it: the code, or 128 and the signal.
    #[must_use]
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Code(code) => i32::from(code),
            Self::Signal(signal) => 128 + i32::from(signal),
        }
    }
}

/// What the host says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HostMessage {
    /// Begins a conversation.
    Hello {
        /// The host's [`PROTOCOL_VERSION`].
        version: u32,
        /// Any number; the guest's answer carries it back.
        nonce: u64,
    },
    /// Ends the program: the stop signal now, SIGKILL after the grace.
    Stop {
        /// How long the program may take, in milliseconds.
        grace_ms: u64,
    },
    /// The exit status is on the host's disk: the guest may power off.
    ExitRecorded,
}

/// What the guest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum GuestMessage {
    /// Answers the host's `Hello`.
    Hello {
        /// The guest's [`PROTOCOL_VERSION`].
        version: u32,
        /// The nonce of the host's `Hello`.
        nonce: u64,
    },
    /// The image's program was exec'ed.
    Started {
        /// Init's own time from its first instruction to the exec, in milliseconds.
        init_ms: u64,
    },
    /// The program ended. Repeated in every conversation until the host says `ExitRecorded`; then the guest powers off.
    Exited {
        /// How.
        status: ExitStatus,
        /// Why it could not be started, when it could not.
        reason: Option<String>,
    },
}
