//! Bytes from a guest into the host's decoder and client.
//!
//! Input: a list of steps of the guest, each an opcode and what it needs, and of the host between them. Held against it:
//! nothing panics, no read is wasted on a frame that cannot be, facts come once, answers only to open questions and once,
//! texts are short, and every wait ends.
#![no_main]

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use dataplane_agent::host::{AgentClient, AgentError, MAX_OPEN, MAX_TEXT};
use dataplane_agent::{Answer, Ask, Decoder, ExitStatus, GuestMessage, HostMessage, MAX_PAYLOAD, encode};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

const HANDSHAKE: Duration = Duration::from_secs(2);
const WAIT: Duration = Duration::from_millis(1);

thread_local! {
    // Time passes at once whenever all wait.
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
}

fuzz_target!(|input: &[u8]| {
    frames(input);
    RUNTIME.with(|runtime| runtime.block_on(converse(input)));
});

/// The decoder alone: bounded, and the same frames whatever the pieces.
fn frames(input: &[u8]) {
    let decode = |size: usize| {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for chunk in input.chunks(size) {
            decoder.push(chunk);
            while let Some(frame) = decoder.next_frame() {
                frames.push(frame);
            }
            assert!(decoder.pending() < MAX_PAYLOAD + 12);
        }
        frames
    };
    assert_eq!(decode(7), decode(8192));
}

async fn converse(input: &[u8]) {
    let (host, script) = input.split_at(input.len().min(8));
    let guest = Guest { script, ready: Vec::new(), heard: Decoder::default(), nonce: None };
    let Ok(mut client) = AgentClient::handshake(guest, HANDSHAKE).await else { return };
    let (mut open, mut started, mut exited) = (BTreeSet::new(), false, false);
    for word in host.iter().cycle() {
        if word % 3 == 0 {
            match client.ask(Ask::Ping).await {
                Ok(id) => assert!(open.insert(id) && open.len() <= MAX_OPEN),
                Err(AgentError::TooMany) => assert_eq!(open.len(), MAX_OPEN),
                Err(error) => assert!(matches!(error, AgentError::TooOld(0 | 1)), "{error}"),
            }
        }
        if word % 5 == 0
            && let Some(id) = open.pop_first()
        {
            client.forget(id);
        }
        match tokio::time::timeout(WAIT, client.next()).await {
            Err(_) => {}
            Ok(Err(_)) => return,
            Ok(Ok(
                GuestMessage::Hello { .. }
                | GuestMessage::Opened { .. }
                | GuestMessage::Credit { .. }
                | GuestMessage::End { .. }
                | GuestMessage::ProcessEnded { .. },
            )) => panic!("what is nobody's is passed on"),
            Ok(Ok(GuestMessage::Started { .. })) => assert!(!std::mem::replace(&mut started, true)),
            Ok(Ok(GuestMessage::Exited { reason, .. })) => {
                assert!(!std::mem::replace(&mut exited, true));
                fit(&reason.unwrap_or_default());
            }
            Ok(Ok(GuestMessage::Answer { id, answer })) => {
                assert!(open.remove(&id), "an answer that nobody waits for");
                if let Answer::Failed { message } = answer {
                    fit(&message);
                }
            }
        }
    }
}

fn fit(text: &str) {
    assert!(text.chars().count() <= MAX_TEXT && !text.contains(char::is_control));
}

/// A guest that follows its script and then goes away.
struct Guest<'a> {
    script: &'a [u8],
    ready: Vec<u8>,
    heard: Decoder,
    nonce: Option<u64>,
}

impl Guest<'_> {
    /// What it says next; `None` is a pause.
    fn step(&mut self) -> Option<Vec<u8>> {
        let (&step, tail) = self.script.split_first()?;
        self.script = tail;
        let say = |message: &GuestMessage| encode(0, &serde_json::to_vec(message).unwrap()).ok();
        let id = u32::from(step / 8);
        match step % 8 {
            0 => Some(self.take().to_vec()),
            1 => encode(u16::from(step / 128), self.take()).ok(),
            2 => say(&GuestMessage::Hello { version: id % 4, nonce: self.nonce.unwrap_or(7) }),
            3 => say(&GuestMessage::Started { init_ms: u64::MAX }),
            4 => {
                let reason = Some(String::from_utf8_lossy(self.take()).into_owned());
                say(&GuestMessage::Exited { status: ExitStatus::Code(step), reason })
            }
            5 => say(&GuestMessage::Answer { id, answer: Answer::Done }),
            6 => {
                let message = String::from_utf8_lossy(self.take()).into_owned();
                say(&GuestMessage::Answer { id, answer: Answer::Failed { message } })
            }
            _ => None,
        }
    }

    fn take(&mut self) -> &[u8] {
        let Some((&count, tail)) = self.script.split_first() else { return &[] };
        let count = if count == u8::MAX { MAX_PAYLOAD } else { usize::from(count) };
        let (taken, left) = tail.split_at(count.min(tail.len()));
        self.script = left;
        taken
    }
}

impl AsyncRead for Guest<'_> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guest = self.get_mut();
        while guest.ready.is_empty() {
            if guest.script.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match guest.step() {
                Some(bytes) => guest.ready = bytes,
                None => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        let count = guest.ready.len().min(buffer.remaining());
        buffer.put_slice(&guest.ready[..count]);
        guest.ready.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guest<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guest = self.get_mut();
        guest.heard.push(bytes);
        while let Some((_, payload)) = guest.heard.next_frame() {
            if let Ok(HostMessage::Hello { nonce, .. }) = serde_json::from_slice(&payload) {
                guest.nonce = Some(nonce);
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
