//! The guest's ends of the host's streams: bytes between the conversation and the processes that run for it.
//!
//! Invariant: nothing here waits; what is held of a stream is bounded by its window, and nothing is read of a process that
//! the host has no room for. Every stream gets its end: at the latest when its process has been reaped. A process whose
//! host is gone is killed with its group, or runs on with nobody reading what it says.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use dataplane_agent::{
    Answer, Channel, ExitStatus, FailureKind, GUEST_WINDOW, MAX_DATA, MAX_STREAMS, MAX_WINDOW, Open, StreamEnd,
    StreamOrder,
};
use dataplane_init::conversation::Conversation;
use nix::libc;
use nix::poll::{PollFd, PollFlags};

use crate::cgroups::{Group, Groups};
use crate::child::{self, Named, REPORT};
use crate::exec::{Place, Refused, Spawned};
use crate::processes::Processes;
use crate::{console, sys};

/// How much of one process is read in one turn, so that all have theirs.
const READS: usize = 4;
/// What ends the input of a terminal.
const END_OF_TRANSMISSION: u8 = 4;

#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// None until the image's program runs.
    place: Option<Place>,
    groups: Groups,
    jobs: Vec<Job>,
    processes: Processes,
    /// Ends that the host was not told.
    ended: Vec<u32>,
}

/// A process and what goes in and out.
#[derive(Debug)]
struct Job {
    /// None when the host is gone or has reset it.
    stream: Option<u16>,
    pid: i32,
    inner_pid: u32,
    detach: bool,
    /// None where the kernel has none, and for work on files.
    group: Option<Group>,
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
    status: Option<ExitStatus>,
    terminal: bool,
}

#[derive(Debug)]
struct Output {
    file: File,
    channel: Channel,
    /// After the process' end: what is left of its own words. Others may hold the pipe for ever.
    left: Option<usize>,
}

impl Streams {
    /// The image's program runs.
    pub(crate) fn allow(&mut self, place: Place) {
        self.place = Some(place);
        self.groups = Groups::open().unwrap_or_else(|errno| {
            console::kernel_log(&format!("no control groups for programs of the host: {errno}"));
            Groups::default()
        });
    }

    /// The image's program has ended, and with it its namespace: nothing more can run.
    pub(crate) fn forbid(&mut self) {
        self.place = None;
    }

    /// What to wait for.
    pub(crate) fn interests(&self, takes_data: bool) -> Vec<PollFd<'_>> {
        self.jobs.iter().flat_map(|job| job.interests(takes_data)).collect()
    }

    /// The host is gone, or another one has come.
    pub(crate) fn abandon(&mut self) {
        self.ended.clear();
        self.jobs.iter_mut().for_each(Job::abandon);
    }

    pub(crate) fn open(&mut self, stream: u16, window: u32, what: Open, conversation: &mut Conversation) {
        match self.start(stream, window, &what) {
            Ok(job) => self.jobs.push(job),
            Err(Refused(kind, message)) => {
                let message = message.chars().take(1000).collect();
                conversation.end(stream, StreamEnd::Failed { kind, message });
            }
        }
    }

    fn start(&mut self, stream: u16, window: u32, what: &Open) -> Result<Job, Refused> {
        if self.jobs.iter().any(|job| job.stream == Some(stream)) {
            return Err(Refused(FailureKind::Invalid, "the stream is open already".to_owned()));
        }
        if self.jobs.len() >= MAX_STREAMS {
            return Err(Refused(FailureKind::Busy, format!("{MAX_STREAMS} processes are running")));
        }
        let Some(place) = &self.place else {
            return Err(Refused(FailureKind::NotRunning, "the image's program does not run".to_owned()));
        };
        let (spawned, group, detach, terminal) = match what {
            Open::Exec(exec) => {
                let mut group = self.groups.take();
                let directory = group.as_ref().and_then(Group::directory);
                let spawned = place.spawn(exec, directory.as_ref().map(OwnedFd::as_fd));
                if spawned.is_err() {
                    group.take().into_iter().for_each(|group| self.groups.give_back(group));
                }
                let spawned = spawned?;
                self.processes.begin(exec, spawned.pid, spawned.inner_pid);
                (spawned, group, exec.detach, exec.tty.is_some())
            }
            Open::Files(work) => (place.spawn_files(work)?, None, false, false),
        };
        let Spawned { pid, inner_pid, report, named, input, output, error } = spawned;
        let end = |file: OwnedFd, channel| Output { file: file.into(), channel, left: None };
        Ok(Job {
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
        })
    }

    pub(crate) fn order(&mut self, stream: u16, order: StreamOrder) {
        // What comes too late means nothing.
        let Some(job) = self.jobs.iter_mut().find(|job| job.stream == Some(stream)) else { return };
        match order {
            StreamOrder::Credit { bytes } => job.credit = job.credit.saturating_add(bytes).min(MAX_WINDOW),
            StreamOrder::Finish => job.finish = true,
            StreamOrder::Reset => job.reset = true,
            StreamOrder::Signal { signal } => job.signal(i32::from(signal)),
            StreamOrder::Resize(size) => {
                if let Some(input) = job.input.as_ref().filter(|_| job.terminal) {
                    sys::resize_terminal(input.as_fd(), size.rows, size.columns);
                }
            }
        }
    }

    pub(crate) fn data(&mut self, stream: u16, payload: &[u8]) {
        let Some(job) = self.jobs.iter_mut().find(|job| job.stream == Some(stream)) else { return };
        let Some((channel, data)) = payload.split_first() else { return };
        // The host keeps to what it was given; of one that does not the rest is lost, as is its program.
        let allowed = u32::try_from(data.len()).ok().and_then(|length| job.allowance.checked_sub(length));
        match allowed.filter(|_| Channel::of(*channel) == Some(Channel::Input)) {
            Some(allowance) => {
                job.allowance = allowance;
                job.waiting.extend(data);
            }
            None => job.reset = true,
        }
    }

    /// A child of init has ended.
    pub(crate) fn child_ended(&mut self, pid: i32, status: ExitStatus) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.pid == pid && job.status.is_none()) {
            job.has_ended(status);
            self.ended.extend(self.processes.end(pid, status));
        }
    }

    /// Moves what can be moved without waiting, and tells the host what there is to tell.
    pub(crate) fn work(&mut self, mut conversation: Option<&mut Conversation>) {
        // The first has the most room: each in its turn.
        if !self.jobs.is_empty() {
            self.jobs.rotate_left(1);
        }
        for job in &mut self.jobs {
            job.work(conversation.as_deref_mut());
        }
        for job in self.jobs.extract_if(.., |job| job.is_over()) {
            job.group.into_iter().for_each(|group| self.groups.give_back(group));
        }
        if let Some(conversation) = conversation {
            self.ended.drain(..).for_each(|pid| conversation.process_ended(pid));
        }
        // Without a host there is nobody to tell.
        self.ended.clear();
    }

    pub(crate) fn list(&self, after: u64) -> Answer {
        self.processes.list(after)
    }

    pub(crate) fn get(&self, pid: u32) -> Answer {
        self.processes.get(pid)
    }

    /// As [`dataplane_agent::Ask::Kill`].
    pub(crate) fn kill(&self, pid: u32, signal: u8, group: bool) -> Answer {
        let Some(running) = self.processes.running(pid) else {
            return Answer::Processes { processes: Vec::new(), more: false };
        };
        let Some(pid) = running else { return Answer::Done };
        match self.jobs.iter().find(|job| job.pid == pid).filter(|_| group) {
            Some(job) => job.signal(i32::from(signal)),
            None => sys::signal(pid, i32::from(signal)),
        }
        Answer::Done
    }
}

impl Job {
    fn interests(&self, takes_data: bool) -> Vec<PollFd<'_>> {
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

    fn work(&mut self, conversation: Option<&mut Conversation>) {
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

    fn has_ended(&mut self, status: ExitStatus) {
        self.status = Some(status);
        for output in self.outputs.iter_mut().flatten().filter(|_| !self.terminal) {
            output.left = Some(sys::readable(output.file.as_fd()));
        }
    }

    /// To the whole process group, while the process has not been reaped: its number is nobody else's until then. What
    /// kills reaches whatever it has started, in any session.
    fn signal(&self, signal: i32) {
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

    fn abandon(&mut self) {
        if self.stream.take().is_some() {
            self.give_up();
        }
    }

    fn is_over(&self) -> bool {
        self.stream.is_none() && self.status.is_some()
    }
}
