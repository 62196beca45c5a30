//! Bridge, TAPs and rules: made, kept, mended.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dataplane_network::{MAX_GUESTS, NetworkConfig};
use dataplane_testkit::netns::{Netns, RawTap};
use dataplane_types::AddressPlan;

use crate::host::{GATEWAY_MAC, Host, OWNER, UID, config, id};

pub(crate) fn start_makes_the_bridge_and_may_be_repeated() {
    let host = Host::new(Netns::new());
    assert_eq!(host.complaints(), ["network: not started"]);
    let first = host.start().unwrap();
    assert_eq!((first.bridge_created, first.uplink, first.table.as_str()), (true, None, "dataplane_vmbr0"));
    let made = host.find("vmbr0").unwrap();
    assert!(made.up);
    assert_eq!((made.mac, made.alias), (Some(GATEWAY_MAC), Some(format!("dataplane:{OWNER}"))));
    assert!(host.ns.ip("-o -4 addr show vmbr0").contains("inet 192.168.100.1/24"));
    assert_eq!(host.ns.ip("-6 addr show vmbr0"), "", "no IPv6 on the bridge");
    assert_eq!(host.forwarding("vmbr0"), "1", "published ports are reached without an uplink too");
    assert_eq!(host.complaints(), Vec::<String>::new());

    host.ns.ip("link set vmbr0 address 02:00:00:00:00:01");
    let again = host.start().unwrap();
    assert_eq!(host.find("vmbr0").unwrap().mac, Some(GATEWAY_MAC), "a bent MAC is put straight");
    assert!(!again.bridge_created);
    assert_eq!(host.find("vmbr0").unwrap().index, made.index);
    assert_eq!(host.ns.ip("-o -4 addr show vmbr0").lines().count(), 1);

    let link = host.link("web-1");
    host.remove(&link).unwrap();
    assert_eq!(host.find("vmbr0").unwrap().mac, Some(GATEWAY_MAC), "ports come and go, the MAC stays");
}

pub(crate) fn a_tap_is_as_promised_and_kept() {
    let host = Host::started();
    let link = host.link("web-1");
    let name = link.tap.as_str();
    let shown = host.ns.ip(&format!("-d link show {name}"));
    for expected in
        ["tun type tap", "persist on", "vnet_hdr on", "user 70001", "master vmbr0", "isolated on", ",UP", "pi off"]
    {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert!(!shown.contains("multi_queue"), "{shown}");
    let made = host.find(name).unwrap();
    assert_eq!((made.mac, made.alias), (Some(link.host_mac()), Some(format!("{OWNER}:web-1"))));
    let ipv6 = host.ns.command("cat", &[&format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6")]);
    assert_eq!(ipv6, "1\n");

    // A VMM is attached, and what it or an operator has bent is put straight under it.
    let vmm = host.ns.tap(name);
    host.ns.ip(&format!("link set {name} down nomaster address 02:00:00:00:00:01"));
    host.ensure("web-1", &link, UID).unwrap();
    let mended = host.find(name).unwrap();
    assert_eq!((mended.index, mended.mac, mended.up), (made.index, made.mac, true));
    let shown = host.ns.ip(&format!("-d link show {name}"));
    assert!(shown.contains("master vmbr0") && shown.contains("isolated on"), "{shown}");
    drop(vmm);
    assert!(host.find(name).is_some(), "it outlives its VMM");

    host.remove(&link).unwrap();
    assert_eq!(host.find(name), None);
    host.remove(&link).unwrap();
}

pub(crate) fn a_tap_that_cannot_be_mended_is_made_anew() {
    let host = Host::started();
    let link = host.link("web-1");
    let name = link.tap.as_str();
    let first = host.find(name).unwrap();
    host.ensure("web-1", &link, UID + 1).unwrap();
    let second = host.find(name).unwrap();
    assert_ne!(second.index, first.index, "another owner");
    assert!(host.ns.ip(&format!("-d link show {name}")).contains("user 70002"));

    // The address went to another instance, and the old one's TAP had been left behind.
    host.network.release(&id("web-1"));
    let heir = host.network.claim(&id("web-2"), Some(link.ip), None, &[]).unwrap();
    host.ensure("web-2", &heir, UID + 1).unwrap();
    let third = host.find(name).unwrap();
    assert_ne!(third.index, second.index);
    assert_eq!(third.alias, Some(format!("{OWNER}:web-2")));
}

/// A VMM came right after its TAP was made and found it busy: another thread was just forking a child, which held a copy
/// of the descriptor by which the TAP had been made until it got to its exec.
pub(crate) fn a_new_tap_is_free_while_others_fork() {
    let host = Host::started();
    let stop = Arc::new(AtomicBool::new(false));
    let forkers: Vec<_> = (0..3)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // A change of user needs a step between fork and exec, which widens the gap.
                    let mut command = Command::new("true");
                    command.uid(0).status().unwrap();
                }
            })
        })
        .collect();
    let outcome = (0..150).try_for_each(|number| {
        let name = format!("i{number}");
        let link = host.link(&name);
        let tap = link.tap.to_string();
        host.ns.run(move || RawTap::attach(&tap).map(drop))
    });
    stop.store(true, Ordering::Relaxed);
    forkers.into_iter().for_each(|forker| forker.join().unwrap());
    outcome.unwrap();
}

pub(crate) fn a_bridge_holds_as_many_guests_as_the_ledger_gives() {
    let plan = AddressPlan::new("10.20.0.0/21".parse().unwrap(), "10.20.0.1".parse().unwrap()).unwrap();
    let host = Host::with(Netns::new(), NetworkConfig { plan, ..config() });
    host.start().unwrap();
    for number in 0..MAX_GUESTS {
        host.link(&format!("i{number}"));
    }
    assert!(host.network.claim(&id("one-more"), None, None, &[]).is_err(), "refused by the ledger");
    let extra = "link add extra type veth peer name other";
    host.ns.ip(extra);
    let joined = host.ns.run(|| Command::new("ip").args(["link", "set", "extra", "master", "vmbr0"]).output());
    assert!(!joined.unwrap().status.success(), "and the kernel would have refused as well: the limit is exact");
}

pub(crate) fn flushed_rules_are_noticed_and_mended() {
    let (host, _world) = Host::with_uplink();
    assert_eq!(host.complaints(), Vec::<String>::new());
    host.drop_rules();
    host.ns.ip("addr flush dev vmbr0");
    host.ns.command("sh", &["-c", "echo 0 > /proc/sys/net/ipv4/conf/vmbr0/forwarding"]);
    assert_eq!(
        host.complaints(),
        [
            "bridge: vmbr0 has not the gateway address 192.168.100.1/24",
            "nft_table: inet dataplane_vmbr0 does not exist",
            "forwarding: net.ipv4.conf.vmbr0.forwarding is 0"
        ]
    );
    host.start().unwrap();
    assert_eq!(host.complaints(), Vec::<String>::new());

    host.ns.ip("route del default");
    assert_eq!(host.complaints(), ["uplink: eth0 at start, but there is no default route now"]);
    host.ns.ip("link set vmbr0 down");
    assert_eq!(host.complaints()[0], "bridge: vmbr0 is down");
}

pub(crate) fn odd_bridge_names_work_everywhere() {
    for name in ["br-0.1_a", "7", "abcdefghijklmno"] {
        let host = Host::with(Netns::new(), NetworkConfig { bridge: name.parse().unwrap(), ..config() });
        host.start().unwrap();
        host.link("web-1");
        assert_eq!(host.complaints(), Vec::<String>::new());
        host.teardown().unwrap();
        assert_eq!(host.ns.command("nft", &["list", "ruleset"]), "");
    }
}

pub(crate) fn the_gateway_follows_the_configuration() {
    let host = Host::started();
    let plan = AddressPlan::new("192.168.100.0/25".parse().unwrap(), "192.168.100.5".parse().unwrap()).unwrap();
    let host = Host::with(host.ns, NetworkConfig { plan, ..config() });
    host.start().unwrap();
    let shown = host.ns.ip("-o -4 addr show vmbr0");
    assert!(shown.contains("192.168.100.5/25") && shown.lines().count() == 1, "{shown}");
}
