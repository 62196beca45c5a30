//! A question that is passed on: what was asked, and what counts as its answer. Pure.

use std::net::Ipv4Addr;

use domain::base::iana::{Class, OptRcode, Rcode};
use domain::base::name::ToLabelIter as _;
use domain::base::{Message, MessageBuilder, Name, ParsedName, Question, Serial, StaticCompressor, Ttl};
use domain::rdata::{A, Ptr, Soa};

use crate::zone::TTL;

/// The largest query that is taken: questions are at most 259 bytes, the rest is for options.
pub const LARGEST_QUERY: usize = 4096;

/// The largest answer by UDP, whatever a client says that it takes: what RFC 6891, section 6.2.5 suggests.
pub const LARGEST_UDP: usize = 4096;

/// What a client without EDNS takes by UDP (RFC 1035, section 2.3.4), and the least that counts of what it says with it.
const SMALLEST_UDP: u16 = 512;

/// What we say that we take by UDP: passes any path unfragmented (the DNS flag day of 2020 agreed on it).
const OUR_UDP: u16 = 1232;

const ID_BYTES: usize = 2;
const TYPE_AND_CLASS: usize = 4;

/// A question that was read and found sound: one question, no compression in it, every record whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    packet: Vec<u8>,
    has_edns: bool,
    version: u8,
    limit: usize,
}

impl Query {
    /// Takes a packet in whole; `None` when anything in it is not as it has to be.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        if packet.len() > LARGEST_QUERY {
            return None;
        }
        let message = Message::from_slice(packet).ok()?;
        let question = message.sole_question().ok()?;
        if !is_spelt_out(message, &question) || !is_whole(message) {
            return None;
        }
        let opt = message.opt();
        let said = opt.as_ref().map_or(SMALLEST_UDP, |opt| opt.udp_payload_size().max(SMALLEST_UDP));
        Some(Self {
            has_edns: opt.is_some(),
            version: opt.as_ref().map_or(0, |opt| opt.version()),
            limit: usize::from(said).min(LARGEST_UDP),
            packet: packet.to_vec(),
        })
    }

    /// The message.
    pub(crate) fn message(&self) -> Message<&[u8]> {
        Message::from_octets(self.packet.as_slice()).expect("it was read as one")
    }

    /// The question.
    pub(crate) fn question(&self) -> Question<ParsedName<&[u8]>> {
        self.message().sole_question().expect("it was read")
    }

    /// The version of EDNS that the client speaks.
    pub(crate) fn version(&self) -> u8 {
        self.version
    }

    /// The query as it goes upstream: as it came, under another id.
    #[must_use]
    pub fn with_id(&self, id: u16) -> Vec<u8> {
        under(&self.packet, id)
    }

    /// What goes back to the client when the upstream has said `reply` to the query of this `id`; `None` when that is no
    /// answer to it. Names may come back in other capitals; nothing else of the question may differ.
    #[must_use]
    pub fn accept(&self, id: u16, reply: &[u8]) -> Option<Vec<u8>> {
        let answer = Message::from_slice(reply).ok()?;
        let header = answer.header();
        if header.id() != id || !header.qr() || header.opcode() != self.message().header().opcode() {
            return None;
        }
        // A server that understands nothing of a query may leave the question out of its refusal.
        let same = match answer.sole_question() {
            Ok(question) => question == self.question(),
            Err(_) => header.rcode() == Rcode::FORMERR && answer.header_counts().qdcount() == 0,
        };
        same.then(|| under(reply, self.message().header().id()))
    }

    /// An answer as it fits the client by UDP: whole, or cut down to the question with the sign to ask again by TCP.
    #[must_use]
    pub fn fit(&self, answer: Vec<u8>) -> Vec<u8> {
        if answer.len() <= self.limit {
            return answer;
        }
        let rcode = Message::from_slice(&answer).map_or(Rcode::SERVFAIL, |message| message.header().rcode());
        Reply { truncated: true, ..Reply::saying(rcode) }.to(self)
    }

    /// The answer to a question that could not be passed on: a resolver asks its next server.
    #[must_use]
    pub fn failed(&self) -> Vec<u8> {
        Reply::saying(Rcode::SERVFAIL).to(self)
    }
}

/// An answer of our own.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) rcode: Rcode,
    /// An error of EDNS itself.
    pub(crate) extended: Option<OptRcode>,
    /// Whether we are who knows.
    pub(crate) authoritative: bool,
    /// Whether the true answer is too long.
    pub(crate) truncated: bool,
    /// What the question's name has.
    pub(crate) answer: Option<Answer>,
    /// The zone that has no such thing: how long that may be believed.
    pub(crate) nothing_in: Option<&'a Name<Vec<u8>>>,
}

/// What a name has.
#[derive(Debug)]
pub(crate) enum Answer {
    Address(Ipv4Addr),
    Host(Name<Vec<u8>>),
    Zone(Name<Vec<u8>>),
}

impl Reply<'_> {
    /// One that says no more than this.
    pub(crate) fn saying(rcode: Rcode) -> Self {
        Self { rcode, extended: None, authoritative: false, truncated: false, answer: None, nothing_in: None }
    }

    /// The bytes. A record that did not fit, which none of ours is long enough for, would be left out.
    pub(crate) fn to(&self, query: &Query) -> Vec<u8> {
        let message = query.message();
        let target = StaticCompressor::new(Vec::with_capacity(usize::from(SMALLEST_UDP)));
        let builder = MessageBuilder::from_target(target).expect("a Vec takes a header");
        let mut section = builder.start_error(&message, self.rcode);
        let header = section.header_mut();
        header.set_aa(self.authoritative);
        header.set_ra(true);
        header.set_tc(self.truncated);
        let ttl = Ttl::from_secs(TTL);
        let question = query.question();
        let owner = question.qname();
        let _ = match &self.answer {
            Some(Answer::Address(address)) => section.push((owner, Class::IN, ttl, A::new(*address))),
            Some(Answer::Host(host)) => section.push((owner, Class::IN, ttl, Ptr::new(host))),
            Some(Answer::Zone(zone)) => section.push((owner, Class::IN, ttl, soa(zone))),
            None => Ok(()),
        };
        let mut section = section.authority();
        if let Some(zone) = self.nothing_in {
            let _ = section.push((zone, Class::IN, ttl, soa(zone)));
        }
        let mut section = section.additional();
        if query.has_edns {
            let _ = section.opt(|opt| {
                opt.set_udp_payload_size(OUR_UDP);
                opt.set_rcode(self.extended.unwrap_or_else(|| self.rcode.into()));
                Ok(())
            });
        }
        section.finish().into_target()
    }
}

/// The start of authority: there for its last number, which says how long "there is none" may be believed (RFC 2308).
fn soa(zone: &Name<Vec<u8>>) -> Soa<&Name<Vec<u8>>> {
    let ttl = Ttl::from_secs(TTL);
    Soa::new(zone, zone, Serial(1), ttl, ttl, ttl, ttl)
}

/// The refusal of a message that could not be read: its header alone.
pub(crate) fn refuse_header(message: &Message<[u8]>, rcode: Rcode) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    let asked = message.header();
    let header = builder.header_mut();
    header.set_id(asked.id());
    header.set_qr(true);
    header.set_opcode(asked.opcode());
    header.set_rd(asked.rd());
    header.set_ra(true);
    header.set_rcode(rcode);
    builder.finish()
}

/// Whether the question's name is written there letter by letter. A pointer could only lead into the header, where the
/// name would change with the id.
fn is_spelt_out(message: &Message<[u8]>, question: &Question<ParsedName<&[u8]>>) -> bool {
    let mut section = message.question();
    let begin = section.pos();
    let length = usize::from(question.qname().compose_len()) + TYPE_AND_CLASS;
    section.next().is_some() && section.pos() == begin + length
}

/// Whether every record that the header counts is there and can be stepped over, and nothing follows.
fn is_whole(message: &Message<[u8]>) -> bool {
    let mut records = 0;
    let counts = message.header_counts();
    let promised = u32::from(counts.ancount()) + u32::from(counts.nscount()) + u32::from(counts.arcount());
    for record in message.iter() {
        if record.is_err() {
            return false;
        }
        records += 1;
    }
    records == promised
}

/// The same message under another id.
fn under(message: &[u8], id: u16) -> Vec<u8> {
    let mut message = message.to_vec();
    message[..ID_BYTES].copy_from_slice(&id.to_be_bytes());
    message
}

#[cfg(test)]
pub(crate) mod tests;
