//! The HTTP API: types, traits and routes generated from `openapi.yaml`, and the runtime that they call.
//!
//! Invariants: nothing answers that is not in the document; every failure is one [`Problem`]; work runs in tasks of
//! its own, so a client that hangs up cancels nothing. Policy (limits, problems, streams, conventions) lives in this
//! crate's hand-written half, never in generated code. It knows no manager: a service implements [`Api`].

mod body;
#[cfg(feature = "contract")]
pub mod contract;
mod cx;
mod etag;
#[rustfmt::skip]
mod generated;
mod input;
mod json;
mod label;
mod negotiate;
mod operation;
mod page;
mod prefer;
mod problem;
mod query;
mod reply;
mod router;
mod rule;
mod secret;
mod socket;
mod sse;
mod trace;

pub use body::{BodyError, BodyStream, ByteStream};
pub use cx::{Claims, Cx};
pub use etag::{ETag, IfMatch};
pub use generated::server::*;
pub use generated::types;
pub use generated::types::ProblemCode;
pub use input::Input;
pub use label::LabelFilter;
pub use operation::Operation;
pub use page::{Cursor, page};
pub use prefer::Prefer;
pub use problem::Problem;
pub use reply::Reply;
pub use router::{Answered, Gate, Limits, Runtime};
pub use secret::Secret;
pub use socket::{SocketReader, SocketReply, SocketWriter, Upgrade};
pub use sse::{SseBatch, SseEvent, SseStream};

/// The document, byte for byte.
pub const SPEC_YAML: &str = include_str!("../../../openapi.yaml");

/// The document as JSON.
pub const SPEC_JSON: &str = include_str!("generated/openapi.json");
