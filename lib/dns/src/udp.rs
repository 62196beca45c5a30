//! Questions by UDP: one task takes them all in; each that is passed on gets a task of its own, of which there are only so
//! many.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::forward;
use crate::limits::{Kind, Permit};
use crate::query::{LARGEST_QUERY, Query};
use crate::responder::Service;
use crate::zone::Outcome;

/// Serves until the socket fails.
pub(crate) async fn serve(socket: UdpSocket, service: Arc<Service>) -> io::Error {
    let socket = Arc::new(socket);
    let mut forwards = JoinSet::new();
    // One byte more than may be: so a longer one is seen to be.
    let mut buffer = vec![0; LARGEST_QUERY + 1];
    loop {
        // Cancel-safe both: a finished task stays in its set, a datagram in the socket.
        tokio::select! {
            Some(_) = forwards.join_next(), if !forwards.is_empty() => {}
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, from)) => take(&socket, &service, &buffer[..length], from, &mut forwards),
                Err(error) => return error,
            },
        }
    }
}

fn take(socket: &Arc<UdpSocket>, service: &Arc<Service>, packet: &[u8], from: SocketAddr, forwards: &mut JoinSet<()>) {
    let Some(guest) = service.guest(from) else { return };
    if !service.ration.may_ask(guest) {
        return;
    }
    match service.zone.handle(packet) {
        Outcome::Silence => {}
        Outcome::Reply(reply) => answer(socket, &reply, from),
        Outcome::Forward(query) => match service.ration.take(guest, Kind::Forward) {
            Some(permit) => {
                let work = pass_on(Arc::clone(socket), Arc::clone(service), query, (from, guest), permit);
                forwards.spawn(work);
            }
            None => answer(socket, &query.failed(), from),
        },
    }
}

async fn pass_on(
    socket: Arc<UdpSocket>,
    service: Arc<Service>,
    query: Query,
    (from, guest): (SocketAddr, Ipv4Addr),
    _permit: Permit,
) {
    let reply = match forward::by_udp(&query, service.upstream, service.ration.limits().patience).await {
        Ok(reply) => query.fit(reply),
        Err(error) => {
            tracing::debug!(guest.ip = %guest, error = &error as &dyn std::error::Error, "no answer from upstream");
            query.failed()
        }
    };
    answer(&socket, &reply, from);
}

/// Sends what there is room for: a datagram may be lost, and its asker asks again.
fn answer(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if let Err(error) = socket.try_send_to(reply, to) {
        tracing::debug!(%to, %error, "an answer was not sent");
    }
}
