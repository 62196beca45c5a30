//! The host's questions: who works on them, and the answers that are ready.
//!
//! Invariant: process 1 itself only does what cannot wait for anything; all else is done by threads of which there are
//! never more than [`MAX_WORKERS`], and every question gets an answer: a refusal where there are too many, and the news
//! of it where its work failed in an unforeseen way. A worker that never ends holds its own place and nothing else.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use dataplane_agent::{Answer, Ask};
use dataplane_init::conversation::Ticket;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, sync};

use crate::error::{During as _, InitError};
use crate::volumes::Volumes;
use crate::{clock, cpus, usage};

/// Questions that are worked on at one time.
const MAX_WORKERS: usize = 8;
/// Enough for what a worker does, and little enough that all of them are no burden.
const STACK: usize = 256 << 10;
/// The longest text that the host is told.
const MAX_TEXT: usize = 1000;

#[derive(Debug)]
pub(crate) struct Asks {
    sender: Sender<(Ticket, Answer)>,
    ready: Receiver<(Ticket, Answer)>,
    working: usize,
    /// A byte for each answer, so that it can be waited for together with all else.
    bell: File,
    ringer: Arc<File>,
    /// None until the guest has its root.
    volumes: Option<Arc<Volumes>>,
}

impl Asks {
    pub(crate) fn open() -> Result<Self, InitError> {
        let (bell, ringer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).during("make", "a pipe")?;
        let (sender, ready) = mpsc::channel();
        Ok(Self { sender, ready, working: 0, bell: bell.into(), ringer: Arc::new(ringer.into()), volumes: None })
    }

    /// From now on the root is the image's, and `proc` shows what is mounted.
    pub(crate) fn allow_volumes(&mut self, proc: OwnedFd) {
        self.volumes = Some(Arc::new(Volumes::new(proc)));
    }

    /// Readable when an answer is ready.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Begins to work on a question; its answer, when that is there at once.
    pub(crate) fn take(&mut self, ticket: Ticket, ask: Ask) -> Option<Answer> {
        let work: Box<dyn FnOnce() -> Result<Answer, String> + Send> = match ask {
            Ask::Ping => return Some(Answer::Done),
            Ask::ReadClock => return Some(told(clock::read())),
            Ask::SetClock { unix_ns, seed } => return Some(told(clock::set(unix_ns, &seed))),
            Ask::Sync => Box::new(|| {
                sync();
                Ok(Answer::Done)
            }),
            Ask::OnlineCpus => Box::new(cpus::online_all),
            Ask::ReadUsage => {
                let Some(volumes) = self.volumes.clone() else {
                    return Some(told(Err("the guest has not started its program".to_owned())));
                };
                Box::new(move || usage::read(volumes.proc()))
            }
            Ask::Processes { .. } | Ask::Process { .. } | Ask::Kill { .. } => {
                return Some(told(Err("this is not asked here".to_owned())));
            }
            Ask::Mount { .. } | Ask::Unmount { .. } | Ask::Freeze { .. } | Ask::Thaw { .. } => {
                let Some(volumes) = self.volumes.clone() else {
                    return Some(told(Err("the guest has not started its program".to_owned())));
                };
                Box::new(move || volumes.serve(ask))
            }
        };
        match self.spawn(ticket, work) {
            Ok(()) => None,
            Err(why) => Some(told(Err(why))),
        }
    }

    fn spawn(
        &mut self,
        ticket: Ticket,
        work: Box<dyn FnOnce() -> Result<Answer, String> + Send>,
    ) -> Result<(), String> {
        if self.working >= MAX_WORKERS {
            return Err(format!("{MAX_WORKERS} questions are being worked on"));
        }
        let (sender, ringer) = (self.sender.clone(), Arc::clone(&self.ringer));
        let worker = thread::Builder::new().name("ask".to_owned()).stack_size(STACK).spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("init panicked".to_owned()));
            // Both ends live as long as process 1; a full pipe rings already.
            let _ = sender.send((ticket, told(outcome)));
            let _ = (&*ringer).write(&[0]);
        });
        worker.map_err(|error| format!("start a thread: {error}"))?;
        self.working += 1;
        Ok(())
    }

    /// The answers that have become ready.
    pub(crate) fn ready(&mut self) -> Vec<(Ticket, Answer)> {
        let mut rung = [0; MAX_WORKERS];
        let _ = self.bell.read(&mut rung);
        let ready: Vec<_> = self.ready.try_iter().collect();
        self.working = self.working.saturating_sub(ready.len());
        ready
    }
}

fn told(outcome: Result<Answer, String>) -> Answer {
    outcome.unwrap_or_else(|why| Answer::Failed { message: why.chars().take(MAX_TEXT).collect() })
}
