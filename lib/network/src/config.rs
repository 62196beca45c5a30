//! What the operator chose: bridge, addresses, uplink; and the names that follow from it.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use dataplane_types::{AddressPlan, Mac};
use uuid::Uuid;

/// Longest interface name: `IFNAMSIZ` is 16 with its NUL (linux/if.h).
const LONGEST_NAME: usize = 15;

/// Why a text cannot be the name of an interface of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "interface name {name:?} is not valid: a letter or digit, then letters, digits, '.', '_' or '-', at most 15, and neither 'all', 'default' nor 'lo'"
)]
pub struct InterfaceNameError {
    /// The offending text, cut to 80 characters.
    pub name: String,
}

/// The name of a network interface, narrower than what the kernel allows: it goes into paths below `/proc/sys/net`
/// (where `all` and `default` mean every interface) and, quoted, into nftables rules (where a `*` would match many).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name as the kernel knows it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = InterfaceNameError;
    fn from_str(text: &str) -> Result<Self, InterfaceNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let good = text.len() <= LONGEST_NAME
            && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
            && text.bytes().all(allowed)
            && !matches!(text, "all" | "default" | "lo");
        if good { Ok(Self(text.to_owned())) } else { Err(InterfaceNameError { name: text.chars().take(80).collect() }) }
    }
}

impl From<&dataplane_types::TapName> for InterfaceName {
    fn from(name: &dataplane_types::TapName) -> Self {
        Self(name.as_str().to_owned())
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The network of one daemon.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The bridge, made and removed by us.
    pub bridge: InterfaceName,
    /// Subnet and gateway.
    pub plan: AddressPlan,
    /// Where guests leave the host; without it, the interface of the default route.
    pub uplink: Option<InterfaceName>,
    /// The name server that every guest may ask, whatever else it may reach.
    pub dns_server: Ipv4Addr,
    /// The uuid of the data directory: the mark on everything that we make, so that two daemons never reap each other.
    pub owner: Uuid,
}

impl NetworkConfig {
    /// Our nftables tables, of families `inet` and `bridge`; the name carries the bridge's name so that two daemons do not share one.
    #[must_use]
    pub fn table(&self) -> String {
        format!("dataplane_{}", self.bridge)
    }

    /// The bridge's own MAC: without one it takes its first port's, and guests lose their gateway when ports change.
    #[must_use]
    pub fn bridge_mac(&self) -> Mac {
        Mac::of_host(self.plan.gateway())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_more_than_one_interface_are_refused() {
        for good in ["vmbr0", "eth0", "br-0.1_a", "0", "abcdefghijklmno"] {
            assert!(good.parse::<InterfaceName>().is_ok(), "{good}");
        }
        for bad in
            ["", "all", "default", "lo", "eth*", "../x", "a/b", "a b", "a\"b", "a:b", "-x", ".", "abcdefghijklmnop"]
        {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad:?}");
        }
    }
}
