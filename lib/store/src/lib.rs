//! The data directory: where everything lies, and the few ways in which anything there may change.
//!
//! Invariants: a record is replaced whole or not at all ([`Store::replace`]); a thing comes into being by one rename
//! that never overwrites ([`Store::commit_new`]); a thing goes away by a rename into the trash, then deletion
//! ([`Store::discard`]). Each of these is on disk when the call returns. After a failed fsync the store refuses every
//! further write: memory may no longer match the disk. This crate knows no HTTP, VMM, image format or network.

#[cfg(any(test, feature = "crash"))]
mod crash;
mod disk;
mod layout;
mod lock;
mod store;

#[cfg(any(test, feature = "crash"))]
pub use crash::{CrashDisk, Fuse, Image};
pub use disk::{Disk, HostDisk};
pub use layout::{
    DRAFT_PREFIX, InstancePaths, Layout, LayoutError, RUN_NAME_LENGTH, SNAPSHOT_DRAFT_PREFIX, SNAPSHOT_SPENT_PREFIX,
};
pub use lock::{DirectoryLock, LockError};
pub use store::{Store, StoreError};
