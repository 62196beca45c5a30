//! One conversation that stands: what is asked, said and heard in it, its streams, and its heartbeat.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{AskError, LinkEvent, Reply, Word};
use crate::host::streams::Board;
use crate::host::{AgentClient, AgentError, Heard, MAX_OPEN};
use crate::message::{ASK_VERSION, Ask, GuestMessage};

/// The time from one ping to the next.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long a ping may go unanswered.
pub(super) const SILENCE: Duration = Duration::from_secs(20);

/// How much is heard before something is said.
const PATIENT: u32 = 64;

/// Why a conversation ended.
#[derive(Debug)]
pub(super) enum End {
    /// The link is gone.
    Unwanted,
    /// The guest stopped answering.
    Silent,
    Broken(AgentError),
}

/// A conversation and what is open in it.
pub(super) struct Talk<S> {
    client: AgentClient<S>,
    words: mpsc::Receiver<Word>,
    open: BTreeMap<u32, Reply>,
    board: Arc<Board>,
    /// What was heard since something was last said.
    heard: u32,
    /// `None` with a guest that answers no pings.
    heartbeat: Option<Heartbeat>,
}

#[derive(Debug)]
enum Heartbeat {
    /// When the next ping goes out.
    Next(Instant),
    /// A ping's number and when it went out.
    Sent(u32, Instant),
}

impl<S> Drop for Talk<S> {
    fn drop(&mut self) {
        self.board.close();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    pub(super) fn new(client: AgentClient<S>, words: mpsc::Receiver<Word>, board: Arc<Board>) -> Self {
        let answers = client.guest_version() >= ASK_VERSION;
        let heartbeat = answers.then(|| Heartbeat::Next(Instant::now() + HEARTBEAT));
        Self { client, words, open: BTreeMap::new(), board, heard: 0, heartbeat }
    }

    /// Does the next thing that there is to do.
    pub(super) async fn step(&mut self, events: &mpsc::Sender<LinkEvent>) -> Result<(), End> {
        let due = match &self.heartbeat {
            None => None,
            Some(Heartbeat::Next(at)) => Some(*at),
            Some(Heartbeat::Sent(_, at)) => Some(*at + SILENCE),
        };
        // Who always has something to say is answered all the same.
        if self.heard >= PATIENT {
            self.heard = 0;
            self.serve_streams().await?;
        }
        // All are cancel-safe: the client's hear by its contract, a channel's recv, a notification, a sleep. What the
        // guest has said is heard first: after a stall of this process an answer and its deadline are there together.
        tokio::select! {
            biased;
            heard = self.client.hear() => self.hear(heard.map_err(End::Broken)?, events).await,
            word = self.words.recv() => match word {
                Some(Word::Say(message)) => self.client.send(&message).await.map_err(End::Broken),
                Some(Word::Ask(ask, reply)) => self.ask(ask, reply).await,
                None => Err(End::Unwanted),
            },
            () = self.board.woken() => self.serve_streams().await,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.beat().await,
        }
    }

    /// Says what the streams have to say.
    async fn serve_streams(&mut self) -> Result<(), End> {
        let frames = self.board.outgoing();
        if frames.is_empty() { Ok(()) } else { self.client.send_frames(&frames).await.map_err(End::Broken) }
    }

    async fn hear(&mut self, heard: Heard, events: &mpsc::Sender<LinkEvent>) -> Result<(), End> {
        self.heard += 1;
        let made_sense = match heard {
            Heard::News(message) => return self.news(message, events).await,
            Heard::OfStream(stream, news) => self.board.hear(stream, news),
            Heard::Frame(stream, payload) => self.board.take(stream, &payload),
            Heard::ProcessEnded => {
                self.board.process_ended();
                Ok(false)
            }
        };
        if made_sense.map_err(End::Broken)? {
            self.client.made_sense();
        }
        Ok(())
    }

    async fn news(&mut self, message: GuestMessage, events: &mpsc::Sender<LinkEvent>) -> Result<(), End> {
        let GuestMessage::Answer { id, answer } = message else {
            return events.send(LinkEvent::Message(message)).await.map_err(|_| End::Unwanted);
        };
        if let Some(Heartbeat::Sent(ping, at)) = self.heartbeat
            && ping == id
        {
            self.heartbeat = Some(Heartbeat::Next(at + HEARTBEAT));
        } else if let Some(reply) = self.open.remove(&id) {
            // Whoever asked may have given up by now.
            let _ = reply.send(Ok(answer));
        }
        Ok(())
    }

    async fn ask(&mut self, ask: Ask, reply: Reply) -> Result<(), End> {
        if reply.is_closed() {
            return Ok(());
        }
        let given_up: Vec<u32> = self.open.extract_if(.., |_, reply| reply.is_closed()).map(|(id, _)| id).collect();
        given_up.into_iter().for_each(|id| self.client.forget(id));
        // One is the heartbeat's.
        if self.open.len() + 1 >= MAX_OPEN {
            let _ = reply.send(Err(AskError::Busy));
            return Ok(());
        }
        match self.client.ask(ask).await {
            Ok(id) => {
                self.open.insert(id, reply);
                Ok(())
            }
            Err(error) if error.is_fatal() => Err(End::Broken(error)),
            Err(error) => {
                let _ = reply.send(Err(AskError::Unspeakable(error)));
                Ok(())
            }
        }
    }

    async fn beat(&mut self) -> Result<(), End> {
        if let Some(Heartbeat::Sent(..)) = self.heartbeat {
            return Err(End::Silent);
        }
        let ping = self.client.ask(Ask::Ping).await.map_err(End::Broken)?;
        self.heartbeat = Some(Heartbeat::Sent(ping, Instant::now()));
        Ok(())
    }
}
