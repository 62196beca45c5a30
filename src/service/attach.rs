//! A program in a guest over a WebSocket: messages of the client in, what the program says out.
//!
//! Invariant: the program's output is read no faster than the client takes it, and the client's input no faster than the
//! program does; either side's end is the other's. A client that has vanished is found by pings.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use dataplane_api::types::ExecRequest;
use dataplane_api::{Problem, SocketReader, SocketWriter};
use dataplane_instances::{Channel, GuestError, GuestEvent, GuestStream, Instances, StreamWriter, TtySize, alarm};
use dataplane_types::InstanceId;
use serde_json::{Value, json};
use tokio::time::{Instant, interval_at, timeout};

use super::guest::{ending, exec_of};
use super::{problems, signals};

const CONTROL: u8 = 3;

/// How long a client may take to say what it wants.
const FIRST: Duration = Duration::from_secs(30);
/// How often a client is asked whether it is there.
const PING: Duration = Duration::from_secs(15);

/// What the client says.
#[derive(Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Control {
    Resize { rows: u16, columns: u16 },
    Signal { signal: String },
    CloseStdin {},
}

/// Serves one WebSocket to its end.
pub(super) async fn talk(instances: Instances, id: InstanceId, mut reader: SocketReader, writer: SocketWriter) {
    let begun = timeout(FIRST, begin(&instances, &id, &mut reader)).await;
    let (stream, limit) = match begun {
        // Without a word, or gone.
        Err(_) | Ok(Ok(None)) => return,
        Ok(Err(problem)) => return writer.end(control(&refusal(&problem)), reader).await,
        Ok(Ok(Some(begun))) => begun,
    };
    let input = stream.writer();
    // Neither is cancelled before its end says so: the client's going ends the program, by the drop of its stream.
    let last = tokio::select! {
        last = relay(stream, writer, limit) => last,
        () = feed(&mut reader, input) => None,
    };
    if let Some((writer, last)) = last {
        writer.end(control(&last), reader).await;
    }
}

/// Starts what the client's first message asks for.
async fn begin(
    instances: &Instances,
    id: &InstanceId,
    reader: &mut SocketReader,
) -> Result<Option<(GuestStream, Option<Duration>)>, Problem> {
    let Some(first) = reader.next().await else { return Ok(None) };
    let Some((&CONTROL, request)) = first.split_first() else {
        return Err(Problem::invalid_field("channel", "of the first message must be 3"));
    };
    let request: ExecRequest = reader.parse_first(request)?;
    if request.stdin.is_some() || request.stdin_base64.is_some() {
        return Err(Problem::invalid_field("stdin", "comes on channel 0"));
    }
    let stream = instances.exec(id, exec_of(&request)).await.map_err(|error| problems::of_guest(&error))?;
    Ok(Some((stream, request.timeout_seconds.map(|seconds| Duration::from_secs(seconds.into())))))
}

/// Tells the client what the program says; the last message, or none when the client is gone.
async fn relay(
    mut stream: GuestStream,
    mut writer: SocketWriter,
    limit: Option<Duration>,
) -> Option<(SocketWriter, Value)> {
    let mut pings = interval_at(Instant::now() + PING, PING);
    let mut alarm = std::pin::pin!(alarm(limit));
    let mut timed_out = false;
    loop {
        // All are cancel-safe: the stream's next by its contract, timers.
        let event = tokio::select! {
            event = stream.next() => event,
            _ = pings.tick() => {
                if !writer.ping().await {
                    return None;
                }
                continue;
            }
            () = &mut alarm, if !timed_out => {
                timed_out = true;
                stream.signal(signals::KILL);
                continue;
            }
        };
        let last = match event {
            Ok(GuestEvent::Started(pid)) => {
                if !writer.send(control(&json!({ "type": "started", "pid": pid }))).await {
                    return None;
                }
                continue;
            }
            Ok(GuestEvent::Says(channel, bytes)) => {
                if !writer.send(message(channel.byte(), &bytes)).await {
                    return None;
                }
                continue;
            }
            Ok(GuestEvent::Ended(status, reason)) => {
                let (exit_code, signal) = status.map_or((None, None), ending);
                exit(exit_code, signal, reason, timed_out)
            }
            Err(GuestError::Interrupted { standby }) => {
                let state = if standby { "standby" } else { "gone" };
                let message = GuestError::Interrupted { standby }.to_string();
                json!({ "type": "lost", "state": state, "message": message })
            }
            Err(error) => refusal(&problems::of_guest(&error)),
        };
        return Some((writer, last));
    }
}

fn exit(exit_code: Option<u32>, signal: Option<u32>, reason: Option<String>, timed_out: bool) -> Value {
    let mut last = json!({ "type": "exit" });
    if let Some(code) = exit_code {
        last["exit_code"] = code.into();
    }
    if let Some(signal) = signal {
        last["signal"] = signal.into();
    }
    if let Some(reason) = reason {
        last["reason"] = reason.into();
    }
    if timed_out {
        last["timed_out"] = true.into();
    }
    last
}

/// Tells the program what the client says, until the client is gone or makes no sense.
async fn feed(reader: &mut SocketReader, input: StreamWriter) {
    while let Some(message) = reader.next().await {
        let Some((channel, rest)) = message.split_first() else { return };
        if *channel == Channel::Input.byte() {
            // A program that takes no more may still have something to say.
            let mut rest = rest;
            let _ = input.write(&mut rest).await;
            continue;
        }
        match Some(rest).filter(|_| *channel == CONTROL).and_then(|json| serde_json::from_slice(json).ok()) {
            Some(Control::Resize { rows, columns }) => {
                let _ = input.resize(TtySize { rows, columns });
            }
            Some(Control::Signal { signal }) => match signals::parse(&signal) {
                Some(number) => {
                    let _ = input.signal(number);
                }
                None => return,
            },
            Some(Control::CloseStdin {}) => input.finish(),
            None => return,
        }
    }
}

fn message(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.put_slice(bytes);
    message.freeze()
}

fn control(value: &Value) -> Bytes {
    message(CONTROL, value.to_string().as_bytes())
}

fn refusal(problem: &Problem) -> Value {
    json!({ "type": "error", "code": problem.code().to_string(), "message": problem.message() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_may_say() {
        let parse = |text: &str| serde_json::from_str::<Control>(text).ok();
        assert_eq!(parse(r#"{"type":"resize","rows":5,"columns":6}"#), Some(Control::Resize { rows: 5, columns: 6 }));
        assert_eq!(parse(r#"{"type":"close_stdin"}"#), Some(Control::CloseStdin {}));
        assert_eq!(parse(r#"{"type":"resize","rows":5}"#), None);
        assert_eq!(parse(r#"{"type":"close_stdin","now":true}"#), None);
    }
}
