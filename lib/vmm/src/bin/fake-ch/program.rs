//! What a guest does, chosen by the file name of `argv[0]`: `exit CODE`, `echo TEXT…`, `count`, `flood LINES` (so many
//! every 10 ms), `spin` (ignores being stopped), `reboot`, `panic`; anything else stays until it is stopped.
//!
//! Invariant: what a program would go on with after a restore is in the guest's memory, nothing of it in a variable.

use std::time::{Duration, Instant};

use dataplane_agent::ExitStatus;

use crate::guest::{Gone, Outcome, Shared};

const SIGTERM: u8 = 15;
const SIGKILL: u8 = 9;

/// Between two lines of `count`.
const COUNT_INTERVAL: Duration = Duration::from_millis(20);
/// Before `reboot` and `panic`: also bounds how fast a guest can loop.
const FUSE: Duration = Duration::from_millis(200);

/// Runs the guest until it ends or the plug is pulled.
pub(crate) fn run(guest: &Shared, report: &dyn Fn(Outcome)) {
    if let Ok(outcome) = live(guest) {
        report(outcome);
    }
}

fn live(guest: &Shared) -> Result<Outcome, Gone> {
    let (argv, exit) = guest.step(|memory| {
        if !std::mem::replace(&mut memory.begun, true) {
            guest.print(&format!("fake-guest: {}", memory.argv.join(" ")));
            if name(&memory.argv) == "echo" {
                guest.print(&memory.argv.get(1..).unwrap_or_default().join(" "));
            }
        }
        (memory.argv.clone(), memory.exit)
    })?;
    let status = match (exit, name(&argv)) {
        (Some(status), _) => status,
        (None, "exit") => ExitStatus::Code(argv.get(1).and_then(|code| code.parse().ok()).unwrap_or(0)),
        (None, "reboot") => {
            guest.sleep(FUSE)?;
            return Ok(Outcome::Reset);
        }
        (None, "panic") => {
            guest.sleep(FUSE)?;
            guest.die();
            return Ok(Outcome::Panic);
        }
        (None, "count") => count(guest)?,
        (None, "flood") => flood(guest, argv.get(1).and_then(|lines| lines.parse().ok()).unwrap_or(1))?,
        (None, "spin") => {
            let kill_at = guest.stop_within(None)?;
            guest.sleep(kill_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now())))?;
            ExitStatus::Signal(SIGKILL)
        }
        (None, _) => {
            guest.stop_within(None)?;
            ExitStatus::Signal(SIGTERM)
        }
    };
    guest.exit(status)?;
    Ok(Outcome::PowerOff)
}

fn name(argv: &[String]) -> &str {
    argv.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default()
}

fn count(guest: &Shared) -> Result<ExitStatus, Gone> {
    loop {
        guest.step(|memory| {
            memory.count += 1;
            guest.print(&format!("count {}", memory.count));
        })?;
        if guest.stop_within(Some(COUNT_INTERVAL))?.is_some() {
            return Ok(ExitStatus::Signal(SIGTERM));
        }
    }
}

/// As [`count`], many lines of 100 bytes at a time.
fn flood(guest: &Shared, lines: u64) -> Result<ExitStatus, Gone> {
    loop {
        guest.step(|memory| {
            let numbers = memory.count + 1..=memory.count + lines;
            let lines_of: Vec<_> = numbers.map(|number| format!("flood {number:<93}")).collect();
            memory.count += lines;
            guest.print(&lines_of.join("\n"));
        })?;
        if guest.stop_within(Some(Duration::from_millis(10)))?.is_some() {
            return Ok(ExitStatus::Signal(SIGTERM));
        }
    }
}
