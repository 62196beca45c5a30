//! Power cuts. The daemon runs in an emulated host, whose emulator is killed with SIGKILL in the middle of operations:
//! what the kernel there had not written is lost, as with a real cut. The host boots again from the same disk, and what
//! was answered before must be so, and what was not must have happened or not.
//!
//! `POWER_CUTS` and `POWER_REAL_CUTS` bound the runs, `POWER_SEED` repeats their choices (not the instants).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]
#![expect(clippy::print_stdout, reason = "the inside is heard by what it prints")]

#[path = "../soak/client.rs"]
mod client;
mod host;
mod inside;
mod journal;
#[path = "../soak/model.rs"]
mod model;
mod outside;
#[path = "../soak/processes.rs"]
mod processes;
#[path = "../soak/random.rs"]
mod random;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::journal::Guests;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is no number")))
}

fn run(cuts: u64, guests: Guests) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("POWER_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    println!("POWER_SEED={seed}");
    let report = outside::run(cuts, seed, guests);
    println!("{}", report.unwrap_or_else(|violation| panic!("POWER_SEED={seed}: {violation}")));
}

#[test]
#[ignore = "needs qemu-system-x86_64 and minutes"]
fn what_was_answered_holds_over_every_power_cut() {
    run(number("POWER_CUTS").unwrap_or(10), Guests::Simulated);
}

#[test]
#[ignore = "needs qemu-system-x86_64, cloud-hypervisor, and minutes"]
fn real_guests_go_on_or_boot_anew_after_a_power_cut() {
    run(number("POWER_REAL_CUTS").unwrap_or(3), Guests::Real);
}

/// The other half, started by the first inside the emulated host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the part of the power cuts that runs inside the emulated host"]
async fn inside() {
    inside::run().await;
}
