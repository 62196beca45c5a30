//! A route netlink socket: requests built byte by byte, each acknowledged by the kernel.
//!
//! Knows the wire format and nothing of what is configured with it.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

const HEADER: usize = 16;
/// An acknowledgement: header, error number, and the header of the request again.
const ERROR_AT: usize = HEADER;
/// How many messages may come before the acknowledgement.
const MAX_REPLIES: usize = 16;
const REPLY_SECONDS: i64 = 5;

#[derive(Debug)]
pub(crate) struct RouteSocket {
    socket: OwnedFd,
    sequence: u32,
}

/// One request: the fixed part of its kind, then attributes.
#[derive(Debug)]
pub(crate) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK).unwrap_or_default();
        Self { kind, flags, body: fixed.to_vec() }
    }

    /// Adds an attribute, padded to four bytes.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.body.extend_from_slice(&length.to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    fn bytes(&self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&self.flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

impl RouteSocket {
    pub(crate) fn open() -> nix::Result<Self> {
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(REPLY_SECONDS))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request and waits for the kernel's verdict.
    pub(crate) fn call(&mut self, request: &Request) -> nix::Result<()> {
        self.sequence += 1;
        send(self.socket.as_raw_fd(), &request.bytes(self.sequence), MsgFlags::empty())?;
        let mut reply = [0; 4096];
        for _ in 0..MAX_REPLIES {
            let length = recv(self.socket.as_raw_fd(), &mut reply, MsgFlags::empty())?;
            if let Some(verdict) = verdict(reply.get(..length).unwrap_or_default(), self.sequence) {
                return verdict;
            }
        }
        Err(Errno::EPROTO)
    }
}

/// What an acknowledgement of `sequence` says; `None` for any other message.
fn verdict(reply: &[u8], sequence: u32) -> Option<nix::Result<()>> {
    let word = |at: usize| reply.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let kind = u16::from_ne_bytes(reply.get(4..6)?.try_into().ok()?);
    if i32::from(kind) != libc::NLMSG_ERROR || u32::from_ne_bytes(word(8)?) != sequence {
        return None;
    }
    let error = i32::from_ne_bytes(word(ERROR_AT)?);
    Some(if error == 0 { Ok(()) } else { Err(Errno::from_raw(-error)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_aligned_and_carry_their_length() {
        let request = Request::new(20, libc::NLM_F_CREATE, &[1, 2, 3, 4]).attribute(3, b"eth0\0");
        let bytes = request.bytes(9);
        assert_eq!(bytes.len(), 16 + 4 + 12);
        assert_eq!(bytes[..4], 32u32.to_ne_bytes());
        assert_eq!(bytes[8..12], 9u32.to_ne_bytes());
        assert_eq!(bytes[20..24], [9, 0, 3, 0]);
        assert_eq!(bytes[24..], *b"eth0\0\0\0\0");
    }

    #[test]
    fn only_the_right_acknowledgement_is_a_verdict() {
        let reply = |kind: u16, sequence: u32, error: i32| {
            let mut bytes = 20u32.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0, 0]);
            bytes.extend(sequence.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(error.to_ne_bytes());
            bytes
        };
        assert_eq!(verdict(&reply(2, 5, 0), 5), Some(Ok(())));
        assert_eq!(verdict(&reply(2, 5, -17), 5), Some(Err(Errno::EEXIST)));
        assert_eq!(verdict(&reply(2, 4, 0), 5), None);
        assert_eq!(verdict(&reply(16, 5, 0), 5), None);
        assert_eq!(verdict(b"short", 5), None);
    }
}
