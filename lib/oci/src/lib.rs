//! OCI images as they come: references, archives, registries, layers; and the one tree that the layers make.
//!
//! Invariants: nothing an image says is believed before it is bounded and, where it has a digest, hashed; no name of
//! an image ever becomes a path of the host; file contents are never held in memory. Credentials appear in no message.
//! This crate knows no disk format and no image record: it is handed a scratch directory and leaves files only there.

mod archive;
mod entries;
mod error;
mod image;
mod limits;
mod manifest;
mod merge;
mod reference;
mod registry;
mod run_config;
mod spool;
#[cfg(test)]
mod test_support;
mod tree;

pub use archive::{Archive, ArchiveImage};
pub use error::ContentError;
pub use image::{Blob, FetchedImage};
pub use limits::Limits;
pub use manifest::{Descriptor, ImageConfig, Manifest, Platform, PlatformError};
pub use merge::{ContentReader, Dropped, MergedImage};
pub use reference::{Reference, ReferenceError};
pub use registry::{Credentials, Registries, RegistryError, RegistryOptions, Repository, Resolved, Transfer};
pub use run_config::RunConfig;
pub use spool::{Scratch, digest_of};
pub use tree::{Content, Kind, Meta, Node, NodeId, Tree};
