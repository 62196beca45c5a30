//! Server-sent events: how an event is written, the heartbeat, and how a stream ends.
//!
//! A service only yields events. The runtime ends the stream: `event: end` behind the last one, `event: restart` when
//! the daemon stops, and nothing more once the caller's token has expired.

use std::fmt;
use std::fmt::Write as _;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::{Stream, StreamExt as _, unfold};
use tokio::sync::watch;
use tokio::time::Instant;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SseEvent {
    id: Option<String>,
    event: Option<&'static str>,
    data: String,
}

impl SseEvent {
    /// An event with this text; it may have many lines.
    #[must_use]
    pub fn data(data: impl Into<String>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// Sets the id, which comes back as `Last-Event-ID`.
    #[must_use]
    pub fn with_id(mut self, id: u64) -> Self {
        self.id = Some(id.to_string());
        self
    }

    /// Sets the kind; without one it is a `message`.
    #[must_use]
    pub fn with_event(mut self, event: &'static str) -> Self {
        self.event = Some(event);
        self
    }

    /// The event as it goes over the wire. Each line end that the protocol knows (LF, CR, CRLF) begins a new `data:`.
    fn to_wire(&self) -> String {
        let mut wire = String::with_capacity(self.data.len() + 32);
        if let Some(id) = &self.id {
            let _ = writeln!(wire, "id: {id}");
        }
        if let Some(event) = self.event {
            let _ = writeln!(wire, "event: {event}");
        }
        for line in self.data.replace("\r\n", "\n").split(['\n', '\r']) {
            let _ = writeln!(wire, "data: {line}");
        }
        wire.push('\n');
        wire
    }
}

/// Events one behind another as they go over the wire: many at once cost a fraction of what each alone would.
#[derive(Debug, Default)]
pub struct SseBatch(Vec<u8>);

impl SseBatch {
    /// An empty one, with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Adds an event.
    pub fn push(&mut self, event: &SseEvent) {
        self.0.extend_from_slice(event.to_wire().as_bytes());
    }

    /// Adds a message whose data `write` appends: compact JSON, which never has a line end of its own. Where it fails
    /// nothing is added.
    pub fn push_json<E>(&mut self, id: u64, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let begin = self.0.len();
        self.0.extend_from_slice(b"id: ");
        // A vector takes every number.
        let _infallible = serde_json::to_writer(&mut self.0, &id);
        self.0.extend_from_slice(b"\ndata: ");
        let written = write(&mut self.0);
        match written {
            Ok(()) => self.0.extend_from_slice(b"\n\n"),
            Err(_) => self.0.truncate(begin),
        }
        written
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}

/// The events of one answer.
pub struct SseStream(Pin<Box<dyn Stream<Item = Bytes> + Send>>);

impl SseStream {
    /// Events as they come; the end of `events` is the end of the subject.
    pub fn new(events: impl Stream<Item = SseEvent> + Send + 'static) -> Self {
        Self(Box::pin(events.map(|event| event.to_wire().into())))
    }

    /// The same of events that are written already, as by [`SseBatch::into_bytes`].
    pub fn of_batches(batches: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Box::pin(batches))
    }
}

impl fmt::Debug for SseStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SseStream")
    }
}

/// What ends a stream beside its subject.
#[derive(Debug, Clone)]
pub(crate) struct Until {
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

impl Until {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let left = self.expires_at? - Utc::now();
        Instant::now().checked_add(left.to_std().unwrap_or_default())
    }
}

/// Why waiting for the next item ended.
enum Next<T> {
    Item(T),
    End,
    Stopping,
    Expired,
    Silent,
}

struct State<S> {
    items: S,
    until: Until,
    deadline: Option<Instant>,
    done: bool,
}

impl<T, S: Stream<Item = T> + Unpin> State<S> {
    fn new(items: S, until: Until) -> Self {
        Self { items, deadline: until.deadline(), until, done: false }
    }

    async fn next(&mut self, silence: Duration) -> Next<T> {
        // Each branch only waits; none holds anything that is lost when another wins.
        tokio::select! {
            biased;
            // An error means that nobody can stop us any more, which is a stop as well.
            _ = self.until.stopping.wait_for(|stopping| *stopping) => Next::Stopping,
            () = sleep_until(self.deadline) => Next::Expired,
            item = self.items.next() => item.map_or(Next::End, Next::Item),
            () = tokio::time::sleep(silence) => Next::Silent,
        }
    }
}

pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The bytes of an event stream.
pub(crate) fn render(events: SseStream, until: Until, heartbeat: Duration) -> impl Stream<Item = Bytes> + Send {
    unfold(State::new(events.0, until), move |mut state| async move {
        if state.done {
            return None;
        }
        let last = |event: &'static str| Bytes::from(SseEvent::data(event).with_event(event).to_wire());
        let (bytes, done) = match state.next(heartbeat).await {
            Next::Item(events) => (events, false),
            Next::Silent => (Bytes::from_static(b":\n\n"), false),
            Next::End => (last("end"), true),
            Next::Stopping => (last("restart"), true),
            Next::Expired => return None,
        };
        state.done = done;
        Some((bytes, state))
    })
}

/// Ends any other stream when the daemon stops or the token expires.
pub(crate) fn bounded<T: Send>(
    items: impl Stream<Item = T> + Send + Unpin,
    until: Until,
) -> impl Stream<Item = T> + Send {
    unfold(State::new(items, until), |mut state| async move {
        loop {
            match state.next(Duration::from_secs(3600)).await {
                Next::Item(item) => return Some((item, state)),
                Next::Silent => {}
                Next::End | Next::Stopping | Next::Expired => return None,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn until(expires_at: Option<DateTime<Utc>>) -> (watch::Sender<bool>, Until) {
        let (stop, stopping) = watch::channel(false);
        (stop, Until { stopping, expires_at })
    }

    async fn text(chunks: impl Stream<Item = Bytes>) -> String {
        let chunks: Vec<Bytes> = chunks.collect().await;
        String::from_utf8(chunks.concat()).unwrap()
    }

    #[tokio::test]
    async fn lines_of_any_kind_cannot_forge_fields() {
        let (_stop, until) = until(None);
        let event = SseEvent::data("a\nid: 7\r\nevent: x\rb").with_id(3).with_event("line");
        let wire = text(render(SseStream::new(stream::iter([event])), until, Duration::from_secs(15))).await;
        assert_eq!(
            wire,
            "id: 3\nevent: line\ndata: a\ndata: id: 7\ndata: event: x\ndata: b\n\nevent: end\ndata: end\n\n"
        );
    }

    #[tokio::test]
    async fn a_batch_is_the_same_as_its_events() {
        let (_stop, until) = until(None);
        let value = serde_json::json!({ "text": "a\nb\r" });
        let mut batch = SseBatch::with_capacity(64);
        batch.push_json(7, |out| serde_json::to_writer(out, &value)).unwrap();
        batch
            .push_json(8, |out| {
                out.extend_from_slice(b"half");
                Err(())
            })
            .unwrap_err();
        batch.push(&SseEvent::data("gone").with_id(9).with_event("gap"));
        let one = text(render(SseStream::of_batches(stream::iter([batch.into_bytes()])), until.clone(), Duration::MAX));
        let events =
            [SseEvent::data(value.to_string()).with_id(7), SseEvent::data("gone").with_id(9).with_event("gap")];
        let each = text(render(SseStream::new(stream::iter(events)), until, Duration::MAX));
        assert_eq!(one.await, each.await);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_and_a_stop_is_told() {
        let (stop, until) = until(None);
        let mut wire = Box::pin(render(SseStream::new(stream::pending()), until, Duration::from_secs(15)));
        let start = Instant::now();
        assert_eq!(wire.next().await.unwrap(), ":\n\n");
        assert_eq!(start.elapsed().as_secs(), 15);
        stop.send(true).unwrap();
        assert_eq!(wire.next().await.unwrap(), "event: restart\ndata: restart\n\n");
        assert!(wire.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_token() {
        let (_stop, until) = until(Some(Utc::now() + chrono::TimeDelta::seconds(5)));
        let start = Instant::now();
        let wire = render(SseStream::new(stream::pending()), until.clone(), Duration::from_secs(60));
        assert_eq!(text(wire).await, "");
        let plain = bounded(Box::pin(stream::pending::<Bytes>()), until);
        assert_eq!(text(plain).await, "");
        assert!(start.elapsed() <= Duration::from_secs(11));
    }
}
