//! What is ours and what is not.

use dataplane_network::{NetworkConfig, NetworkError};
use dataplane_testkit::netns::Netns;
use dataplane_types::GuestPolicy;
use uuid::Uuid;

use crate::host::{GATEWAY_MAC, Host, UID, config, forwarding, id, network, uplinked};

/// Everything that the namespace shows of interfaces, addresses, routes, rules and forwarding.
fn snapshot(ns: &Netns) -> String {
    let links = ns.ip("-o -d link show");
    // Counters of the kernel's own, such as a bridge's timers, are no state.
    let links: Vec<_> = links.lines().map(|line| line.split(" bridge forward_delay").next().unwrap_or(line)).collect();
    let settings =
        ns.command("sh", &["-c", "grep -H . /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv4/ip_forward"]);
    let rules = ns.command("nft", &["list", "ruleset"]);
    [&links.join("\n"), &ns.ip("-o -4 addr show"), &ns.ip("-4 route show table all"), &settings, &rules]
        .map(String::as_str)
        .join("\n--\n")
}

pub(crate) fn a_foreign_bridge_is_refused_and_untouched() {
    for (make, alias) in [
        ("link add vmbr0 type bridge", None),
        ("link add vmbr0 type bridge", Some("dataplane:00000000-0000-0000-0000-000000002222")),
        ("link add vmbr0 type bridge", Some("uplink of the rack")),
        ("link add vmbr0 type veth peer name x", Some("dataplane:host")),
    ] {
        let host = Host::new(Netns::new());
        host.ns.ip(make);
        if let Some(alias) = alias {
            host.ns.command("ip", &["link", "set", "vmbr0", "alias", alias]);
        }
        let before = snapshot(&host.ns);
        let error = host.start().unwrap_err();
        assert!(matches!(error, NetworkError::ForeignBridge { .. }), "{error}");
        assert_eq!(snapshot(&host.ns), before);
    }
}

/// A crash between the two requests that make a bridge leaves it without its mark, but with our MAC.
pub(crate) fn a_bridge_cut_short_is_finished() {
    let host = Host::new(Netns::new());
    host.ns.ip(&format!("link add vmbr0 address {GATEWAY_MAC} type bridge"));
    assert!(!host.start().unwrap().bridge_created);
    assert_eq!(host.complaints(), Vec::<String>::new());
}

pub(crate) fn a_foreign_tap_is_refused_and_untouched() {
    let host = Host::started();
    // A new bridge without a port loses its carrier some time later; one with a port is settled.
    let _port = host.guest("web-0");
    let link = host.network.claim(&id("web-1"), None, None, &[]).unwrap();
    host.ns.ip(&format!("tuntap add mode tap name {}", link.tap));
    for alias in ["", "00000000-0000-0000-0000-000000002222:web-1"] {
        host.ns.command("ip", &["link", "set", link.tap.as_str(), "alias", alias]);
        let before = snapshot(&host.ns);
        let error = host.ensure("web-1", &link, UID).unwrap_err();
        assert!(matches!(error, NetworkError::ForeignTap { .. }), "{error}");
        host.remove(&link).unwrap();
        assert_eq!(snapshot(&host.ns), before, "neither ensure nor remove touched it");
    }
}

pub(crate) fn sweep_takes_our_orphans_only() {
    let host = Host::started();
    let (held, kept, orphan) = (host.link("held"), host.link("kept"), host.link("orphan"));
    host.network.release(&id("kept"));
    host.network.release(&id("orphan"));
    let other = NetworkConfig {
        bridge: "vmbr1".parse().unwrap(),
        plan: dataplane_types::AddressPlan::new("10.5.0.0/24".parse().unwrap(), "10.5.0.1".parse().unwrap()).unwrap(),
        owner: Uuid::from_u128(0x2222),
        ..config()
    };
    let neighbour = network(&host.ns, other);
    let theirs = neighbour.claim(&id("orphan"), None, None, &[]).unwrap();
    let (daemon, link) = (neighbour.clone(), theirs.clone());
    host.ns.block_on(move || async move {
        daemon.start().await.unwrap();
        daemon.ensure(&id("orphan"), &link, &GuestPolicy::default(), UID).await.unwrap();
    });
    host.ns.ip("tuntap add mode tap name tapdeadbeef");

    let (daemon, keep) = (host.network.clone(), kept.tap.clone());
    let swept = host.ns.block_on(move || async move { daemon.sweep(&[keep]).await.unwrap() });
    assert_eq!(swept, [orphan.tap.as_str()]);
    for stays in [held.tap.as_str(), kept.tap.as_str(), theirs.tap.as_str(), "tapdeadbeef"] {
        assert!(host.find(stays).is_some(), "{stays}");
    }
}

pub(crate) fn teardown_leaves_the_host_as_it_was() {
    let (ns, _world) = uplinked();
    let before = snapshot(&ns);
    let host = Host::new(ns);
    host.start().unwrap();
    host.link("web-1");
    host.link("web-2");
    assert_eq!(host.forwarding("eth0"), "1");

    // The daemon that takes down need not be the process that set up.
    let host = Host::new(host.ns);
    assert_eq!(host.start().unwrap().uplink.unwrap().as_str(), "eth0");
    host.teardown().unwrap();
    assert_eq!(snapshot(&host.ns), before);
    host.teardown().unwrap();
    assert_eq!(snapshot(&host.ns), before, "twice is fine");
}

pub(crate) fn teardown_leaves_what_is_not_ours() {
    let host = Host::new(Netns::new());
    host.ns.ip("link add vmbr0 type bridge");
    host.ns.ip("tuntap add mode tap name tapc0a86402");
    host.ns.command("nft", &["add table inet theirs"]);
    let before = snapshot(&host.ns);
    host.teardown().unwrap();
    assert_eq!(snapshot(&host.ns), before);
}

/// On a host that is a router already forwarding is not ours: no guard, and nothing to undo.
pub(crate) fn forwarding_of_a_router_is_left_alone() {
    let (ns, _world) = uplinked();
    ns.command("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    let before = snapshot(&ns);
    let host = Host::new(ns);
    host.start().unwrap();
    assert!(!host.ns.command("nft", &["list", "ruleset"]).contains("ct state new drop"));
    host.teardown().unwrap();
    assert_eq!(snapshot(&host.ns), before);

    // It becomes one while we run: from the next start on it is theirs, and stays when we go.
    host.ns.command("sh", &["-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]);
    host.start().unwrap();
    assert!(host.ns.command("nft", &["list", "ruleset"]).contains("ct state new drop"));
    host.ns.command("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    host.start().unwrap();
    assert!(!host.ns.command("nft", &["list", "ruleset"]).contains("ct state new drop"));
    host.teardown().unwrap();
    assert_eq!(forwarding(&host.ns, "eth0"), "1");
}

pub(crate) fn an_overlap_is_refused_before_anything_is_made() {
    for (foreign, named) in [
        ("addr add 192.168.100.9/32 dev eth0", "address 192.168.100.9/32 of eth0"),
        ("addr add 192.168.5.1/16 dev eth0", "address 192.168.5.1/16 of eth0"),
        ("route add 192.168.100.64/26 dev eth0", "route 192.168.100.64/26 by eth0"),
        ("route add 192.168.100.0/23 via 10.99.0.2 table 77", "route 192.168.100.0/23 by eth0"),
    ] {
        let (ns, _world) = uplinked();
        ns.ip(foreign);
        let host = Host::new(ns);
        let before = snapshot(&host.ns);
        let error = host.start().unwrap_err().to_string();
        assert_eq!(error, format!("subnet 192.168.100.0/24 overlaps with {named}; choose another SUBNET_CIDR"));
        assert_eq!(snapshot(&host.ns), before);
    }
}

pub(crate) fn uplinks_that_cannot_be_are_refused() {
    let with = |uplink: &str| NetworkConfig { uplink: Some(uplink.parse().unwrap()), ..config() };
    let host = Host::with(Netns::new(), with("eth7"));
    assert!(matches!(host.start(), Err(NetworkError::UplinkMissing(_))));
    let host = Host::with(host.ns, with("vmbr0"));
    assert!(matches!(host.start(), Err(NetworkError::UplinkIsBridge(_))));
    assert_eq!(host.find("vmbr0"), None);

    let (ns, world) = uplinked();
    ns.connect("eth1", &world, "w1");
    let host = Host::with(ns, with("eth1"));
    assert_eq!(host.start().unwrap().uplink.unwrap().as_str(), "eth1", "the operator's word beats the default route");
}
