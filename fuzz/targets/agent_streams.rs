//! Bytes from a guest into the streams of a host.
//!
//! Input: a list of steps of the guest, each an opcode and what it needs, and of the host between them. Held against it:
//! nothing panics, nobody gets more than the window that was given, each stream begins and ends once, and every wait ends.
#![no_main]

use std::time::Duration;

use dataplane_agent::host::{HOST_WINDOW, Link, LinkEvent, Stream, StreamEvent};
use dataplane_agent::{
    Channel, Decoder, Exec, ExitStatus, FailureKind, Files, GuestMessage, HostMessage, MAX_PAYLOAD, Open, StreamEnd, TtySize,
    encode,
};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const WAIT: Duration = Duration::from_millis(1);

thread_local! {
    // Time passes at once whenever all wait.
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
}

fuzz_target!(|input: &[u8]| {
    RUNTIME.with(|runtime| runtime.block_on(converse(input)));
});

/// A stream and what came of it.
struct Seen {
    stream: Stream,
    begun: bool,
    over: bool,
}

async fn converse(input: &[u8]) {
    let (guest, host) = duplex(1 << 20);
    let host = std::sync::Mutex::new(Some(host));
    let (mut link, work) = Link::new(|| {
        let host = host.lock().unwrap().take();
        async move { host.ok_or("there is one conversation") }
    });
    let mut work = std::pin::pin!(work);
    let script = script(guest, input, &mut link);
    tokio::select! {
        () = &mut work => {}
        () = script => {}
    }
}

async fn script(mut guest: DuplexStream, mut rest: &[u8], link: &mut Link) {
    let Some(nonce) = hello(&mut guest).await else { return };
    say(&mut guest, &GuestMessage::Hello { version: 3, nonce }).await;
    assert_eq!(link.next().await, Some(LinkEvent::Connected));
    let (asker, mut streams) = (link.asker(), Vec::<Seen>::new());
    while let Some((&step, tail)) = rest.split_first() {
        rest = tail;
        let number = u16::from(step / 64) + 1;
        match step % 12 {
            0 => {
                let _broken = guest.write_all(take(&mut rest)).await;
            }
            1 => {
                let payload = take(&mut rest);
                let frame = encode(number, &payload[..payload.len().min(MAX_PAYLOAD)]).unwrap();
                let _broken = guest.write_all(&frame).await;
            }
            2 => say(&mut guest, &GuestMessage::Opened { stream: number, pid: Some(1) }).await,
            3 => say(&mut guest, &GuestMessage::Credit { stream: number, bytes: u32::from(step) << (step % 32) }).await,
            4 => {
                let status = ExitStatus::Code(step);
                let reason = Some(String::from_utf8_lossy(take(&mut rest)).into_owned());
                say(&mut guest, &GuestMessage::End { stream: number, end: StreamEnd::Exited { status, reason } }).await;
            }
            5 => {
                let message = "m".repeat(usize::from(step) * 9);
                let end = StreamEnd::Failed { kind: FailureKind::Busy, message };
                say(&mut guest, &GuestMessage::End { stream: number, end }).await;
            }
            6 | 7 => {
                let what = if step % 12 == 6 {
                    Open::Exec(Exec { argv: vec!["x".to_owned()], ..Exec::default() })
                } else {
                    let path = String::from_utf8_lossy(take(&mut rest)).into_owned();
                    Open::Files(Files::Look { path, follow: step & 64 == 0, list: step & 128 == 0 })
                };
                let opened = asker.open(what).ok();
                streams.extend(opened.map(|stream| Seen { stream, begun: false, over: false }));
            }
            8 if !streams.is_empty() => drop(streams.swap_remove(usize::from(step) % streams.len())),
            9 => {
                for seen in &streams {
                    let writer = seen.stream.writer();
                    let mut data = take(&mut rest);
                    let _full = timeout(WAIT, writer.write(&mut data)).await;
                    let _taken = writer.signal(step) && writer.resize(TtySize { rows: 1, columns: 1 });
                    if step > 128 {
                        writer.finish();
                    }
                }
            }
            10 => {
                let mut bytes = vec![0; 4096];
                let _none = timeout(WAIT, guest.read(&mut bytes)).await;
            }
            _ => {
                for seen in &mut streams {
                    look(seen).await;
                }
            }
        }
    }
    drop(guest);
    for seen in &mut streams {
        look(seen).await;
    }
}

/// What has come of a stream by now.
async fn look(seen: &mut Seen) {
    while let Ok(Ok(event)) = timeout(WAIT, seen.stream.next()).await {
        assert!(!seen.over, "something comes behind the end");
        match event {
            StreamEvent::Opened(_) => assert!(!std::mem::replace(&mut seen.begun, true)),
            StreamEvent::Data(channel, data) => {
                assert!(channel != Channel::Input && !data.is_empty() && data.len() <= HOST_WINDOW as usize);
            }
            StreamEvent::Ended(_) => seen.over = true,
        }
    }
}

async fn hello(guest: &mut DuplexStream) -> Option<u64> {
    let (mut decoder, mut bytes) = (Decoder::default(), [0; 256]);
    loop {
        if let Some((0, payload)) = decoder.next_frame()
            && let Ok(HostMessage::Hello { nonce, .. }) = serde_json::from_slice(&payload)
        {
            return Some(nonce);
        }
        let count = guest.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
        decoder.push(&bytes[..count]);
    }
}

async fn say(guest: &mut DuplexStream, message: &GuestMessage) {
    let frame = encode(0, &serde_json::to_vec(message).unwrap()).unwrap_or_default();
    // A host that has given it up hears nothing.
    let _broken = guest.write_all(&frame).await;
}

/// So many bytes as the next byte says, up to more than a frame holds.
fn take<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let Some((&count, tail)) = rest.split_first() else { return &[] };
    let count = if count == u8::MAX { MAX_PAYLOAD } else { usize::from(count) };
    let (taken, left) = tail.split_at(count.min(tail.len()));
    *rest = left;
    taken
}
