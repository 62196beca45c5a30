//! What we know ourselves: the names below the domain, and the addresses of the subnet. Pure.

use std::net::Ipv4Addr;
use std::sync::Arc;

use domain::base::iana::{Class, Opcode, OptRcode, Rcode, Rtype};
use domain::base::{Message, Name, ParsedName, Question};
use ipnet::Ipv4Net;

use crate::query::{Answer, Query, Reply, refuse_header};

/// How long an answer of ours may be kept, in seconds. An instance keeps its address for life, but may be made again
/// with another; and a name that is missing may be there in a moment.
pub const TTL: u32 = 5;

/// Labels of an address below `in-addr.arpa`, and of the name that they form together with that and the root.
const REVERSE: usize = 4;
const REVERSE_NAME: usize = REVERSE + 3;

/// Who has which name. Asked for every question: it must not block.
pub trait Names: Send + Sync {
    /// The address of the host that has this name, in lower case, below the domain.
    fn address_of(&self, host: &str) -> Option<Ipv4Addr>;
    /// The name below the domain of the host that has this address.
    fn host_of(&self, address: Ipv4Addr) -> Option<String>;
}

/// Why there can be no zone of a name.
#[derive(Debug, thiserror::Error)]
#[error("{domain:?} is no domain name")]
pub struct ZoneError {
    /// The name.
    pub domain: String,
}

/// What is to be done about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: it is no question, and an answer could go round for ever.
    Silence,
    /// To send this back.
    Reply(Vec<u8>),
    /// To ask the upstream.
    Forward(Query),
}

/// The domain and the subnet.
#[derive(Clone)]
pub struct Zone {
    domain: Name<Vec<u8>>,
    subnet: Ipv4Net,
    names: Arc<dyn Names>,
}

impl std::fmt::Debug for Zone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Zone({}, {})", self.domain, self.subnet)
    }
}

impl Zone {
    /// The zone of a domain and of the addresses of a subnet.
    ///
    /// # Errors
    /// [`ZoneError`] when the domain cannot be one.
    pub fn new(domain: &str, subnet: Ipv4Net, names: Arc<dyn Names>) -> Result<Self, ZoneError> {
        let wrong = || ZoneError { domain: domain.chars().take(80).collect() };
        let parsed = Name::vec_from_str(domain).map_err(|_| wrong())?;
        if parsed.is_root() { Err(wrong()) } else { Ok(Self { domain: parsed, subnet, names }) }
    }

    /// What is to be done about a packet.
    #[must_use]
    pub fn handle(&self, packet: &[u8]) -> Outcome {
        let Ok(message) = Message::from_slice(packet) else { return Outcome::Silence };
        let header = message.header();
        if header.qr() {
            return Outcome::Silence;
        }
        if header.opcode() != Opcode::QUERY {
            return Outcome::Reply(refuse_header(message, Rcode::NOTIMP));
        }
        match Query::read(packet) {
            Some(query) => self.judge(query),
            None => Outcome::Reply(refuse_header(message, Rcode::FORMERR)),
        }
    }

    fn judge(&self, query: Query) -> Outcome {
        let reply = if query.version() != 0 {
            Some(Reply { extended: Some(OptRcode::BADVERS), ..Reply::saying(Rcode::NOERROR) })
        } else {
            self.own(&query.question())
        };
        match reply {
            Some(reply) => Outcome::Reply(reply.to(&query)),
            None => Outcome::Forward(query),
        }
    }

    /// Our own answer; `None` when the question is not ours to answer.
    fn own(&self, question: &Question<ParsedName<&[u8]>>) -> Option<Reply<'_>> {
        // Transfers take more than one message, and no class but the internet's is of use to a guest.
        if question.qclass() != Class::IN || matches!(question.qtype(), Rtype::AXFR | Rtype::IXFR) {
            return Some(Reply::saying(Rcode::REFUSED));
        }
        if question.qname().ends_with(&self.domain) {
            return Some(self.of_domain(question));
        }
        let (address, is_exact) = reversed(question.qname())?;
        self.subnet.contains(&address).then(|| self.of_address(question.qtype(), address, is_exact))
    }

    fn of_domain(&self, question: &Question<ParsedName<&[u8]>>) -> Reply<'_> {
        let (name, domain) = (question.qname(), self.domain.label_count());
        let labels = name.label_count();
        if labels == domain {
            return if matches!(question.qtype(), Rtype::SOA | Rtype::ANY) {
                self.has(Answer::Zone(self.domain.clone()))
            } else {
                self.has_no_such()
            };
        }
        let host = std::str::from_utf8(name.first().as_slice()).ok().filter(|_| labels == domain + 1);
        match host.and_then(|host| self.names.address_of(&host.to_ascii_lowercase())) {
            Some(address) if matches!(question.qtype(), Rtype::A | Rtype::ANY) => self.has(Answer::Address(address)),
            Some(_) => self.has_no_such(),
            None => self.unknown(),
        }
    }

    fn of_address(&self, rtype: Rtype, address: Ipv4Addr, is_exact: bool) -> Reply<'_> {
        let host = self.names.host_of(address).filter(|_| is_exact);
        let name = host.and_then(|host| Name::vec_from_str(&format!("{host}.{}", self.domain)).ok());
        match name {
            Some(name) if matches!(rtype, Rtype::PTR | Rtype::ANY) => self.has(Answer::Host(name)),
            // The authority of an address is no name of the domain: nothing is said of how long this is true.
            Some(_) => Reply { authoritative: true, ..Reply::saying(Rcode::NOERROR) },
            None => Reply { authoritative: true, ..Reply::saying(Rcode::NXDOMAIN) },
        }
    }

    fn has(&self, answer: Answer) -> Reply<'_> {
        Reply { authoritative: true, answer: Some(answer), ..Reply::saying(Rcode::NOERROR) }
    }

    /// The name is there, with other things.
    fn has_no_such(&self) -> Reply<'_> {
        Reply { authoritative: true, nothing_in: Some(&self.domain), ..Reply::saying(Rcode::NOERROR) }
    }

    fn unknown(&self) -> Reply<'_> {
        Reply { rcode: Rcode::NXDOMAIN, ..self.has_no_such() }
    }
}

/// The address that a name below `in-addr.arpa` is of, and whether it is that address's own name or one below it.
fn reversed(name: &ParsedName<&[u8]>) -> Option<(Ipv4Addr, bool)> {
    let labels = name.label_count();
    let mut from_octets = name.iter().skip(labels.checked_sub(REVERSE_NAME)?);
    let mut octets = [0; REVERSE];
    for octet in octets.iter_mut().rev() {
        let text = std::str::from_utf8(from_octets.next()?.as_slice()).ok()?;
        // One spelling for each: "07" and "+7" are other names.
        *octet = text.parse().ok().filter(|value: &u8| value.to_string() == text)?;
    }
    let mut is_next =
        |label: &[u8]| from_octets.next().is_some_and(|found| found.as_slice().eq_ignore_ascii_case(label));
    (is_next(b"in-addr") && is_next(b"arpa")).then(|| (Ipv4Addr::from(octets), labels == REVERSE_NAME))
}

#[cfg(test)]
mod tests;
