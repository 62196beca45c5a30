//! Ports of the host that lead to guests, and where guests may go.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use dataplane_network::{ClaimError, NetworkError};
use dataplane_testkit::netns::Netns;
use dataplane_types::{EgressProtocol, EgressRule, GuestPolicy, HostPort, Link, Mac, PortMapping, TapName, Transport};

use crate::host::{GATEWAY, Host, OUTSIDE, STRANGER, UID, id};
use crate::traffic::arrived;

const PATIENCE: Duration = Duration::from_secs(20);

fn tcp(host_port: u16, guest_port: u16) -> PortMapping {
    PortMapping { host_port, guest_port, protocol: Transport::Tcp }
}

fn udp(host_port: u16, guest_port: u16) -> PortMapping {
    PortMapping { protocol: Transport::Udp, ..tcp(host_port, guest_port) }
}

fn publishing(ports: &[PortMapping]) -> GuestPolicy {
    GuestPolicy { port_mappings: ports.to_vec(), egress: None }
}

fn going_to(egress: &[EgressRule]) -> GuestPolicy {
    GuestPolicy { port_mappings: Vec::new(), egress: Some(egress.to_vec()) }
}

/// A guest with a kernel of its own: a namespace behind the TAP.
struct RealGuest {
    space: Netns,
    link: Link,
}

impl RealGuest {
    fn new(host: &Host, name: &str, policy: &GuestPolicy) -> Self {
        let link = host.network.claim(&id(name), None, None, &policy.port_mappings).unwrap();
        host.ensure_with(name, &link, policy.clone(), UID).unwrap();
        let space = Netns::new();
        host.ns.join(link.tap.as_str(), &space);
        space.ip(&format!("link set eth0 address {}", link.mac));
        space.ip(&format!("addr add {}/24 dev eth0", link.ip));
        space.ip(&format!("route add default via {GATEWAY}"));
        Self { space, link }
    }

    /// Answers each TCP connection with the peer's address.
    fn serve_tcp(&self, port: u16) {
        let listener = self.space.run(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = write!(stream, "{}", peer.ip());
            }
        });
    }

    /// Answers each datagram with the peer's address; ends after a while.
    fn serve_udp(&self, port: u16) {
        let socket = self.space.run(move || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 100];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
            }
        });
    }
}

/// What a published TCP port answers in a namespace; `None` when it is refused.
fn ask_tcp(space: &Netns, to: impl Into<IpAddr>, port: u16) -> Option<String> {
    let address = SocketAddr::new(to.into(), port);
    space.run(move || {
        let mut stream = match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return None,
            Err(error) => panic!("connect to {address}: {error}"),
        };
        let mut text = String::new();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_to_string(&mut text).unwrap();
        Some(text)
    })
}

fn ask_udp(space: &Netns, to: Ipv4Addr, port: u16) -> String {
    space.run(move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(b"?", (to, port)).unwrap();
        let mut buffer = [0; 100];
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    })
}

pub(crate) fn published_ports_are_reached_from_everywhere() {
    for calls in ["1", "0"] {
        let (host, world) = Host::with_uplink();
        host.ns.command("sh", &["-c", &format!("echo {calls} > /proc/sys/net/bridge/bridge-nf-call-iptables")]);
        let guest = RealGuest::new(&host, "web-1", &publishing(&[tcp(8080, 80), udp(8080, 53)]));
        guest.serve_tcp(80);
        guest.serve_udp(53);
        // Another host is seen as itself; the host as the address that it has on the way, its loopback as the gateway.
        for (space, to, seen) in [
            (&world, OUTSIDE, STRANGER),
            (&host.ns, OUTSIDE, OUTSIDE),
            (&host.ns, GATEWAY, GATEWAY),
            (&host.ns, Ipv4Addr::LOCALHOST, GATEWAY),
        ] {
            assert_eq!(ask_tcp(space, to, 8080), Some(seen.to_string()), "tcp to {to}, calls {calls}");
            assert_eq!(ask_udp(space, to, 8080), seen.to_string(), "udp to {to}, calls {calls}");
        }
        assert_eq!(ask_tcp(&world, OUTSIDE, 8081), None, "and no other port");
        // What the host itself asks of a guest needs nothing published.
        assert_eq!(ask_tcp(&host.ns, guest.link.ip, 80), Some(GATEWAY.to_string()));
    }
}

pub(crate) fn a_guest_gets_at_the_hosts_loopback_by_nothing() {
    let (host, _world) = Host::with_uplink();
    let guest = RealGuest::new(&host, "web-1", &publishing(&[tcp(8080, 80)]));
    let secret = host.ns.run(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 7000)).unwrap());
    let open = host.ns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap());
    open.set_read_timeout(Some(PATIENCE)).unwrap();
    secret.set_nonblocking(true).unwrap();
    assert_eq!(host.ns.command("cat", &["/proc/sys/net/ipv4/conf/vmbr0/route_localnet"]), "1\n");
    assert_eq!(host.ns.command("cat", &["/proc/sys/net/ipv4/conf/all/route_localnet"]), "0\n");
    // The guest does what it can: it routes the host's loopback to the host.
    guest.space.ip("link set lo down");
    guest.space.command("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet"]);
    guest.space.ip(&format!("route add table 99 127.0.0.0/8 via {GATEWAY} dev eth0"));
    guest.space.ip("rule del pref 0");
    guest.space.ip("rule add pref 1 to 127.0.0.0/8 lookup 99");
    guest.space.ip("rule add pref 2 lookup local");
    let send = |text: &'static [u8]| {
        guest.space.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.send_to(text, (Ipv4Addr::LOCALHOST, 7000)).unwrap();
            socket.send_to(text, (GATEWAY, 53)).unwrap();
        });
        let mut buffer = [0; 100];
        let (length, _) = open.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], text);
    };
    send(b"forbidden");
    assert_eq!(arrived(&secret), []);
    host.drop_rules();
    send(b"control");
    assert_eq!(arrived(&secret).len(), 1, "without rules it arrives");
}

pub(crate) fn ports_that_anybody_has_are_refused_by_name() {
    let host = Host::started();
    let port = |number| HostPort { protocol: Transport::Tcp, number };
    let network = Arc::clone(&host.network);
    network.claim(&id("one"), None, None, &[tcp(8080, 80)]).unwrap();
    let refused = network.claim(&id("two"), None, None, &[tcp(9000, 80), tcp(8080, 81)]);
    assert_eq!(refused, Err(ClaimError::PortInUse { port: port(8080), holder: id("one") }));
    network.claim(&id("three"), None, None, &[tcp(9000, 80), udp(8080, 80)]).unwrap();

    let check = |name: &'static str, ports: Vec<PortMapping>| {
        let network = Arc::clone(&network);
        host.ns.block_on(move || async move { network.check_ports(&id(name), &ports).await })
    };
    let four = host.ns.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 7000)).unwrap());
    let six = host.ns.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 7001)).unwrap());
    for (number, address) in [(7000, IpAddr::from(Ipv4Addr::LOCALHOST)), (7001, Ipv6Addr::UNSPECIFIED.into())] {
        let error = check("two", vec![tcp(number, 80)]).unwrap_err();
        let uid = 0;
        assert!(
            matches!(&error, NetworkError::Port(found) if *found == ClaimError::PortOfHost { port: port(number), address, uid }),
            "{error}"
        );
    }
    check("two", vec![udp(7000, 80), tcp(7002, 80)]).unwrap();
    // What an instance has is not taken for somebody else's: a program that came later is the operator's affair.
    let _late = host.ns.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 8080)).unwrap());
    check("one", vec![tcp(8080, 81)]).unwrap();
    drop((four, six));
    check("two", vec![tcp(7000, 80), tcp(7001, 80)]).unwrap();
}

pub(crate) fn a_change_of_ports_is_at_once_and_whole() {
    let (host, world) = Host::with_uplink();
    let guest = RealGuest::new(&host, "web-1", &publishing(&[tcp(8080, 80), tcp(8081, 80)]));
    guest.serve_tcp(80);
    guest.serve_tcp(81);
    assert!(ask_tcp(&world, OUTSIDE, 8080).is_some());
    // The same port of the host leads elsewhere, one is gone, one is new.
    let changed = publishing(&[tcp(8080, 81), tcp(8082, 80)]);
    host.ensure_with("web-1", &guest.link, changed.clone(), UID).unwrap();
    let check = |host: &Host| {
        for (port, answers) in [(8080, true), (8081, false), (8082, true)] {
            assert_eq!(ask_tcp(&world, OUTSIDE, port).is_some(), answers, "{port}");
        }
        host.ns.command("nft", &["list", "ruleset"])
    };
    let before = check(&host);
    // A daemon that is started again puts all of it back in the transaction that replaces the rules.
    let host = Host::new(host.ns);
    host.network.adopt(&id("web-1"), &guest.link, &changed).unwrap();
    let absent = Link {
        ip: Ipv4Addr::new(192, 168, 100, 9),
        tap: TapName::of(Ipv4Addr::new(192, 168, 100, 9)),
        ..guest.link.clone()
    };
    let absent = Link { mac: Mac::of_guest(absent.ip), ..absent };
    host.network.adopt(&id("stopped"), &absent, &publishing(&[tcp(8083, 80)])).unwrap();
    host.start().unwrap();
    assert_eq!(check(&host), before, "and nothing for a guest without a TAP");
    host.remove(&guest.link).unwrap();
    assert_eq!(ask_tcp(&world, OUTSIDE, 8080), None);
    let after = host.ns.command("nft", &["list", "ruleset"]);
    assert!(!after.contains("elements"), "{after}");
}

pub(crate) fn where_a_guest_may_go_is_its_list() {
    let (host, world) = Host::with_uplink();
    let other = Ipv4Addr::new(10, 99, 0, 3);
    world.ip(&format!("addr add {other}/24 dev w0"));
    world.ip("addr add 1.1.1.1/32 dev lo");
    let listen = |address: Ipv4Addr, port: u16| {
        let socket = world.run(move || UdpSocket::bind((address, port)).unwrap());
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let sockets = [
        (STRANGER, 443, listen(STRANGER, 443)),
        (STRANGER, 8500, listen(STRANGER, 8500)),
        (STRANGER, 9000, listen(STRANGER, 9000)),
        (other, 443, listen(other, 443)),
        (Ipv4Addr::new(1, 1, 1, 1), 53, listen(Ipv4Addr::new(1, 1, 1, 1), 53)),
        (Ipv4Addr::new(1, 1, 1, 1), 54, listen(Ipv4Addr::new(1, 1, 1, 1), 54)),
    ];
    let rule = |cidr: &str, protocol, ports: &[&str]| EgressRule {
        cidr: cidr.parse().unwrap(),
        protocol,
        ports: ports.iter().map(|range| range.parse().unwrap()).collect(),
    };
    let list =
        [rule("10.99.0.2/32", Some(EgressProtocol::Udp), &["443", "8000-8999"]), rule("10.99.0.4/32", None, &[])];
    let policies = [
        (going_to(&list), [true, true, false, false, true, false]),
        (going_to(&[]), [false, false, false, false, true, false]),
        (going_to(&[rule("10.99.0.0/24", None, &["443"])]), [true, false, false, true, true, false]),
        (GuestPolicy::default(), [true; 6]),
    ];
    let fence = listen(STRANGER, 7);
    for (number, (policy, reached)) in policies.into_iter().enumerate() {
        let guest = RealGuest::new(&host, &format!("i{number}"), &policy);
        let targets: Vec<_> = sockets.iter().map(|(address, port, _)| (*address, *port)).collect();
        guest.space.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            targets.iter().for_each(|to| assert_eq!(socket.send_to(b"?", to).unwrap(), 1));
        });
        // Behind all of them comes a packet of a guest that may go anywhere.
        let free = RealGuest::new(&host, &format!("free{number}"), &GuestPolicy::default());
        free.space
            .run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().send_to(b"fence", (STRANGER, 7)).unwrap());
        crate::traffic::wait_for(&fence);
        for ((address, port, socket), reached) in sockets.iter().zip(reached) {
            assert_eq!(arrived(socket).len(), usize::from(reached), "policy {number}: {address}:{port}");
        }
    }
}

/// A guest that may go nowhere is still reached, and answers.
pub(crate) fn answers_are_not_egress() {
    let (host, world) = Host::with_uplink();
    let policy = GuestPolicy { port_mappings: vec![tcp(8080, 80)], egress: Some(Vec::new()) };
    let guest = RealGuest::new(&host, "web-1", &policy);
    guest.serve_tcp(80);
    assert_eq!(ask_tcp(&world, OUTSIDE, 8080), Some(STRANGER.to_string()));
}
