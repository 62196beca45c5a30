//! What makes a process that process: pid, start time, boot id, all from `/proc` (proc(5)).

use std::io;

use rustix::process::Pid;

use crate::VmmProcess;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Index of the start time behind the command's closing parenthesis: field 22, where the state is field 3.
const START_TICKS: usize = 19;

/// The identity of a child that has not been reaped: its pid cannot be another's.
pub(super) fn of_child(pid: u32) -> io::Result<VmmProcess> {
    let (_, start_ticks) = read_stat(pid)?.ok_or(io::ErrorKind::NotFound)?;
    Ok(VmmProcess { pid, start_ticks, boot_id: boot_id()? })
}

/// Whether this very process is alive. A zombie is not.
pub(crate) fn find(process: &VmmProcess) -> io::Result<bool> {
    if boot_id()? != process.boot_id {
        return Ok(false);
    }
    Ok(read_stat(process.pid)?
        .is_some_and(|(state, ticks)| ticks == process.start_ticks && !matches!(state, 'Z' | 'X')))
}

/// The pid as a system call takes it; `None` for numbers that are none.
pub(crate) fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// The uid that a VMM runs as, whatever it would be started as now: its TAP must go on being this one's. `None` when it
/// has ended.
///
/// # Errors
/// What the system said.
pub fn running_uid(process: &VmmProcess) -> io::Result<Option<u32>> {
    if find(process)? { uid_of(process.pid) } else { Ok(None) }
}

/// The uid of a process; `None` when it has just ended.
pub(super) fn uid_of(pid: u32) -> io::Result<Option<u32>> {
    let Some(status) = read(&format!("/proc/{pid}/status"))? else { return Ok(None) };
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().next()?.parse().ok());
    uid.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

fn read_stat(pid: u32) -> io::Result<Option<(char, u64)>> {
    let Some(stat) = read(&format!("/proc/{pid}/stat"))? else { return Ok(None) };
    parse_stat(&stat).map(Some).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is malformed")))
}

/// A file of a process; `None` when that is gone.
fn read(path: &str) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // The process ended between open and read.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// State and start time. The command name may hold blanks and parentheses, so fields count from its *last* one.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let ticks = fields.nth(START_TICKS - 1)?.parse().ok()?;
    Some((state, ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_cannot_shift_the_fields() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for name in ["vmm", "a b", "x) R 1 2", "((", ""] {
            assert_eq!(parse_stat(&format!("42 ({name}) {rest}")), Some(('S', 4711)), "{name}");
        }
        assert_eq!(parse_stat("42 (x"), None);
        assert_eq!(parse_stat("42 (x) S 1 2"), None);
    }

    #[test]
    fn this_process_is_found_and_its_shadows_are_not() {
        let me = of_child(std::process::id()).unwrap();
        assert!(find(&me).unwrap());
        assert!(!find(&VmmProcess { start_ticks: me.start_ticks + 1, ..me.clone() }).unwrap());
        assert!(!find(&VmmProcess { boot_id: "another boot".into(), ..me }).unwrap());
    }
}
