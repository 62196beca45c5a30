//! The console log as server-sent events or plain text: pieces of the log reader in, pieces of an answer out.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dataplane_api::types::LogData;
use dataplane_api::{
    ByteStream, GetInstanceLogs, GetInstanceLogsAccept, GetInstanceLogsReply, Problem, SseEvent, SseStream,
};
use dataplane_instances::{Instances, LogPiece, LogReader, View};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;

use super::instances::not_found;

pub(super) async fn answer(instances: &Instances, request: GetInstanceLogs) -> Result<GetInstanceLogsReply, Problem> {
    let found = instances.logs(&request.instance_id).zip(instances.watch(&request.instance_id));
    let Some((mut reader, subject)) = found else {
        // A client that comes back after the end is told that there is no more; one that never was here is wrong.
        return match request.last_event_id {
            Some(_) => Ok(GetInstanceLogsReply::NoContent),
            None => Err(not_found(&request.instance_id)),
        };
    };
    match request.last_event_id {
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
            GetInstanceLogsReply::OkEventStream { body: SseStream::new(events(tail)) }
        }
        GetInstanceLogsAccept::Plain => GetInstanceLogsReply::OkPlain { body: ByteStream::new(plain(tail)) },
    })
}

/// A reader that also knows when its subject is gone.
struct Tail {
    reader: LogReader,
    subject: watch::Receiver<Option<Arc<View>>>,
    follow: bool,
    first: Option<LogPiece>,
}

impl Tail {
    async fn next(&mut self) -> io::Result<Option<LogPiece>> {
        if let Some(piece) = self.first.take() {
            return Ok(Some(piece));
        }
        // Both are cancel-safe. What the log still holds comes before the end.
        let gone = async { drop(self.subject.wait_for(Option::is_none).await) };
        tokio::select! {
            biased;
            piece = self.reader.next(self.follow) => return piece,
            () = gone => {}
        }
        self.reader.next(false).await
    }
}

fn events(tail: Tail) -> impl Stream<Item = SseEvent> + Send {
    unfold(tail, |mut tail| async move {
        match tail.next().await {
            Ok(Some(piece)) => Some((event(piece), tail)),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(error = %error, "read a console log");
                None
            }
        }
    })
}

fn event(piece: LogPiece) -> SseEvent {
    let partial = piece.partial.then_some(true);
    let data = match String::from_utf8(piece.bytes) {
        Ok(text) => LogData { text: Some(text), base64: None, partial },
        Err(error) => LogData { text: None, base64: Some(STANDARD.encode(error.as_bytes())), partial },
    };
    // A struct of strings and a flag always serialises.
    SseEvent::data(serde_json::to_string(&data).unwrap_or_default()).with_id(piece.end)
}

fn plain(tail: Tail) -> impl Stream<Item = io::Result<Bytes>> + Send {
    unfold(Some(tail), |tail| async move {
        let mut tail = tail?;
        match tail.next().await {
            Ok(Some(mut piece)) => {
                if !piece.partial {
                    piece.bytes.push(b'\n');
                }
                Some((Ok(piece.bytes.into()), Some(tail)))
            }
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: &[u8], partial: bool) -> SseEvent {
        event(LogPiece { end: 9, bytes: bytes.to_vec(), partial })
    }

    #[test]
    fn every_line_fits_one_event_whatever_it_holds() {
        assert_eq!(data(b"a \"b\"\x1b", false), SseEvent::data(r#"{"text":"a \"b\"\u001b"}"#).with_id(9));
        assert_eq!(data(&[0xff], true), SseEvent::data(r#"{"base64":"/w==","partial":true}"#).with_id(9));
    }
}
