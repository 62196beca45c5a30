//! The guest's ends of the host's streams: which process is which stream, and what was run.
//!
//! Invariant: nothing here waits; what is held of a stream is bounded by its window. Every stream gets its end: at the
//! latest when its process has been reaped.

mod job;

use std::os::fd::{AsFd as _, OwnedFd};

use dataplane_agent::{Answer, ExitStatus, FailureKind, MAX_STREAMS, Open, StreamEnd, StreamOrder};
use dataplane_init::conversation::Conversation;
use nix::poll::PollFd;

use self::job::Job;
use crate::cgroups::{Group, Groups};
use crate::exec::{Place, Refused};
use crate::processes::Processes;
use crate::{console, sys};

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
        Ok(Job::new((stream, window), spawned, group, (detach, terminal)))
    }

    pub(crate) fn order(&mut self, stream: u16, order: StreamOrder) {
        // What comes too late means nothing.
        let Some(job) = self.jobs.iter_mut().find(|job| job.stream == Some(stream)) else { return };
        job.order(order);
    }

    pub(crate) fn data(&mut self, stream: u16, payload: &[u8]) {
        let Some(job) = self.jobs.iter_mut().find(|job| job.stream == Some(stream)) else { return };
        job.take(payload);
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
