//! Questions by TCP: one after the other on each connection, of which there are only so many, for so long.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::forward::{self, read_message, write_message};
use crate::limits::{Kind, Permit};
use crate::query::{LARGEST_QUERY, Query};
use crate::responder::Service;
use crate::zone::Outcome;

/// Questions on one connection: then it is closed, and its client opens another if it has more.
const MOST_QUESTIONS: usize = 1000;

/// Serves until the socket fails.
pub(crate) async fn serve(listener: TcpListener, service: Arc<Service>) -> io::Error {
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe both: a finished task stays in its set, a connection in the backlog.
        tokio::select! {
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let Some(guest) = service.guest(from) else { continue };
                    let Some(permit) = service.ration.take(guest, Kind::Connection) else { continue };
                    connections.spawn(converse(stream, Arc::clone(&service), guest, permit));
                }
                // What one client did to its own connection before we took it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return error,
            },
        }
    }
}

async fn converse(mut stream: TcpStream, service: Arc<Service>, guest: Ipv4Addr, _permit: Permit) {
    let idle = service.ration.limits().idle;
    for _ in 0..MOST_QUESTIONS {
        let Ok(Ok(packet)) = timeout(idle, read_message(&mut stream, LARGEST_QUERY)).await else { return };
        if !service.ration.may_ask(guest) {
            return;
        }
        let reply = match service.zone.handle(&packet) {
            Outcome::Silence => return,
            Outcome::Reply(reply) => reply,
            Outcome::Forward(query) => pass_on(&service, &query, guest).await,
        };
        let Ok(Ok(())) = timeout(idle, write_message(&mut stream, &reply)).await else { return };
    }
}

async fn pass_on(service: &Service, query: &Query, guest: Ipv4Addr) -> Vec<u8> {
    let Some(_permit) = service.ration.take(guest, Kind::Forward) else { return query.failed() };
    match forward::by_tcp(query, service.upstream, service.ration.limits().patience).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::debug!(guest.ip = %guest, error = &error as &dyn std::error::Error, "no answer from upstream");
            query.failed()
        }
    }
}
