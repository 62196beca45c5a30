//! A client of the daemon's API over its Unix socket. Every answer it sees goes through the caller's check.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What was asked, for messages.
    pub request: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; `Null` when it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }

    /// The problem's code, or an empty text.
    #[must_use]
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// A header as text, or an empty text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// What is checked on every answer: method, path without query, answer.
pub type Check = fn(&str, &str, &Answer) -> Result<(), String>;

/// A client bound to one socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    check: Check,
}

impl Client {
    /// A client whose every answer must pass the check.
    #[must_use]
    pub fn new(socket: &Path, check: Check) -> Self {
        Self { socket: socket.to_owned(), check }
    }

    /// Sends a request as it is and returns the answer with its body still to be read.
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        self.send_body(request).await
    }

    /// The same with any body, for example one that is made while it is sent.
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub async fn send_body<B>(&self, request: Request<B>) -> anyhow::Result<Response<Incoming>>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| format!("connect {:?}", self.socket))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?)
    }

    /// Sends a request and checks the answer.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or the answer is not in the spec.
    pub async fn call(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let line = format!("{method} {}", request.uri());
        let response = self.send(request).await.with_context(|| line.clone())?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.with_context(|| line.clone())?.to_bytes();
        let answer = Answer { request: line, status: parts.status.as_u16(), headers: parts.headers, body };
        (self.check)(&method, &path, &answer)
            .map_err(|error| anyhow::anyhow!("{}: {error}\n{answer:?}", answer.request))?;
        Ok(answer)
    }

    /// A request without body.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.call(Request::get(path).header("host", "localhost").body(Full::default())?).await
    }

    /// A DELETE.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.call(Request::delete(path).header("host", "localhost").body(Full::default())?).await
    }

    /// A POST of a body of some media type.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn post(&self, path: &str, media: &str, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
        let request = Request::post(path).header("host", "localhost").header("content-type", media);
        self.call(request.body(Full::new(body.into()))?).await
    }

    /// A POST of JSON.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn post_json(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<Answer> {
        self.post(path, "application/json", body.to_string()).await
    }

    /// A POST without body, for example an action.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn act(&self, path: &str) -> anyhow::Result<Answer> {
        self.call(Request::post(path).header("host", "localhost").body(Full::default())?).await
    }

    /// A PATCH with a JSON merge patch.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn patch(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<Answer> {
        let request = Request::patch(path).header("host", "localhost");
        let request = request.header("content-type", "application/merge-patch+json");
        self.call(request.body(Full::new(body.to_string().into()))?).await
    }

    /// Opens the event stream of a path.
    ///
    /// # Errors
    /// When the answer is not 200.
    pub async fn events(&self, path: &str, last_event_id: Option<&str>) -> anyhow::Result<Events> {
        let mut request = Request::get(path).header("host", "localhost").header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = self.send(request.body(Full::default())?).await?;
        anyhow::ensure!(response.status() == 200, "{path}: {}", response.status());
        Ok(Events::of(response))
    }
}

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// `id:`
    pub id: String,
    /// `event:`; empty for a plain message.
    pub event: String,
    /// `data:`
    pub data: String,
}

/// A stream of events.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    buffer: Vec<u8>,
    /// How much of it has been taken.
    taken: usize,
}

impl Events {
    /// The events of an answer.
    #[must_use]
    pub fn of(answer: Response<Incoming>) -> Self {
        Self { body: answer.into_body(), buffer: Vec::new(), taken: 0 }
    }

    /// The next event; `None` at the end of the stream. Comments are passed over.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            let rest = &self.buffer[self.taken..];
            if let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
                let event = parse(&String::from_utf8_lossy(&rest[..end]));
                self.taken += end + 2;
                if event.is_some() {
                    return Ok(event);
                }
                continue;
            }
            self.buffer.drain(..std::mem::take(&mut self.taken));
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None => return Ok(None),
            }
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let mut event = Event::default();
    let mut data = Vec::new();
    let mut any = false;
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        any |= !field.is_empty();
        match field {
            "id" => value.clone_into(&mut event.id),
            "event" => value.clone_into(&mut event.event),
            "data" => data.push(value),
            _ => {}
        }
    }
    event.data = data.join("\n");
    any.then_some(event)
}
