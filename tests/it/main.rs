//! The daemon in this process, with a real disk, real sockets and `fake-ch` as real VMM processes. Every answer is
//! checked against the spec.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod actions;
mod auth;
mod contract;
mod dependencies;
mod errors;
mod exec;
mod harness;
mod images;
mod instances;
mod logs;
mod logs_followers;
mod logs_soak;
mod patch;
mod recovery;
mod standby;
mod trouble;
