//! One conversation after another with a guest's agent, for as long as somebody holds the [`Link`].
//!
//! Invariant: a conversation that breaks is made again; a question is answered, refused or given up within its patience,
//! and at once when the conversation that it was asked in is over. A guest that stops answering is noticed by
//! heartbeats, never by its silence alone: it may have nothing to say. Knows nothing of what is asked and said.

mod talk;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use self::talk::{End, Talk};
use super::streams::{Board, OpenError, Stream};
use super::{AgentClient, AgentError};
use crate::message::{ASK_VERSION, Answer, Ask, GuestMessage, HostMessage};
use crate::stream::{Open, STREAM_VERSION};

/// A guest that listens answers at once; one that is emulated and busy may take seconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause between attempts to reach a guest that does not listen yet: no VMM tells when it begins to.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A conversation that broke earlier than this does not make the next one come sooner.
const STEADY: Duration = Duration::from_secs(1);

/// The longest patience that makes sense.
const LONGEST_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Words on their way to the guest, or events on their way to the owner.
const QUEUE: usize = 16;

/// What the owner of a link hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A conversation has begun.
    Connected,
    /// The guest said something that is no answer.
    Message(GuestMessage),
    /// The guest has stopped answering, and the conversation was given up; said once, until another one begins.
    Silent,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no conversation to ask in.
    #[error("the guest's agent is not connected")]
    NotConnected,
    /// The guest answers no questions.
    #[error("the guest's agent speaks version {0} of the protocol, and answers questions from {ASK_VERSION} on")]
    TooOld(u32),
    /// As many questions as there may be have no answer yet.
    #[error("too many questions to the guest's agent are open")]
    Busy,
    /// The question cannot be put into a message.
    #[error("say a question to the guest's agent")]
    Unspeakable(#[source] AgentError),
    /// The conversation ended before the answer.
    #[error("the conversation with the guest's agent broke before its answer")]
    Broken,
    /// The answer did not come in time. Whether the guest does what was asked is not known.
    #[error("the guest's agent did not answer within {0:?}")]
    Timeout(Duration),
    /// The guest says that it could not be done, and why.
    #[error("the guest's agent: {0}")]
    Failed(String),
}

/// The owner's end. What [`Link::new`] gives beside it does the work, and is to be driven or spawned by the owner.
#[derive(Debug)]
pub struct Link {
    events: mpsc::Receiver<LinkEvent>,
    asker: Asker,
}

/// The conversation of this moment, if one stands.
type Present = Arc<watch::Sender<Option<Standing>>>;

#[derive(Debug)]
struct Standing {
    guest_version: u32,
    words: mpsc::Sender<Word>,
    board: Arc<Board>,
}

#[derive(Debug)]
enum Word {
    Say(HostMessage),
    Ask(Ask, Reply),
}

type Reply = oneshot::Sender<Result<Answer, AskError>>;

impl Link {
    /// A link whose streams come from `dial`, and the work of it, which ends when the link is dropped and something
    /// happens: who wants it to end at once drops both.
    pub fn new<D, F, S, E>(dial: D) -> (Self, impl Future<Output = ()> + Send)
    where
        D: Fn() -> F + Send,
        F: Future<Output = Result<S, E>> + Send,
        S: AsyncRead + AsyncWrite + Unpin + Send,
        E: Display + Send,
    {
        let (sender, events) = mpsc::channel(QUEUE);
        let present = Present::new(watch::Sender::new(None));
        (Self { events, asker: Asker(Arc::clone(&present)) }, converse(dial, sender, present))
    }

    /// The next thing that happens; `None` when nothing can happen any more. Cancel-safe.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        self.events.recv().await
    }

    /// Says something in the present conversation. Lost when there is none, or when it breaks: the caller repeats on
    /// [`LinkEvent::Connected`].
    pub fn say(&self, message: HostMessage) {
        let _ = self.asker.put(Word::Say(message), 0);
    }

    /// Who may ask without holding the link.
    #[must_use]
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }
}

/// A hold on a link's conversations for asking in them. Keeps none of them up.
#[derive(Debug, Clone)]
pub struct Asker(Present);

impl Asker {
    /// Waits until a conversation stands, at most so long: a guest that has just been started or restored is on its way.
    pub async fn connected(&self, patience: Duration) {
        let mut present = self.0.subscribe();
        // Either way whoever asks next learns what there is.
        let _ = timeout_at(Instant::now() + patience, present.wait_for(Option::is_some)).await;
    }

    /// Asks something in the present conversation: at once, whether or not the future is awaited. Dropping that gives
    /// up the answer.
    ///
    /// # Errors
    /// [`AskError`], at once when the conversation ends. The guest's refusal ([`Answer::Failed`]) is one too.
    pub fn ask(&self, ask: Ask, patience: Duration) -> impl Future<Output = Result<Answer, AskError>> + Send + use<> {
        let deadline = Instant::now() + patience.min(LONGEST_PATIENCE);
        let (reply, answer) = oneshot::channel();
        let put = self.put(Word::Ask(ask, reply), ASK_VERSION);
        async move {
            put?;
            match timeout_at(deadline, answer).await {
                Err(_) => Err(AskError::Timeout(patience)),
                Ok(Err(_)) => Err(AskError::Broken),
                Ok(Ok(Ok(Answer::Failed { message }))) => Err(AskError::Failed(message)),
                Ok(Ok(answer)) => answer,
            }
        }
    }

    /// Opens a stream in the present conversation. Nothing is waited for: the first that comes of it says whether the
    /// guest has begun.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, what: Open) -> Result<Stream, OpenError> {
        let present = self.0.borrow();
        let standing = present.as_ref().ok_or(OpenError::NotConnected)?;
        if standing.guest_version < STREAM_VERSION {
            return Err(OpenError::TooOld(standing.guest_version));
        }
        standing.board.open(what)
    }

    /// Changes whenever a process that was started for a host may have ended; closed when the present conversation is
    /// over, at once when there is none.
    #[must_use]
    pub fn process_ends(&self) -> watch::Receiver<()> {
        let present = self.0.borrow();
        present.as_ref().map_or_else(|| watch::channel(()).1, |standing| standing.board.process_ends())
    }

    fn put(&self, word: Word, least_version: u32) -> Result<(), AskError> {
        let present = self.0.borrow();
        let standing = present.as_ref().ok_or(AskError::NotConnected)?;
        if standing.guest_version < least_version {
            return Err(AskError::TooOld(standing.guest_version));
        }
        standing.words.try_send(word).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AskError::Busy,
            mpsc::error::TrySendError::Closed(_) => AskError::NotConnected,
        })
    }
}

async fn converse<D, F, S, E>(dial: D, events: mpsc::Sender<LinkEvent>, present: Present)
where
    D: Fn() -> F + Send,
    F: Future<Output = Result<S, E>> + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send,
    E: Display + Send,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let client = match dial().await {
            Ok(stream) => AgentClient::handshake(stream, HANDSHAKE_TIMEOUT).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match client {
            Ok(client) => {
                let begun = Instant::now();
                match stand(client, &events, &present).await {
                    End::Unwanted => return,
                    End::Silent => {
                        tracing::debug!("the guest's agent has stopped answering");
                        if events.send(LinkEvent::Silent).await.is_err() {
                            return;
                        }
                    }
                    End::Broken(error) => tracing::debug!(%error, "the conversation with the guest's agent broke"),
                }
                if begun.elapsed() >= STEADY {
                    pause = FIRST_PAUSE;
                }
            }
            Err(error) => tracing::trace!(error, "the guest's agent is not reachable yet"),
        }
        if events.is_closed() {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Clears the present conversation when it is over, however that comes about.
struct Clears<'a>(&'a Present);

impl Drop for Clears<'_> {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

/// One conversation, from its beginning to its end.
async fn stand<S: AsyncRead + AsyncWrite + Unpin>(
    client: AgentClient<S>,
    events: &mpsc::Sender<LinkEvent>,
    present: &Present,
) -> End {
    let (words, receiver) = mpsc::channel(QUEUE);
    let guest_version = client.guest_version();
    let board = Arc::new(Board::default());
    // Cleared before the talk with its open questions is dropped: who hears that one is broken finds none standing.
    let mut talk = Talk::new(client, receiver, Arc::clone(&board));
    let _clears = Clears(present);
    present.send_replace(Some(Standing { guest_version, words, board }));
    if events.send(LinkEvent::Connected).await.is_err() {
        return End::Unwanted;
    }
    loop {
        match talk.step(events).await {
            Ok(()) => {}
            Err(end) => return end,
        }
    }
}

#[cfg(test)]
mod tests;
