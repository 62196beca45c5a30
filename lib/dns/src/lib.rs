//! The guests' name server: on the gateway address it answers for the names of the domain and for the addresses of the
//! subnet, and passes every other question on to one upstream server.
//!
//! Two halves. [`Zone`] is pure: bytes of a question in, an [`Outcome`] out; nothing that a guest or the upstream sends
//! makes it panic or allocate more than the message is long. [`Responder`] is the sockets, the limits and the forwarding.
//! No cache: the upstream has one, and what is not kept cannot be poisoned.
//!
//! Invariant: nobody is answered but sources in the subnet whose packets arrive on the bridge, and nothing is passed on
//! that is about the domain. Knows neither instances nor the ledger: it asks [`Names`].

mod forward;
mod limits;
mod query;
mod responder;
mod socket;
mod tcp;
mod udp;
mod zone;

pub use limits::Limits;
pub use query::{LARGEST_QUERY, LARGEST_UDP, Query};
pub use responder::{Config, DnsError, Responder};
pub use zone::{Names, Outcome, TTL, Zone, ZoneError};
