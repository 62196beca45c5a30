//! Logs as server-sent events or plain text: chunks of the log reader in, pieces of an answer out.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dataplane_api::types::{self, LogGap};
use dataplane_api::{
    ByteStream, GetInstanceLogs, GetInstanceLogsAccept, GetInstanceLogsReply, Problem, SseBatch, SseEvent, SseStream,
};
use dataplane_instances::{Instances, LogChunk, LogItem, LogLookup, LogPiece, LogReader, LogSource, View};
use futures_util::stream::unfold;
use futures_util::{Stream, StreamExt as _};
use serde::Serialize;
use tokio::sync::watch;

use super::instances::not_found;

pub(super) async fn answer(instances: &Instances, request: GetInstanceLogs) -> Result<GetInstanceLogsReply, Problem> {
    // A browser repeats the query when it comes back: what it has seen since then counts more.
    let offset = request.last_event_id.or(request.offset);
    let (mut reader, subject) = match instances.logs(&request.instance_id, source(request.source)) {
        LogLookup::Here(reader, subject) => (reader, subject),
        // A client that comes back after the end is told that there is no more; one that never was here is wrong.
        LogLookup::Departed if offset.is_some() => return Ok(GetInstanceLogsReply::NoContent),
        LogLookup::Departed | LogLookup::Unknown => return Err(not_found(&request.instance_id)),
    };
    match offset {
        Some(offset) => reader.seek(offset),
        None => reader.seek_tail(request.tail.into()).await.map_err(|error| Problem::internal(&error))?,
    }
    let mut tail = Tail { reader, subject, follow: request.follow, first: None };
    if request.last_event_id.is_some() && !request.follow {
        tail.first = tail.next().await.map_err(|error| Problem::internal(&error))?;
        if tail.first.is_none() {
            return Ok(GetInstanceLogsReply::NoContent);
        }
    }
    Ok(match request.accept {
        GetInstanceLogsAccept::EventStream => {
            GetInstanceLogsReply::OkEventStream { body: SseStream::of_batches(events(tail)) }
        }
        GetInstanceLogsAccept::Plain => GetInstanceLogsReply::OkPlain { body: ByteStream::new(plain(tail)) },
    })
}

fn source(asked: Option<types::LogSource>) -> LogSource {
    match asked {
        None | Some(types::LogSource::App) => LogSource::App,
        Some(types::LogSource::Vmm) => LogSource::Vmm,
        Some(types::LogSource::Dataplane) => LogSource::Dataplane,
    }
}

/// A reader that also knows when its subject is gone.
struct Tail {
    reader: LogReader,
    subject: watch::Receiver<Option<Arc<View>>>,
    follow: bool,
    first: Option<LogItem>,
}

impl Tail {
    async fn next(&mut self) -> io::Result<Option<LogItem>> {
        if let Some(item) = self.first.take() {
            return Ok(Some(item));
        }
        // Both are cancel-safe. What the log still holds comes before the end.
        let gone = async {
            if self.subject.wait_for(Option::is_none).await.is_err() {
                // Nobody looks after the instance any longer, which is not its end: the daemon stops.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            item = self.reader.next(self.follow) => return item,
            () = gone => {}
        }
        self.reader.next(false).await
    }
}

/// While one chunk is sent the next one is read and rendered, and no more than that: what a client does not read is not
/// made.
const AT_ONCE: usize = 2;

/// A chunk smaller than this is rendered where it is.
const SMALL: usize = 16 << 10;

fn events(tail: Tail) -> impl Stream<Item = Bytes> + Send {
    let items = unfold(tail, |mut tail| async move {
        match tail.next().await {
            Ok(item) => Some((item?, tail)),
            Err(error) => {
                tracing::warn!(error = %error, "read a log");
                None
            }
        }
    });
    items.map(wire).buffered(AT_ONCE)
}

async fn wire(item: LogItem) -> Bytes {
    match item {
        LogItem::Gap { from, to } => gap(from, to),
        LogItem::Chunk(chunk) if chunk.bytes().len() < SMALL => chunk.rendering(render),
        LogItem::Chunk(chunk) => {
            let rendered = Arc::clone(&chunk);
            let task = tokio::task::spawn_blocking(move || rendered.rendering(render));
            // It does not panic; if it did, here it would again.
            task.await.unwrap_or_else(|_| chunk.rendering(render))
        }
    }
}

/// A `LogData` that borrows.
#[derive(Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

impl<'a> From<LogPiece<'a>> for Data<'a> {
    fn from(piece: LogPiece<'a>) -> Self {
        let partial = piece.partial;
        match std::str::from_utf8(piece.bytes) {
            Ok(text) => Self { text: Some(text), base64: None, partial },
            Err(_) => Self { text: None, base64: Some(STANDARD.encode(piece.bytes)), partial },
        }
    }
}

fn render(chunk: &LogChunk) -> Bytes {
    // Lines of some 100 bytes and their frames fit; what does not makes it grow.
    let mut batch = SseBatch::with_capacity(chunk.bytes().len() * 3 / 2 + 64);
    for piece in chunk.pieces() {
        let written = batch.push_json(piece.end, |out| write_data(out, piece));
        if let Err(error) = written {
            tracing::error!(error = %error, "a line of a log could not be written as JSON");
        }
    }
    batch.into_bytes()
}

fn write_data(out: &mut Vec<u8>, piece: LogPiece<'_>) -> serde_json::Result<()> {
    if piece.partial || !is_plain(piece.bytes) {
        return serde_json::to_writer(out, &Data::from(piece));
    }
    out.extend_from_slice(br#"{"text":""#);
    out.extend_from_slice(piece.bytes);
    out.extend_from_slice(br#""}"#);
    Ok(())
}

/// Whether JSON has these bytes as they are. Without a way out of the loop, so that many are looked at at once.
fn is_plain(bytes: &[u8]) -> bool {
    let special = |byte: u8| !(0x20..0x7f).contains(&byte) | (byte == b'"') | (byte == b'\\');
    !bytes.iter().fold(false, |found, byte| found | special(*byte))
}

fn gap(from: u64, to: u64) -> Bytes {
    let mut batch = SseBatch::default();
    // Two numbers always serialise.
    let data = serde_json::to_string(&LogGap { from, to }).unwrap_or_default();
    batch.push(&SseEvent::data(data).with_id(to).with_event("gap"));
    batch.into_bytes()
}

fn plain(tail: Tail) -> impl Stream<Item = io::Result<Bytes>> + Send {
    unfold(Some(tail), |tail| async move {
        let mut tail = tail?;
        loop {
            return match tail.next().await {
                Ok(Some(LogItem::Chunk(chunk))) => Some((Ok(bare(&chunk)), Some(tail))),
                Ok(Some(LogItem::Gap { .. })) => continue,
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            };
        }
    })
}

/// The lines without the console's carriage returns.
fn bare(chunk: &LogChunk) -> Bytes {
    if !chunk.bytes().contains(&b'\r') {
        return chunk.bytes().clone();
    }
    let mut lines = Vec::with_capacity(chunk.bytes().len());
    for piece in chunk.pieces() {
        lines.extend_from_slice(piece.bytes);
        if !piece.partial {
            lines.push(b'\n');
        }
    }
    lines.into()
}

#[cfg(test)]
mod tests {
    use dataplane_api::types::LogData;

    use super::*;

    fn data(bytes: &[u8], partial: bool) -> (String, LogData) {
        let mut out = Vec::new();
        write_data(&mut out, LogPiece { end: 9, bytes, partial }).unwrap();
        let text = String::from_utf8(out).unwrap();
        let parsed = serde_json::from_str(&text).unwrap();
        (text, parsed)
    }

    #[test]
    fn every_line_fits_one_event_whatever_it_holds() {
        let (text, parsed) = data(b"a \"b\"\x1b", false);
        assert_eq!((text.as_str(), parsed.text.as_deref()), (r#"{"text":"a \"b\"\u001b"}"#, Some("a \"b\"\u{1b}")));
        assert_eq!(data(b"plain", false).0, r#"{"text":"plain"}"#);
        assert_eq!(data(b"cut", true).0, r#"{"text":"cut","partial":true}"#);
        for byte in 0..=0xff {
            let line = [b'a', byte, b'z'];
            let (text, parsed) = data(&line, false);
            let back = parsed.text.map(String::into_bytes);
            let back = back.or_else(|| parsed.base64.map(|base64| STANDARD.decode(base64).unwrap()));
            assert_eq!(back.as_deref(), Some(&line[..]), "{text}");
        }
        let (text, parsed) = data(&[0xff], true);
        assert_eq!((text.as_str(), parsed.partial), (r#"{"base64":"/w==","partial":true}"#, Some(true)));
    }

    #[test]
    fn a_gap_says_from_where_to_where_and_resumes_behind_it() {
        let wire = gap(5, 1 << 20);
        assert_eq!(wire, "id: 1048576\nevent: gap\ndata: {\"from\":5,\"to\":1048576}\n\n");
    }
}
