//! Our nftables table as text: rendered here, applied whole in one transaction (`nft -f -`), so there is no instant with
//! half of it. Only features of nft 1.0.6 and of a Linux 6.1 cloud kernel.
//!
//! Invariant: nothing here matches a packet that neither comes from nor goes to our bridge, but for the one guard that
//! keeps the host from becoming a router where it was none before us. What belongs to one guest goes into sets and
//! maps, never into rules of its own.

use std::fmt::Write as _;

use crate::config::{InterfaceName, NetworkConfig};

/// How guests leave the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uplink {
    pub(crate) interface: InterfaceName,
    /// Forwarding was off there before us: whatever else it would now let through stays out.
    pub(crate) guarded: bool,
}

/// The script that replaces our table by what it shall be.
pub(crate) fn render(config: &NetworkConfig, uplink: Option<&Uplink>) -> String {
    let (table, bridge, subnet) = (config.table(), &config.bridge, config.plan.subnet());
    let mut text = remove(config);
    let _ = write!(
        text,
        r#"table inet {table} {{
  # No guest reaches the host's loopback, nor claims to be it; IPv6 is not spoken on the bridge.
  chain arrive {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{bridge}" ip saddr 127.0.0.0/8 drop
    iifname "{bridge}" ip daddr 127.0.0.0/8 drop
    iifname "{bridge}" meta nfproto ipv6 drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{bridge}" jump from_guests
    oifname "{bridge}" jump to_guests
"#
    );
    if let Some(Uplink { interface, guarded: true }) = uplink {
        // A container engine that publishes ports meanwhile translates them (dnat); that is its will, not an accident.
        let _ = write!(
            text,
            r#"    iifname "{interface}" oifname != "{bridge}" ct status dnat accept
    iifname "{interface}" oifname != "{bridge}" ct state new drop
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
"#
    );
    if let Some(Uplink { interface, .. }) = uplink {
        let _ = writeln!(text, r#"    oifname "{interface}" accept"#);
    }
    text.push_str("    drop\n  }\n  chain to_guests {\n");
    if let Some(Uplink { interface, .. }) = uplink {
        let _ = writeln!(text, r#"    iifname "{interface}" ct state established,related accept"#);
    }
    text.push_str("    drop\n  }\n");
    if let Some(Uplink { interface, .. }) = uplink {
        let _ = write!(
            text,
            r#"  chain leave {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {subnet} oifname "{interface}" masquerade
  }}
"#
        );
    }
    text.push_str("}\n");
    text
}

/// The script that removes our table; naming it first makes the removal of an absent one succeed.
pub(crate) fn remove(config: &NetworkConfig) -> String {
    let table = config.table();
    format!("table inet {table}\ndelete table inet {table}\n")
}

#[cfg(test)]
mod tests {
    use dataplane_types::AddressPlan;
    use uuid::Uuid;

    use super::*;

    fn config() -> NetworkConfig {
        NetworkConfig {
            bridge: "vmbr0".parse().unwrap(),
            plan: AddressPlan::new("10.1.0.0/24".parse().unwrap(), "10.1.0.1".parse().unwrap()).unwrap(),
            uplink: None,
            owner: Uuid::nil(),
        }
    }

    #[test]
    fn without_an_uplink_nothing_is_translated_or_let_through() {
        let text = render(&config(), None);
        assert!(!text.contains("masquerade"));
        assert!(!text.contains("ct state"));
        assert_eq!(text.matches("accept").count(), 2, "only the two policies: {text}");
    }

    #[test]
    fn the_guard_stands_only_where_forwarding_was_ours() {
        let uplink = |guarded| Uplink { interface: "eth0".parse().unwrap(), guarded };
        let guard = r#"iifname "eth0" oifname != "vmbr0" ct state new drop"#;
        assert!(render(&config(), Some(&uplink(true))).contains(guard));
        assert!(!render(&config(), Some(&uplink(false))).contains(guard));
    }

    #[test]
    fn the_script_replaces_the_whole_table() {
        let text = render(&config(), None);
        assert!(text.starts_with(
            "table inet dataplane_vmbr0\ndelete table inet dataplane_vmbr0\ntable inet dataplane_vmbr0 {\n"
        ));
    }
}
