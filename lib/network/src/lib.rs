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
mod egress;
mod element;
mod error;
mod holdings;
mod kernel;
mod ledger;
mod limit;
mod manager;
mod mark;
mod none;
mod rules;
mod ruleset;

pub use backend::{
    Addressing, Backend, BackendError, BridgeSpec, ForeignChain, HostAddress, HostLink, HostRoute, LinkKind, Listener,
    Setting, TapSpec,
};
pub use check::Check;
pub use config::{InterfaceName, InterfaceNameError, NetworkConfig};
pub use egress::{EgressTooFine, MAX_CELLS, check_egress};
pub use element::{Element, ElementChange, Family};
pub use error::NetworkError;
pub use holdings::NetworkStatus;
pub use kernel::Kernel;
pub use ledger::{ClaimError, MAX_GUESTS};
pub use limit::{Rate, ShapeSpec};
pub use manager::{Network, StartReport};
pub use none::NoBackend;
