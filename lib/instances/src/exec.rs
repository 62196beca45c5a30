//! Programs that run in a guest for a client: as one exchange, and as a stream that the client takes itself.

use std::future::pending;
use std::pin::pin;
use std::time::{Duration, Instant};

use dataplane_agent::host::{Stream, StreamEvent, StreamWriter};
use dataplane_agent::{Channel, Exec, ExitStatus, FailureKind, Open, StreamEnd, TtySize};
use dataplane_types::InstanceId;
use tokio::time::sleep;

use crate::{GuestError, Instances};

const SIGKILL: u8 = 9;

/// How long a program that was killed may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(10);

/// An exchange: a program, what it reads, and what of it the client wants to know.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The program.
    pub exec: Exec,
    /// Its standard input.
    pub stdin: Vec<u8>,
    /// It is killed after so long.
    pub timeout: Option<Duration>,
    /// How much of each output is kept.
    pub max_output: usize,
}

/// What a program said, as far as it was kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// What was kept.
    pub bytes: Vec<u8>,
    /// Whether there was more.
    pub truncated: bool,
}

/// How a program ran.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ran {
    /// As programs of the guest number it; none when it was not started.
    pub pid: Option<u32>,
    /// How it ended; none when it was detached.
    pub status: Option<ExitStatus>,
    /// Why it could not be started.
    pub reason: Option<String>,
    /// Whether it was killed because its time was over.
    pub timed_out: bool,
    /// Its standard output.
    pub stdout: Output,
    /// Its standard error.
    pub stderr: Output,
    /// From the request to the end.
    pub took: Duration,
}

/// What comes of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEvent {
    /// It has been started.
    Started(Option<u32>),
    /// It says something: whether on its standard error, and what.
    Says(Channel, Vec<u8>),
    /// It has ended, or could not be started for this reason.
    Ended(Option<ExitStatus>, Option<String>),
}

/// A program in a guest, or another stream. Dropping it, and what writes to it, is hanging up.
#[derive(Debug)]
pub struct GuestStream {
    instances: Instances,
    id: InstanceId,
    stream: Stream,
}

impl GuestStream {
    pub(crate) fn new(instances: Instances, id: InstanceId, stream: Stream) -> Self {
        Self { instances, id, stream }
    }

    /// The next that comes of it. Cancel-safe.
    ///
    /// # Errors
    /// [`GuestError`]; nothing more comes then.
    pub async fn next(&mut self) -> Result<GuestEvent, GuestError> {
        match self.stream.next().await.map_err(|_| self.instances.interruption(&self.id))? {
            StreamEvent::Opened(pid) => Ok(GuestEvent::Started(pid)),
            StreamEvent::Data(channel, bytes) => Ok(GuestEvent::Says(channel, bytes)),
            StreamEvent::Ended(StreamEnd::Exited { status, reason }) => Ok(GuestEvent::Ended(Some(status), reason)),
            StreamEvent::Ended(StreamEnd::Done) => Ok(GuestEvent::Ended(None, None)),
            StreamEvent::Ended(StreamEnd::Reset) => {
                Err(GuestError::of_failure(FailureKind::Other, "the guest has ended it".to_owned(), &self.id))
            }
            StreamEvent::Ended(StreamEnd::Failed { kind, message }) => {
                Err(GuestError::of_failure(kind, message, &self.id))
            }
        }
    }

    /// The way to what it reads.
    #[must_use]
    pub fn writer(&self) -> StreamWriter {
        self.stream.writer()
    }

    /// A signal for the process group.
    pub fn signal(&self, signal: u8) {
        // Who sends more than can be taken has sent enough.
        let _ = self.writer().signal(signal);
    }

    /// The terminal has another size.
    pub fn resize(&self, size: TtySize) {
        let _ = self.writer().resize(size);
    }
}

impl Instances {
    /// Starts a program in a running guest.
    ///
    /// # Errors
    /// [`GuestError`]: nothing was started.
    pub async fn exec(&self, id: &InstanceId, exec: Exec) -> Result<GuestStream, GuestError> {
        self.open_stream(id, Open::Exec(exec)).await
    }

    /// Runs a program in a guest to its end, or starts it when it is to be detached. It is killed when `hung_up`.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn run(&self, id: &InstanceId, run: Run, hung_up: impl Future<Output = ()>) -> Result<Ran, GuestError> {
        let begun = Instant::now();
        let Run { exec, stdin, timeout, max_output } = run;
        let detach = exec.detach;
        let mut stream = self.exec(id, exec).await?;
        let writer = stream.writer();
        let feed = async move {
            // What a program does not read is not its failure.
            if writer.write(&mut stdin.as_slice()).await.is_ok() {
                writer.finish();
            }
        };
        let mut run = Running { ran: Ran::default(), max_output };
        let (mut feed, mut hung_up) = (pin!(feed), pin!(hung_up));
        let mut fed = false;
        let mut alarm = pin!(alarm(timeout));
        loop {
            // All are cancel-safe or polled to their end: the stream's next by its contract, the others in place.
            let event = tokio::select! {
                biased;
                event = stream.next() => event?,
                () = &mut feed, if !fed => {
                    fed = true;
                    continue;
                }
                () = &mut alarm => {
                    if std::mem::replace(&mut run.ran.timed_out, true) {
                        return Err(GuestError::Unreachable(id.clone()));
                    }
                    stream.signal(SIGKILL);
                    alarm.set(self::alarm(Some(LAST_BREATH)));
                    continue;
                }
                () = &mut hung_up => return Err(GuestError::HungUp),
            };
            if run.take(event) || (detach && fed && run.ran.pid.is_some()) {
                return Ok(Ran { took: begun.elapsed(), ..run.ran });
            }
        }
    }
}

/// Rings once after the limit; without one never.
pub async fn alarm(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => pending().await,
    }
}

struct Running {
    ran: Ran,
    max_output: usize,
}

impl Running {
    /// Takes in what came; whether it was the last.
    fn take(&mut self, event: GuestEvent) -> bool {
        match event {
            GuestEvent::Started(pid) => self.ran.pid = pid,
            GuestEvent::Says(channel, bytes) => {
                let output = match channel {
                    Channel::Error => &mut self.ran.stderr,
                    Channel::Output | Channel::Input => &mut self.ran.stdout,
                };
                let room = self.max_output - output.bytes.len().min(self.max_output);
                output.truncated |= bytes.len() > room;
                output.bytes.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
            }
            GuestEvent::Ended(status, reason) => {
                self.ran.pid = self.ran.pid.filter(|_| reason.is_none());
                (self.ran.status, self.ran.reason) = (status, reason);
                return true;
            }
        }
        false
    }
}
