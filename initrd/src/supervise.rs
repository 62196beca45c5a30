//! Process 1's life after the program has started: reap, serve the agent, stop the program, tell how it ended.
//!
//! Invariant: one poll waits for everything; nothing else blocks. The guest ends when the host has the program's exit
//! status on its disk, when there is nobody to tell, or when [`HOST_WAIT`] is over.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use dataplane_agent::ExitStatus;
use dataplane_init::conversation::Order;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::sync;

use crate::agent::Agent;
use crate::error::{During as _, InitError};
use crate::sys::{self, Ended};
use crate::{console, program};

/// How long a guest whose program has ended waits for a host that takes the exit status: long enough for the host's
/// daemon to be replaced, short enough that a guest without a host does not hold its memory for ever.
const HOST_WAIT: Duration = Duration::from_secs(300);
/// How often the exit status is said again: what was said while the host's end changed hands may be lost.
const REPEAT: Duration = Duration::from_secs(1);
/// How long a new program may take to install its handler of the stop signal. An older one without a handler has none.
const SETTLED: Duration = Duration::from_secs(3);
/// How often a young program is asked again whether it would get the signal: nothing announces that.
const SIGNAL_AGAIN: Duration = Duration::from_millis(50);
const EVERYTHING: i32 = -1;

/// The children's ends, as something to wait for. Made before the first child.
#[derive(Debug)]
pub(crate) struct Children(SignalFd);

impl Children {
    pub(crate) fn watch() -> Result<Self, InitError> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block().during("block", "SIGCHLD")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&mask, flags).during("watch for", "SIGCHLD")?))
    }

    fn forget_signals(&self) {
        while matches!(self.0.read_signal(), Ok(Some(_))) {}
    }
}

/// The running program.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) pid: i32,
    pub(crate) stop_signal: i32,
    /// Init's own /proc.
    pub(crate) proc: OwnedFd,
    /// When it was started.
    pub(crate) since: Instant,
}

/// A stop that is under way, or none.
#[derive(Debug, Default)]
struct Stopping {
    /// When the program is killed. Set by the first order.
    deadline: Option<Instant>,
    signalled: bool,
    killed: bool,
}

/// Serves until the program has ended.
pub(crate) fn run(program: &Program, children: &Children, agent: &mut Agent) -> Result<(), InitError> {
    let mut stopping = Stopping::default();
    loop {
        children.forget_signals();
        let mut ended = None;
        while let Some((pid, status)) = reap() {
            if pid == program.pid {
                ended = Some(status);
            } else {
                agent.child_ended(pid, status);
            }
        }
        if let Some(status) = ended {
            agent.facts.exited = Some((status, None));
            agent.program_ended();
            return Ok(());
        }
        for order in agent.serve() {
            match order {
                Order::Stop { grace_ms } => stopping.order(Duration::from_millis(grace_ms)),
                // Nothing is recorded yet; and the agent serves the rest by itself.
                Order::ExitRecorded
                | Order::Ask(..)
                | Order::Anew
                | Order::Open { .. }
                | Order::Stream { .. }
                | Order::Data { .. } => {}
            }
        }
        stopping.act(program);
        wait(children, agent, stopping.next())?;
    }
}

fn reap() -> Option<(i32, ExitStatus)> {
    let (pid, how) = sys::reap()?;
    let status = match how {
        Ended::Exited(code) => ExitStatus::Code(code),
        Ended::Killed(signal) => ExitStatus::Signal(signal),
    };
    Some((pid, status))
}

impl Stopping {
    /// A stop that comes again may only shorten the grace.
    fn order(&mut self, grace: Duration) {
        let asked = Instant::now().checked_add(grace).unwrap_or_else(far_future);
        self.deadline = Some(self.deadline.map_or(asked, |deadline| deadline.min(asked)));
    }

    /// Sends the stop signal once (programs take a second one for impatience), and kills when the time has come.
    fn act(&mut self, program: &Program) {
        let Some(mut deadline) = self.deadline.filter(|_| !self.killed) else { return };
        let now = Instant::now();
        if !self.signalled {
            if !program::discards(program.proc.as_fd(), program.pid, program.stop_signal) {
                self.signalled = true;
                sys::signal(program.pid, program.stop_signal);
            } else if now >= program.since + SETTLED {
                // Waiting for the effect of a signal that the kernel throws away is waiting for nothing.
                deadline = now;
            }
        }
        if deadline <= now {
            self.killed = true;
            sys::signal(EVERYTHING, libc::SIGKILL);
        }
    }

    fn next(&self) -> Option<Instant> {
        let deadline = self.deadline.filter(|_| !self.killed)?;
        Some(if self.signalled { deadline } else { deadline.min(Instant::now() + SIGNAL_AGAIN) })
    }
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(365 * 24 * 3600)
}

/// Tells the host how the program ended, until the host has it on its disk.
pub(crate) fn report_exit(children: &Children, agent: &mut Agent) -> Result<(), InitError> {
    console::drain();
    sync();
    let deadline = Instant::now() + HOST_WAIT;
    let mut repeat = Instant::now();
    while agent.exists() && Instant::now() < deadline {
        if repeat <= Instant::now() {
            agent.tell_exited();
            repeat = Instant::now() + REPEAT;
        }
        if agent.serve().contains(&Order::ExitRecorded) {
            return Ok(());
        }
        wait(children, agent, Some(repeat.min(deadline)))?;
        children.forget_signals();
        // Who ran beside the program has ended with it.
        while let Some((pid, status)) = reap() {
            agent.child_ended(pid, status);
        }
    }
    Ok(())
}

/// Ends every process and takes them all, within a bound.
pub(crate) fn end_everything(children: &Children) {
    const LIMIT: Duration = Duration::from_secs(2);
    sys::signal(EVERYTHING, libc::SIGKILL);
    let deadline = Instant::now() + LIMIT;
    while sys::has_children() && Instant::now() < deadline {
        let mut entries = [PollFd::new(children.0.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut entries, timeout_until(Some(deadline)));
        children.forget_signals();
        while sys::reap().is_some() {}
    }
}

/// Sleeps until a child ends, the agent has something to do, or the time has come.
fn wait(children: &Children, agent: &Agent, until: Option<Instant>) -> Result<(), InitError> {
    let again = agent.look_again().map(|interval| Instant::now() + interval);
    let until = [until, again].into_iter().flatten().min();
    let mut entries = agent.interests();
    entries.push(PollFd::new(children.0.as_fd(), PollFlags::POLLIN));
    match poll(&mut entries, timeout_until(until)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error).during("wait for", "the program and the host"),
    }
}

/// Rounded up, so that a deadline has passed when the wait ends.
fn timeout_until(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return PollTimeout::ZERO;
    }
    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_after_its_deadline_never_before() {
        assert_eq!(timeout_until(None), PollTimeout::NONE);
        assert_eq!(timeout_until(Some(Instant::now())), PollTimeout::ZERO);
        let soon = timeout_until(Some(Instant::now() + Duration::from_micros(500)));
        assert_ne!(soon, PollTimeout::ZERO);
        assert_ne!(timeout_until(Some(far_future())), PollTimeout::NONE);
    }
}
