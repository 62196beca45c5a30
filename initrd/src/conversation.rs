//! One conversation with the host: what came in, what is to go out, and the facts that the host must learn.
//!
//! Pure: no descriptor, no clock. Invariant: whatever the host sends or does not read, a conversation holds at most one
//! frame and [`MAX_OUT`] bytes.

use dataplane_agent::{Decoder, ExitStatus, GuestMessage, HostMessage, PROTOCOL_VERSION, encode};

/// More than this and the host is not reading: the conversation is over.
const MAX_OUT: usize = 256 << 10;
const CONTROL_STREAM: u16 = 0;

/// What every conversation begins with.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The program runs, or ran: init's own time in milliseconds.
    pub(crate) started: Option<u64>,
    /// How the program ended, and why when it could not be started.
    pub(crate) exited: Option<(ExitStatus, Option<String>)>,
}

/// What the host wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Stop { grace_ms: u64 },
    ExitRecorded,
}

#[derive(Debug, Default)]
pub(crate) struct Conversation {
    decoder: Decoder,
    out: Vec<u8>,
    greeted: bool,
}

impl Conversation {
    /// Takes in what arrived; answers greetings by itself.
    pub(crate) fn receive(&mut self, bytes: &[u8], facts: &Facts) -> Vec<Order> {
        self.decoder.push(bytes);
        let mut orders = Vec::new();
        while let Some((stream, payload)) = self.decoder.next_frame() {
            // Other streams, and messages of a later version, are not for this agent.
            let Ok(message) = serde_json::from_slice(&payload) else { continue };
            if stream != CONTROL_STREAM {
                continue;
            }
            match message {
                HostMessage::Hello { nonce, .. } => {
                    self.greeted = true;
                    self.say(&GuestMessage::Hello { version: PROTOCOL_VERSION, nonce });
                    self.tell_started(facts);
                    self.tell_exited(facts);
                }
                HostMessage::Stop { grace_ms } => orders.push(Order::Stop { grace_ms }),
                HostMessage::ExitRecorded => orders.push(Order::ExitRecorded),
                HostMessage::Ask { .. } => {}
            }
        }
        orders
    }

    pub(crate) fn tell_started(&mut self, facts: &Facts) {
        if let Some(init_ms) = facts.started {
            self.say(&GuestMessage::Started { init_ms });
        }
    }

    pub(crate) fn tell_exited(&mut self, facts: &Facts) {
        if let Some((status, reason)) = &facts.exited {
            self.say(&GuestMessage::Exited { status: *status, reason: reason.clone() });
        }
    }

    fn say(&mut self, message: &GuestMessage) {
        // Nobody listens before the greeting: the host would drop it.
        if !self.greeted {
            return;
        }
        let frame = serde_json::to_vec(message).ok().and_then(|json| encode(CONTROL_STREAM, &json).ok());
        self.out.extend(frame.unwrap_or_default());
    }

    /// Bytes for the host.
    pub(crate) fn outgoing(&self) -> &[u8] {
        &self.out
    }

    /// The host's end took `count` of the outgoing bytes.
    pub(crate) fn sent(&mut self, count: usize) {
        self.out.drain(..count.min(self.out.len()));
    }

    /// The host does not read what it is told.
    pub(crate) fn is_stuck(&self) -> bool {
        self.out.len() > MAX_OUT
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(message: &HostMessage) -> Vec<u8> {
        encode(0, &serde_json::to_vec(message).unwrap()).unwrap()
    }

    fn said(conversation: &mut Conversation) -> Vec<GuestMessage> {
        let mut decoder = Decoder::default();
        decoder.push(conversation.outgoing());
        conversation.sent(usize::MAX);
        std::iter::from_fn(|| decoder.next_frame())
            .map(|(_, payload)| serde_json::from_slice(&payload).unwrap())
            .collect()
    }

    const HELLO: HostMessage = HostMessage::Hello { version: 1, nonce: 42 };
    const ANSWER: GuestMessage = GuestMessage::Hello { version: PROTOCOL_VERSION, nonce: 42 };

    #[test]
    fn nothing_is_said_before_the_greeting_and_everything_after_it() {
        let facts = Facts { started: Some(12), exited: Some((ExitStatus::Code(7), None)) };
        let mut conversation = Conversation::default();
        conversation.tell_exited(&facts);
        assert!(said(&mut conversation).is_empty());
        assert!(conversation.receive(&frame(&HELLO), &facts).is_empty());
        let exited = GuestMessage::Exited { status: ExitStatus::Code(7), reason: None };
        assert_eq!(said(&mut conversation), [ANSWER, GuestMessage::Started { init_ms: 12 }, exited.clone()]);
        conversation.tell_exited(&facts);
        assert_eq!(said(&mut conversation), [exited]);
    }

    #[test]
    fn orders_come_through_garbage_and_splits() {
        let bytes = [
            b"rest of an old frame".to_vec(),
            frame(&HELLO),
            encode(3, b"{}").unwrap(),
            encode(0, br#"{"type":"freeze"}"#).unwrap(),
            frame(&HostMessage::Stop { grace_ms: 10 }),
            frame(&HostMessage::ExitRecorded),
        ]
        .concat();
        let mut conversation = Conversation::default();
        let orders: Vec<_> = bytes.chunks(5).flat_map(|chunk| conversation.receive(chunk, &Facts::default())).collect();
        assert_eq!(orders, [Order::Stop { grace_ms: 10 }, Order::ExitRecorded]);
        assert_eq!(said(&mut conversation), [ANSWER]);
    }

    #[test]
    fn a_host_that_does_not_read_is_noticed() {
        let mut conversation = Conversation::default();
        let mut hellos = 0;
        while !conversation.is_stuck() {
            conversation.receive(&frame(&HELLO), &Facts::default());
            hellos += 1;
            assert!(hellos < 100_000);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20)) {
            let mut conversation = Conversation::default();
            for chunk in chunks {
                conversation.receive(&chunk, &Facts::default());
            }
        }
    }
}
