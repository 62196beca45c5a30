//! Those who may not ask, who ask too much, and who send what is no question.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use dataplane_dns::{LARGEST_QUERY, Limits};
use dataplane_testkit::netns::Netns;

use crate::host::{
    CLIENT, GATEWAY, Host, OUTSIDE, PATIENCE, STRANGER, ask, ask_tcp, code, question, receive, tcp, udp,
};
use crate::upstream::{Upstream, one};

const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;

/// That a question was not answered shows by another one that a guest has asked after it, and had answered.
fn is_answered_after(asker: &UdpSocket, host: &Host) -> bool {
    let guest = udp(&host.guest, CLIENT);
    ask(&guest, &question(1, "web.dataplane.internal"));
    asker.set_nonblocking(true).unwrap();
    asker.recv(&mut [0; 512]).is_ok()
}

pub(crate) fn nobody_else_is_answered() {
    let host = Host::new();
    let world = host.uplinked();
    let _running = host.serve(host.config("127.0.0.1:9".parse().unwrap()));
    // A stranger knows the way to the gateway address; the host lets it in, and the responder does not hear it.
    world.ip("route add 10.1.0.0/22 via 10.99.0.1");
    let ours = question(1, "web.dataplane.internal");
    let stranger = udp(&world, STRANGER);
    stranger.send(&ours).unwrap();
    assert!(!is_answered_after(&stranger, &host));
    let refused = world.run(|| std::net::TcpStream::connect((GATEWAY, 53)).unwrap_err().kind());
    assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
    // The host itself has its own resolver; through lo the question does not come from the bridge.
    let own = udp(&host.ns, OUTSIDE);
    own.send(&ours).unwrap();
    assert!(!is_answered_after(&own, &host));
    // A guest with an address of another network.
    host.guest.ip("addr add 172.16.0.9/32 dev eth0");
    host.ns.ip("route add 172.16.0.9/32 dev vmbr0");
    let foreign = udp(&host.guest, Ipv4Addr::new(172, 16, 0, 9));
    foreign.send(&ours).unwrap();
    assert!(!is_answered_after(&foreign, &host));
}

pub(crate) fn a_port_that_is_held_is_told_and_taken_later() {
    let host = Host::new();
    let other = host.ns.run(|| UdpSocket::bind(("0.0.0.0", 53)).unwrap());
    let running = host.serve(host.config("127.0.0.1:9".parse().unwrap()));
    let reason = running.status().unwrap_err();
    assert!(reason.contains("Address already in use"), "{reason}");
    drop(other);
    let begin = Instant::now();
    while running.status().is_err() {
        assert!(begin.elapsed() < PATIENCE, "{:?}", running.status());
        std::thread::yield_now();
    }
    assert_eq!(host.dig("+short web.dataplane.internal"), "10.1.0.2\n");
    drop(running);
    // A child that another test has just forked holds a copy until its exec.
    while host.ns.run(|| UdpSocket::bind(("0.0.0.0", 53)).is_err()) {
        assert!(begin.elapsed() < PATIENCE, "the port is not let go of");
    }
}

pub(crate) fn hostile_packets_do_no_harm() {
    let host = Host::new();
    let limits = Limits { rate: 1_000_000, burst: 1_000_000, ..Limits::default() };
    let running = host.serve(dataplane_dns::Config { limits, ..host.config("127.0.0.1:9".parse().unwrap()) });
    let guest = udp(&host.guest, CLIENT);
    let good = question(1, "web.dataplane.internal");
    let with = |at: usize, bytes: &[u8]| {
        let mut packet = good.clone();
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        packet
    };
    let mut long = good.clone();
    long.resize(65_000, 0);
    let mut chain = good[..12].to_vec();
    chain.extend((0..2000_u16).flat_map(|at| (0xc000 | (12 + 2 * at + 2)).to_be_bytes()));
    let packets = [
        Vec::new(),
        vec![0; 11],
        vec![0xff; 512],
        with(2, &[0x80]),
        with(4, &[0xff; 8]),
        with(12, &[0xc0, 12]),
        with(12, &[0xff]),
        with(12, &[0x40]),
        chain,
        long,
        good[..20].to_vec(),
    ];
    for packet in &packets {
        guest.send(packet).unwrap();
    }
    // An order of bytes that nobody thought of, but the same every time.
    let mut state = 1_u64;
    let next = udp(&host.guest, CLIENT);
    for number in 0..5_000_u16 {
        let mut packet = good.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(state >> 33).unwrap() % packet.len();
            packet[at] = state.to_le_bytes()[7];
        }
        guest.send(&packet).unwrap();
        if number % 50 == 0 {
            // It has come so far; and no more is under way than a socket holds.
            assert_eq!(code(&ask(&next, &question(number, "nobody.dataplane.internal"))), NXDOMAIN);
        }
    }

    let mut stream = tcp(&host.guest);
    assert_eq!(ask_tcp(&mut stream, &vec![0; LARGEST_QUERY + 1]), None, "longer than a question can be");
    let mut stream = tcp(&host.guest);
    assert_eq!(ask_tcp(&mut stream, b""), None, "no header");
    let mut stream = tcp(&host.guest);
    assert_eq!(code(&ask_tcp(&mut stream, &with(4, &[0xff; 8])).unwrap()), 1);
    assert_eq!(code(&ask_tcp(&mut stream, &good).unwrap()), 0, "and goes on");
    assert!(running.status().is_ok());
}

pub(crate) fn a_guest_that_asks_too_much_is_not_heard_and_others_are() {
    let host = Host::new();
    // One a second, after ten at once.
    let limits = Limits { rate: 1, burst: 10, ..Limits::default() };
    let _running = host.serve(dataplane_dns::Config { limits, ..host.config("127.0.0.1:9".parse().unwrap()) });
    let greedy = udp(&host.guest, CLIENT);
    let begin = Instant::now();
    for id in 0..200 {
        greedy.send(&question(id, "web.dataplane.internal")).unwrap();
    }
    host.guest.ip("addr add 10.1.0.2/22 dev eth0");
    let other = udp(&host.guest, Ipv4Addr::new(10, 1, 0, 2));
    assert_eq!(code(&ask(&other, &question(7, "web.dataplane.internal"))), 0);
    greedy.set_nonblocking(true).unwrap();
    let answered = std::iter::from_fn(|| greedy.recv(&mut [0; 512]).ok()).count();
    let earned = usize::try_from(begin.elapsed().as_secs()).unwrap() + 1;
    assert!((10..=10 + earned).contains(&answered), "{answered} answers");
}

pub(crate) fn an_upstream_that_lies_is_not_believed() {
    let host = Host::new();
    // Before the right answer come one under another id, one to another question, and noise.
    let upstream = Upstream::start(&host.ns, "127.0.0.1".parse().unwrap(), |question| {
        let right = one(question);
        let (mut other_id, mut other_question) = (right.clone(), right.clone());
        other_id[0] ^= 1;
        let end = other_id.len() - 1;
        other_id[end] = 66;
        other_question[13] = b'x';
        other_question[end] = 66;
        vec![other_id, other_question, vec![0; 3], question.to_vec(), right]
    });
    let _running = host.serve(host.config(upstream.address));
    assert_eq!(host.dig("+short www.example.com"), "9.9.9.9\n");
}

pub(crate) fn a_slow_upstream_holds_up_nobody() {
    let host = Host::new();
    let upstream = Upstream::start(&host.ns, "127.0.0.1".parse().unwrap(), |_| Vec::new());
    let limits = Limits { patience: Duration::from_secs(1), ..Limits::default() };
    let _running = host.serve(dataplane_dns::Config { limits, ..host.config(upstream.address) });
    let guest = udp(&host.guest, CLIENT);
    let each = u16::try_from(limits.forwards.each).unwrap();
    for id in 0..each + 5 {
        guest.send(&question(id, "www.example.com")).unwrap();
    }
    // Five too many: refused at once; and one that needs no upstream: answered at once.
    for _ in 0..5 {
        assert_eq!(code(&receive(&guest)), SERVFAIL);
    }
    assert_eq!(code(&ask(&udp(&host.guest, CLIENT), &question(0, "web.dataplane.internal"))), 0);
    for _ in 0..each {
        assert_eq!(code(&receive(&guest)), SERVFAIL, "when its time is up");
    }
    assert_eq!(upstream.asked(), 3 * limits.forwards.each, "each three times");
    assert_eq!(code(&ask(&guest, &question(0, "web.dataplane.internal"))), 0);
}

pub(crate) fn connections_are_counted_and_do_not_stay() {
    let host = Host::new();
    let limits = Limits { idle: Duration::from_secs(1), ..Limits::default() };
    let _running = host.serve(dataplane_dns::Config { limits, ..host.config("127.0.0.1:9".parse().unwrap()) });
    let good = question(1, "web.dataplane.internal");
    let mut held: Vec<_> = (0..limits.connections.each).map(|_| tcp(&host.guest)).collect();
    assert!(held.iter_mut().all(|stream| ask_tcp(stream, &good).is_some()));
    assert_eq!(ask_tcp(&mut tcp(&host.guest), &good), None, "one too many");
    assert!(answers_by_udp(&host.guest, &good));
    // Idle ones are closed, and leave room.
    for stream in &mut held {
        assert_eq!(std::io::Read::read(stream, &mut [0]).unwrap(), 0);
    }
    assert!(ask_tcp(&mut tcp(&host.guest), &good).is_some());
}

fn answers_by_udp(guest: &Netns, question: &[u8]) -> bool {
    code(&ask(&udp(guest, CLIENT), question)) == 0
}
