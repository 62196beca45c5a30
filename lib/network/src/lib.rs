//! The network manager: which address, MAC and TAP belong to which instance, and the bridge, TAPs and rules that make
//! them real on this host.
//!
//! Two halves. The [`Ledger`](ledger::Ledger) is pure: it hands out addresses and is rebuilt from the instances' records
//! at every start; nothing is persisted here. The [`Backend`] is the host: [`Kernel`] speaks netlink, ioctl and nft,
//! [`NoBackend`] does nothing, for tests and for machines without the right. Every act is idempotent and touches only
//! what carries our mark (see `mark.rs`).
//!
//! This crate knows neither HTTP, nor VMMs, nor where records are stored.

mod backend;
mod check;
mod config;
mod kernel;
mod ledger;
mod limit;
mod manager;
mod mark;
mod none;
mod ruleset;

pub use backend::{
    Addressing, Backend, BackendError, BridgeSpec, HostAddress, HostLink, HostRoute, LinkKind, Setting, TapSpec,
};
pub use check::Check;
pub use config::{InterfaceName, InterfaceNameError, NetworkConfig};
pub use kernel::Kernel;
pub use ledger::{ClaimError, MAX_GUESTS};
pub use limit::{Rate, ShapeSpec};
pub use manager::{Network, NetworkError, StartReport};
pub use none::NoBackend;
