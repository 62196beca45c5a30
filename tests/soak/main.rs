//! The real daemon, killed with SIGKILL again and again while clients do everything with twenty instances at once. What
//! was answered must hold after every restart, what was not must have happened or not, and in the end one delete of each
//! leaves nothing: no process, TAP, address, file.
//!
//! `SOAK_KILLS` and `SOAK_SECONDS` bound the run, `SOAK_SEED` repeats the order of its choices (not the instants).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod client;
mod model;
mod node;
mod processes;
mod random;
mod run;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::run::Plan;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and /dev/net/tun"]
async fn what_was_answered_holds_over_every_kill() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let plan = Plan {
        kills: number("SOAK_KILLS").unwrap_or(30),
        limit: Duration::from_secs(number("SOAK_SECONDS").unwrap_or(60)),
        seed: number("SOAK_SEED").unwrap_or(u64::from(now.subsec_nanos())),
    };
    println!("SOAK_SEED={}", plan.seed);
    let report = run::run(plan).await.unwrap_or_else(|violations| panic!("{violations}"));
    println!("{report}");
}
