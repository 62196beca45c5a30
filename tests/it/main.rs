//! The daemon in this process, with a real disk, real sockets and `fake-ch` as real VMM processes. Every answer is
//! checked against the spec.

mod auth;
mod contract;
mod dependencies;
mod errors;
mod harness;
mod images;
mod instances;
mod logs;
mod recovery;
