//! A success as generated code makes it, and how it becomes an HTTP response.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;

use crate::sse::{Until, bounded, render};
use crate::{ByteStream, Limits, Problem, ProblemCode, SocketReply, SseStream};

/// An answer that is no problem.
#[derive(Debug)]
pub struct Reply {
    status: u16,
    content_type: Option<&'static str>,
    headers: Vec<(&'static str, String)>,
    body: Content,
}

#[derive(Debug)]
enum Content {
    Bytes(Bytes),
    Stream(ByteStream),
    Events(SseStream),
    Socket(SocketReply),
    /// It could not be made, which is a bug.
    Broken(String),
}

/// What generated reply enums become.
pub(crate) trait IntoReply {
    fn into_reply(self) -> Reply;
}

impl Reply {
    fn new(status: u16, content_type: Option<&'static str>, body: Content) -> Self {
        Self { status, content_type, headers: Vec::new(), body }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self::new(status, None, Content::Bytes(Bytes::new()))
    }

    pub(crate) fn json<T: Serialize>(status: u16, body: &T) -> Self {
        let body = match serde_json::to_vec(body) {
            Ok(bytes) => Content::Bytes(bytes.into()),
            Err(error) => Content::Broken(error.to_string()),
        };
        Self::new(status, Some("application/json"), body)
    }

    pub(crate) fn bytes(status: u16, content_type: &'static str, body: Bytes) -> Self {
        Self::new(status, Some(content_type), Content::Bytes(body))
    }

    pub(crate) fn stream(status: u16, content_type: &'static str, body: ByteStream) -> Self {
        Self::new(status, Some(content_type), Content::Stream(body))
    }

    pub(crate) fn events(status: u16, body: SseStream) -> Self {
        Self::new(status, Some("text/event-stream"), Content::Events(body))
    }

    pub(crate) fn socket(body: SocketReply) -> Self {
        Self::new(101, None, Content::Socket(body))
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The response; a stream in it ends when the daemon stops or the caller's token expires.
    pub(crate) fn into_response(self, until: Until, limits: &Limits) -> Result<Response<Body>, Problem> {
        let live = matches!(self.body, Content::Stream(_) | Content::Events(_));
        let body = match self.body {
            Content::Bytes(bytes) => Body::from(bytes),
            Content::Stream(chunks) => Body::from_stream(bounded(chunks, until)),
            Content::Events(events) => {
                let chunks = render(events, until, limits.heartbeat);
                Body::from_stream(futures_util::StreamExt::map(chunks, Ok::<_, std::convert::Infallible>))
            }
            // Made by the upgrade itself.
            Content::Socket(socket) => return Ok(socket.into_response(until)),
            Content::Broken(error) => return Err(broken(&error)),
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).map_err(|error| broken(&error.to_string()))?;
        let headers = response.headers_mut();
        if let Some(content_type) = self.content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if live {
            // Proxies that buffer would hold lines back for minutes.
            headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        }
        for (name, value) in self.headers {
            let value = HeaderValue::from_str(&value).map_err(|error| broken(&error.to_string()))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(response)
    }
}

fn broken(error: &str) -> Problem {
    tracing::error!(error, "an answer could not be written");
    Problem::new(ProblemCode::Internal, "the answer could not be written")
}
