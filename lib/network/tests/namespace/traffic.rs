//! What packets may do, and what they may not.

use std::net::{Ipv4Addr, UdpSocket};

use dataplane_testkit::netns::Netns;

use crate::frames::{self, BROADCAST, Way};
use crate::host::{self, GATEWAY, GATEWAY_MAC, Guest, Host, OUTSIDE, STRANGER};

pub(crate) fn a_guest_reaches_the_gateway() {
    let host = Host::started();
    let mut guest = host.guest("web-1");
    assert_eq!(guest.fence(), GATEWAY_MAC, "the bridge answers with its own fixed MAC");
    guest.ping(GATEWAY, 1);
}

pub(crate) fn guests_do_not_meet_on_the_bridge() {
    let host = Host::started();
    let (mut one, mut two) = (host.guest("one"), host.guest("two"));
    one.fence();
    two.fence();
    let try_all = |one: &mut Guest, two: &mut Guest, text: &[u8]| {
        one.send(&frames::udp(Way { from: one.me(), to: two.me() }, text));
        one.send(&frames::udp(Way { from: one.me(), to: (BROADCAST, two.link.ip) }, text));
        one.send(&frames::arp_request(one.me(), two.link.ip));
        two.fence();
    };
    try_all(&mut one, &mut two, b"forbidden");
    let from_one = two.seen.iter().filter(|frame| frames::source(frame) == Some(one.link.mac)).count();
    assert_eq!(from_one, 0, "{:x?}", two.seen);

    // With br_netfilter loaded the rules see bridged packets too: the isolation of the ports has to do it alone.
    host.drop_rules();
    try_all(&mut one, &mut two, b"isolated");
    assert!(!two.has_seen(b"isolated"));

    for tap in [&one.link.tap, &two.link.tap] {
        host.ns.ip(&format!("link set {tap} type bridge_slave isolated off"));
    }
    try_all(&mut one, &mut two, b"control");
    assert!(two.has_seen(b"control"), "without isolation the same frames arrive");
}

pub(crate) fn guests_do_not_meet_through_the_gateway() {
    let (host, _world) = Host::with_uplink();
    let (mut one, mut two) = (host.guest("one"), host.guest("two"));
    let way = Way { from: one.me(), to: (GATEWAY_MAC, two.link.ip) };
    one.send(&frames::udp(way, b"forbidden"));
    two.fence();
    assert!(!two.has_seen(b"forbidden"));

    host.drop_rules();
    one.send(&frames::udp(way, b"control"));
    two.until("packet by the gateway", |frame| frames::holds(frame, b"control").then_some(()));
}

pub(crate) fn a_guest_leaves_by_the_uplink_with_the_hosts_address() {
    let (host, world) = Host::with_uplink();
    let rules = "table ip seen { chain c { type filter hook input priority 0; \
                 ip saddr 10.99.0.1 icmp type echo-request counter; }; }";
    world.command("nft", &[rules]);
    let mut guest = host.guest("web-1");
    guest.ping(STRANGER, 7);
    let seen = world.command("nft", &["list", "table", "ip", "seen"]);
    assert!(seen.contains("counter packets 1"), "the world saw {OUTSIDE} and nobody else: {seen}");
}

fn send_from(world: &Netns, to: Ipv4Addr, text: &'static [u8]) {
    world.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert_eq!(socket.send_to(text, (to, 9)).unwrap(), text.len());
    });
}

pub(crate) fn a_stranger_does_not_reach_a_guest() {
    let (host, world) = Host::with_uplink();
    let mut guest = host.guest("web-1");
    world.ip(&format!("route add 192.168.100.0/24 via {OUTSIDE}"));
    send_from(&world, guest.link.ip, b"forbidden");
    guest.ping(STRANGER, 1);
    assert!(!guest.has_seen(b"forbidden"));

    host.drop_rules();
    send_from(&world, guest.link.ip, b"control");
    guest.until("packet of the stranger", |frame| frames::holds(frame, b"control").then_some(()));
}

/// A socket of the world that shows what leaves the host.
pub(crate) fn listen(world: &Netns, address: Ipv4Addr) -> UdpSocket {
    let socket = world.run(move || UdpSocket::bind((address, 0x2000)).unwrap());
    socket.set_nonblocking(true).unwrap();
    socket
}

pub(crate) fn arrived(socket: &UdpSocket) -> Vec<(Vec<u8>, std::net::SocketAddr)> {
    let mut buffer = [0; 100];
    std::iter::from_fn(|| socket.recv_from(&mut buffer).ok().map(|(n, from)| (buffer[..n].to_vec(), from))).collect()
}

pub(crate) fn a_guest_does_not_claim_foreign_addresses_towards_the_uplink() {
    let (host, world) = Host::with_uplink();
    let socket = listen(&world, STRANGER);
    let mut guest = host.guest("web-1");
    let forged = Way { from: (guest.link.mac, Ipv4Addr::new(10, 99, 0, 77)), to: (GATEWAY_MAC, STRANGER) };
    // Strict reverse-path filtering would drop it too, wherever the distribution switches that on.
    for interface in ["all", "vmbr0"] {
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
        host.ns.command("sh", &["-c", &format!("echo 0 > {path}")]);
    }
    guest.send(&frames::udp(forged, b"forbidden"));
    guest.ping(STRANGER, 1);
    assert_eq!(arrived(&socket), []);

    host.drop_rules();
    guest.send(&frames::udp(forged, b"control"));
    // No answer would find its way back without translation; the neighbour's own table of what it heard is the fence.
    let heard = wait_for(&socket);
    assert_eq!(heard.0, b"control");
    assert_eq!(heard.1.ip(), forged.from.1);
}

pub(crate) fn wait_for(socket: &UdpSocket) -> (Vec<u8>, std::net::SocketAddr) {
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut buffer = [0; 100];
    let (length, from) = socket.recv_from(&mut buffer).expect("the control packet arrives");
    (buffer[..length].to_vec(), from)
}

pub(crate) fn the_metadata_address_is_not_forwarded() {
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    let (host, world) = Host::with_uplink();
    world.ip(&format!("addr add {metadata}/32 dev w0"));
    let socket = listen(&world, metadata);
    let mut guest = host.guest("web-1");
    let way = Way { from: guest.me(), to: (GATEWAY_MAC, metadata) };
    guest.send(&frames::udp(way, b"forbidden"));
    guest.ping(STRANGER, 1);
    assert_eq!(arrived(&socket), []);

    host.drop_rules();
    guest.send(&frames::udp(way, b"control"));
    assert_eq!(wait_for(&socket).0, b"control");
}

pub(crate) fn loopback_is_out_of_reach() {
    let host = Host::started();
    let mut guest = host.guest("web-1");
    // The kernel itself drops such packets until somebody allows them, as publishing ports on 127.0.0.1 has to.
    host.ns.command("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/conf/vmbr0/route_localnet"]);
    let frame = guest.ping_frame(Ipv4Addr::LOCALHOST, 1);
    guest.send(&frame);
    guest.fence();
    assert!(!guest.seen.iter().any(|frame| frames::echo_reply(frame, 1).is_some()));

    host.drop_rules();
    guest.ping(Ipv4Addr::LOCALHOST, 2);
}

/// A host that routed nothing before us has a second network; the world may not reach it by what we switched on.
pub(crate) fn the_host_does_not_become_a_router() {
    let (ns, world) = host::uplinked();
    let inner = Netns::new();
    ns.connect("eth1", &inner, "i0");
    ns.ip("addr add 10.98.0.1/24 dev eth1");
    inner.ip("addr add 10.98.0.2/24 dev i0");
    inner.ip("route add default via 10.98.0.1");
    world.ip(&format!("route add 10.98.0.0/24 via {OUTSIDE}"));
    let host = Host::new(ns);
    host.start().unwrap();
    assert_eq!((host.forwarding("eth0"), host.forwarding("eth1")), ("1".to_owned(), "0".to_owned()));

    let target = Ipv4Addr::new(10, 98, 0, 2);
    let socket = listen(&inner, target);
    let send = |text: &'static [u8]| {
        world.run(move || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(text, (target, 0x2000)).unwrap());
    };
    send(b"forbidden");
    host.drop_rules();
    send(b"control");
    assert_eq!(wait_for(&socket).0, b"control", "and the one before it never came");
}
