//! The steps of the plan, one file per operation. Each may be run twice.

mod delete;
mod limit;
mod pause;
mod prepare;
mod resize;
mod restore;
mod standby;
mod start;

pub(crate) use prepare::{Draft, prepare, raise};
