//! QEMU's monitor: one JSON document a line, answers matched by id, one client per socket.
//!
//! Invariant: a task owns the connection and reads it all the time, so that events (which are taken from the event
//! file, not from here) never pile up in QEMU. A connection without a greeting is somebody else's: then the second
//! monitor is tried. A file that is lent to QEMU goes over that connection too, with the command that names it.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::command_line::Sockets;
use crate::process::{Watched, check_peer};
use crate::{VmmError, VmmProcess};

/// Calls that wait for the one that runs.
const WAITING_CALLS: usize = 16;
/// The longest line.
const MAX_LINE: usize = 1 << 20;
/// How much of an error message is kept, in characters.
const MAX_MESSAGE: usize = 2000;
/// How long a monitor may take to greet: it does so at once, or not at all while another client is there.
const GREETING: Duration = Duration::from_secs(2);

/// A command: its name and deadline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command {
    name: &'static str,
    deadline: Duration,
}

impl Command {
    pub(super) const fn new(name: &'static str, seconds: u64) -> Self {
        Self { name, deadline: Duration::from_secs(seconds) }
    }
}

const CAPABILITIES: Command = Command::new("qmp_capabilities", 5);
const SET_ACTION: Command = Command::new("set-action", 5);
const GETFD: Command = Command::new("getfd", 5);

#[derive(Debug)]
struct Exchange {
    command: Command,
    arguments: Value,
    file: Option<OwnedFd>,
    answer: oneshot::Sender<Result<Value, VmmError>>,
}

/// What was heard of the machine since the connection was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Signs {
    /// It asked for a reset.
    pub(super) resets: u64,
    /// The guest's agent opened its port: the firmware's work is done.
    pub(super) agents: u64,
    /// A migration came to another status.
    pub(super) migrations: u64,
}

/// A handle on the task that owns the connection. Dropping the last one closes it.
#[derive(Debug, Clone)]
pub(super) struct Monitor {
    requests: mpsc::Sender<Exchange>,
    signs: watch::Receiver<Signs>,
}

impl Monitor {
    /// Connects when the first command needs it.
    pub(super) fn new(sockets: Sockets, process: &Watched) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING_CALLS);
        let (watcher, signs) = watch::channel(Signs::default());
        let client = Client { sockets, process: process.process().clone(), watcher, session: None };
        tokio::spawn(client.serve(waiting));
        Self { requests, signs }
    }

    /// Follows what comes from inside the machine, from now on.
    pub(super) fn signs(&self) -> watch::Receiver<Signs> {
        let mut signs = self.signs.clone();
        signs.mark_unchanged();
        signs
    }

    /// Executes a command.
    ///
    /// # Errors
    /// [`VmmError::Refused`] with QEMU's description, or that there was no answer.
    pub(super) async fn execute(&self, command: Command, arguments: Value) -> Result<Value, VmmError> {
        self.exchange(command, arguments, None).await
    }

    /// Lends QEMU an open file, which the next command may call `fd:<name>`. That command takes it over; one that was
    /// lent and not taken is closed by the next of the same name.
    ///
    /// # Errors
    /// As [`Monitor::execute`].
    pub(super) async fn lend(&self, name: &'static str, file: OwnedFd) -> Result<(), VmmError> {
        self.exchange(GETFD, json!({"fdname": name}), Some(file)).await.map(drop)
    }

    async fn exchange(&self, command: Command, arguments: Value, file: Option<OwnedFd>) -> Result<Value, VmmError> {
        let (answer, waiting) = oneshot::channel();
        let ended = || unreachable(command, io::Error::other("the connection's task has ended"));
        self.requests.send(Exchange { command, arguments, file, answer }).await.map_err(|_| ended())?;
        waiting.await.map_err(|_| ended())?
    }

    /// Executes a command without arguments whose answer is a document.
    ///
    /// # Errors
    /// As [`Monitor::execute`]; [`VmmError::Nonsense`] when the document is another.
    pub(super) async fn query<T: DeserializeOwned>(&self, command: Command) -> Result<T, VmmError> {
        let answer = self.execute(command, Value::Null).await?;
        serde_json::from_value(answer)
            .map_err(|error| VmmError::Nonsense { call: command.name, message: error.to_string() })
    }

    /// What a guest's reset does from now on: nothing but end the guest (`shutdown`), or reset it (`reset`).
    ///
    /// # Errors
    /// As [`Monitor::execute`].
    pub(super) async fn on_reset(&self, action: &'static str) -> Result<(), VmmError> {
        self.execute(SET_ACTION, json!({"reboot": action})).await.map(drop)
    }
}

struct Client {
    sockets: Sockets,
    process: VmmProcess,
    watcher: watch::Sender<Signs>,
    session: Option<Session>,
}

impl Client {
    async fn serve(mut self, mut waiting: mpsc::Receiver<Exchange>) {
        loop {
            let exchange = tokio::select! {
                biased;
                exchange = waiting.recv() => exchange,
                // Cancel-safe: what was read stays in the session's buffer.
                broken = drain(self.session.as_mut()) => {
                    tracing::debug!(error = &broken as &dyn std::error::Error, "the monitor's connection broke");
                    self.session = None;
                    continue;
                }
            };
            let Some(Exchange { command, arguments, file, answer }) = exchange else { return };
            let outcome = match timeout(command.deadline, self.execute(command, arguments, file)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(VmmError::Timeout { call: command.name, seconds: command.deadline.as_secs() }),
            };
            if !matches!(outcome, Ok(_) | Err(VmmError::Refused { .. })) {
                // A late answer must not be taken for the next one.
                self.session = None;
            }
            // The caller may be gone; the command was executed all the same.
            let _gone = answer.send(outcome);
        }
    }

    async fn execute(&mut self, command: Command, arguments: Value, file: Option<OwnedFd>) -> Result<Value, VmmError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.connect().await.map_err(|error| unreachable(command, error))?,
        };
        let outcome = session.execute(command, arguments, file).await;
        self.session = Some(session);
        outcome
    }

    async fn connect(&self) -> io::Result<Session> {
        match timeout(GREETING, self.greeted(&self.sockets.qmp)).await {
            // Others have waited in vain before: there is no room for one more.
            Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => self.greeted(&self.sockets.rescue).await,
            Ok(outcome) => outcome,
            Err(_) => self.greeted(&self.sockets.rescue).await,
        }
    }

    async fn greeted(&self, path: &Path) -> io::Result<Session> {
        let stream = UnixStream::connect(path).await?;
        check_peer(&stream, &self.process)?;
        let mut session = Session { stream, buffer: Vec::new(), last_id: 0, watcher: self.watcher.clone() };
        while session.next().await?.get("QMP").is_none() {}
        session.execute(CAPABILITIES, Value::Null, None).await.map_err(io::Error::other)?;
        // A daemon that died while it booted a guest again may have left this otherwise.
        session.execute(SET_ACTION, json!({"reboot": "shutdown"}), None).await.map_err(io::Error::other)?;
        Ok(session)
    }
}

/// Reads events away; returns when the connection breaks, and never without one.
async fn drain(session: Option<&mut Session>) -> io::Error {
    let Some(session) = session else { return std::future::pending().await };
    loop {
        if let Err(error) = session.next().await {
            return error;
        }
    }
}

struct Session {
    stream: UnixStream,
    buffer: Vec<u8>,
    last_id: u64,
    watcher: watch::Sender<Signs>,
}

impl Session {
    async fn execute(&mut self, command: Command, arguments: Value, file: Option<OwnedFd>) -> Result<Value, VmmError> {
        self.last_id += 1;
        let id = json!(self.last_id);
        let mut request = json!({"execute": command.name, "id": id});
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let line = format!("{request}\n");
        self.send(line.as_bytes(), file).await.map_err(|error| unreachable(command, error))?;
        loop {
            let mut answer = self.next().await.map_err(|error| unreachable(command, error))?;
            if answer.get("id") != Some(&id) {
                continue;
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            let message = answer["error"]["desc"].as_str().unwrap_or("no reason given");
            return Err(VmmError::Refused { call: command.name, message: message.chars().take(MAX_MESSAGE).collect() });
        }
    }

    /// Sends a line; the file goes with its first byte.
    async fn send(&mut self, line: &[u8], file: Option<OwnedFd>) -> io::Result<()> {
        let Some(file) = file else { return self.stream.write_all(line).await };
        let files = [file.as_fd()];
        let sent = self.stream.async_io(Interest::WRITABLE, || {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            Ok(sendmsg(&self.stream, &[IoSlice::new(line)], &mut ancillary, SendFlags::NOSIGNAL)?)
        });
        let sent = sent.await?;
        self.stream.write_all(&line[sent..]).await
    }

    /// The next document. Cancel-safe: bytes that were read stay in the buffer.
    async fn next(&mut self) -> io::Result<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let document = serde_json::from_slice(&line).map_err(io::Error::other)?;
                self.notice(&document);
                return Ok(document);
            }
            if self.buffer.len() > MAX_LINE {
                return Err(io::Error::other("the monitor's line is too long"));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl Session {
    fn notice(&self, document: &Value) {
        let (event, data) = (&document["event"], &document["data"]);
        if event == "SHUTDOWN" && data["reason"] == "guest-reset" {
            self.watcher.send_modify(|signs| signs.resets += 1);
        } else if event == "VSERPORT_CHANGE" && data["open"] == true {
            self.watcher.send_modify(|signs| signs.agents += 1);
        } else if event == "MIGRATION" {
            self.watcher.send_modify(|signs| signs.migrations += 1);
        }
    }
}

fn unreachable(command: Command, source: io::Error) -> VmmError {
    VmmError::Unreachable { call: command.name, source }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSliceMut, Read, Seek, Write};
    use std::mem::MaybeUninit;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    #[tokio::test]
    async fn a_file_travels_with_the_command_that_names_it() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let watcher = watch::channel(Signs::default()).0;
        let mut session = Session { stream: ours, buffer: Vec::new(), last_id: 0, watcher };
        let mut file: File = tempfile::tempfile().unwrap();
        file.write_all(b"lent").unwrap();
        let answered = async {
            theirs.readable().await.unwrap();
            let (mut line, mut space) = ([0; 512], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))]);
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut line)];
            let count = recvmsg(&theirs, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
            let request: Value = serde_json::from_slice(&line[..count]).unwrap();
            assert_eq!(request, json!({"execute": "getfd", "id": 1, "arguments": {"fdname": "state"}}));
            let mut files = ancillary.drain().flat_map(|message| {
                let RecvAncillaryMessage::ScmRights(files) = message else { panic!("something else came with it") };
                files.collect::<Vec<_>>()
            });
            let mut lent = File::from(files.next().unwrap());
            assert!(files.next().is_none());
            let mut text = String::new();
            lent.rewind().unwrap();
            lent.read_to_string(&mut text).unwrap();
            assert_eq!(text, "lent");
            let answer =
                b"{\"event\": \"MIGRATION\", \"data\": {\"status\": \"setup\"}}\n{\"return\": {}, \"id\": 1}\n";
            theirs.try_write(answer).unwrap();
        };
        let lent = session.execute(GETFD, json!({"fdname": "state"}), Some(file.into()));
        let (outcome, ()) = tokio::join!(lent, answered);
        outcome.unwrap();
        assert_eq!(session.watcher.borrow().migrations, 1);
    }
}
