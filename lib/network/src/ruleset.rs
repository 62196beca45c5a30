//! Our nftables tables as text: rendered here, applied whole in one transaction (`nft -f -`), so there is no instant
//! with half of them. Only features of nft 1.0.6 and of a Linux 6.1 cloud kernel.
//!
//! Invariant: nothing here matches a packet that neither comes from nor goes to our bridge, but for the one guard that
//! keeps the host from becoming a router where it was none before us, and for the host's ports that are published. What
//! belongs to one guest goes into sets and maps, never into rules of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::config::{InterfaceName, NetworkConfig};
use crate::element::{EGRESS_SETS, Element, Family, Set};

/// How guests leave the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uplink {
    pub(crate) interface: InterfaceName,
    /// Forwarding was off there before us: whatever else it would now let through stays out.
    pub(crate) guarded: bool,
}

/// The script that replaces our tables by what they shall be, with the elements of those guests that are there.
pub(crate) fn render(config: &NetworkConfig, uplink: Option<&Uplink>, elements: &[Element]) -> String {
    let table = config.table();
    let mut text = remove(config);
    let _ = write!(text, "table bridge {table} {{\n{}}}\n", bridge(config));
    let _ = write!(text, "table inet {table} {{\n{}}}\n", inet(config, uplink));
    let mut sets: BTreeMap<Set, Vec<String>> = BTreeMap::new();
    for element in elements {
        sets.entry(element.set()).or_default().push(element.to_string());
    }
    for (set, elements) in sets {
        let family = set.family();
        let _ = writeln!(text, "add element {family} {table} {set} {{ {} }}", elements.join(", "));
    }
    text
}

/// The script that removes our tables; naming each first makes the removal of an absent one succeed.
pub(crate) fn remove(config: &NetworkConfig) -> String {
    let table = config.table();
    let of = |family| format!("table {family} {table}\ndelete table {family} {table}\n");
    of(Family::Bridge) + &of(Family::Inet)
}

/// What the names of all TAPs in a subnet begin with: a TAP's name holds its guest's address in hex digits, and a prefix
/// that ends within a digit takes several.
fn tap_patterns(subnet: Ipv4Net) -> Vec<String> {
    let (digits, bits) = (usize::from(subnet.prefix_len() / 4), subnet.prefix_len() % 4);
    let network = format!("{:08x}", u32::from(subnet.network()));
    if bits == 0 {
        return vec![format!("tap{}*", &network[..digits])];
    }
    let first = u32::from(subnet.network()) >> (28 - 4 * digits) & 0xf;
    let star = if digits == 7 { "" } else { "*" };
    (first..first + (1 << (4 - bits))).map(|digit| format!("tap{}{digit:x}{star}", &network[..digits])).collect()
}

/// One rule for each beginning of our TAPs' names.
fn for_taps(config: &NetworkConfig, rule: &str) -> String {
    tap_patterns(config.plan.subnet()).iter().fold(String::new(), |mut text, pattern| {
        let _ = writeln!(text, r#"    iifname "{pattern}" {rule}"#);
        text
    })
}

/// What a guest may send at all: IPv4 from its own address, and ARP about it for the gateway. Ports are known by their
/// names, so that one whose guest is not in the set yet, or not any more, sends nothing. A tagged frame has neither type.
fn bridge(config: &NetworkConfig) -> String {
    let gateway = config.plan.gateway();
    format!(
        r#"  set guests {{
    type ifname . ether_addr . ipv4_addr
  }}
  chain arrive {{
    type filter hook prerouting priority -300; policy accept;
{taps}  }}
  chain from_guest {{
    ether type ip iifname . ether saddr . ip saddr @guests accept
    ether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 jump arp_from_guest
    drop
  }}
  chain arp_from_guest {{
    arp daddr ip {gateway} iifname . ether saddr . arp saddr ip @guests iifname . arp saddr ether . arp saddr ip @guests accept
  }}
"#,
        taps = for_taps(config, "goto from_guest")
    )
}

fn inet(config: &NetworkConfig, uplink: Option<&Uplink>) -> String {
    let (bridge, gateway, subnet) = (&config.bridge, config.plan.gateway(), config.plan.subnet());
    let mut text = sets();
    // A frame to one of the addresses that bridges keep for themselves (01:80:c2:00:00:0e) is given to the host as the
    // port's own, not the bridge's.
    let _ = write!(
        text,
        r#"  # No guest reaches the host's loopback, nor claims to be it; IPv6 is not spoken on the bridge.
  chain arrive {{
    type filter hook prerouting priority raw; policy accept;
{taps}    iifname "{bridge}" ip saddr 127.0.0.0/8 drop
    iifname "{bridge}" ip daddr 127.0.0.0/8 drop
    iifname "{bridge}" meta nfproto ipv6 drop
  }}
  chain publish {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname != "{bridge}" fib daddr type local dnat ip to meta l4proto . th dport map @published
  }}
  chain publish_here {{
    type nat hook output priority -100; policy accept;
    fib daddr type local dnat ip to meta l4proto . th dport map @published
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "{bridge}" goto to_host
  }}
  chain to_host {{
    ct state established,related accept
    ip daddr {gateway} udp dport 53 accept
    ip daddr {gateway} tcp dport 53 accept
    ip daddr {gateway} icmp type echo-request accept
    drop
  }}
"#,
        taps = for_taps(config, "drop")
    );
    text.push_str(&forward(config, uplink));
    let _ = write!(
        text,
        r#"  chain leave {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{bridge}" ip saddr 127.0.0.0/8 masquerade
"#
    );
    if let Some(Uplink { interface, .. }) = uplink {
        let _ = writeln!(text, r#"    ip saddr {subnet} oifname "{interface}" masquerade"#);
    }
    text.push_str("  }\n");
    text
}

fn sets() -> String {
    r"  set unlimited {
    type ipv4_addr
  }
  map published {
    type inet_proto . inet_service : ipv4_addr . inet_service
  }
"
    .to_owned()
}

/// The guests' lists, each in the set and chain of its guest's address.
fn egress() -> String {
    (0..EGRESS_SETS).fold(String::new(), |mut text, number| {
        let _ = write!(
            text,
            r"  set egress{number} {{
    type ipv4_addr . ipv4_addr . inet_proto . inet_service
    flags interval
  }}
  chain egress{number} {{
    ip saddr . ip daddr . meta l4proto . th dport @egress{number} accept
    drop
  }}
"
        );
        text
    })
}

fn forward(config: &NetworkConfig, uplink: Option<&Uplink>) -> String {
    let (bridge, subnet) = (&config.bridge, config.plan.subnet());
    let mut text = format!(
        r#"  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{bridge}" goto from_guests
    oifname "{bridge}" goto to_guests
"#
    );
    text.insert_str(0, &egress());
    if let Some(Uplink { interface, guarded: true }) = uplink {
        // A container engine that publishes ports meanwhile translates them (dnat); that is its will, not an accident.
        let _ = write!(
            text,
            r#"    iifname "{interface}" ct status dnat accept
    iifname "{interface}" ct state new drop
"#
        );
    }
    // Link-local addresses must not be routed (RFC 3927 section 7), and a cloud's metadata service at 169.254.169.254
    // would take a masqueraded guest for the host itself.
    let _ = write!(
        text,
        r#"  }}
  chain from_guests {{
    oifname "{bridge}" drop
    ip saddr != {subnet} drop
    ip daddr 169.254.0.0/16 drop
    ct state established,related ct direction reply accept
"#
    );
    if let Some(Uplink { interface, .. }) = uplink {
        text.push_str(&to_uplink(interface, config.dns_server));
    }
    text.push_str(
        r"    drop
  }
  chain to_guests {
    ct state established,related accept
    ct status dnat accept
    drop
  }
",
    );
    text
}

fn to_uplink(interface: &InterfaceName, dns_server: Ipv4Addr) -> String {
    let ways = (0..EGRESS_SETS).map(|number| format!("0.0.0.{number} : goto egress{number}"));
    let ways = ways.collect::<Vec<_>>().join(", ");
    format!(
        r#"    oifname "{interface}" ip saddr @unlimited accept
    oifname "{interface}" ip daddr {dns_server} udp dport 53 accept
    oifname "{interface}" ip daddr {dns_server} tcp dport 53 accept
    oifname "{interface}" ip saddr & 0.0.0.{mask} vmap {{ {ways} }}
"#,
        mask = EGRESS_SETS - 1
    )
}

#[cfg(test)]
mod tests {
    use dataplane_types::{AddressPlan, GuestPolicy, Link, Mac, TapName};
    use uuid::Uuid;

    use super::*;

    fn config(subnet: &str, gateway: &str) -> NetworkConfig {
        NetworkConfig {
            bridge: "vmbr0".parse().unwrap(),
            plan: AddressPlan::new(subnet.parse().unwrap(), gateway.parse().unwrap()).unwrap(),
            uplink: None,
            dns_server: Ipv4Addr::new(1, 1, 1, 1),
            owner: Uuid::nil(),
        }
    }

    fn small() -> NetworkConfig {
        config("10.1.0.0/24", "10.1.0.1")
    }

    fn uplink(guarded: bool) -> Uplink {
        Uplink { interface: "eth0".parse().unwrap(), guarded }
    }

    #[test]
    fn without_an_uplink_nothing_leaves() {
        let text = render(&small(), None, &[]);
        assert!(!text.contains("10.1.0.0/24 oifname"));
        assert!(!text.contains("@unlimited") && !text.contains("goto egress"), "{text}");
    }

    #[test]
    fn the_guard_stands_only_where_forwarding_was_ours() {
        let guard = r#"iifname "eth0" ct state new drop"#;
        assert!(render(&small(), Some(&uplink(true)), &[]).contains(guard));
        assert!(!render(&small(), Some(&uplink(false)), &[]).contains(guard));
    }

    #[test]
    fn the_script_replaces_both_tables_whole() {
        let text = render(&small(), None, &[]);
        let [bridge, inet] = ["bridge", "inet"].map(|family| format!("{family} dataplane_vmbr0"));
        assert!(text.starts_with(&format!(
            "table {bridge}\ndelete table {bridge}\ntable {inet}\ndelete table {inet}\ntable {bridge} {{\n"
        )));
    }

    #[test]
    fn rules_do_not_grow_with_guests() {
        let guests: Vec<Element> = (2..250)
            .flat_map(|low| {
                let ip = Ipv4Addr::new(10, 1, 0, low);
                let gateway = Ipv4Addr::new(10, 1, 0, 1);
                let link = Link { ip, prefix_len: 24, gateway, mac: Mac::of_guest(ip), tap: TapName::of(ip) };
                crate::element::of_guest(&link, &GuestPolicy::default()).unwrap()
            })
            .collect();
        let (with, without) = (render(&small(), None, &guests), render(&small(), None, &[]));
        assert_eq!(with.lines().count(), without.lines().count() + 2, "one line for each set");
    }

    #[test]
    fn the_names_of_all_taps_of_a_subnet_and_of_no_other_begin_so() {
        for (subnet, patterns) in [
            ("192.168.100.0/24", &["tapc0a864*"][..]),
            ("10.0.0.0/8", &["tap0a*"]),
            ("10.9.4.0/22", &["tap0a0904*", "tap0a0905*", "tap0a0906*", "tap0a0907*"]),
            ("10.0.0.4/30", &["tap0a000004", "tap0a000005", "tap0a000006", "tap0a000007"]),
            ("10.0.0.16/28", &["tap0a00001*"]),
            ("128.0.0.0/9", &["tap800*", "tap801*", "tap802*", "tap803*", "tap804*", "tap805*", "tap806*", "tap807*"]),
        ] {
            assert_eq!(tap_patterns(subnet.parse().unwrap()), patterns, "{subnet}");
        }
    }
}
