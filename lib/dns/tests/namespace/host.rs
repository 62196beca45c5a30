//! A host with a bridge and a responder on it, and a guest's namespace behind a port of the bridge.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use dataplane_dns::{Config, Limits, Names, Responder};
use dataplane_testkit::netns::Netns;

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub(crate) const WEB: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 3);
/// The host's address on its uplink, and its neighbour there.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// How long something that has to come may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

struct TwoHosts;

impl Names for TwoHosts {
    fn address_of(&self, host: &str) -> Option<Ipv4Addr> {
        match host {
            "web" => Some(WEB),
            "client" => Some(CLIENT),
            _ => None,
        }
    }

    fn host_of(&self, address: Ipv4Addr) -> Option<String> {
        [("web", WEB), ("client", CLIENT)].iter().find(|(_, held)| *held == address).map(|(host, _)| (*host).to_owned())
    }
}

/// A host: `vmbr0` with the gateway address.
pub(crate) struct Host {
    pub(crate) ns: Netns,
    /// The guest `client`, whose `eth0` is a port of the bridge.
    pub(crate) guest: Netns,
}

impl Host {
    pub(crate) fn new() -> Self {
        let (ns, guest) = (Netns::new(), Netns::new());
        ns.ip("link add vmbr0 type bridge forward_delay 0");
        ns.ip("addr add 10.1.0.1/22 dev vmbr0");
        ns.ip("link set vmbr0 up");
        ns.connect("port0", &guest, "eth0");
        ns.ip("link set port0 master vmbr0");
        ns.settle("port0");
        guest.ip("addr add 10.1.0.3/22 dev eth0");
        guest.ip("route add default via 10.1.0.1");
        Self { ns, guest }
    }

    /// Joins a neighbour to it by an uplink.
    pub(crate) fn uplinked(&self) -> Netns {
        let world = Netns::new();
        self.ns.connect("eth0", &world, "eth0");
        self.ns.ip("addr add 10.99.0.1/24 dev eth0");
        world.ip("addr add 10.99.0.2/24 dev eth0");
        world
    }

    pub(crate) fn config(&self, upstream: SocketAddr) -> Config {
        Config {
            gateway: GATEWAY,
            port: 53,
            device: "vmbr0".into(),
            subnet: "10.1.0.0/22".parse().unwrap(),
            domain: "dataplane.internal".into(),
            upstream,
            limits: Limits::default(),
        }
    }

    pub(crate) fn serve(&self, config: Config) -> Running {
        Running::start(&self.ns, config)
    }

    /// What `dig` prints in the guest; it is asked of the gateway, once.
    pub(crate) fn dig(&self, arguments: &str) -> String {
        dig(&self.guest, arguments)
    }
}

pub(crate) fn dig(ns: &Netns, arguments: &str) -> String {
    let fixed = ["@10.1.0.1", "+tries=1", "+time=15"];
    let all: Vec<_> = fixed.into_iter().chain(arguments.split_whitespace()).collect();
    ns.command("dig", &all)
}

/// A responder on a thread of its own, in the namespace.
pub(crate) struct Running {
    responder: Arc<Responder>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(ns: &Netns, config: Config) -> Self {
        let (report, started) = mpsc::sync_channel(1);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        // Spawned inside, and so of that namespace.
        let thread = ns.run(move || {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let responder = Arc::new(Responder::start(config, Arc::new(TwoHosts)).unwrap());
                    report.send(Arc::clone(&responder)).unwrap();
                    let _ = stopped.await;
                });
            })
        });
        Self { responder: started.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn status(&self) -> Result<SocketAddr, String> {
        self.responder.status()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().unwrap().join();
    }
}

/// A socket in a namespace, connected to the responder.
pub(crate) fn udp(ns: &Netns, from: Ipv4Addr) -> UdpSocket {
    ns.run(move || {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect((GATEWAY, 53)).unwrap();
        socket
    })
}

/// Sends a question and returns what comes back.
pub(crate) fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.send(question).unwrap();
    receive(socket)
}

pub(crate) fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut answer = vec![0; 65_536];
    loop {
        match socket.recv(&mut answer) {
            Ok(length) => {
                answer.truncate(length);
                return answer;
            }
            // A child of another test has ended.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

pub(crate) fn tcp(ns: &Netns) -> TcpStream {
    ns.run(|| {
        let stream = TcpStream::connect((GATEWAY, 53)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    })
}

/// The same by TCP; `None` when the connection ends instead.
pub(crate) fn ask_tcp(stream: &mut TcpStream, question: &[u8]) -> Option<Vec<u8>> {
    let mut framed = u16::try_from(question.len()).unwrap().to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}

/// A question for the address of a name, by hand.
pub(crate) fn question(id: u16, name: &str) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    packet
}

/// The code of an answer.
pub(crate) fn code(answer: &[u8]) -> u8 {
    answer[3] & 15
}
