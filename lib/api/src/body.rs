//! Bodies that flow: uploads as they arrive, downloads as they are made.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use tokio::time::Sleep;

use crate::{Problem, ProblemCode};

/// Why an upload ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Nothing came for too long.
    #[error("no byte of the body came for {} s", .0.as_secs())]
    Idle(Duration),
    /// The connection broke, or the chunks cannot be read.
    #[error("receive the body")]
    Broken(#[source] axum::Error),
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Idle(_) => Self::new(ProblemCode::RequestTimeout, error.to_string()),
            BodyError::Broken(_) => Self::new(ProblemCode::BadRequest, "the body ended early"),
        }
    }
}

impl From<BodyError> for io::Error {
    fn from(error: BodyError) -> Self {
        let kind = match error {
            BodyError::Idle(_) => io::ErrorKind::TimedOut,
            BodyError::Broken(_) => io::ErrorKind::UnexpectedEof,
        };
        Self::new(kind, error)
    }
}

/// An upload as it arrives. It has no size limit, its reader must have one; a silent sender is given up.
pub struct BodyStream {
    data: BodyDataStream,
    idle: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl BodyStream {
    pub(crate) fn new(body: Body, idle: Duration) -> Self {
        Self { data: body.into_data_stream(), idle, waiting: None }
    }

    /// The same as an asynchronous reader; a [`BodyError`] is inside of its errors.
    pub fn into_reader(self) -> impl tokio::io::AsyncRead + Send + Unpin {
        tokio_util::io::StreamReader::new(self.map(|chunk| chunk.map_err(io::Error::from)))
    }

    /// All of it, or 413 when it is more than `limit` bytes.
    pub(crate) async fn collect(mut self, limit: usize) -> Result<Bytes, Problem> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            if all.len() + chunk.len() > limit {
                self.discard().await;
                return Err(too_large(limit));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Reads on for a while. A connection that is closed while its client still sends is reset, and the client then
    /// never sees the answer.
    pub(crate) async fn discard(&mut self) {
        let mut left = MOST_DISCARDED;
        while let Some(Ok(chunk)) = self.next().await
            && left > chunk.len()
        {
            left -= chunk.len();
        }
    }
}

/// How much of a body that is refused is read all the same.
const MOST_DISCARDED: usize = 16 << 20;

/// The problem of a body over its limit.
pub(crate) fn too_large(limit: usize) -> Problem {
    Problem::new(ProblemCode::PayloadTooLarge, format!("the body is over {limit} bytes"))
}

impl Stream for BodyStream {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Poll::Ready(item) = this.data.poll_next_unpin(cx) {
            this.waiting = None;
            return Poll::Ready(item.map(|chunk| chunk.map_err(BodyError::Broken)));
        }
        // The clock runs only while we wait for the sender, never while the reader is slow.
        let idle = this.idle;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Idle(idle))))
    }
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyStream")
    }
}

/// A download as it is made.
pub struct ByteStream(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>);

impl ByteStream {
    /// An error ends the connection, so that the caller sees that something is missing.
    pub fn new(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self(Box::pin(chunks))
    }
}

impl Stream for ByteStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteStream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_sender_is_given_up_and_a_slow_reader_is_not() {
        let chunks = futures_util::stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"a"))])
            .chain(futures_util::stream::pending());
        let mut body = BodyStream::new(Body::from_stream(chunks), Duration::from_secs(30));
        assert_eq!(body.next().await.unwrap().unwrap(), "a");
        tokio::time::advance(Duration::from_secs(60)).await;
        let start = tokio::time::Instant::now();
        assert!(matches!(body.next().await, Some(Err(BodyError::Idle(_)))));
        assert!(start.elapsed() >= Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_body_is_collected_up_to_its_limit() {
        let body = |size: usize| BodyStream::new(Body::from(vec![b'x'; size]), Duration::from_secs(1));
        assert_eq!(body(10).collect(10).await.unwrap().len(), 10);
        assert_eq!(body(11).collect(10).await.unwrap_err().code(), ProblemCode::PayloadTooLarge);
    }
}
