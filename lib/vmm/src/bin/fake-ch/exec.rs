//! Programs that a host wants run in a simulated guest. There are none to run: a few are built in. `echo TEXT…`, `cat`,
//! `sleep SECONDS`, `exit CODE`, `yes LINES`; any other is not found.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dataplane_agent::{
    Answer, Channel, Exec, ExitStatus, FailureKind, GuestMessage, MAX_DATA, MAX_PROCESSES, Open, ProcessEnd,
    ProcessInfo, StreamEnd, StreamOrder, encode,
};

use crate::agent::send;
use crate::guest::Shared;

const SIGKILL: u8 = 9;
const NOT_FOUND: u8 = 127;
const A_LONG_TIME: Duration = Duration::from_secs(3600);

/// The streams of one connection: who is told what comes on each.
#[derive(Debug, Default)]
pub(crate) struct Streams(BTreeMap<u16, Sender<Word>>);

/// The processes of a guest, and who is told of signals.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    list: Vec<ProcessInfo>,
    running: BTreeMap<u32, Sender<Word>>,
}

/// What comes to a process.
#[derive(Debug)]
enum Word {
    Data(Vec<u8>),
    Order(StreamOrder),
}

impl Streams {
    /// Begins to run a program.
    ///
    /// # Errors
    /// [`io::Error`] when the connection cannot be shared.
    pub(crate) fn open(
        &mut self,
        guest: &Arc<Shared>,
        stream: &UnixStream,
        opened: (u16, u32),
        what: Open,
    ) -> io::Result<()> {
        let exec = match what {
            Open::Exec(exec) => exec,
            Open::Files(_) => {
                let message = "a simulated guest has no files".to_owned();
                let end = StreamEnd::Failed { kind: FailureKind::Other, message };
                let _one = guest.speaking.lock().unwrap_or_else(PoisonError::into_inner);
                return send(stream, &GuestMessage::End { stream: opened.0, end });
            }
        };
        let (words, heard) = channel();
        let pid = guest.processes().begin(&exec, words.clone());
        self.0.insert(opened.0, words);
        let process = Process {
            guest: Arc::clone(guest),
            stream: stream.try_clone()?,
            number: opened.0,
            credit: opened.1 as usize,
            words: heard,
            kept: VecDeque::new(),
            pid,
            detach: exec.detach,
            silent: false,
        };
        thread::spawn(move || process.run(&exec.argv));
        Ok(())
    }

    pub(crate) fn data(&self, number: u16, payload: &[u8]) {
        if let (Some(words), Some((_, data))) = (self.0.get(&number), payload.split_first()) {
            // One that has ended hears nothing.
            let _late = words.send(Word::Data(data.to_vec()));
        }
    }

    pub(crate) fn order(&self, number: u16, order: StreamOrder) {
        if let Some(words) = self.0.get(&number) {
            let _late = words.send(Word::Order(order));
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        for words in self.0.values() {
            let _late = words.send(Word::Order(StreamOrder::Reset));
        }
    }
}

impl Processes {
    fn begin(&mut self, exec: &Exec, words: Sender<Word>) -> u32 {
        let serial = self.list.len() as u64 + 1;
        let pid = u32::try_from(serial + 1).unwrap_or(u32::MAX);
        self.list.push(ProcessInfo {
            serial,
            pid,
            argv: exec.argv.clone(),
            tty: exec.tty.is_some(),
            detached: exec.detach,
            started_ns: crate::memory::host_clock(),
            ended: None,
        });
        self.running.insert(pid, words);
        pid
    }

    fn end(&mut self, pid: u32, status: ExitStatus) {
        self.running.remove(&pid);
        if let Some(info) = self.list.iter_mut().find(|info| info.pid == pid) {
            info.ended = Some(ProcessEnd { status, at_ns: crate::memory::host_clock() });
        }
    }

    pub(crate) fn after(&self, serial: u64) -> Answer {
        let mut rest = self.list.iter().filter(|info| info.serial > serial);
        let processes = rest.by_ref().take(MAX_PROCESSES).cloned().collect();
        Answer::Processes { processes, more: rest.next().is_some() }
    }

    pub(crate) fn get(&self, pid: u32) -> Answer {
        let processes = self.list.iter().filter(|info| info.pid == pid).cloned().collect();
        Answer::Processes { processes, more: false }
    }

    pub(crate) fn kill(&self, pid: u32, signal: u8) -> Answer {
        if !self.list.iter().any(|info| info.pid == pid) {
            return Answer::Processes { processes: Vec::new(), more: false };
        }
        if let Some(words) = self.running.get(&pid) {
            let _late = words.send(Word::Order(StreamOrder::Signal { signal }));
        }
        Answer::Done
    }
}

struct Process {
    guest: Arc<Shared>,
    stream: UnixStream,
    number: u16,
    credit: usize,
    words: Receiver<Word>,
    /// Input that came while something was being said.
    kept: VecDeque<Word>,
    pid: u32,
    detach: bool,
    /// Its host is gone, and it goes on.
    silent: bool,
}

/// Why a process stops before its end.
enum Stop {
    Signal(u8),
    /// Its connection is gone.
    Broken,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

impl Process {
    fn run(mut self, argv: &[String]) {
        let number = self.number;
        let end = match self.program(argv) {
            Ok(Some(code)) => StreamEnd::Exited { status: ExitStatus::Code(code), reason: None },
            Ok(None) => {
                let reason = Some("not built in".to_owned());
                StreamEnd::Exited { status: ExitStatus::Code(NOT_FOUND), reason }
            }
            Err(Stop::Signal(signal)) => StreamEnd::Exited { status: ExitStatus::Signal(signal), reason: None },
            Err(Stop::Broken) => StreamEnd::Exited { status: ExitStatus::Signal(SIGKILL), reason: None },
        };
        if let StreamEnd::Exited { status, .. } = &end {
            self.guest.processes().end(self.pid, *status);
        }
        // A host that is gone misses both.
        if !self.silent {
            let _lost = self.say(&GuestMessage::End { stream: number, end });
        }
        let _lost = self.say(&GuestMessage::ProcessEnded { pid: self.pid });
    }

    /// The exit code, or none when it is not there.
    fn program(&mut self, argv: &[String]) -> Result<Option<u8>, Stop> {
        let (name, first) = (argv.first().map_or("", String::as_str), argv.get(1).map_or("", String::as_str));
        if !["echo", "cat", "sleep", "exit", "yes"].contains(&name) {
            return Ok(None);
        }
        self.say(&GuestMessage::Opened { stream: self.number, pid: Some(self.pid) })?;
        match name {
            "echo" => self.tell(format!("{}\n", argv.get(1..).unwrap_or_default().join(" ")).as_bytes())?,
            "cat" => self.cat()?,
            "sleep" => self.sleep(Duration::from_secs(first.parse().unwrap_or(0)))?,
            "exit" => return Ok(Some(first.parse().unwrap_or(0))),
            _ => {
                let mut left = first.parse().unwrap_or(usize::MAX);
                while left > 0 {
                    let lines = left.min(512);
                    self.tell(&b"y\n".repeat(lines))?;
                    left -= lines;
                }
            }
        }
        Ok(Some(0))
    }

    fn cat(&mut self) -> Result<(), Stop> {
        loop {
            let word = match self.kept.pop_front() {
                Some(word) => Some(word),
                None => self.hear(A_LONG_TIME)?,
            };
            match word {
                Some(Word::Data(data)) => {
                    self.tell(&data)?;
                    let bytes = u32::try_from(data.len()).unwrap_or(0);
                    self.say(&GuestMessage::Credit { stream: self.number, bytes })?;
                }
                Some(Word::Order(StreamOrder::Finish)) => return Ok(()),
                Some(Word::Order(_)) | None => {}
            }
        }
    }

    fn sleep(&mut self, time: Duration) -> Result<(), Stop> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.hear(left)?;
        }
        Ok(())
    }

    /// The next word within the time; what ends the process ends it.
    fn hear(&mut self, limit: Duration) -> Result<Option<Word>, Stop> {
        match self.words.recv_timeout(limit) {
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Stop::Broken),
            Ok(Word::Order(StreamOrder::Signal { signal })) => Err(Stop::Signal(signal)),
            Ok(Word::Order(StreamOrder::Reset)) if self.detach => {
                let end = GuestMessage::End { stream: self.number, end: StreamEnd::Reset };
                // Its connection may be what is gone.
                let _lost = self.say(&end);
                self.silent = true;
                Ok(None)
            }
            Ok(Word::Order(StreamOrder::Reset)) => Err(Stop::Signal(SIGKILL)),
            Ok(Word::Order(StreamOrder::Credit { bytes })) => {
                self.credit += bytes as usize;
                Ok(None)
            }
            Ok(word) => Ok(Some(word)),
        }
    }

    /// On the standard output, as far and as fast as the host has room.
    fn tell(&mut self, mut data: &[u8]) -> Result<(), Stop> {
        while !data.is_empty() && !self.silent {
            let count = data.len().min(self.credit).min(MAX_DATA);
            if count == 0 {
                // Bounded by what the host may send.
                let word = self.hear(A_LONG_TIME)?;
                self.kept.extend(word);
                continue;
            }
            let (now, later) = data.split_at(count);
            let payload = [&[Channel::Output.byte()], now].concat();
            let frame = encode(self.number, &payload).map_err(io::Error::other)?;
            self.write(|stream| io::Write::write_all(&mut &*stream, &frame))?;
            self.credit -= count;
            data = later;
        }
        Ok(())
    }

    fn say(&self, message: &GuestMessage) -> io::Result<()> {
        self.write(|stream| send(stream, message))
    }

    /// One frame at a time, and none of a guest that is paused.
    fn write(&self, write: impl FnOnce(&UnixStream) -> io::Result<()>) -> io::Result<()> {
        if !self.guest.is_heard() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let _one = self.guest.speaking.lock().unwrap_or_else(PoisonError::into_inner);
        write(&self.stream)
    }
}
