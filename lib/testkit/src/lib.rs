//! What several crates' tests need: namespaces of their own, and a registry to pull from.
//!
//! Invariant: everything here ends with the value that started it. May use every other crate; no program that is
//! shipped may use this one.

pub mod daemon;
pub mod http;
pub mod image;
pub mod netns;
pub mod registry;
pub mod socket;
