use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

use super::*;
use crate::frame::MAX_PAYLOAD;
use crate::message::ExitStatus;

const TIMEOUT: Duration = Duration::from_secs(10);
const STARTED: GuestMessage = GuestMessage::Started { init_ms: 12 };

fn exited() -> GuestMessage {
    GuestMessage::Exited { status: ExitStatus::Code(7), reason: None }
}

pub(super) fn frame(message: &GuestMessage) -> Vec<u8> {
    encode(0, &serde_json::to_vec(message).unwrap()).unwrap()
}

/// A guest that reads hellos; the other end is the host's.
pub(super) struct Guest {
    pub(super) stream: DuplexStream,
    decoder: Decoder,
}

impl Guest {
    pub(super) fn pair() -> (Self, DuplexStream) {
        let (stream, host) = duplex(16 << 10);
        (Self { stream, decoder: Decoder::default() }, host)
    }

    pub(super) async fn hear(&mut self) -> HostMessage {
        let mut bytes = [0; 64];
        loop {
            if let Some((0, payload)) = self.decoder.next_frame() {
                return serde_json::from_slice(&payload).unwrap();
            }
            let count = self.stream.read(&mut bytes).await.unwrap();
            assert_ne!(count, 0, "the host closed the stream");
            self.decoder.push(&bytes[..count]);
        }
    }

    pub(super) async fn hear_hello(&mut self) -> u64 {
        let message = self.hear().await;
        let HostMessage::Hello { version: PROTOCOL_VERSION, nonce } = message else { panic!("got {message:?}") };
        nonce
    }

    pub(super) async fn say(&mut self, message: &GuestMessage) {
        self.stream.write_all(&frame(message)).await.unwrap();
    }

    /// Answers the hello with `before`, the right answer and `after`, in one go.
    async fn answer(&mut self, before: &[u8], after: &[u8]) {
        let nonce = self.hear_hello().await;
        let hello = frame(&GuestMessage::Hello { version: 9, nonce });
        self.stream.write_all(&[before, &hello, after].concat()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_conversation_left_is_dropped() {
    let (mut guest, host) = Guest::pair();
    let mut old = b"...tail of a frame\"}DPA".to_vec();
    old.extend(frame(&GuestMessage::Hello { version: 1, nonce: 1 }));
    old.extend(frame(&exited()));
    let talk = async {
        guest.answer(&old, &frame(&STARTED)).await;
        guest
    };
    let (guest, client) = tokio::join!(talk, AgentClient::handshake(host, TIMEOUT));
    let mut client = client.unwrap();
    assert_eq!(client.guest_version(), 9);
    assert_eq!(client.next().await.unwrap(), STARTED);
    drop(guest);
    assert!(matches!(client.next().await, Err(AgentError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_was_swallowed_is_said_again() {
    let (mut guest, host) = Guest::pair();
    let talk = async {
        let first = guest.hear_hello().await;
        let second = guest.hear_hello().await;
        assert_eq!(first, second);
        let hello = frame(&GuestMessage::Hello { version: 1, nonce: first });
        let twice = [hello, frame(&STARTED)].concat().repeat(2);
        guest.stream.write_all(&[twice, frame(&exited()), frame(&exited())].concat()).await.unwrap();
        guest
    };
    let (_guest, client) = tokio::join!(talk, AgentClient::handshake(host, TIMEOUT));
    let mut client = client.unwrap();
    assert_eq!(client.next().await.unwrap(), STARTED);
    assert_eq!(client.next().await.unwrap(), exited());
    assert!(tokio::time::timeout(TIMEOUT, client.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn silence_and_an_absent_guest_are_told_apart() {
    let (guest, host) = Guest::pair();
    assert!(matches!(AgentClient::handshake(host, TIMEOUT).await, Err(AgentError::Handshake(TIMEOUT))));
    drop(guest);
    let (guest, host) = Guest::pair();
    drop(guest);
    assert!(matches!(AgentClient::handshake(host, TIMEOUT).await, Err(AgentError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_floods_is_given_up() {
    let (mut guest, host) = Guest::pair();
    let flood = async {
        let nonsense = [b"DPA1\0\0\0\0\xff\xff\xff\xff".repeat(300), frame(&STARTED), b"DPA1\0\0\x01\0".repeat(90)];
        while guest.stream.write_all(&nonsense.concat()).await.is_ok() {}
    };
    let (client, ()) = tokio::join!(AgentClient::handshake(host, TIMEOUT), flood);
    assert!(matches!(client, Err(AgentError::Noise)));
}

#[tokio::test(start_paused = true)]
async fn foreign_streams_and_unknown_messages_are_skipped() {
    let (mut guest, host) = Guest::pair();
    let later = encode(0, br#"{"type":"heartbeat","at":1}"#).unwrap();
    let foreign = encode(7, &vec![b'x'; MAX_PAYLOAD]).unwrap();
    let newer = encode(0, br#"{"type":"started","init_ms":12,"kernel_ms":900}"#).unwrap();
    let talk = async {
        guest.answer(b"", &[later, foreign, newer].concat()).await;
        guest
    };
    let host = async {
        let mut client = AgentClient::handshake(host, TIMEOUT).await.unwrap();
        client.next().await.unwrap()
    };
    let (_guest, message) = tokio::join!(talk, host);
    assert_eq!(message, STARTED);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_next_loses_nothing() {
    let (mut guest, host) = Guest::pair();
    let (guest, client) = tokio::join!(
        async {
            guest.answer(b"", b"").await;
            guest
        },
        AgentClient::handshake(host, TIMEOUT)
    );
    let (mut guest, mut client) = (guest, client.unwrap());
    for byte in frame(&exited()) {
        assert!(tokio::time::timeout(Duration::from_millis(1), client.next()).await.is_err());
        guest.stream.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(client.next().await.unwrap(), exited());
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_read_blocks_a_sender_only_for_a_while() {
    let (mut guest, host) = Guest::pair();
    let (_guest, client) = tokio::join!(
        async {
            guest.answer(b"", b"").await;
            guest
        },
        AgentClient::handshake(host, TIMEOUT)
    );
    let mut client = client.unwrap();
    let refused = loop {
        if let Err(error) = client.send(&HostMessage::Stop { grace_ms: 10_000 }).await {
            break error;
        }
    };
    assert!(matches!(refused, AgentError::Send));
    assert!(matches!(client.send(&HostMessage::ExitRecorded).await, Err(AgentError::Interrupted)));
}

/// A guest and a host that have greeted each other.
async fn greeted(version: u32) -> (Guest, AgentClient<DuplexStream>) {
    let (mut guest, host) = Guest::pair();
    let talk = async {
        let nonce = guest.hear_hello().await;
        guest.say(&GuestMessage::Hello { version, nonce }).await;
        guest
    };
    let (guest, client) = tokio::join!(talk, AgentClient::handshake(host, TIMEOUT));
    (guest, client.unwrap())
}

fn answer(id: u32, answer: Answer) -> GuestMessage {
    GuestMessage::Answer { id, answer }
}

#[tokio::test(start_paused = true)]
async fn only_open_questions_have_answers_and_each_has_one() {
    let (mut guest, mut client) = greeted(PROTOCOL_VERSION).await;
    let (first, second) = (client.ask(Ask::Ping).await.unwrap(), client.ask(Ask::Sync).await.unwrap());
    assert_ne!(first, second);
    assert_eq!(guest.hear().await, HostMessage::Ask { id: first, ask: Ask::Ping });
    client.forget(first);
    for id in [first, second + 1, second, second] {
        guest.say(&answer(id, Answer::Done)).await;
    }
    assert_eq!(client.next().await.unwrap(), answer(second, Answer::Done));
    guest.say(&answer(second, Answer::Done)).await;
    assert!(tokio::time::timeout(TIMEOUT, client.next()).await.is_err());
    assert!(client.noise > 0, "answers that nobody waits for are noise");
}

#[tokio::test(start_paused = true)]
async fn questions_are_bounded_and_not_for_old_guests() {
    let (_guest, mut client) = greeted(1).await;
    assert!(matches!(client.ask(Ask::Ping).await, Err(AgentError::TooOld(1))));
    let (_guest, mut client) = greeted(2).await;
    for _ in 0..MAX_OPEN {
        client.ask(Ask::Ping).await.unwrap();
    }
    let refused = client.ask(Ask::Ping).await.unwrap_err();
    assert!(matches!(refused, AgentError::TooMany) && !refused.is_fatal());
    client.forget(1);
    let endless = Ask::Unmount { serial: "x".repeat(MAX_PAYLOAD) };
    let refused = client.ask(endless).await.unwrap_err();
    assert!(matches!(refused, AgentError::Frame(_)) && !refused.is_fatal());
    client.ask(Ask::Ping).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_guests_texts_are_short_and_on_one_line() {
    let (mut guest, mut client) = greeted(2).await;
    let long = "ä\n\u{1b}[2J".repeat(400);
    let id = client.ask(Ask::Sync).await.unwrap();
    guest.say(&answer(id, Answer::Failed { message: long.clone() })).await;
    guest.say(&GuestMessage::Exited { status: ExitStatus::Code(1), reason: Some(long) }).await;
    let GuestMessage::Answer { answer: Answer::Failed { message }, .. } = client.next().await.unwrap() else {
        panic!()
    };
    let GuestMessage::Exited { reason, .. } = client.next().await.unwrap() else { panic!() };
    for text in [message, reason.unwrap()] {
        assert_eq!(text.chars().count(), MAX_TEXT);
        assert!(!text.contains(char::is_control) && text.starts_with("ä"));
    }
}

proptest! {
    /// Any bytes before the answer, and any cut of what follows, end in the same messages.
    #[test]
    fn any_leading_bytes_and_any_split(
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
        cuts in proptest::collection::vec(1usize..40, 1..40),
    ) {
        // Bytes that look like the beginning of a frame may swallow what follows: that is what a second hello is for.
        prop_assume!(!garbage.windows(4).any(|window| window == b"DPA1"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let messages = runtime.block_on(async {
            let (mut guest, host) = Guest::pair();
            let talk = async {
                let nonce = guest.hear_hello().await;
                let hello = frame(&GuestMessage::Hello { version: 1, nonce });
                let bytes = [garbage, hello, frame(&STARTED), frame(&exited())].concat();
                let (mut rest, mut cuts) = (bytes.as_slice(), cuts.iter().cycle());
                while !rest.is_empty() {
                    let cut = cuts.next().copied().unwrap_or(1).min(rest.len());
                    guest.stream.write_all(&rest[..cut]).await.unwrap();
                    tokio::task::yield_now().await;
                    rest = &rest[cut..];
                }
                guest
            };
            let host = async {
                let mut client = AgentClient::handshake(host, TIMEOUT).await.unwrap();
                [client.next().await.unwrap(), client.next().await.unwrap()]
            };
            tokio::join!(talk, host).1
        });
        prop_assert_eq!(messages, [STARTED, exited()]);
    }
}
