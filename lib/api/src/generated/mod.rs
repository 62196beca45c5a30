//! What follows from `openapi.yaml`. Only this file is written by hand.

mod problems;
mod rules;
pub(crate) mod server;
pub mod types;
