//! The API socket: HTTP/1.1 with GET and PUT only, one connection, kept for a while, one request at a time.
//!
//! Invariant: a task owns the connection, so a caller that goes away can neither cut a request in two nor mix two
//! answers up. The VMM executes strictly one call after the other: an answer that is late says nothing about its life.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::process::{Watched, check_peer};
use crate::{VmmError, VmmProcess};

/// Calls that wait for the one that runs.
const WAITING_CALLS: usize = 16;
/// How long a connection is kept for the next call.
const IDLE: Duration = Duration::from_secs(10);
/// The largest answer; `vm.info` of a large VM is some 50 KiB.
const MAX_ANSWER: usize = 4 << 20;
/// How much of an error message is kept, in characters.
const MAX_MESSAGE: usize = 2000;

/// One call of the API: its path, method and deadline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    name: &'static str,
    get: bool,
    deadline: Duration,
}

impl Call {
    pub(super) const fn get(name: &'static str, seconds: u64) -> Self {
        Self { name, get: true, deadline: Duration::from_secs(seconds) }
    }

    pub(super) const fn put(name: &'static str, seconds: u64) -> Self {
        Self { name, get: false, deadline: Duration::from_secs(seconds) }
    }

    /// The same call with more time.
    pub(super) fn and(self, more: Duration) -> Self {
        Self { deadline: self.deadline.saturating_add(more), ..self }
    }

    pub(super) fn name(self) -> &'static str {
        self.name
    }
}

/// The VMM said no.
#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    message: String,
}

impl Refusal {
    /// Whether it says this, and whether it says that there is no VM.
    pub(super) fn says(&self, words: &str) -> bool {
        self.message.contains(words)
    }

    /// Whether it is to be asked again later.
    pub(super) fn is_later(&self) -> bool {
        self.status == 429
    }

    pub(super) fn is_no_vm(&self) -> bool {
        self.says("VM is not created") || self.says("VM config is missing")
    }

    pub(super) fn into_error(self, call: Call) -> VmmError {
        let message = if self.message.is_empty() { format!("status {}", self.status) } else { self.message };
        VmmError::Refused { call: call.name, message }
    }
}

/// A handle on the task that owns the connection. Dropping the last one closes it.
#[derive(Debug, Clone)]
pub(super) struct Api {
    requests: mpsc::Sender<Exchange>,
}

#[derive(Debug)]
struct Exchange {
    call: Call,
    body: Option<Bytes>,
    answer: oneshot::Sender<Result<Answer, VmmError>>,
}

type Answer = Result<Bytes, Refusal>;

impl Api {
    /// Connects when the first call needs it.
    pub(super) fn new(socket: PathBuf, process: &Watched) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING_CALLS);
        let connection = Connection { socket, process: process.process().clone(), sender: None };
        tokio::spawn(connection.serve(waiting));
        Self { requests }
    }

    /// A call; the inner result is the VMM's own yes or no.
    ///
    /// # Errors
    /// [`VmmError`] when no answer was had.
    pub(super) async fn call(&self, call: Call, body: Option<Bytes>) -> Result<Answer, VmmError> {
        let (answer, waiting) = oneshot::channel();
        let ended = || unreachable(call, io::Error::other("the connection's task has ended"));
        self.requests.send(Exchange { call, body, answer }).await.map_err(|_| ended())?;
        waiting.await.map_err(|_| ended())?
    }

    /// A call whose answer is a document.
    ///
    /// # Errors
    /// [`VmmError::Nonsense`] when the document is none, and as [`Api::call`].
    pub(super) async fn read<T: DeserializeOwned>(&self, call: Call) -> Result<Result<T, Refusal>, VmmError> {
        let body = match self.call(call, None).await? {
            Ok(body) => body,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let nonsense = |error: serde_json::Error| VmmError::Nonsense { call: call.name, message: error.to_string() };
        serde_json::from_slice(&body).map(Ok).map_err(nonsense)
    }
}

struct Connection {
    socket: PathBuf,
    process: VmmProcess,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    async fn serve(mut self, mut waiting: mpsc::Receiver<Exchange>) {
        while let Some(Exchange { call, body, answer }) = self.next(&mut waiting).await {
            let outcome = match timeout(call.deadline, self.exchange(call, body.unwrap_or_default())).await {
                Ok(outcome) => outcome,
                Err(_) => Err(VmmError::Timeout { call: call.name, seconds: call.deadline.as_secs() }),
            };
            if outcome.is_err() {
                // A late answer must not be taken for the next one.
                self.sender = None;
            }
            // The caller may be gone; the call was made all the same.
            let _gone = answer.send(outcome);
        }
    }

    /// The next call. A connection that nobody has needed for a while is closed: of many VMs most are never asked.
    async fn next(&mut self, waiting: &mut mpsc::Receiver<Exchange>) -> Option<Exchange> {
        if self.sender.is_some() {
            // Cancel-safe: a channel receive.
            match timeout(IDLE, waiting.recv()).await {
                Ok(next) => return next,
                Err(_) => self.sender = None,
            }
        }
        waiting.recv().await
    }

    async fn exchange(&mut self, call: Call, body: Bytes) -> Result<Answer, VmmError> {
        let mut kept = self.sender.take();
        loop {
            let reused = kept.is_some();
            let mut sender = match kept.take() {
                Some(sender) => sender,
                None => self.connect().await.map_err(|error| unreachable(call, error))?,
            };
            let sent = match sender.ready().await {
                Ok(()) => sender.send_request(request(call, body.clone())?).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(response) => {
                    let answer = read_answer(call, response).await?;
                    self.sender = Some(sender);
                    return Ok(answer);
                }
                // The kept connection was closed before anything was sent on it: once more, on a new one.
                Err(error) if reused && (error.is_closed() || error.is_canceled()) => {}
                Err(error) => return Err(unreachable(call, io::Error::other(error))),
            }
        }
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let stream = UnixStream::connect(&self.socket).await?;
        check_peer(&stream, &self.process)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "the API connection broke");
            }
        });
        Ok(sender)
    }
}

fn request(call: Call, body: Bytes) -> Result<Request<Full<Bytes>>, VmmError> {
    let method = if call.get { Method::GET } else { Method::PUT };
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/api/v1/{}", call.name))
        .header("Host", "localhost")
        .header("Accept", "application/json");
    if !body.is_empty() {
        request = request.header("Content-Type", "application/json");
    }
    request.body(Full::new(body)).map_err(|error| unreachable(call, io::Error::other(error)))
}

async fn read_answer(call: Call, response: hyper::Response<hyper::body::Incoming>) -> Result<Answer, VmmError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| unreachable(call, io::Error::other(error)))?.to_bytes();
    if status.is_success() {
        return Ok(Ok(body));
    }
    if status.as_u16() == 503 {
        return Err(unreachable(call, io::Error::other("it has too many open connections")));
    }
    Ok(Err(Refusal { status: status.as_u16(), message: message_of(&body) }))
}

/// Errors are an array of strings, from the outermost to the cause; the HTTP layer's own are some text.
fn message_of(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Vec<String>>(body) {
        Ok(chain) => chain.join(": "),
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    text.chars().take(MAX_MESSAGE).collect()
}

fn unreachable(call: Call, source: io::Error) -> VmmError {
    VmmError::Unreachable { call: call.name, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_every_layer_are_readable() {
        let chain = br#"["Error from API","The VM could not boot","VM is already created"]"#;
        assert_eq!(message_of(chain), "Error from API: The VM could not boot: VM is already created");
        assert_eq!(message_of(b"{ \"error\": \"a\nb\" }"), "{ \"error\": \"a\nb\" }");
        assert_eq!(message_of(b""), "");
        assert_eq!(message_of("ä".repeat(5000).as_bytes()).chars().count(), MAX_MESSAGE);
    }
}
