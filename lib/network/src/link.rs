//! The link of one instance, as its record holds it.

use std::net::Ipv4Addr;

use dataplane_types::{Mac, TapName};
use serde::{Deserialize, Serialize};

/// Address, MAC and TAP of an instance. Held if and only if the instance's record says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The guest's address.
    pub ip: Ipv4Addr,
    /// The prefix length of the subnet, for the guest's own configuration.
    pub prefix_len: u8,
    /// The guest's default route: the host's address on the bridge.
    pub gateway: Ipv4Addr,
    /// The guest's MAC. The host's side of the TAP has [`Mac::of_host`] of the address.
    pub mac: Mac,
    /// The TAP device on the host.
    pub tap: TapName,
}

impl Link {
    /// The MAC of the host's side of the TAP: it follows the address, so a TAP made again for a restored guest equals
    /// the one that its snapshot names.
    #[must_use]
    pub fn host_mac(&self) -> Mac {
        Mac::of_host(self.ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_keeps_its_form() {
        let ip = Ipv4Addr::new(192, 168, 100, 7);
        let link = Link {
            ip,
            prefix_len: 24,
            gateway: Ipv4Addr::new(192, 168, 100, 1),
            mac: Mac::of_guest(ip),
            tap: TapName::of(ip),
        };
        let text = r#"{"ip":"192.168.100.7","prefix_len":24,"gateway":"192.168.100.1","mac":"02:d0:c0:a8:64:07","tap":"tapc0a86407"}"#;
        assert_eq!(serde_json::to_string(&link).unwrap(), text);
        assert_eq!(serde_json::from_str::<Link>(text).unwrap(), link);
    }
}
