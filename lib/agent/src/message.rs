//! The control messages, one JSON document per frame of stream 0.
//!
//! A conversation begins with the host's [`HostMessage::Hello`], which carries a nonce; the guest answers with
//! [`GuestMessage::Hello`] and the same nonce. The host drops everything before that answer: it belongs to an earlier
//! conversation. The guest then repeats what the host may have missed: `Started`, and `Exited` until it is acknowledged.

use serde::{Deserialize, Serialize};

/// The protocol's version. A guest answers with its own; a newer field is ignored by an older reader.
pub const PROTOCOL_VERSION: u32 = 2;

/// The first version whose guests answer [`HostMessage::Ask`].
pub const ASK_VERSION: u32 = 2;

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
    /// Asks for something; the guest's [`GuestMessage::Answer`] carries the number back. Answers come in the order in
    /// which they are ready. A guest older than [`ASK_VERSION`], or one that does not know this question, says nothing.
    Ask {
        /// Any number that no open question of this conversation has.
        id: u32,
        /// What is asked.
        ask: Ask,
    },
}

/// A question, or an order whose execution matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Ask {
    /// Whether anybody is there: answered with [`Answer::Done`] at once.
    Ping,
    /// Writes all dirty data of every file system to its disk (sync(2)).
    Sync,
    /// Sets the clock, then mixes the seed into the random pool and has it reseeded.
    SetClock {
        /// The time, in nanoseconds since 1970-01-01 00:00:00 UTC.
        unix_ns: u64,
        /// 32 bytes in hex, which no other guest is given.
        seed: String,
    },
    /// Reads the clock: answered with [`Answer::Clock`].
    ReadClock,
    /// Takes into use the virtual CPUs that the guest's kernel has seen plugged in by now: answered with
    /// [`Answer::Sizes`]. Plugging takes its time: whoever misses some asks again.
    OnlineCpus,
    /// Mounts the disk of a serial, waiting a few seconds for it to appear; mounted there already is a success.
    Mount {
        /// Serial of the disk.
        serial: String,
        /// Where: an absolute path in the image's root without links, made when missing; not `/`, `/proc`, `/sys` or `/dev`.
        path: String,
        /// File system type, as mount(2) wants it.
        filesystem: String,
        /// Whether it may only be read.
        readonly: bool,
    },
    /// Unmounts what was mounted of the disk of a serial; not mounted is a success. Done means that nothing in the
    /// guest uses the disk any more: it may be unplugged.
    Unmount {
        /// Serial of the disk.
        serial: String,
    },
    /// Freezes a mounted disk's file system, which thaws by itself after a time. Frozen already: the time begins anew.
    Freeze {
        /// Serial of the disk.
        serial: String,
        /// When it thaws by itself, in milliseconds from now; at most 60,000.
        thaw_after_ms: u64,
    },
    /// Thaws a frozen file system; not frozen is a success.
    Thaw {
        /// Serial of the disk.
        serial: String,
    },
}

/// The guest's answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done,
    /// The guest's clock.
    Clock {
        /// In nanoseconds since 1970-01-01 00:00:00 UTC.
        unix_ns: u64,
    },
    /// What the guest has in use.
    Sizes {
        /// Virtual CPUs that are online.
        vcpus: u32,
        /// Memory as the guest's kernel counts it, in KiB.
        memory_kib: u64,
    },
    /// It could not be done.
    Failed {
        /// Why, in at most 1,000 characters.
        message: String,
    },
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
    /// Answers an [`HostMessage::Ask`] of this conversation.
    Answer {
        /// The question's number.
        id: u32,
        /// The answer.
        answer: Answer,
    },
}
