//! What a guest does, chosen by the file name of `argv[0]`: `exit CODE`, `echo TEXT…`, `count`, `spin` (ignores being
//! stopped), `reboot`, `panic`; anything else stays until it is stopped.

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
pub(crate) fn run(guest: &Shared, argv: &[String], report: &dyn Fn(Outcome)) {
    guest.print(&format!("fake-guest: {}", argv.join(" ")));
    if let Ok(outcome) = live(guest, argv) {
        report(outcome);
    }
}

fn live(guest: &Shared, argv: &[String]) -> Result<Outcome, Gone> {
    let arguments = argv.get(1..).unwrap_or_default();
    let name = argv.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let status = match name {
        "exit" => ExitStatus::Code(arguments.first().and_then(|code| code.parse().ok()).unwrap_or(0)),
        "reboot" => {
            guest.sleep(FUSE)?;
            return Ok(Outcome::Reset);
        }
        "panic" => {
            guest.sleep(FUSE)?;
            guest.die();
            return Ok(Outcome::Panic);
        }
        "count" => count(guest)?,
        "spin" => {
            let kill_at = guest.stop_within(None)?;
            guest.sleep(kill_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now())))?;
            ExitStatus::Signal(SIGKILL)
        }
        name => {
            if name == "echo" {
                guest.print(&arguments.join(" "));
            }
            guest.stop_within(None)?;
            ExitStatus::Signal(SIGTERM)
        }
    };
    guest.exit(status)?;
    Ok(Outcome::PowerOff)
}

fn count(guest: &Shared) -> Result<ExitStatus, Gone> {
    for number in 1u64.. {
        guest.print(&format!("count {number}"));
        if guest.stop_within(Some(COUNT_INTERVAL))?.is_some() {
            break;
        }
    }
    Ok(ExitStatus::Signal(SIGTERM))
}
