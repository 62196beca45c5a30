//! The instance manager: one record on disk, one actor in memory and at most one VMM process per instance.
//!
//! Invariants: an address, a TAP or a disk is held if and only if a record names it; intent is on disk before its first
//! effect; recovery after a crash is the same loop (observe, plan, execute) that serves a fresh request; reading never
//! waits for an actor. This crate knows neither HTTP, images nor networks: it declares what it needs of them in
//! [`RootDisks`] and [`Links`].

mod actor;
mod admit;
mod agent;
mod error;
mod exec;
mod files;
mod guest;
mod logs;
mod manager;
mod ops;
mod orphans;
mod plan;
mod processes;
mod record;
mod request;
mod seams;
mod stats;
mod view;

/// A program, and what its guest tells of it.
pub use dataplane_agent::host::StreamWriter;
pub use dataplane_agent::{Channel, Exec, ExitStatus, GuestUsage, ProcessInfo, TtySize};

pub use actor::{Action, Patch, Precondition};
pub use error::{ActionError, CreateError, DeleteError, OpenError};
pub use exec::{GuestEvent, GuestStream, Output, Ran, Run, alarm};
pub use files::{FileStream, GuestPath};
pub use guest::GuestError;
pub use logs::{LogChunk, LogItem, LogPiece, LogReader, LogSource, MAX_PIECE_BYTES};
pub use manager::{BootFiles, Created, Deps, GuestDns, HostLimits, Instances, LogLookup, Opened};
pub use record::{ErrorRecord, OpKind, OpRecord, Record, Spec};
pub use request::{CreateRequest, NetworkRequest, RestartPolicy, StandbyClass};
pub use seams::{ImageLease, ImageProgram, LinkError, Links, RootDiskError, RootDisks};
pub use stats::{DiskUse, Stats, TapUse, VmmUse};
pub use view::{InstanceState, View};
