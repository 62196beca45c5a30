//! Images: from a name or an archive to a record and one read-only disk that all instances share.
//!
//! Invariants: a record on disk names every disk that is kept; a disk appears by one rename, complete and synced, and
//! only then does a record say so; the same manifest digest has one disk; work runs in tasks of this crate, so a
//! caller that goes away cancels nothing; whatever a failed or killed operation wrote lies in its scratch directory,
//! which goes with it. This crate knows no instance: who needs a disk is asked of its caller.

mod convert;
mod error;
mod failure;
mod gate;
mod import;
mod input;
mod job;
mod lease;
mod manager;
mod record;
mod recover;
mod remove;
mod view;

pub use dataplane_oci::{Credentials, Limits, Platform, RegistryOptions};
pub use error::ImagesError;
pub use failure::{Failure, FailureCode, LastFailure};
pub use lease::ImageLease;
pub use manager::{Created, Images, ImportRequest, PullRequest};
pub use recover::ImageOptions;
pub use view::{ImageStatus, ImageView, Progress};
