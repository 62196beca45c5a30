//! What the network does for one guest beyond its link: the ports of the host that lead to it, and where it may go.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::ParseError;

/// A protocol with ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the host: at most one instance's, like an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// TCP and UDP ports of one number are two things.
    pub protocol: Transport,
    /// The number; never 0.
    pub number: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// A port of the host that leads to a port of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortMapping {
    /// The host's.
    pub host_port: u16,
    /// The guest's.
    pub guest_port: u16,
    /// Of which protocol.
    pub protocol: Transport,
}

impl PortMapping {
    /// What it holds of the host.
    #[must_use]
    pub fn host(&self) -> HostPort {
        HostPort { protocol: self.protocol, number: self.host_port }
    }
}

/// What a guest may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, of whatever type.
    Icmp,
}

/// Ports from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// The ports.
    #[must_use]
    pub fn ports(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl FromStr for PortRange {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong =
            || ParseError::new("port range", text, "a port from 1 to 65535, or two with a hyphen, the lower first");
        let number = |part: &str| {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u16>().ok().filter(|port| digits && *port > 0).ok_or_else(wrong)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self { first: number(first)?, last: number(last)? };
        if range.first <= range.last { Ok(range) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for PortRange {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// Somewhere that a guest may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressRule {
    /// To which addresses.
    pub cidr: Ipv4Net,
    /// By what; without it by any protocol, or with ports by TCP and UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<EgressProtocol>,
    /// To which ports; empty: to all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRange>,
}

/// What one guest has of the network besides its link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestPolicy {
    /// The ports of the host that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
    /// Where it may go; without a list wherever the host's uplink leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<EgressRule>>,
}

impl GuestPolicy {
    /// Whether it is what a guest has that nobody asked anything for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_are_one_port_or_two_in_order() {
        for good in ["1", "443", "8000-8999", "1-65535", "7-7"] {
            let range: PortRange = good.parse().unwrap();
            assert_eq!(range.to_string(), if good == "7-7" { "7" } else { good });
        }
        for bad in ["", "0", "65536", "-1", "9-", "-", "9-8", "0-9", "+1", "1-2-3", " 1", "a"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_policys_record_keeps_its_form() {
        let text = r#"{"port_mappings":[{"host_port":8080,"guest_port":80,"protocol":"tcp"}],"egress":[{"cidr":"10.0.0.0/8"},{"cidr":"1.1.1.1/32","protocol":"udp","ports":["53","60-70"]}]}"#;
        let policy: GuestPolicy = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&policy).unwrap(), text);
        assert_eq!(serde_json::to_string(&GuestPolicy::default()).unwrap(), "{}");
        assert!(GuestPolicy::default().is_default() && !policy.is_default());
        // An empty list is a list: it lets nothing through.
        let closed: GuestPolicy = serde_json::from_str(r#"{"egress":[]}"#).unwrap();
        assert_eq!(closed.egress, Some(Vec::new()));
        assert!(!closed.is_default());
    }
}
