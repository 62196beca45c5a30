//! One conversation with the host: what came in, what is to go out, and the facts that the host must learn.
//!
//! Pure: no descriptor, no clock. Invariant: whatever the host sends or does not read, a conversation holds at most one
//! frame and little more than [`MAX_OUT`] bytes, and an answer goes to whoever asked or to nobody. Data of streams are
//! taken only while [`Conversation::takes_data`], so that a word never has much before it.

use dataplane_agent::{
    Answer, Ask, Channel, Decoder, ExitStatus, GuestMessage, HostMessage, Open, PROTOCOL_VERSION, StreamEnd,
    StreamOrder, encode,
};

/// More than this and the host is not reading: the conversation is over.
pub const MAX_OUT: usize = 256 << 10;
/// With more than this on its way no data are taken.
const ENOUGH: usize = 64 << 10;
const CONTROL_STREAM: u16 = 0;

/// What every conversation begins with.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The program runs, or ran: init's own time in milliseconds.
    pub started: Option<u64>,
    /// How the program ended, and why when it could not be started.
    pub exited: Option<(ExitStatus, Option<String>)>,
}

/// What the host wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The program is to end: killed after the grace.
    Stop {
        /// In milliseconds.
        grace_ms: u64,
    },
    /// The exit status is on the host's disk.
    ExitRecorded,
    /// A question, and where its answer goes.
    Ask(Ticket, Ask),
    /// Another host has greeted: the streams of the one before are over.
    Anew,
    /// Opens a stream.
    Open {
        /// Its number.
        stream: u16,
        /// How many bytes the host takes at first.
        window: u32,
        /// What for.
        what: Open,
    },
    /// Something about a stream.
    Stream {
        /// Its number.
        stream: u16,
        /// What.
        order: StreamOrder,
    },
    /// Data of a stream.
    Data {
        /// Its number.
        stream: u16,
        /// With the channel before them.
        payload: Vec<u8>,
    },
}

/// Whose question an answer belongs to. A host's end can change hands unseen: the nonce tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    nonce: u64,
    id: u32,
}

/// What was received in part, and what is still to be sent.
#[derive(Debug, Default)]
pub struct Conversation {
    decoder: Decoder,
    out: Vec<u8>,
    /// The nonce of the latest greeting.
    nonce: Option<u64>,
}

impl Conversation {
    /// Takes in what arrived; answers greetings by itself.
    pub fn receive(&mut self, bytes: &[u8], facts: &Facts) -> Vec<Order> {
        self.decoder.push(bytes);
        let mut orders = Vec::new();
        while let Some((stream, payload)) = self.decoder.next_frame() {
            if stream != CONTROL_STREAM {
                if self.nonce.is_some() {
                    orders.push(Order::Data { stream, payload });
                }
                continue;
            }
            // Messages of a later version are not for this agent.
            let Ok(message) = serde_json::from_slice(&payload) else { continue };
            match message {
                HostMessage::Hello { nonce, .. } => {
                    if self.nonce.replace(nonce) != Some(nonce) {
                        orders.push(Order::Anew);
                    }
                    self.say(&GuestMessage::Hello { version: PROTOCOL_VERSION, nonce });
                    self.tell_started(facts);
                    self.tell_exited(facts);
                }
                HostMessage::Stop { grace_ms } => orders.push(Order::Stop { grace_ms }),
                HostMessage::ExitRecorded => orders.push(Order::ExitRecorded),
                HostMessage::Ask { id, ask } => {
                    // Without a greeting it is the rest of an earlier conversation.
                    orders.extend(self.nonce.map(|nonce| Order::Ask(Ticket { nonce, id }, ask)));
                }
                HostMessage::Open { stream, window, what } => {
                    orders.extend(self.nonce.map(|_| Order::Open { stream, window, what }));
                }
                HostMessage::Stream { stream, order } => {
                    orders.extend(self.nonce.map(|_| Order::Stream { stream, order }));
                }
            }
        }
        orders
    }

    /// Answers a question, if whoever asked is still there.
    pub fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if self.nonce == Some(ticket.nonce) {
            self.say(&GuestMessage::Answer { id: ticket.id, answer });
        }
    }

    /// Says that the program was started, when it was.
    pub fn tell_started(&mut self, facts: &Facts) {
        if let Some(init_ms) = facts.started {
            self.say(&GuestMessage::Started { init_ms });
        }
    }

    /// Says how the program ended, when it has.
    pub fn tell_exited(&mut self, facts: &Facts) {
        if let Some((status, reason)) = &facts.exited {
            self.say(&GuestMessage::Exited { status: *status, reason: reason.clone() });
        }
    }

    /// The work of a stream has begun.
    pub fn opened(&mut self, stream: u16, pid: Option<u32>) {
        self.say(&GuestMessage::Opened { stream, pid });
    }

    /// The host may send so much more of a stream.
    pub fn credit(&mut self, stream: u16, bytes: u32) {
        self.say(&GuestMessage::Credit { stream, bytes });
    }

    /// The last word of a stream.
    pub fn end(&mut self, stream: u16, end: StreamEnd) {
        self.say(&GuestMessage::End { stream, end });
    }

    /// A process has ended.
    pub fn process_ended(&mut self, pid: u32) {
        self.say(&GuestMessage::ProcessEnded { pid });
    }

    /// Data of a stream; more than a frame holds are lost.
    pub fn data(&mut self, stream: u16, channel: Channel, data: &[u8]) {
        if self.nonce.is_some() {
            let payload = [&[channel.byte()], data].concat();
            self.out.extend(encode(stream, &payload).unwrap_or_default());
        }
    }

    /// Whether data may be added.
    #[must_use]
    pub fn takes_data(&self) -> bool {
        self.nonce.is_some() && self.out.len() < ENOUGH
    }

    fn say(&mut self, message: &GuestMessage) {
        // Nobody listens before the greeting: the host would drop it. Who does not read is told no more.
        if self.nonce.is_none() || self.is_stuck() {
            return;
        }
        let frame = serde_json::to_vec(message).ok().and_then(|json| encode(CONTROL_STREAM, &json).ok());
        self.out.extend(frame.unwrap_or_default());
    }

    /// Bytes for the host.
    #[must_use]
    pub fn outgoing(&self) -> &[u8] {
        &self.out
    }

    /// The host's end took `count` of the outgoing bytes.
    pub fn sent(&mut self, count: usize) {
        self.out.drain(..count.min(self.out.len()));
    }

    /// The host does not read what it is told.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
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
        assert_eq!(conversation.receive(&frame(&HELLO), &facts), [Order::Anew]);
        assert!(conversation.receive(&[], &facts).is_empty());
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
        let data = Order::Data { stream: 3, payload: b"{}".to_vec() };
        assert_eq!(orders, [Order::Anew, data, Order::Stop { grace_ms: 10 }, Order::ExitRecorded]);
        assert_eq!(said(&mut conversation), [ANSWER]);
    }

    #[test]
    fn an_answer_goes_to_whoever_asked() {
        let ask = |id| HostMessage::Ask { id, ask: Ask::Sync };
        let mut conversation = Conversation::default();
        let facts = Facts::default();
        assert!(conversation.receive(&frame(&ask(1)), &facts).is_empty(), "nobody has greeted");
        let orders = conversation.receive(&[frame(&HELLO), frame(&ask(2)), frame(&ask(3))].concat(), &facts);
        let [Order::Anew, Order::Ask(second, Ask::Sync), Order::Ask(third, Ask::Sync)] = orders.as_slice() else {
            panic!("{orders:?}")
        };
        conversation.answer(*third, Answer::Done);
        assert_eq!(said(&mut conversation), [ANSWER, GuestMessage::Answer { id: 3, answer: Answer::Done }]);

        // The port has a new host, and nothing else told so.
        conversation.receive(&frame(&HostMessage::Hello { version: 2, nonce: 43 }), &facts);
        conversation.sent(usize::MAX);
        conversation.answer(*second, Answer::Done);
        assert!(said(&mut conversation).is_empty());
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
        let held = conversation.outgoing().len();
        conversation.receive(&frame(&HELLO), &Facts::default());
        assert_eq!(conversation.outgoing().len(), held);
    }

    /// What a host may send, mostly understandable.
    fn words() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..100),
            (0u64..3).prop_map(|nonce| frame(&HostMessage::Hello { version: 2, nonce })),
            any::<u64>().prop_map(|grace_ms| frame(&HostMessage::Stop { grace_ms })),
            any::<u32>().prop_map(|id| frame(&HostMessage::Ask { id, ask: Ask::Ping })),
            (any::<u32>(), any::<String>(), any::<u64>()).prop_map(|(id, seed, unix_ns)| {
                frame(&HostMessage::Ask { id, ask: Ask::SetClock { unix_ns, seed } })
            }),
        ]
    }

    proptest! {
        /// Any bytes in any pieces, read or not: nothing panics, and what is held stays bounded.
        #[test]
        fn every_host_is_survived(chunks in proptest::collection::vec((words(), any::<bool>()), 0..60)) {
            let facts = Facts { started: Some(1), exited: Some((ExitStatus::Signal(9), Some("x".repeat(4000)))) };
            let mut conversation = Conversation::default();
            for (chunk, reads) in chunks {
                for order in conversation.receive(&chunk, &facts) {
                    if let Order::Ask(ticket, _) = order {
                        conversation.answer(ticket, Answer::Failed { message: "y".repeat(1000) });
                    }
                }
                prop_assert!(conversation.outgoing().len() <= MAX_OUT + 8192);
                if reads {
                    conversation.sent(usize::MAX);
                }
            }
        }
    }
}
