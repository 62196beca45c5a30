//! The part of init that can be tried without a guest: what is said to the host, and what is understood of it.

pub mod conversation;
