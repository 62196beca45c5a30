//! Streams: programs and file transfers, many of them beside the control messages of one conversation.
//!
//! The host opens a stream with a number of its choice, the guest ends it. Data travel in frames of that number whose
//! first byte is the channel. Nobody sends more than the other side has given credit for, counted in bytes of data per
//! stream and direction: the host gives the first credit when it opens the stream, the guest's first is
//! [`GUEST_WINDOW`]. A greeting ends all streams of the conversations before.

use serde::{Deserialize, Serialize};

use crate::message::ExitStatus;

/// The first version whose guests know streams.
pub const STREAM_VERSION: u32 = 3;

/// How many streams may be open in one conversation.
pub const MAX_STREAMS: usize = 128;

/// How many bytes a host may send on a new stream.
pub const GUEST_WINDOW: u32 = 128 << 10;

/// The most credit that makes sense; more is a mistake of whoever gives it.
pub const MAX_WINDOW: u32 = 16 << 20;

/// The most bytes of data in one frame.
pub const MAX_DATA: usize = 32 << 10;

/// What the first byte of a data frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// From the host: a program's standard input, or the content of files.
    Input,
    /// From the guest: a program's standard output, what its terminal shows, or the content of files.
    Output,
    /// From the guest: a program's standard error.
    Error,
}

impl Channel {
    /// The byte.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Input => 0,
            Self::Output => 1,
            Self::Error => 2,
        }
    }

    /// What the byte means.
    #[must_use]
    pub fn of(byte: u8) -> Option<Self> {
        [Self::Input, Self::Output, Self::Error].into_iter().find(|channel| channel.byte() == byte)
    }
}

/// What a stream is opened for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Open {
    /// Runs a program.
    Exec(Exec),
    /// Reads or writes files. Data are the content; the standard error says why it failed.
    Files(Files),
}

/// Work on the guest's files, as root. Paths are absolute, and looked up in the image's root. A link on the way is
/// followed where that is asked for, and a failure otherwise; links inside of a tree are never followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Files {
    /// Sends a file or a tree as a tar stream, whose first entry has the last name of the path.
    Read {
        /// What.
        path: String,
        /// Whether links on the way are followed.
        follow: bool,
    },
    /// Unpacks a tar stream in a directory that is there.
    Write {
        /// Where.
        path: String,
        /// Whether links on the way are followed.
        follow: bool,
    },
    /// Sends what is there as one JSON document.
    Look {
        /// At what.
        path: String,
        /// Whether links on the way are followed.
        follow: bool,
        /// Whether with what a directory holds.
        list: bool,
    },
}

/// The exit codes of work on files.
pub mod files_code {
    /// It is not there.
    pub const NOT_FOUND: u8 = 2;
    /// It is not what it has to be, or the stream holds what may not be.
    pub const REFUSED: u8 = 3;
    /// No space is left.
    pub const NO_SPACE: u8 = 4;
}

/// A program to run as the image's own program runs: in its root, its process id namespace and its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The program and its arguments. No shell sees them.
    pub argv: Vec<String>,
    /// Each `NAME=value`: beside the image program's own environment, or in its place.
    pub env: Vec<String>,
    /// The working directory; the image program's own when absent.
    pub working_dir: Option<String>,
    /// The user as an image writes it; the image program's own when absent.
    pub user: Option<String>,
    /// A terminal of this size for all three standard streams.
    pub tty: Option<TtySize>,
    /// Whether the process goes on, its output unread, when the stream is reset or the conversation is over.
    pub detach: bool,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtySize {
    /// Lines.
    pub rows: u16,
    /// Characters on a line.
    pub columns: u16,
}

/// What the host says about an open stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum StreamOrder {
    /// The guest may send so many bytes more.
    Credit {
        /// How many.
        bytes: u32,
    },
    /// No more data come from the host: the end of the input.
    Finish,
    /// Nobody wants the stream any more: a process that is not detached is killed with all that it has started.
    Reset,
    /// A signal for the process group; SIGKILL is one for all that it has started.
    Signal {
        /// The signal's number.
        signal: u8,
    },
    /// The terminal has another size.
    Resize(TtySize),
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum StreamEnd {
    /// The program ended, or could not be started (127: not found, 126: found but not executable, as shells say it).
    Exited {
        /// How.
        status: ExitStatus,
        /// Why it could not be started, when it could not.
        reason: Option<String>,
    },
    /// All is done.
    Done,
    /// The host has reset it.
    Reset,
    /// It was not, or could not be, done.
    Failed {
        /// Which kind of failure.
        kind: FailureKind,
        /// Why, in at most 1,000 characters.
        message: String,
    },
}

/// Which kind of failure ended a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// What was asked for makes no sense to the guest.
    Invalid,
    /// It is not there.
    NotFound,
    /// The image's program does not run yet, or has ended.
    NotRunning,
    /// As much as possible is being done already.
    Busy,
    /// No space is left.
    NoSpace,
    /// Anything else.
    #[serde(other)]
    Other,
}
