//! A guest that pretends. Each attempt is made with bridge netfilter calls on and off, directly (with the isolation of
//! ports taken away, so that nothing but the filter is in the way) and by way of the gateway; each is seen to succeed
//! once the rules are gone; and honest packets pass all the while.

use std::net::{Ipv4Addr, UdpSocket};

use dataplane_types::Mac;

use crate::frames::{self, BROADCAST, Way};
use crate::host::{GATEWAY, GATEWAY_MAC, Guest, Host, OUTSIDE, STRANGER};
use crate::traffic::{arrived, listen, wait_for};

const OTHER_MAC: Mac = Mac::new([2, 0, 0, 0, 0, 0x99]);
/// LLDP's address: a bridge gives its frames to the host as the port's own.
const LLDP: Mac = Mac::new([0x01, 0x80, 0xc2, 0, 0, 0x0e]);

fn call_iptables(host: &Host, on: bool) {
    let value = u8::from(on);
    let script = format!("for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo {value} > $f; done");
    host.ns.command("sh", &["-c", &script]);
    // A strict check of the way back would drop some of it too, wherever the distribution switches that on.
    for interface in ["all", "vmbr0"] {
        host.ns.command("sh", &["-c", &format!("echo 0 > /proc/sys/net/ipv4/conf/{interface}/rp_filter")]);
    }
}

fn with_calls_on_and_off(test: impl Fn(bool)) {
    [true, false].into_iter().for_each(test);
}

/// What a guest may pretend, as frames to somebody with this MAC; the text is in those that carry one.
fn pretences(me: &Guest, to: (Mac, Ipv4Addr), text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (mac, ip) = me.me();
    let neighbour = Ipv4Addr::new(192, 168, 100, 200);
    let honest = frames::udp(Way { from: (mac, ip), to }, text);
    vec![
        ("another MAC", frames::udp(Way { from: (OTHER_MAC, ip), to }, text)),
        ("the gateway's MAC", frames::udp(Way { from: (GATEWAY_MAC, ip), to }, text)),
        ("another address of the subnet", frames::udp(Way { from: (mac, neighbour), to }, text)),
        ("the gateway's address", frames::udp(Way { from: (mac, GATEWAY), to }, text)),
        ("an address from elsewhere", frames::udp(Way { from: (mac, Ipv4Addr::new(10, 99, 0, 77)), to }, text)),
        ("no address", frames::udp(Way { from: (mac, Ipv4Addr::UNSPECIFIED), to }, text)),
        ("VLAN 0", frames::tagged(&honest, &[[0x81, 0, 0, 0]])),
        ("VLAN 5", frames::tagged(&honest, &[[0x81, 0, 0, 5]])),
        ("a VLAN in a VLAN", frames::tagged(&honest, &[[0x88, 0xa8, 0, 5], [0x81, 0, 0, 6]])),
    ]
}

pub(crate) fn nothing_false_gets_to_a_neighbour() {
    with_calls_on_and_off(|calls| {
        let host = Host::started();
        let (mut me, mut victim) = (host.guest("me"), host.guest("victim"));
        call_iptables(&host, calls);
        for tap in [&me.link.tap, &victim.link.tap] {
            host.ns.ip(&format!("link set {tap} type bridge_slave isolated off"));
        }
        let mut attempts = pretences(&me, victim.me(), b"pretence");
        let (mac, gateway) = (me.link.mac, (me.link.mac, GATEWAY));
        let nobody = (Mac::new([0; 6]), GATEWAY);
        attempts.extend([
            ("an ARP reply as the gateway", frames::arp_message(2, victim.link.mac, gateway, victim.me())),
            ("a gratuitous ARP request for the gateway", frames::arp_message(1, BROADCAST, gateway, nobody)),
            ("a gratuitous ARP reply for the gateway", frames::arp_message(2, BROADCAST, gateway, gateway)),
            (
                "a question as a neighbour",
                frames::arp_request((mac, Ipv4Addr::new(192, 168, 100, 200)), victim.link.ip),
            ),
            ("a question to a neighbour", frames::arp_request(me.me(), victim.link.ip)),
            ("an IPv6 router advertisement", frames::router_advertisement(mac)),
        ]);
        for (what, frame) in &attempts {
            me.send(frame);
            victim.fence();
            me.fence();
            assert!(!victim.seen.contains(frame), "{what} arrived, calls {calls}");
        }
        // An honest frame does get through what is left: the isolation keeps neighbours apart, and where bridged packets
        // are shown to the rules of routed ones, these do too.
        me.send(&frames::udp(Way { from: me.me(), to: victim.me() }, b"honest"));
        if !calls {
            victim.until("honest frame", |frame| frames::holds(frame, b"honest").then_some(()));
        }
        host.drop_rules();
        for (what, frame) in &attempts {
            me.send(frame);
            victim.until(what, |seen| is_same(seen, frame).then_some(()));
        }
    });
}

/// A tag may have been taken off on the way.
fn is_same(seen: &[u8], sent: &[u8]) -> bool {
    let end = sent.len().min(seen.len()).min(20);
    seen[..12] == sent[..12] && seen[seen.len() - end..] == sent[sent.len() - end..]
}

pub(crate) fn nothing_false_gets_out_by_the_gateway() {
    with_calls_on_and_off(|calls| {
        let (host, world) = Host::with_uplink();
        let socket = listen(&world, STRANGER);
        let mut me = host.guest("me");
        call_iptables(&host, calls);
        let attempts = pretences(&me, (GATEWAY_MAC, STRANGER), b"pretence");
        for (number, (what, frame)) in attempts.iter().enumerate() {
            me.send(frame);
            me.ping(STRANGER, u8::try_from(number).unwrap());
            assert_eq!(arrived(&socket), [], "{what} arrived, calls {calls}");
        }
        me.send(&frames::udp(Way { from: me.me(), to: (GATEWAY_MAC, STRANGER) }, b"honest"));
        let (text, from) = wait_for(&socket);
        assert_eq!((&text[..], from.ip()), (&b"honest"[..], OUTSIDE.into()));

        host.drop_rules();
        socket.set_nonblocking(true).unwrap();
        for (what, frame) in &attempts {
            // Of these the kernel itself makes nothing: there is no such VLAN, no such source.
            if ["VLAN 5", "a VLAN in a VLAN", "no address", "the gateway's address", "the gateway's MAC"].contains(what)
            {
                continue;
            }
            me.send(frame);
            assert_eq!(wait_for(&socket).0, b"pretence", "{what}");
        }
    });
}

pub(crate) fn the_hosts_neighbour_table_believes_no_guest() {
    with_calls_on_and_off(|calls| {
        let host = Host::started();
        let (mut me, mut victim) = (host.guest("me"), host.guest("victim"));
        call_iptables(&host, calls);
        // Entries may change at once, as they otherwise may after a second.
        host.ns.command("sh", &["-c", "echo 0 > /proc/sys/net/ipv4/neigh/vmbr0/locktime"]);
        let (ip, mac) = (victim.link.ip, me.link.mac);
        host.ns.ip(&format!("neigh replace {ip} lladdr {} dev vmbr0 nud stale", victim.link.mac));
        let known = |host: &Host| host.ns.ip(&format!("neigh show {ip} dev vmbr0"));
        let lies = [
            frames::arp_message(1, GATEWAY_MAC, (mac, ip), (Mac::new([0; 6]), GATEWAY)),
            frames::arp_message(2, GATEWAY_MAC, (mac, ip), (GATEWAY_MAC, GATEWAY)),
            frames::arp_message(1, BROADCAST, (mac, ip), (Mac::new([0; 6]), ip)),
            // The frame's sender is honest, what it says is not; and the other way round.
            frames::tagged(
                &frames::arp_message(1, BROADCAST, (mac, ip), (Mac::new([0; 6]), GATEWAY)),
                &[[0x81, 0, 0, 0]],
            ),
        ];
        for lie in &lies {
            me.send(lie);
            me.fence();
            let shown = known(&host);
            assert!(shown.contains(&victim.link.mac.to_string()), "{shown}, calls {calls}");
        }
        victim.fence();
        host.drop_rules();
        me.send(&lies[0]);
        me.fence();
        assert!(known(&host).contains(&mac.to_string()), "without rules the lie is believed");
    });
}

/// A frame to an address that bridges keep for themselves does not come from the bridge: rules about the bridge alone
/// would let it through to every service of the host.
pub(crate) fn the_bridges_own_addresses_are_no_back_door() {
    with_calls_on_and_off(|calls| {
        let (host, _world) = Host::with_uplink();
        let socket = listen(&host.ns, OUTSIDE);
        let mut me = host.guest("me");
        call_iptables(&host, calls);
        host.ns.command("sh", &["-c", &format!("echo 0 > /proc/sys/net/ipv4/conf/{}/rp_filter", me.link.tap)]);
        let frame = |text| frames::udp(Way { from: me.me(), to: (LLDP, OUTSIDE) }, text);
        let (forbidden, control) = (frame(b"forbidden"), frame(b"control"));
        me.send(&forbidden);
        me.fence();
        assert_eq!(arrived(&socket), [], "calls {calls}");
        host.drop_rules();
        me.send(&control);
        assert_eq!(wait_for(&socket).0, b"control");
    });
}

pub(crate) fn the_host_serves_names_and_echo_at_the_gateway_only() {
    with_calls_on_and_off(|calls| {
        let (host, _world) = Host::with_uplink();
        let bind = |port: u16| {
            let socket = host.ns.run(move || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let (names, other) = (bind(53), bind(5353));
        let mut me = host.guest("me");
        call_iptables(&host, calls);
        let way = |to| Way { from: me.me(), to: (GATEWAY_MAC, to) };
        let forbidden = [
            frames::udp_to(5353, way(GATEWAY), b"another port"),
            frames::udp_to(53, way(OUTSIDE), b"another address"),
            frames::udp_to(5353, way(Ipv4Addr::BROADCAST), b"everybody"),
            frames::udp_to(53, way(Ipv4Addr::new(192, 168, 100, 255)), b"the subnet"),
            frames::udp_to(5353, way(Ipv4Addr::new(224, 0, 0, 251)), b"a group"),
        ];
        let (allowed, echo) = (frames::udp_to(53, way(GATEWAY), b"a name?"), me.ping_frame(OUTSIDE, 1));
        forbidden.iter().for_each(|frame| me.send(frame));
        me.send(&echo);
        me.send(&allowed);
        me.ping(GATEWAY, 2);
        assert_eq!(wait_for(&names).0, b"a name?", "calls {calls}");
        assert_eq!(arrived(&other), [], "calls {calls}");
        assert!(!me.seen.iter().any(|frame| frames::echo_reply(frame, 1).is_some()), "an echo of another address");
        // ARP answers for the gateway's address, not for the host's others.
        let question = frames::arp_request(me.me(), OUTSIDE);
        me.send(&question);
        me.fence();
        assert!(!me.seen.iter().any(|frame| frames::arp_reply(frame, OUTSIDE).is_some()));

        host.drop_rules();
        me.send(&forbidden[0]);
        assert_eq!(wait_for(&other).0, b"another port");
        me.send(&question);
        me.until("answer", |frame| frames::arp_reply(frame, OUTSIDE));
    });
}

/// Who has no elements sends nothing, whatever it says it is: the rule goes by the port's name.
pub(crate) fn a_port_without_elements_is_mute() {
    let (host, world) = Host::with_uplink();
    let socket = listen(&world, STRANGER);
    let mut one = host.guest("one");
    let stray = "tapc0a864fe";
    host.ns.ip(&format!("tuntap add mode tap name {stray} vnet_hdr"));
    host.ns.ip(&format!("link set {stray} master vmbr0 up"));
    let mut tap = host.ns.tap(stray);
    let from = (Mac::new([2, 0xd0, 192, 168, 100, 254]), Ipv4Addr::new(192, 168, 100, 254));
    let frame = |text| frames::udp(Way { from, to: (GATEWAY_MAC, STRANGER) }, text);
    tap.send(&frame(b"forbidden")).unwrap();
    one.ping(STRANGER, 1);
    assert_eq!(arrived(&socket), []);
    host.drop_rules();
    tap.send(&frame(b"control")).unwrap();
    assert_eq!(wait_for(&socket).0, b"control");
}
