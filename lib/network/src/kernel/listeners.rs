//! Who has a port of the host: asked of the kernel's table of sockets (linux/sock_diag.h, inet_diag.h), which knows them
//! of every process of the namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_types::{HostPort, Transport};
use nix::libc;
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;

use super::nfnetlink::{DUMP, Request, Wire};
use crate::backend::{BackendError, Listener};
use crate::element::protocol_number;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `TCP_LISTEN`, and for UDP the state of a socket that is bound but not connected.
const LISTENING: u32 = 1 << 10;
const UNCONNECTED: u32 = 1 << 7;

/// Where things are in `struct inet_diag_msg`.
const SOURCE_PORT: usize = 4;
const SOURCE: usize = 8;
const UID: usize = 64;

pub(super) fn find(port: HostPort) -> Result<Option<Listener>, BackendError> {
    let ask = |family| {
        ask(family, port).map_err(|source| BackendError::Netlink {
            act: "look for who has port",
            subject: port.to_string(),
            source,
        })
    };
    // A socket for IPv6 may take IPv4 as well.
    Ok(ask(libc::AF_INET)?.or(ask(libc::AF_INET6)?))
}

fn ask(family: i32, port: HostPort) -> io::Result<Option<Listener>> {
    let states = match port.protocol {
        Transport::Tcp => LISTENING,
        Transport::Udp => UNCONNECTED,
    };
    let family = u8::try_from(family).expect("both families are small numbers");
    let mut request = Request::plain(SOCK_DIAG_BY_FAMILY, DUMP);
    request.raw(&[family, protocol_number(port.protocol), 0, 0]);
    request.raw(&states.to_ne_bytes());
    // An empty `struct inet_diag_sockid`: any socket.
    request.raw(&[0; 48]);
    let mut found = None;
    let take = |kind, body: &[u8]| {
        if kind == SOCK_DIAG_BY_FAMILY && found.is_none() {
            found = read(body, port.number);
        }
    };
    match Wire::open(NETLINK_SOCK_DIAG).and_then(|mut wire| request.send(&mut wire, take)) {
        // A kernel without IPv6 has no such sockets.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        outcome => outcome.map(|()| found),
    }
}

fn read(message: &[u8], port: u16) -> Option<Listener> {
    if u16::from_be_bytes(*message.get(SOURCE_PORT..)?.first_chunk()?) != port {
        return None;
    }
    let source = message.get(SOURCE..)?;
    let address = match i32::from(*message.first()?) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*source.first_chunk::<4>()?)),
        _ => IpAddr::V6(Ipv6Addr::from(*source.first_chunk::<16>()?)),
    };
    Some(Listener { address, uid: u32::from_ne_bytes(*message.get(UID..)?.first_chunk()?) })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn port(protocol: Transport, number: u16) -> HostPort {
        HostPort { protocol, number }
    }

    #[test]
    fn sockets_that_wait_are_found_by_port_and_protocol() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (first, second) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
        let uid = nix::unistd::geteuid().as_raw();
        let listener = Some(Listener { address: Ipv4Addr::LOCALHOST.into(), uid });
        assert_eq!(find(port(Transport::Tcp, first)).unwrap(), listener);
        assert_eq!(find(port(Transport::Udp, second)).unwrap(), listener);
        drop(tcp);
        assert_eq!(find(port(Transport::Tcp, first)).unwrap(), None);
        let six = TcpListener::bind("[::1]:0").unwrap();
        let found = find(port(Transport::Tcp, six.local_addr().unwrap().port())).unwrap();
        assert_eq!(found.unwrap().address, IpAddr::V6(Ipv6Addr::LOCALHOST));
    }
}
