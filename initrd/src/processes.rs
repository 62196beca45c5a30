//! What was run for a host: the processes that run, and the latest of those that have ended.
//!
//! Pure but for the clock. Bounded: who runs is bounded by the streams, and of those that have ended [`HISTORY`] are kept.

use std::collections::VecDeque;
use std::time::SystemTime;

use dataplane_agent::{Answer, Exec, ExitStatus, MAX_COMMAND_TEXT, MAX_PROCESSES, ProcessEnd, ProcessInfo};

/// How many processes that have ended are remembered.
const HISTORY: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Processes {
    started: u64,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    info: ProcessInfo,
    /// As init numbers it.
    pid: i32,
}

impl Processes {
    /// A process was made.
    pub(crate) fn begin(&mut self, exec: &Exec, pid: i32, inner_pid: u32) {
        self.started += 1;
        let info = ProcessInfo {
            serial: self.started,
            pid: inner_pid,
            argv: cut(&exec.argv),
            tty: exec.tty.is_some(),
            detached: exec.detach,
            started_ns: now_ns(),
            ended: None,
        };
        self.entries.push_back(Entry { info, pid });
    }

    /// It has ended; as programs number it.
    pub(crate) fn end(&mut self, pid: i32, status: ExitStatus) -> Option<u32> {
        let entry = self.entries.iter_mut().rev().find(|entry| entry.pid == pid && entry.info.ended.is_none())?;
        entry.info.ended = Some(ProcessEnd { status, at_ns: now_ns() });
        let inner_pid = entry.info.pid;
        let ended = self.entries.iter().filter(|entry| entry.info.ended.is_some()).count();
        if ended > HISTORY
            && let Some(oldest) = self.entries.iter().position(|entry| entry.info.ended.is_some())
        {
            self.entries.remove(oldest);
        }
        Some(inner_pid)
    }

    pub(crate) fn list(&self, after: u64) -> Answer {
        let mut rest = self.entries.iter().map(|entry| &entry.info).filter(|info| info.serial > after);
        let processes = rest.by_ref().take(MAX_PROCESSES).cloned().collect();
        Answer::Processes { processes, more: rest.next().is_some() }
    }

    pub(crate) fn get(&self, inner_pid: u32) -> Answer {
        let found = self.entries.iter().rev().find(|entry| entry.info.pid == inner_pid);
        Answer::Processes { processes: found.map(|entry| entry.info.clone()).into_iter().collect(), more: false }
    }

    /// As init numbers it, while it runs; `None` outside when nobody knows it.
    pub(crate) fn running(&self, inner_pid: u32) -> Option<Option<i32>> {
        let found = self.entries.iter().rev().find(|entry| entry.info.pid == inner_pid)?;
        Some(Some(found.pid).filter(|_| found.info.ended.is_none()))
    }
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// The words as far as they fit, the last of them cut.
fn cut(argv: &[String]) -> Vec<String> {
    let mut left = MAX_COMMAND_TEXT;
    let mut kept = Vec::new();
    for word in argv {
        if left == 0 {
            break;
        }
        let end = word.floor_char_boundary(left);
        kept.push(word[..end].to_owned());
        left = left.saturating_sub(word.len() + 1);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(answer: Answer) -> Vec<ProcessInfo> {
        let Answer::Processes { processes, .. } = answer else { panic!("{answer:?}") };
        processes
    }

    #[test]
    fn history_is_bounded_and_who_runs_is_never_forgotten() {
        let mut processes = Processes::default();
        let exec = Exec { argv: vec!["/bin/true".to_owned()], ..Exec::default() };
        processes.begin(&exec, 5, 3);
        for pid in 100..1100 {
            processes.begin(&exec, pid, pid.cast_unsigned());
            assert_eq!(processes.end(pid, ExitStatus::Code(0)), Some(pid.cast_unsigned()));
        }
        assert_eq!(processes.entries.len(), HISTORY + 1);
        assert_eq!(processes.running(3), Some(Some(5)));
        assert_eq!(processes.running(1099), Some(None));
        assert_eq!(processes.running(100), None);
        assert_eq!(listed(processes.get(100)), []);
        let first = listed(processes.list(0));
        assert_eq!((first.len(), first[0].pid), (MAX_PROCESSES, 3));
        let answer = serde_json::to_vec(&processes.list(0)).unwrap();
        assert!(answer.len() < dataplane_agent::MAX_PAYLOAD);
    }

    #[test]
    fn a_number_that_comes_again_is_the_latest() {
        let mut processes = Processes::default();
        let exec = Exec { argv: vec!["ä".repeat(400), "b".to_owned()], ..Exec::default() };
        processes.begin(&exec, 5, 3);
        processes.end(5, ExitStatus::Code(1));
        processes.begin(&exec, 9, 3);
        assert_eq!(processes.running(3), Some(Some(9)));
        let [info] = listed(processes.get(3)).try_into().unwrap();
        assert_eq!(info.argv, ["ä".repeat(MAX_COMMAND_TEXT / 2)]);
        assert!(info.ended.is_none());
    }

    #[test]
    fn the_fullest_list_fits_a_frame() {
        let mut processes = Processes::default();
        let exec = Exec { argv: vec!["\u{1}".repeat(1000)], ..Exec::default() };
        (0..100).for_each(|pid| processes.begin(&exec, pid, u32::MAX));
        assert!(serde_json::to_vec(&processes.list(0)).unwrap().len() < dataplane_agent::MAX_PAYLOAD);
    }
}
