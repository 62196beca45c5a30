//! The control messages, one JSON document per frame of stream 0.
//!
//! A conversation begins with the host's [`HostMessage::Hello`], which carries a nonce; the guest answers with
//! [`GuestMessage::Hello`] and the same nonce. The host drops everything before that answer: it belongs to an earlier
//! conversation. The guest then repeats what the host may have missed: `Started`, and `Exited` until it is acknowledged.

use serde::{Deserialize, Serialize};

use crate::stream::{Open, StreamEnd, StreamOrder};

/// The protocol's version. A guest answers with its own; a newer field is ignored by an older reader.
pub const PROTOCOL_VERSION: u32 = 3;

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
    /// Opens a stream. The guest answers with one [`GuestMessage::Opened`] at most, and with one [`GuestMessage::End`]
    /// always; until that the number is taken. A guest older than [`crate::STREAM_VERSION`] says nothing.
    Open {
        /// Any number that no open stream of this conversation has; not 0.
        stream: u16,
        /// How many bytes the guest may send before it is given more.
        window: u32,
        /// What for.
        what: Open,
    },
    /// Something about an open stream. What comes too late, because the guest has ended it, means nothing.
    Stream {
        /// Its number.
        stream: u16,
        /// What.
        order: StreamOrder,
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
    /// The processes that were started for a host, the oldest first: answered with [`Answer::Processes`]. A guest knows
    /// of those that run and of some that have ended.
    Processes {
        /// Only those with a larger number of their own ([`ProcessInfo::serial`]).
        after: u64,
    },
    /// One process that was started for a host: answered with one entry in [`Answer::Processes`], or none.
    Process {
        /// As programs of the guest number it; of several the one that was started last.
        pid: u32,
    },
    /// Sends a signal to a process that was started for a host: [`Answer::Done`], also when it has ended. Not known:
    /// an empty [`Answer::Processes`].
    Kill {
        /// As programs of the guest number it.
        pid: u32,
        /// The signal's number.
        signal: u8,
        /// Whether to all of its process group; SIGKILL then to all that it has started.
        group: bool,
    },
    /// What the guest uses: answered with [`Answer::Usage`].
    ReadUsage,
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
    /// Processes, as many as fit.
    Processes {
        /// The oldest first.
        processes: Vec<ProcessInfo>,
        /// Whether there are more behind the last one.
        more: bool,
    },
    /// What the guest uses.
    Usage(GuestUsage),
}

/// A process that was started for a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Counts the processes that were started since the guest booted.
    pub serial: u64,
    /// As programs of the guest number it.
    pub pid: u32,
    /// The program and its arguments, cut to [`MAX_COMMAND_TEXT`] bytes in all.
    pub argv: Vec<String>,
    /// Whether the process has a terminal.
    pub tty: bool,
    /// Whether it outlives whoever started it.
    pub detached: bool,
    /// When it was started by the guest's clock, in nanoseconds since 1970-01-01 00:00:00 UTC.
    pub started_ns: u64,
    /// How it ended, and when; absent while it runs.
    pub ended: Option<ProcessEnd>,
}

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEnd {
    /// How.
    pub status: ExitStatus,
    /// By the guest's clock, in nanoseconds since 1970-01-01 00:00:00 UTC.
    pub at_ns: u64,
}

/// How much of a process' command is kept, in bytes.
pub const MAX_COMMAND_TEXT: usize = 512;

/// How many processes one answer holds.
pub const MAX_PROCESSES: usize = 16;

/// What a guest uses, as its kernel counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuestUsage {
    /// Time in programs, in milliseconds, of all CPUs together.
    pub user_ms: u64,
    /// Time in the kernel.
    pub system_ms: u64,
    /// Time in which there was nothing to do.
    pub idle_ms: u64,
    /// Time in which the host gave the CPU to somebody else.
    pub steal_ms: u64,
    /// Since the guest booted, in milliseconds, without the time in standby.
    pub uptime_ms: u64,
    /// Memory, in KiB.
    pub memory_total_kib: u64,
    /// Of it, never used.
    pub memory_free_kib: u64,
    /// Of it, to be had for a program without swapping.
    pub memory_available_kib: u64,
    /// Of it, copies of files.
    pub memory_cached_kib: u64,
    /// The writable layer, in bytes.
    pub disk_total_bytes: u64,
    /// Of it, free for programs that are not root.
    pub disk_available_bytes: u64,
    /// Processes and threads.
    pub tasks: u64,
    /// Average number of tasks that run or wait for a disk, of the last minute, in thousandths.
    pub load_1m_milli: u64,
    /// Memory of the agent's own processes, in KiB.
    pub agent_rss_kib: u64,
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
    /// The work of a stream has begun.
    Opened {
        /// Its number.
        stream: u16,
        /// The process, as programs of the guest number it, where there is one.
        pid: Option<u32>,
    },
    /// The host may send so many bytes more.
    Credit {
        /// The stream's number.
        stream: u16,
        /// How many.
        bytes: u32,
    },
    /// The last of a stream: nothing more comes of it, and its number is free.
    End {
        /// Its number.
        stream: u16,
        /// How it ended.
        end: StreamEnd,
    },
    /// A process that was started for a host has ended: who waits for one may ask. Said in every conversation.
    ProcessEnded {
        /// The process, as programs of the guest number it.
        pid: u32,
    },
}
