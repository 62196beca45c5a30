//! The sockets on the gateway address: only what arrives on the bridge reaches them (`SO_BINDTODEVICE`), so that no other
//! interface, and no spoofed source behind it, is answered.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::responder::Config;

/// Connections that wait to be taken; each is taken at once, if only to be closed.
const BACKLOG: i32 = 64;

/// Both, or neither. To be called inside a runtime, in the network namespace of the bridge.
pub(crate) fn open(config: &Config) -> io::Result<(UdpSocket, TcpListener)> {
    let udp = bound(config, Type::DGRAM)?;
    let tcp = bound(config, Type::STREAM)?;
    tcp.listen(BACKLOG)?;
    Ok((UdpSocket::from_std(udp.into())?, TcpListener::from_std(tcp.into())?))
}

fn bound(config: &Config, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind, None)?;
    socket.set_nonblocking(true)?;
    // First the device: there is no instant at which the address alone would do.
    socket.bind_device(Some(config.device.as_bytes()))?;
    if kind == Type::STREAM {
        // Connections of a daemon that has just gone linger; for datagrams this would mean to share the port.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SocketAddr::from((config.gateway, config.port)).into())?;
    Ok(socket)
}
