//! Newtypes that every other crate speaks in: ids, digests, sizes, MAC addresses, the address plan, and the wall clock.
//!
//! Each value is parsed once, at the edge; past that point a wrong one cannot exist. This crate does no I/O and knows
//! neither HTTP nor files.

mod address;
mod clock;
mod digest;
mod ids;
mod policy;
mod size;

pub use address::{AddressPlan, AddressPlanError, Link, Mac, TapName};
pub use clock::{SystemClock, WallClock};
pub use digest::Digest;
pub use ids::{ImageId, InstanceId, OperationId, ParseError};
pub use policy::{EgressProtocol, EgressRule, GuestPolicy, HostPort, PortMapping, PortRange, Transport};
pub use size::{Gib, Mib};

/// Labels of a resource: at most 32 pairs, bounded by the API's schema.
pub type Labels = std::collections::BTreeMap<String, String>;
