//! Wall time behind a seam, so that tests can hold it still. Waiting goes through tokio's clock instead.

use chrono::{DateTime, Utc};

/// The wall clock. Never used to measure a duration.
pub trait WallClock: Send + Sync {
    /// The present time.
    fn now(&self) -> DateTime<Utc>;
}

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

impl WallClock for DateTime<Utc> {
    /// A clock that stands still, for tests.
    fn now(&self) -> DateTime<Utc> {
        *self
    }
}
