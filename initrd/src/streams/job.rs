//! One process that runs for the host, and what goes in and out of it.
//!
//! Invariant: nothing here waits, nothing is read of a process that the host has no room for, and one whose host is gone
//! is killed with all that it has started, or runs on with nobody reading what it says.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use dataplane_agent::{Channel, ExitStatus, GUEST_WINDOW, MAX_DATA, MAX_WINDOW, StreamEnd, StreamOrder};
use dataplane_init::conversation::Conversation;
use nix::libc;
use nix::poll::{PollFd, PollFlags};

use crate::cgroups::Group;
use crate::child::{self, Named, REPORT};
use crate::exec::Spawned;
use crate::sys;

/// How much of one process is read in one turn, so that all have theirs.
const READS: usize = 4;
/// What ends the input of a terminal.
const END_OF_TRANSMISSION: u8 = 4;

/// A process and what goes in and out.
#[derive(Debug)]
pub(super) struct Job {
    /// None when the host is gone or has reset it.
    pub(super) stream: Option<u16>,
    pub(super) pid: i32,
    inner_pid: u32,
    detach: bool,
    /// None where the kernel has none, and for work on files.
    pub(super) group: Option<Group>,
    /// Open until it was exec'ed, and what is said of it otherwise.
    report: Option<(File, Named)>,
    /// Why it was not, and the code that stands for that.
    failed: Option<(u8, String)>,
    input: Option<File>,
    waiting: VecDeque<u8>,
    finish: bool,
    /// What the host may still send, and what it was not yet given back.
    allowance: u32,
    taken: u32,
    outputs: [Option<Output>; 2],
    credit: u32,
    /// The host wants no more of it.
    reset: bool,
    /// Set once it has been reaped.
    pub(super) status: Option<ExitStatus>,
    terminal: bool,
}

#[derive(Debug)]
struct Output {
    file: File,
    channel: Channel,
    /// After the process' end: what is left of its own words. Others may hold the pipe for ever.
    left: Option<usize>,
}

impl Job {
    /// Of a stream's number and first credit; whether it is detached, and has a terminal.
    pub(super) fn new(
        (stream, window): (u16, u32),
        spawned: Spawned,
        group: Option<Group>,
        (detach, terminal): (bool, bool),
    ) -> Self {
        let Spawned { pid, inner_pid, report, named, input, output, error } = spawned;
        let end = |file: OwnedFd, channel| Output { file: file.into(), channel, left: None };
        Self {
            stream: Some(stream),
            pid,
            inner_pid,
            detach,
            group,
            report: Some((report.into(), named)),
            failed: None,
            input: Some(input.into()),
            waiting: VecDeque::new(),
            finish: false,
            allowance: GUEST_WINDOW,
            taken: 0,
            outputs: [Some(end(output, Channel::Output)), error.map(|file| end(file, Channel::Error))],
            credit: window.min(MAX_WINDOW),
            reset: false,
            status: None,
            terminal,
        }
    }

    pub(super) fn order(&mut self, order: StreamOrder) {
        match order {
            StreamOrder::Credit { bytes } => self.credit = self.credit.saturating_add(bytes).min(MAX_WINDOW),
            StreamOrder::Finish => self.finish = true,
            StreamOrder::Reset => self.reset = true,
            StreamOrder::Signal { signal } => self.signal(i32::from(signal)),
            StreamOrder::Resize(size) => {
                if let Some(input) = self.input.as_ref().filter(|_| self.terminal) {
                    sys::resize_terminal(input.as_fd(), size.rows, size.columns);
                }
            }
        }
    }

    /// Takes in data of the host.
    pub(super) fn take(&mut self, payload: &[u8]) {
        let Some((channel, data)) = payload.split_first() else { return };
        // The host keeps to what it was given; of one that does not the rest is lost, as is its program.
        let allowed = u32::try_from(data.len()).ok().and_then(|length| self.allowance.checked_sub(length));
        match allowed.filter(|_| Channel::of(*channel) == Some(Channel::Input)) {
            Some(allowance) => {
                self.allowance = allowance;
                self.waiting.extend(data);
            }
            None => self.reset = true,
        }
    }

    pub(super) fn interests(&self, takes_data: bool) -> Vec<PollFd<'_>> {
        let mut entries = Vec::with_capacity(4);
        entries.extend(self.report.iter().map(|(report, _)| PollFd::new(report.as_fd(), PollFlags::POLLIN)));
        let input = self.input.iter().filter(|_| !self.waiting.is_empty());
        entries.extend(input.map(|input| PollFd::new(input.as_fd(), PollFlags::POLLOUT)));
        if self.stream.is_none() || (takes_data && self.credit > 0 && self.report.is_none()) {
            let outputs = self.outputs.iter().flatten();
            entries.extend(outputs.map(|output| PollFd::new(output.file.as_fd(), PollFlags::POLLIN)));
        }
        entries
    }

    pub(super) fn work(&mut self, conversation: Option<&mut Conversation>) {
        let Some(conversation) = conversation else {
            self.abandon();
            self.feed();
            self.drain();
            return;
        };
        self.hear_report(conversation);
        self.feed();
        if std::mem::take(&mut self.reset)
            && let Some(stream) = self.stream
        {
            self.give_up();
            if self.detach {
                self.stream = None;
                conversation.end(stream, StreamEnd::Reset);
            }
        }
        let Some(stream) = self.stream else { return self.drain() };
        if self.taken >= GUEST_WINDOW / 4 {
            let bytes = std::mem::take(&mut self.taken);
            self.allowance += bytes;
            conversation.credit(stream, bytes);
        }
        if self.report.is_none() {
            self.tell(stream, conversation);
        }
        if let Some(status) = self.status.filter(|_| self.report.is_none() && self.outputs.iter().all(Option::is_none))
        {
            self.stream = None;
            let end = match self.failed.take() {
                Some((code, why)) => StreamEnd::Exited { status: ExitStatus::Code(code), reason: Some(why) },
                None => StreamEnd::Exited { status, reason: None },
            };
            conversation.end(stream, end);
        }
    }

    /// Reads what became of the new process.
    fn hear_report(&mut self, conversation: &mut Conversation) {
        let Some((report, named)) = &mut self.report else { return };
        let mut bytes = [0; REPORT];
        match report.read(&mut bytes) {
            Ok(REPORT) => {
                self.failed = Some(child::failure(bytes, named));
                self.outputs = [None, None];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // Its end was closed by the exec, or by the end of a process that was killed before.
            Ok(_) | Err(_) => {
                if let Some(stream) = self.stream {
                    conversation.opened(stream, Some(self.inner_pid));
                }
            }
        }
        self.report = None;
    }

    /// Gives the program what the host has sent.
    fn feed(&mut self) {
        while let Some(input) = &mut self.input
            && !self.waiting.is_empty()
        {
            let (first, _) = self.waiting.as_slices();
            match input.write(first) {
                Ok(count) => {
                    self.waiting.drain(..count);
                    self.taken += u32::try_from(count).unwrap_or(0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It reads no more.
                Err(_) => self.input = None,
            }
        }
        if self.input.is_none() {
            self.taken += u32::try_from(self.waiting.len()).unwrap_or(0);
            self.waiting.clear();
        } else if std::mem::take(&mut self.finish) {
            if self.terminal {
                self.waiting.push_back(END_OF_TRANSMISSION);
                self.taken = self.taken.saturating_sub(1);
            } else {
                self.input = None;
            }
        }
    }

    /// Tells the host what the program says, as far as the host has room.
    fn tell(&mut self, stream: u16, conversation: &mut Conversation) {
        let mut bytes = [0; MAX_DATA];
        for place in &mut self.outputs {
            for _ in 0..READS {
                let Some(output) = place else { break };
                if output.left == Some(0) {
                    *place = None;
                    break;
                }
                let room = MAX_DATA.min(self.credit as usize).min(output.left.unwrap_or(usize::MAX));
                if room == 0 || !conversation.takes_data() {
                    break;
                }
                match output.file.read(&mut bytes[..room]) {
                    Ok(count) if count > 0 => {
                        conversation.data(stream, output.channel, &bytes[..count]);
                        self.credit -= u32::try_from(count).unwrap_or(self.credit);
                        output.left = output.left.map(|left| left.saturating_sub(count));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.status.is_none() => break,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.terminal => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // Nobody writes to it any more, or the process has ended and this was all.
                    Ok(_) | Err(_) => *place = None,
                }
            }
        }
    }

    /// Reads what nobody wants to know, so that a detached process can go on.
    fn drain(&mut self) {
        let mut bytes = [0; MAX_DATA];
        for place in &mut self.outputs {
            for _ in 0..READS {
                let Some(output) = place else { break };
                match output.file.read(&mut bytes) {
                    Ok(count) if count > 0 => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(_) | Err(_) => *place = None,
                }
            }
        }
    }

    pub(super) fn has_ended(&mut self, status: ExitStatus) {
        self.status = Some(status);
        for output in self.outputs.iter_mut().flatten().filter(|_| !self.terminal) {
            output.left = Some(sys::readable(output.file.as_fd()));
        }
    }

    /// To the whole process group, while the process has not been reaped: its number is nobody else's until then. What
    /// kills reaches whatever it has started, in any session.
    pub(super) fn signal(&self, signal: i32) {
        if self.status.is_none() {
            // One that was just made has no group yet.
            if signal == libc::SIGKILL {
                sys::signal(self.pid, signal);
                self.group.iter().for_each(Group::kill);
            }
            sys::signal(-self.pid, signal);
        }
    }

    /// The host does not want it any more.
    fn give_up(&mut self) {
        self.waiting.clear();
        if self.detach {
            self.finish = true;
            return;
        }
        self.signal(libc::SIGKILL);
        self.input = None;
        self.outputs = [None, None];
    }

    pub(super) fn abandon(&mut self) {
        if self.stream.take().is_some() {
            self.give_up();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.stream.is_none() && self.status.is_some()
    }
}
