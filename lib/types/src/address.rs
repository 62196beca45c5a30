//! The address plan of one node: subnet, gateway, and what may be handed out. Pure arithmetic; the ledger that hands
//! addresses out lives in the network crate.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::ParseError;

/// An Ethernet address (IEEE 802 MAC-48).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// A MAC from its six bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The six bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// The guest's MAC for an address: locally administered (`02`), then `d0`, then the four bytes of the address;
    /// unique on the bridge exactly when the address is.
    #[must_use]
    pub const fn of_guest(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0xd0, a, b, c, d])
    }

    /// The MAC of the host's side of the same link: `d1` in place of `d0`. It never changes, so the guest's
    /// neighbour table stays right when the TAP is made again.
    #[must_use]
    pub const fn of_host(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0xd1, a, b, c, d])
    }
}

impl FromStr for Mac {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::new("MAC address", text, "six hex pairs with colons, unicast");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a TAP device: `tap` and 8 hex digits of the address, so it fits the kernel's 15 bytes (`IFNAMSIZ`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TapName(String);

impl TapName {
    /// The TAP name that belongs to an address.
    #[must_use]
    pub fn of(address: Ipv4Addr) -> Self {
        Self(format!("tap{:08x}", u32::from(address)))
    }

    /// The name as the kernel knows it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TapName {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        let hex = text.strip_prefix("tap").unwrap_or_default();
        if hex.len() == 8 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(text))
        } else {
            Err(ParseError::new("TAP name", &text, "tap and 8 hex digits"))
        }
    }
}

impl From<TapName> for String {
    fn from(name: TapName) -> Self {
        name.0
    }
}

impl fmt::Display for TapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Why a subnet and gateway cannot serve guests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressPlanError {
    /// Fewer than two usable addresses, or more than a /8.
    #[error("subnet {0} must have a prefix length from 8 to 30")]
    PrefixLength(Ipv4Net),
    /// The CIDR has bits set behind its prefix.
    #[error("subnet {0} has host bits set; {1} would be right")]
    HostBits(Ipv4Net, Ipv4Net),
    /// The gateway is no usable address of the subnet.
    #[error("gateway {0} is not a host address of {1}")]
    Gateway(Ipv4Addr, Ipv4Net),
}

/// A subnet with its gateway: which addresses guests may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPlan {
    subnet: Ipv4Net,
    gateway: Ipv4Addr,
}

impl AddressPlan {
    /// Checks that the gateway is a host address of the subnet and that guests have room beside it.
    ///
    /// # Errors
    /// [`AddressPlanError`] says which of the two is wrong.
    pub fn new(subnet: Ipv4Net, gateway: Ipv4Addr) -> Result<Self, AddressPlanError> {
        if !(8..=30).contains(&subnet.prefix_len()) {
            return Err(AddressPlanError::PrefixLength(subnet));
        }
        if subnet.trunc() != subnet {
            return Err(AddressPlanError::HostBits(subnet, subnet.trunc()));
        }
        if !subnet.contains(&gateway) || gateway == subnet.network() || gateway == subnet.broadcast() {
            return Err(AddressPlanError::Gateway(gateway, subnet));
        }
        Ok(Self { subnet, gateway })
    }

    /// The subnet.
    #[must_use]
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    /// The gateway: the host's own address on the bridge.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// Whether a guest may hold this address: in the subnet, and neither network, broadcast nor gateway.
    #[must_use]
    pub fn is_guest_address(&self, address: Ipv4Addr) -> bool {
        self.subnet.contains(&address)
            && address != self.subnet.network()
            && address != self.subnet.broadcast()
            && address != self.gateway
    }
}

/// The network link of one instance. Whoever's record names it holds it: address, MAC and TAP alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The guest's address.
    pub ip: Ipv4Addr,
    /// Prefix length of the subnet.
    pub prefix_len: u8,
    /// The guest's default gateway.
    pub gateway: Ipv4Addr,
    /// The guest's MAC.
    pub mac: Mac,
    /// The host's end.
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

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn gateway_network_and_broadcast_are_never_guest_addresses() {
        let plan = AddressPlan::new(net("192.168.100.0/24"), Ipv4Addr::new(192, 168, 100, 1)).unwrap();
        for (last, usable) in [(0, false), (1, false), (2, true), (254, true), (255, false)] {
            assert_eq!(plan.is_guest_address(Ipv4Addr::new(192, 168, 100, last)), usable, "{last}");
        }
        assert!(!plan.is_guest_address(Ipv4Addr::new(192, 168, 101, 2)));
    }

    #[test]
    fn plans_that_cannot_serve_are_refused() {
        let gateway = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(
            AddressPlan::new(net("10.0.0.0/31"), gateway),
            Err(AddressPlanError::PrefixLength(net("10.0.0.0/31")))
        );
        assert!(matches!(AddressPlan::new(net("10.0.0.7/24"), gateway), Err(AddressPlanError::HostBits(..))));
        assert!(matches!(AddressPlan::new(net("10.0.1.0/24"), gateway), Err(AddressPlanError::Gateway(..))));
    }

    #[test]
    fn a_links_record_keeps_its_form() {
        let ip = Ipv4Addr::new(192, 168, 100, 7);
        let gateway = Ipv4Addr::new(192, 168, 100, 1);
        let link = Link { ip, prefix_len: 24, gateway, mac: Mac::of_guest(ip), tap: TapName::of(ip) };
        let text = r#"{"ip":"192.168.100.7","prefix_len":24,"gateway":"192.168.100.1","mac":"02:d0:c0:a8:64:07","tap":"tapc0a86407"}"#;
        assert_eq!(serde_json::to_string(&link).unwrap(), text);
        assert_eq!(serde_json::from_str::<Link>(text).unwrap(), link);
    }

    #[test]
    fn macs_and_tap_names_follow_the_address() {
        let address = Ipv4Addr::new(192, 168, 100, 7);
        assert_eq!(Mac::of_guest(address).to_string(), "02:d0:c0:a8:64:07");
        assert_eq!(TapName::of(address).as_str(), "tapc0a86407");
        assert_eq!("02:d0:c0:a8:64:07".parse(), Ok(Mac::of_guest(address)));
        for bad in
            ["", "01:00:00:00:00:00", "00:00:00:00:00:00", "2:0:0:0:0:0", "02:00:00:00:00:00:00", "+2:00:00:00:00:00"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
