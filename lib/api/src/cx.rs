//! What a handler knows about its request beside the request itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

/// Who calls, from a token that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The token's `sub`.
    pub subject: Option<String>,
    /// The token's `exp`: streams end then.
    pub expires_at: DateTime<Utc>,
    /// The token's `scope`, word by word.
    pub scopes: Vec<String>,
}

/// The context of one request.
#[derive(Debug, Clone)]
pub struct Cx {
    request_id: Arc<str>,
    traceparent: Arc<str>,
    claims: Option<Arc<Claims>>,
    phases: Arc<Mutex<Vec<(&'static str, Duration)>>>,
    /// Closed when nobody waits for the answer any more.
    caller: watch::Receiver<()>,
}

/// The most phases that `Server-Timing` lists.
const MOST_PHASES: usize = 32;

impl Cx {
    /// The context, and what stands for the caller: dropped when it hangs up.
    pub(crate) fn new(request_id: &str, traceparent: &str) -> (Self, watch::Sender<()>) {
        let (waits, caller) = watch::channel(());
        let (request_id, traceparent) = (request_id.into(), traceparent.into());
        (Self { request_id, traceparent, claims: None, phases: Arc::default(), caller }, waits)
    }

    /// Until the caller hangs up, or has its answer: for the few handlers whose work is of no use to anybody else.
    /// Cancel-safe.
    pub async fn hung_up(&self) {
        let mut caller = self.caller.clone();
        while caller.changed().await.is_ok() {}
    }

    pub(crate) fn with_claims(mut self, claims: Option<Claims>) -> Self {
        self.claims = claims.map(Arc::new);
        self
    }

    /// The id that the answer, the log and every problem carry.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The W3C `traceparent` to hand on in outgoing calls.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// The caller's claims; none where no token is needed.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_deref()
    }

    /// Notes how long a phase took; mutations show it in `Server-Timing`. Names are tokens, such as `disk`.
    pub fn phase(&self, name: &'static str, took: Duration) {
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        if phases.len() < MOST_PHASES {
            phases.push((name, took));
        }
    }

    /// Runs a future and notes how long it took.
    pub async fn timed<T>(&self, name: &'static str, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let result = work.await;
        self.phase(name, start.elapsed());
        result
    }

    /// The value of `Server-Timing`.
    pub(crate) fn server_timing(&self, total: Duration) -> String {
        let phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        let all = phases.iter().copied().chain([("total", total)]);
        all.map(|(name, took)| format!("{name};dur={:.1}", took.as_secs_f64() * 1e3)).collect::<Vec<_>>().join(", ")
    }
}
