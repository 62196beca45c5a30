//! Messages of the kernel's netfilter subsystem, written and read by hand: a handful of attributes, of which the kernel
//! keeps the form for ever (linux/netfilter/nfnetlink.h, nf_tables.h, netlink.h).
//!
//! Knows bytes, not what they mean to us.

use std::io;

use nix::libc;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_ROOT | NLM_F_MATCH`, `NLM_F_CREATE`.
pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
pub(super) const DUMP: u16 = 0x300;
pub(super) const CREATE: u16 = 0x400;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE: u16 = 0x3fff;
/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const NFTABLES: u16 = 10;
/// A netlink header and an nfnetlink header.
const HEADERS: usize = 20;

/// What follows from sending more than so many answers is refused rather than waited for.
const MAX_ANSWERS: usize = 100_000;

/// A socket of netlink. The kernel works on a request before the call that sends it returns, and has put its answers
/// into the socket by then, but for the parts of a dump, which follow as they are read: nothing waits.
pub(super) struct Wire(Socket);

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Wire {
    /// Opens one in the namespace of the calling thread.
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// One for netfilter. Where elements were deleted, closing it waits some 16 ms for the kernel to be done with them
    /// (`nft_rcv_nl_event`): one is kept.
    pub(super) fn netfilter() -> io::Result<Self> {
        Self::open(NETLINK_NETFILTER)
    }
}

/// Requests of one or more messages.
#[derive(Debug, Default)]
pub(super) struct Request {
    bytes: Vec<u8>,
    /// Where the message that is being written begins.
    start: usize,
    messages: u32,
    acks: usize,
}

impl Request {
    /// Begins a message of a subsystem; what is written next belongs to it.
    pub(super) fn message(&mut self, subsystem: u16, kind: u16, flags: u16, family: u8) {
        self.begin(subsystem << 8 | kind, flags, family, 0);
    }

    fn begin(&mut self, kind: u16, flags: u16, family: u8, resource: u16) {
        self.close();
        self.start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.messages.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.messages += 1;
        self.acks += usize::from(flags & ACK != 0);
    }

    /// Begins a transaction: all messages until [`Self::commit`] or none.
    pub(super) fn transaction() -> Self {
        let mut request = Self::default();
        request.begin(BATCH_BEGIN, 0, 0, NFTABLES);
        request
    }

    pub(super) fn commit(&mut self) {
        self.begin(BATCH_END, 0, 0, NFTABLES);
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let at = self.open(kind);
        self.bytes.extend(value);
        self.end(at);
    }

    /// A text with its NUL.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let at = self.open(kind);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
        self.end(at);
    }

    pub(super) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let at = self.open(kind | NLA_F_NESTED);
        inside(self);
        self.end(at);
    }

    fn open(&mut self, kind: u16) -> usize {
        let at = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        at
    }

    /// An attribute's length is without the padding that follows it.
    fn end(&mut self, at: usize) {
        let length = u16::try_from(self.bytes.len() - at).expect("whoever writes lists cuts them below 64 KiB");
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn close(&mut self) {
        if self.messages > 0 {
            let length = u32::try_from(self.bytes.len() - self.start).expect("a request is far below 4 GiB");
            self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// Sends it and gives every answer to `take`.
    pub(super) fn send(mut self, wire: &mut Wire, mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.close();
        let sent = wire.0.send_to(&self.bytes, &SocketAddr::new(0, 0), 0)?;
        if sent != self.bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let (mut acks, mut refusal) = (0, None);
        for _ in 0..MAX_ANSWERS {
            let answer = match wire.0.recv_from_full() {
                Ok((answer, _)) => answer,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let missing = || io::Error::other("the kernel did not acknowledge all of it");
                    return if refusal.is_none() && acks < self.acks {
                        Err(missing())
                    } else {
                        refusal.map_or(Ok(()), Err)
                    };
                }
                Err(error) => return Err(error),
            };
            // Whatever is said first against it, the rest is read too: the next request wants its own answers.
            for (kind, body) in messages(&answer) {
                match kind {
                    NLMSG_ERROR => match error_of(body) {
                        0 => acks += 1,
                        code => {
                            refusal.get_or_insert_with(|| io::Error::from_raw_os_error(code.saturating_abs()));
                        }
                    },
                    NLMSG_DONE => {}
                    kind => take(kind, body),
                }
            }
        }
        Err(io::Error::other("the kernel answers without end"))
    }

    /// Appends bytes that are no attributes, to the message that is being written.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Begins a message of another subsystem of netlink, which has no nfnetlink header.
    pub(super) fn plain(kind: u16, flags: u16) -> Self {
        let mut request = Self::default();
        request.begin(kind, flags, 0, 0);
        request.bytes.truncate(HEADERS - 4);
        request
    }
}

fn error_of(body: &[u8]) -> i32 {
    body.first_chunk().map_or(libc::EPROTO, |four| i32::from_ne_bytes(*four))
}

/// Kind and body of each message of a datagram; what is cut short is left out.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let body = bytes.get(16..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The attributes of a netfilter message.
pub(super) fn attributes_of(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(body.get(4..).unwrap_or_default())
}

/// Kind and value of each attribute; what is cut short is left out.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & NLA_TYPE;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a kind.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A text without its NUL.
pub(super) fn text_of(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// A number in network order.
pub(super) fn number_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*value.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_its_length_and_its_attributes() {
        let mut request = Request::default();
        request.message(NFTABLES, 1, ACK, 2);
        request.text(1, "abc");
        request.nest(3, |inside| inside.attribute(7, &[9]));
        request.close();
        let [header, rest] = [&request.bytes[..20], &request.bytes[20..]];
        assert_eq!(header, [&40_u32.to_ne_bytes()[..], &[1, 10], &[5, 0], &[0; 8], &[2, 0, 0, 0]].concat());
        assert_eq!(rest, [8, 0, 1, 0, 97, 98, 99, 0, 12, 0, 3, 0x80, 5, 0, 7, 0, 9, 0, 0, 0]);
        let read: Vec<_> = attributes_of(&request.bytes[16..]).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((text_of(read[0].1).as_str(), find(read[1].1, 7)), ("abc", Some(&[9][..])));
    }

    #[test]
    fn what_is_cut_short_is_left_out() {
        assert_eq!(attributes(&[8, 0, 1, 0, 97]).count(), 0);
        assert_eq!(attributes(&[0; 16]).count(), 0, "a length below its header ends it");
        assert_eq!(messages(&[0; 40]).count(), 0);
        assert_eq!(error_of(&[]), libc::EPROTO);
    }
}
