//! The guest's clock. It stands still while the guest does, and has to be told the time afterwards; whether it has been
//! is known here, and survives a conversation that breaks before the answer. Knows nothing of VMMs and operations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dataplane_agent::host::AskError;
use dataplane_agent::{Answer, Ask};
use dataplane_types::{InstanceId, WallClock};
use tokio::time::Instant;

use super::chain;

/// How long a guest may take to set its clock.
pub(crate) const CLOCK_PATIENCE: Duration = Duration::from_secs(10);

/// A clock that is set within this time of its being told is right by as much.
const PROMPT: Duration = Duration::from_millis(50);

/// How often a guest that is slower than that is told the time.
const TRIES: usize = 4;

/// A clock this far behind has stood still; one that merely runs differently is the guest's own affair.
const BEHIND: Duration = Duration::from_secs(1);

/// What is known of one guest's clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct GuestClock(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// How often the guest has stood still.
    stalls: AtomicU32,
    /// How many of these its clock has been put right after.
    mended: AtomicU32,
    /// Whether it may have stood still without this daemon's knowing.
    doubtful: AtomicBool,
}

/// What a clock needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// To be looked at.
    Look,
    /// To be set; after so many stalls.
    Set(u32),
}

impl GuestClock {
    /// The guest has stood still.
    pub(crate) fn stood_still(&self) {
        self.0.stalls.fetch_add(1, Ordering::SeqCst);
    }

    /// The guest may have stood still, or have been let go on by a daemon that did not live to tell it the time.
    pub(crate) fn doubt(&self) {
        self.0.doubtful.store(true, Ordering::SeqCst);
    }

    fn need(&self) -> Need {
        let stalls = self.0.stalls.load(Ordering::SeqCst);
        if stalls != self.0.mended.load(Ordering::SeqCst) {
            Need::Set(stalls)
        } else if self.0.doubtful.load(Ordering::SeqCst) {
            Need::Look
        } else {
            Need::Nothing
        }
    }

    /// Does what the clock needs, in the conversation of this moment. What fails is done in the next one.
    pub(crate) async fn put_right<F>(self, id: InstanceId, host: Arc<dyn WallClock>, ask: impl Fn(Ask) -> F)
    where
        F: Future<Output = Result<Answer, AskError>>,
    {
        let stalls = match self.need() {
            Need::Nothing => return,
            Need::Set(stalls) => stalls,
            Need::Look => match ask(Ask::ReadClock).await {
                Ok(Answer::Clock { unix_ns }) => {
                    let behind = since_epoch(&*host).saturating_sub(Duration::from_nanos(unix_ns));
                    if behind < BEHIND {
                        return self.0.doubtful.store(false, Ordering::SeqCst);
                    }
                    tracing::info!(instance.id = %id, ?behind, "the guest's clock is behind");
                    self.0.stalls.load(Ordering::SeqCst)
                }
                Ok(
                    other @ (Answer::Done
                    | Answer::Sizes { .. }
                    | Answer::Failed { .. }
                    | Answer::Processes { .. }
                    | Answer::Usage(_)),
                ) => {
                    return tracing::warn!(instance.id = %id, ?other, "no answer to what the guest's clock says");
                }
                Err(error) => {
                    return tracing::debug!(instance.id = %id, error = %chain(&error), "the guest's clock was not read");
                }
            },
        };
        for _ in 0..TRIES {
            let unix_ns = u64::try_from(since_epoch(&*host).as_nanos()).unwrap_or(u64::MAX);
            let told = Instant::now();
            if let Err(error) = ask(Ask::SetClock { unix_ns, seed: seed() }).await {
                return tracing::warn!(instance.id = %id, error = %chain(&error), "the guest's clock was not set");
            }
            if told.elapsed() <= PROMPT {
                break;
            }
        }
        self.0.mended.fetch_max(stalls, Ordering::SeqCst);
        self.0.doubtful.store(false, Ordering::SeqCst);
        tracing::debug!(instance.id = %id, "the guest's clock is set");
    }
}

fn since_epoch(clock: &dyn WallClock) -> Duration {
    SystemTime::from(clock.now()).duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// 32 bytes for the guest's random pool, in hex.
fn seed() -> String {
    let bytes = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    let hex: String = bytes.iter().map(|uuid| uuid.simple().to_string()).collect();
    hex.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use dataplane_types::SystemClock;
    use tokio::time::sleep;

    use super::*;

    /// Answers in order, each after so long; what was asked.
    async fn put_right(clock: &GuestClock, answers: Vec<(Duration, Result<Answer, AskError>)>) -> Vec<&'static str> {
        let (answers, asked) = (RefCell::new(VecDeque::from(answers)), RefCell::new(Vec::new()));
        let next = || {
            let (after, answer) = answers.borrow_mut().pop_front().expect("another question");
            async move {
                sleep(after).await;
                answer
            }
        };
        let ask = |ask: Ask| {
            if let Ask::SetClock { seed, .. } = &ask {
                assert_eq!(seed.len(), 64);
            }
            let kind = if ask == Ask::ReadClock { "read" } else { "set" };
            asked.borrow_mut().push(kind);
            next()
        };
        clock.clone().put_right("one".parse().unwrap(), Arc::new(SystemClock), ask).await;
        assert!(answers.borrow().is_empty(), "fewer questions than answers");
        asked.into_inner()
    }

    fn done(after: Duration) -> (Duration, Result<Answer, AskError>) {
        (after, Ok(Answer::Done))
    }

    fn broken() -> (Duration, Result<Answer, AskError>) {
        (Duration::ZERO, Err(AskError::Broken))
    }

    fn reads(behind: Duration) -> (Duration, Result<Answer, AskError>) {
        let now = since_epoch(&SystemClock) - behind;
        (Duration::ZERO, Ok(Answer::Clock { unix_ns: now.as_nanos().try_into().unwrap() }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_stood_still_is_set_once_it_can_be() {
        let clock = GuestClock::default();
        assert!(put_right(&clock, vec![]).await.is_empty());
        clock.stood_still();
        assert_eq!(put_right(&clock, vec![broken()]).await, ["set"]);
        assert_eq!(put_right(&clock, vec![done(Duration::ZERO)]).await, ["set"], "the first word was lost");
        assert!(put_right(&clock, vec![]).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_guest_is_told_again_but_not_for_ever() {
        let clock = GuestClock::default();
        clock.stood_still();
        let slow = Duration::from_secs(2);
        assert_eq!(put_right(&clock, vec![done(slow), done(slow), done(PROMPT)]).await, ["set"; 3]);
        clock.stood_still();
        assert_eq!(put_right(&clock, vec![done(slow), done(slow), done(slow), done(slow)]).await, ["set"; 4]);
        assert!(put_right(&clock, vec![]).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_during_the_setting_is_another_one() {
        let clock = GuestClock::default();
        clock.stood_still();
        let set = async |_: Ask| {
            clock.stood_still();
            Ok(Answer::Done)
        };
        clock.clone().put_right("one".parse().unwrap(), Arc::new(SystemClock), set).await;
        assert_eq!(clock.need(), Need::Set(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_in_doubt_is_set_only_when_it_is_behind() {
        let clock = GuestClock::default();
        clock.doubt();
        assert_eq!(put_right(&clock, vec![broken()]).await, ["read"]);
        assert_eq!(put_right(&clock, vec![reads(Duration::ZERO)]).await, ["read"]);
        assert!(put_right(&clock, vec![]).await.is_empty());
        clock.doubt();
        assert_eq!(put_right(&clock, vec![reads(BEHIND * 2), broken()]).await, ["read", "set"]);
        let answers = vec![reads(BEHIND * 2), done(Duration::ZERO)];
        assert_eq!(put_right(&clock, answers).await, ["read", "set"]);
        assert!(put_right(&clock, vec![]).await.is_empty());
    }
}
