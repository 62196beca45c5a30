//! The composition root: the only place that knows HTTP *and* managers. [`start`] makes a running [`App`] out of a
//! [`Config`] and [`Backends`]; the binary and the tests both go through it.

mod adapters;
mod auth;
mod boot;
pub mod config;
mod memory;
pub mod network;
mod server;
mod service;
mod startup;

pub use config::Config;
pub use startup::{App, Backends, StartError, start};

/// An error with all its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
