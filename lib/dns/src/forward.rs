//! One question to the upstream: from a socket of its own, so that the kernel picks the port at random, under a random
//! id; an answer has to come from there, to there, with that id and that question.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::query::{LARGEST_UDP, Query};

/// How often a question is sent within its time by UDP.
const ATTEMPTS: u32 = 3;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("no random id")]
    Random(#[from] getrandom::Error),
    #[error("the upstream")]
    Socket(#[from] io::Error),
    #[error("the upstream did not answer in time")]
    TooLate,
    #[error("the upstream's answer is none to the question")]
    Nonsense,
}

/// By UDP. An answer that is longer than we take is returned cut off: it does not fit the client either.
pub(crate) async fn by_udp(query: &Query, upstream: SocketAddr, patience: Duration) -> Result<Vec<u8>, ForwardError> {
    let id = random_id()?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(upstream).await?;
    let packet = query.with_id(id);
    for _ in 0..ATTEMPTS {
        socket.send(&packet).await?;
        if let Ok(answer) = timeout(patience / ATTEMPTS, answer(&socket, query, id)).await {
            return answer;
        }
    }
    Err(ForwardError::TooLate)
}

/// The first datagram that answers; whatever else arrives is passed over.
async fn answer(socket: &UdpSocket, query: &Query, id: u16) -> Result<Vec<u8>, ForwardError> {
    let mut buffer = vec![0; LARGEST_UDP + 1];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = query.accept(id, &buffer[..length]) {
            return Ok(answer);
        }
    }
}

/// By TCP, for a client that came by TCP: its answer may be as long as one can be.
pub(crate) async fn by_tcp(query: &Query, upstream: SocketAddr, patience: Duration) -> Result<Vec<u8>, ForwardError> {
    let id = random_id()?;
    let exchange = async {
        let mut stream = TcpStream::connect(upstream).await?;
        write_message(&mut stream, &query.with_id(id)).await?;
        let reply = read_message(&mut stream, usize::from(u16::MAX)).await?;
        query.accept(id, &reply).ok_or(ForwardError::Nonsense)
    };
    timeout(patience, exchange).await.map_err(|_| ForwardError::TooLate)?
}

/// A message with its length before it (RFC 1035, section 4.2.2), in one piece.
pub(crate) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut framed = Vec::with_capacity(message.len() + size_of::<u16>());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

/// The next message, of at most so many bytes.
pub(crate) async fn read_message(stream: &mut TcpStream, most: usize) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

fn random_id() -> Result<u16, getrandom::Error> {
    let mut id = [0; size_of::<u16>()];
    getrandom::fill(&mut id)?;
    Ok(u16::from_ne_bytes(id))
}
