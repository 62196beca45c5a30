//! The real daemon and the real network of a namespace, with simulated VMMs: what it holds, what it publishes, and what
//! is left when it is killed, stopped, or taken down.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod claims;
mod commands;
mod node;
mod ports;
