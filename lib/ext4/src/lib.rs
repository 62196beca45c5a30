//! ext4 file systems made in process: empty thin disks, and read-only disks holding a whole tree.
//!
//! Invariants: nothing is mounted, no child process runs, no privilege is needed; what is written passes `e2fsck -fn`;
//! the same inputs give the same bytes. This crate knows neither OCI nor where files lie: it is handed paths, names
//! and readers.
//!
//! The on-disk format is written by the `mkext4` crate. Its limits become typed errors here: names, link targets and
//! attribute names must be UTF-8, an attribute must fit one block, a disk has less than 2^32 blocks of 4 KiB.

mod acl;
mod empty;
mod error;
mod estimate;
mod image;
mod sink;
mod template;

pub use empty::{EmptyDisk, MIN_DISK_BYTES, format_empty};
pub use error::Ext4Error;
pub use estimate::Estimate;
pub use image::{ImageBuilder, ImageOptions, ImageWriter, Meta, NodeHandle, SealedImage, Special};
