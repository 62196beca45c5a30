//! The name server that everything else is asked of, as a test wants it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dataplane_testkit::netns::Netns;

/// What it answers by UDP to a question: any number of datagrams.
pub(crate) type Manner = fn(&[u8]) -> Vec<Vec<u8>>;

/// A server that runs as long as its namespace's test.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Upstream {
    /// One that answers by UDP like this, and by TCP with [`many`].
    pub(crate) fn start(ns: &Netns, at: Ipv4Addr, manner: Manner) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let (udp, tcp) = ns.run(move || {
            let udp = UdpSocket::bind((at, 0)).unwrap();
            let tcp = TcpListener::bind(udp.local_addr().unwrap()).unwrap();
            (udp, tcp)
        });
        let address = udp.local_addr().unwrap();
        let count = Arc::clone(&asked);
        // Both end with the process: nothing waits for them.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                count.fetch_add(1, Ordering::Relaxed);
                for reply in manner(&buffer[..length]) {
                    udp.send_to(&reply, from).unwrap();
                }
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut question).unwrap();
                let reply = many(&question);
                stream.write_all(&u16::try_from(reply.len()).unwrap().to_be_bytes()).unwrap();
                stream.write_all(&reply).unwrap();
            }
        });
        Self { address, asked }
    }

    /// How often it was asked by UDP.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// The question alone, as an answer with this many records to come; EDNS and all else behind it is left out.
fn head(question: &[u8], addresses: u16) -> Vec<u8> {
    let mut end = 12;
    while question[end] != 0 {
        end += 1 + usize::from(question[end]);
    }
    let mut reply = question[..end + 5].to_vec();
    reply[2] |= 0x80;
    reply[3] = 0x80;
    reply[6..8].copy_from_slice(&addresses.to_be_bytes());
    reply[8..12].fill(0);
    reply
}

/// An answer with these addresses.
fn with_addresses(question: &[u8], addresses: impl ExactSizeIterator<Item = Ipv4Addr>) -> Vec<u8> {
    let mut reply = head(question, u16::try_from(addresses.len()).unwrap());
    for address in addresses {
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend_from_slice(&address.octets());
    }
    reply
}

/// The answer 9.9.9.9.
pub(crate) fn one(question: &[u8]) -> Vec<u8> {
    with_addresses(question, [Ipv4Addr::new(9, 9, 9, 9)].into_iter())
}

/// Six thousand bytes of answer.
pub(crate) fn many(question: &[u8]) -> Vec<u8> {
    with_addresses(
        question,
        (0..375_u16).map(|number| Ipv4Addr::from(0x0909_0000 + u32::from(number))).collect::<Vec<_>>().into_iter(),
    )
}

/// "Too long; ask again by TCP".
pub(crate) fn truncated(question: &[u8]) -> Vec<u8> {
    let mut reply = head(question, 0);
    reply[2] |= 2;
    reply
}
