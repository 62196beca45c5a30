//! The host's side of the agent channel: one conversation over a byte stream ([`AgentClient`]), and one conversation
//! after another ([`Link`]).
//!
//! Invariant: whatever the guest sends, a conversation holds at most one frame and one read in memory, passes on no more
//! than it was asked for, and gives up after [`MAX_NOISE`] bytes that mean nothing. Knows no VMM and no record.

mod link;
mod streams;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use crate::frame::{Decoder, FrameError, encode};
use crate::message::{ASK_VERSION, Answer, Ask, GuestMessage, HostMessage, PROTOCOL_VERSION};
use crate::stream::StreamEnd;

pub use link::{AskError, Asker, Link, LinkEvent};
pub use streams::{HOST_WINDOW, Lost, OpenError, Stream, StreamEvent, StreamWriter};

/// How many bytes without meaning a guest may send in one conversation: several times what a virtio-serial port can
/// hold back from an earlier client.
pub const MAX_NOISE: usize = 4 << 20;

/// How long one message to the guest may take to leave.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How many questions may be open in one conversation.
pub const MAX_OPEN: usize = 16;

/// The longest text of a guest that is passed on, in characters.
pub const MAX_TEXT: usize = 1000;

/// How long an unanswered `Hello` stands before it is said again: the guest may have taken the first one for the rest
/// of a frame that an earlier client left unfinished.
const HELLO_INTERVAL: Duration = Duration::from_millis(500);

const CONTROL_STREAM: u16 = 0;
const READ_BYTES: usize = 16 << 10;

/// Why a conversation with a guest failed. After any of these the client is to be dropped, unless
/// [`AgentError::is_fatal`] denies it.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The stream ended: the guest or its VMM is gone, or the guest does not listen yet.
    #[error("the agent channel is closed")]
    Closed,
    /// The guest did not answer `Hello` in time: it does not listen yet, or someone else has the channel.
    #[error("the guest's agent did not answer within {0:?}")]
    Handshake(Duration),
    /// The guest does not take what is sent.
    #[error("the guest's agent did not take a message within {SEND_TIMEOUT:?}")]
    Send,
    /// An earlier message was cancelled half way: what follows would not be understood.
    #[error("an earlier message to the guest's agent was cut short")]
    Interrupted,
    /// The guest sends bytes without meaning.
    #[error("the guest sent more than {MAX_NOISE} bytes without meaning")]
    Noise,
    /// A message cannot be written as JSON.
    #[error("encode a message to the guest")]
    Encode(#[source] serde_json::Error),
    /// A message is larger than a frame.
    #[error("frame a message to the guest")]
    Frame(#[source] FrameError),
    /// The guest is older than questions.
    #[error("the guest's agent speaks version {0}: it answers no questions")]
    TooOld(u32),
    /// [`MAX_OPEN`] questions have no answer yet.
    #[error("{MAX_OPEN} questions to the guest's agent are open")]
    TooMany,
    /// The guest sends more than it was given credit for, or gives more credit than makes sense.
    #[error("the guest's agent broke the rules of stream {0}")]
    Unruly(u16),
    /// The stream failed.
    #[error("talk to the guest's agent")]
    Io(#[source] io::Error),
}

impl AgentError {
    /// Whether the conversation is over; otherwise nothing was sent, and it goes on.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Encode(_) | Self::Frame(_) | Self::TooOld(_) | Self::TooMany => false,
            Self::Closed
            | Self::Handshake(_)
            | Self::Send
            | Self::Interrupted
            | Self::Noise
            | Self::Unruly(_)
            | Self::Io(_) => true,
        }
    }
}

/// What comes from a guest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Something that is no part of a stream.
    News(GuestMessage),
    /// About a stream of this number, whether or not there is one.
    OfStream(u16, StreamNews),
    /// A frame of a stream, whether or not there is one.
    Frame(u16, Vec<u8>),
    /// Some process has ended.
    ProcessEnded,
}

/// What a guest says about a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StreamNews {
    Opened(Option<u32>),
    Credit(u32),
    End(StreamEnd),
}

/// One conversation with a guest's agent, begun and answered.
#[derive(Debug)]
pub struct AgentClient<S = UnixStream> {
    stream: S,
    decoder: Decoder,
    /// Bytes received since the last message that said something new.
    noise: usize,
    guest_version: u32,
    /// What was passed on already.
    started: bool,
    exited: bool,
    /// Questions without an answer.
    open: BTreeSet<u32>,
    asked: u32,
    /// A write is under way, or was cut short.
    writing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AgentClient<S> {
    /// Begins a conversation: says `Hello` and drops everything until the guest's answer to it.
    ///
    /// # Errors
    /// [`AgentError::Handshake`] after `timeout`; [`AgentError::Closed`] at once when the guest does not listen.
    pub async fn handshake(stream: S, timeout: Duration) -> Result<Self, AgentError> {
        let nonce = RandomState::new().hash_one(std::process::id());
        let deadline = Instant::now() + timeout;
        let mut client = Self {
            stream,
            decoder: Decoder::default(),
            noise: 0,
            guest_version: 0,
            started: false,
            exited: false,
            open: BTreeSet::new(),
            asked: 0,
            writing: false,
        };
        let outcome = timeout_at(deadline, client.greet(nonce)).await;
        outcome.map_err(|_| AgentError::Handshake(timeout))??;
        Ok(client)
    }

    async fn greet(&mut self, nonce: u64) -> Result<(), AgentError> {
        loop {
            self.send(&HostMessage::Hello { version: PROTOCOL_VERSION, nonce }).await?;
            // Cancel-safe: `answer_to` keeps what it read in the decoder.
            if let Ok(answer) = timeout_at(Instant::now() + HELLO_INTERVAL, self.answer_to(nonce)).await {
                self.guest_version = answer?;
                return Ok(());
            }
        }
    }

    async fn answer_to(&mut self, nonce: u64) -> Result<u32, AgentError> {
        loop {
            match self.any_message().await? {
                GuestMessage::Hello { version, nonce: answered } if answered == nonce => {
                    self.noise = 0;
                    return Ok(version);
                }
                GuestMessage::Hello { .. }
                | GuestMessage::Started { .. }
                | GuestMessage::Exited { .. }
                | GuestMessage::Answer { .. }
                | GuestMessage::Opened { .. }
                | GuestMessage::Credit { .. }
                | GuestMessage::End { .. }
                | GuestMessage::ProcessEnded { .. } => {}
            }
        }
    }

    /// The protocol version that the guest speaks.
    #[must_use]
    pub fn guest_version(&self) -> u32 {
        self.guest_version
    }

    /// The guest's next message. Cancel-safe: nothing is lost when the future is dropped.
    ///
    /// `Started` and `Exited` come once in a conversation, and again in the next one: they are facts, not events. An
    /// `Answer` comes once, and only to an open question.
    ///
    /// # Errors
    /// [`AgentError::Closed`] when the stream has ended, [`AgentError::Noise`] when the guest sends nonsense.
    pub async fn next(&mut self) -> Result<GuestMessage, AgentError> {
        loop {
            if let Heard::News(message) = self.hear().await? {
                return Ok(message);
            }
        }
    }

    /// The same with what belongs to streams, which is noise until [`AgentClient::made_sense`] is called. Cancel-safe.
    pub(crate) async fn hear(&mut self) -> Result<Heard, AgentError> {
        loop {
            let mut message = match self.any_frame().await? {
                (CONTROL_STREAM, payload) => match serde_json::from_slice(&payload) {
                    Ok(message) => message,
                    Err(_) => continue,
                },
                (stream, payload) => return Ok(Heard::Frame(stream, payload)),
            };
            let news = match &mut message {
                GuestMessage::Hello { .. } => false,
                GuestMessage::Started { .. } => !std::mem::replace(&mut self.started, true),
                GuestMessage::Exited { reason, .. } => {
                    reason.iter_mut().for_each(shorten);
                    !std::mem::replace(&mut self.exited, true)
                }
                GuestMessage::Answer { id, answer } => {
                    if let Answer::Failed { message } = answer {
                        shorten(message);
                    }
                    self.open.remove(id)
                }
                GuestMessage::Opened { stream, pid } => {
                    return Ok(Heard::OfStream(*stream, StreamNews::Opened(*pid)));
                }
                GuestMessage::Credit { stream, bytes } => {
                    return Ok(Heard::OfStream(*stream, StreamNews::Credit(*bytes)));
                }
                GuestMessage::End { stream, end } => {
                    let mut end = end.clone();
                    match &mut end {
                        StreamEnd::Exited { reason, .. } => reason.iter_mut().for_each(shorten),
                        StreamEnd::Failed { message, .. } => shorten(message),
                        StreamEnd::Done | StreamEnd::Reset => {}
                    }
                    return Ok(Heard::OfStream(*stream, StreamNews::End(end)));
                }
                // Noise: a guest may say it as often as it likes.
                GuestMessage::ProcessEnded { .. } => return Ok(Heard::ProcessEnded),
            };
            if news {
                self.noise = 0;
                return Ok(Heard::News(message));
            }
        }
    }

    /// What was heard last was of use.
    pub(crate) fn made_sense(&mut self) {
        self.noise = 0;
    }

    /// Asks the guest something, and gives the question's number: [`AgentClient::next`] brings the answer to it. Not
    /// cancel-safe, as [`AgentClient::send`].
    ///
    /// # Errors
    /// [`AgentError::TooOld`] and [`AgentError::TooMany`] without a word to the guest.
    pub async fn ask(&mut self, ask: Ask) -> Result<u32, AgentError> {
        if self.guest_version < ASK_VERSION {
            return Err(AgentError::TooOld(self.guest_version));
        }
        if self.open.len() >= MAX_OPEN {
            return Err(AgentError::TooMany);
        }
        // A number comes again after four thousand million questions: nothing is late for so long.
        self.asked = self.asked.wrapping_add(1);
        let id = self.asked;
        self.send(&HostMessage::Ask { id, ask }).await?;
        self.open.insert(id);
        Ok(id)
    }

    /// Gives up an open question: a late answer to it is noise.
    pub fn forget(&mut self, id: u32) {
        self.open.remove(&id);
    }

    /// Says something to the guest. Not cancel-safe: a client whose `send` was dropped half way refuses to send again.
    ///
    /// # Errors
    /// [`AgentError::Send`] when the guest does not take it within [`SEND_TIMEOUT`].
    pub async fn send(&mut self, message: &HostMessage) -> Result<(), AgentError> {
        self.send_frames(&control_frame(message)?).await
    }

    /// The same with frames that are made already.
    pub(crate) async fn send_frames(&mut self, frames: &[u8]) -> Result<(), AgentError> {
        if self.writing {
            return Err(AgentError::Interrupted);
        }
        self.writing = true;
        let written = tokio::time::timeout(SEND_TIMEOUT, self.stream.write_all(frames)).await;
        written.map_err(|_| AgentError::Send)?.map_err(closed_or_io)?;
        self.writing = false;
        Ok(())
    }

    /// The next control message of any kind. What is none (a frame of a stream, a message of a later version) is
    /// skipped and counted.
    async fn any_message(&mut self) -> Result<GuestMessage, AgentError> {
        loop {
            let (stream, payload) = self.any_frame().await?;
            if stream == CONTROL_STREAM
                && let Ok(message) = serde_json::from_slice(&payload)
            {
                return Ok(message);
            }
        }
    }

    async fn any_frame(&mut self) -> Result<(u16, Vec<u8>), AgentError> {
        loop {
            if let Some(frame) = self.decoder.next_frame() {
                return Ok(frame);
            }
            if self.noise > MAX_NOISE {
                return Err(AgentError::Noise);
            }
            self.read().await?;
        }
    }
}

/// A control message in its frame.
pub(crate) fn control_frame(message: &HostMessage) -> Result<Vec<u8>, AgentError> {
    let json = serde_json::to_vec(message).map_err(AgentError::Encode)?;
    encode(CONTROL_STREAM, &json).map_err(AgentError::Frame)
}

impl<S: AsyncRead + Unpin> AgentClient<S> {
    /// Cancel-safe: a dropped read has taken nothing, and nothing is awaited between the read and the push.
    async fn read(&mut self) -> Result<(), AgentError> {
        let Self { stream, decoder, noise, .. } = self;
        poll_fn(|context| {
            // On the stack of the poll: in the future it would be held for every guest that has nothing to say.
            let mut bytes = [0; READ_BYTES];
            let mut bytes = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut bytes)).map_err(closed_or_io)?;
            if bytes.filled().is_empty() {
                return Poll::Ready(Err(AgentError::Closed));
            }
            *noise += bytes.filled().len();
            decoder.push(bytes.filled());
            Poll::Ready(Ok(()))
        })
        .await
    }
}

/// A guest's text, fit to be shown: a bounded number of characters on one line.
fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
    }
    if text.contains(char::is_control) {
        *text = text.replace(char::is_control, " ");
    }
}

fn closed_or_io(error: io::Error) -> AgentError {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) {
        AgentError::Closed
    } else {
        AgentError::Io(error)
    }
}

#[cfg(test)]
mod tests;
