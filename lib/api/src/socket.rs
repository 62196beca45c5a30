//! WebSockets: how a request becomes one, and what a service sees of it.
//!
//! A service only reads and writes messages. The runtime bounds their size, keeps the connection alive, and ends it when
//! the daemon stops or the caller's token expires.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};

use serde::de::DeserializeOwned;

use crate::rule::Rule;
use crate::sse::{Until, sleep_until};
use crate::{Problem, ProblemCode, json};

/// The largest message of a client: a little more than the largest JSON body.
const MAX_MESSAGE: usize = 2 << 20;
/// How much may wait to be written before a writer waits.
const WRITE_BUFFER: usize = 64 << 10;
/// How long a client may take to accept the last words.
const FAREWELL: Duration = Duration::from_secs(5);

/// A connection that is to become a WebSocket.
pub struct Upgrade {
    upgrade: WebSocketUpgrade,
    first: &'static Rule,
}

impl Upgrade {
    pub(crate) fn new(upgrade: WebSocketUpgrade, first: &'static Rule) -> Self {
        let sized = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
        Self { upgrade: sized.write_buffer_size(0).max_write_buffer_size(WRITE_BUFFER + MAX_MESSAGE), first }
    }

    /// The answer: `talk` has the WebSocket once it is open. Dropped when the daemon stops, or the token expires.
    pub fn with<F>(self, talk: impl FnOnce(SocketReader, SocketWriter) -> F + Send + 'static) -> SocketReply
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { upgrade, first } = self;
        let run = move |socket: WebSocket| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let (sink, stream) = socket.split();
            Box::pin(talk(SocketReader { stream, first }, SocketWriter(sink)))
        };
        SocketReply { upgrade, talk: Box::new(run) }
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgrade")
    }
}

type Talk = Box<dyn FnOnce(WebSocket) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// An answer that becomes a WebSocket.
pub struct SocketReply {
    upgrade: WebSocketUpgrade,
    talk: Talk,
}

impl SocketReply {
    pub(crate) fn into_response(self, mut until: Until) -> Response<axum::body::Body> {
        let deadline = until.deadline();
        let talk = self.talk;
        self.upgrade.on_upgrade(move |socket| async move {
            // Dropping the talk drops the socket: the connection is cut.
            tokio::select! {
                () = talk(socket) => {}
                _ = until.stopping.wait_for(|stopping| *stopping) => {}
                () = sleep_until(deadline) => {}
            }
        })
    }
}

impl fmt::Debug for SocketReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SocketReply")
    }
}

/// What the client says.
pub struct SocketReader {
    stream: SplitStream<WebSocket>,
    first: &'static Rule,
}

/// What the client is told.
pub struct SocketWriter(SplitSink<WebSocket, Message>);

impl SocketReader {
    /// The first message, checked as a body is.
    ///
    /// # Errors
    /// The problem that a body of this kind would be answered with.
    pub fn parse_first<T: DeserializeOwned>(&self, json: &[u8]) -> Result<T, Problem> {
        json::parse(json, self.first)
    }

    /// The next binary message; none when the client is gone, or says what is no binary message. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.stream.next().await? {
                Ok(Message::Binary(bytes)) => return Some(bytes),
                // Answered by the library.
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Text(_) | Message::Close(_)) | Err(_) => return None,
            }
        }
    }
}

impl SocketWriter {
    /// Sends a binary message; `false` when the client is gone.
    pub async fn send(&mut self, message: impl Into<Bytes>) -> bool {
        self.0.send(Message::Binary(message.into())).await.is_ok()
    }

    /// Asks the client whether it is there; `false` when it is gone.
    pub async fn ping(&mut self) -> bool {
        self.0.send(Message::Ping(Bytes::new())).await.is_ok()
    }

    /// Sends the last message and closes, as the client does then: one that is cut off while it still says something
    /// may never read what it was told.
    pub async fn end(mut self, message: impl Into<Bytes>, mut reader: SocketReader) {
        let close = Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: "".into() }));
        let farewell = async {
            // Whoever is gone by now misses it.
            if self.send(message).await && self.0.send(close).await.is_ok() {
                while let Some(Ok(_)) = reader.stream.next().await {}
            }
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}

impl fmt::Debug for SocketReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SocketReader")
    }
}

impl fmt::Debug for SocketWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SocketWriter")
    }
}

/// The problem of a request that is no WebSocket's.
pub(crate) fn required() -> Problem {
    let problem = Problem::new(ProblemCode::UpgradeRequired, "this path speaks WebSocket, and nothing else");
    problem.with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
}
