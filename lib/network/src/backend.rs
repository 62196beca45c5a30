//! The seam to the host: what the manager asks of it. The manager decides, a backend carries out; a backend knows marks
//! only as text, and neither instances nor the ledger.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use async_trait::async_trait;
use dataplane_types::{HostPort, Mac, TapName};
use ipnet::Ipv4Net;

use crate::config::InterfaceName;
use crate::element::{ElementChange, Family};
use crate::limit::ShapeSpec;

/// Why the host refused.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A netlink request failed.
    #[error("cannot {act} {subject}")]
    Netlink {
        /// What was asked.
        act: &'static str,
        /// Of which interface or route.
        subject: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// An ioctl or open on the TUN device failed.
    #[error("cannot {act} TAP {tap}")]
    Tap {
        /// What was asked.
        act: &'static str,
        /// Of which TAP.
        tap: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A kernel setting could not be read or written.
    #[error("cannot {act} kernel setting {path}")]
    Setting {
        /// `read` or `write`.
        act: &'static str,
        /// Its file below `/proc/sys`.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The `nft` program could not be run.
    #[error("cannot run nft; install the package nftables")]
    NftSpawn(#[source] io::Error),
    /// `nft` refused our rules.
    #[error("nft refused the rules: {0}")]
    NftRefused(String),
    /// The kernel refused a change of our sets and maps.
    #[error("the kernel refused a change of {table}: {}", if source.raw_os_error() == Some(2) { "it is not there; restart the daemon" } else { "see the cause" })]
    Elements {
        /// Our tables' name.
        table: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// `nft` did not end.
    #[error("nft did not end within {0} s")]
    NftTimeout(u64),
    /// The thread that owns the namespace has gone.
    #[error("the network thread has ended")]
    Gone,
}

/// The kind of an interface, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge.
    Bridge,
    /// A TUN or TAP device.
    Tun,
    /// An intermediate device, by which what arrives elsewhere can be held back.
    Ifb,
    /// Anything else.
    Other,
}

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLink {
    /// The kernel's number of it: names the same interface even when names move.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: LinkKind,
    /// Its alias: where our mark stands.
    pub alias: Option<String>,
    /// Its MAC, when it has one of six bytes.
    pub mac: Option<Mac>,
    /// Whether it is administratively up.
    pub up: bool,
}

/// An IPv4 address of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAddress {
    /// On which interface.
    pub interface: String,
    /// The address with its prefix.
    pub net: Ipv4Net,
}

/// A unicast IPv4 route of the host, of any table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoute {
    /// Where to; `0.0.0.0/0` is a default route.
    pub destination: Ipv4Net,
    /// By which interface.
    pub interface: String,
    /// Its metric; the lowest wins.
    pub metric: u32,
    /// Whether it is in the main table.
    pub main_table: bool,
}

/// Addresses and routes of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addressing {
    /// All IPv4 addresses.
    pub addresses: Vec<HostAddress>,
    /// All unicast IPv4 routes.
    pub routes: Vec<HostRoute>,
}

/// The bridge as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// Its name.
    pub name: InterfaceName,
    /// Our mark.
    pub alias: String,
    /// Its own MAC.
    pub mac: Mac,
    /// The gateway with the subnet's prefix: its only IPv4 address.
    pub net: Ipv4Net,
}

/// A TAP as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapSpec {
    /// Its name.
    pub name: TapName,
    /// Our mark.
    pub alias: String,
    /// The bridge that it belongs to.
    pub bridge: InterfaceName,
    /// The MAC of the host's side.
    pub mac: Mac,
    /// Who may open it.
    pub owner_uid: u32,
}

/// A kernel switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// `net.ipv4.ip_forward`: whether the host as a whole is a router. Read only: never set by us.
    HostForwarding,
    /// `net.ipv4.conf.<interface>.forwarding`: whether packets that arrive there may be forwarded.
    Forwarding(InterfaceName),
    /// `net.ipv4.conf.<interface>.route_localnet`: whether packets from or to 127.0.0.0/8 may pass there. For what is
    /// published to be reached by the host's loopback; our rules drop what comes so from guests.
    RouteLocalnet(InterfaceName),
}

/// A chain of somebody else that drops what it does not accept, and through which our guests' packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignChain {
    /// Family, table and name, as `nft` writes them.
    pub name: String,
    /// Whether rules of it, or a chain it jumps to, accept what comes from and what goes to our bridge.
    pub lets_through: bool,
}

/// Who has a port of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// On which address.
    pub address: IpAddr,
    /// Whose process it is.
    pub uid: u32,
}

/// What the manager asks of a host. All acts are idempotent.
#[async_trait]
pub trait Backend: Send + Sync + Debug {
    /// Whether anything at all happens behind it.
    fn is_real(&self) -> bool;
    /// All interfaces.
    async fn links(&self) -> Result<Vec<HostLink>, BackendError>;
    /// One interface by name.
    async fn link(&self, name: &str) -> Result<Option<HostLink>, BackendError>;
    /// Addresses and routes.
    async fn addressing(&self) -> Result<Addressing, BackendError>;
    /// Makes or mends the bridge.
    async fn ensure_bridge(&self, spec: &BridgeSpec) -> Result<(), BackendError>;
    /// Makes a new TAP; `false`, and nothing is touched, when the name is taken.
    async fn make_tap(&self, spec: &TapSpec) -> Result<bool, BackendError>;
    /// Makes or mends a TAP; one that cannot be mended (other owner, other queues) is made anew.
    async fn ensure_tap(&self, spec: &TapSpec) -> Result<(), BackendError>;
    /// Makes or mends the limits of a TAP that is there, and the intermediate device for them.
    async fn shape(&self, spec: &ShapeSpec) -> Result<(), BackendError>;
    /// Takes the limits off a TAP, and leaves the intermediate device; none there is success.
    async fn unshape(&self, tap: &TapName) -> Result<(), BackendError>;
    /// Removes an interface; gone already is success.
    async fn remove_link(&self, link: &HostLink) -> Result<(), BackendError>;
    /// Removes an interface in a while, together with others: the kernel takes long over each removal, and hardly longer
    /// over many. What cannot be removed then is logged.
    async fn discard_link(&self, link: HostLink);
    /// Takes the interface of this name out of what is to be removed, or waits until it is gone.
    async fn spare_link(&self, name: &str);
    /// Waits until nothing is left to be removed.
    async fn discarded(&self);
    /// Applies an nftables script as one transaction.
    async fn apply_ruleset(&self, script: &str) -> Result<(), BackendError>;
    /// Changes elements of sets and maps in one transaction.
    async fn change_elements(&self, change: &ElementChange) -> Result<(), BackendError>;
    /// Whether a table of this name exists.
    async fn table_exists(&self, family: Family, name: &str) -> Result<bool, BackendError>;
    /// Chains but those of `table` that drop what they do not accept where packets are forwarded.
    async fn dropping_chains(&self, table: &str, bridge: &str) -> Result<Vec<ForeignChain>, BackendError>;
    /// A socket of the host that has this port, on whatever address.
    async fn listener(&self, port: HostPort) -> Result<Option<Listener>, BackendError>;
    /// Reads a kernel switch.
    async fn setting(&self, setting: &Setting) -> Result<bool, BackendError>;
    /// Sets a kernel switch of one interface.
    async fn set(&self, setting: &Setting, on: bool) -> Result<(), BackendError>;
}

impl HostRoute {
    /// Whether it is a default route.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }
}

impl Addressing {
    /// The interface that the host's default route leaves by, except `ours`.
    #[must_use]
    pub fn default_interface(&self, ours: &InterfaceName) -> Option<&str> {
        self.routes
            .iter()
            .filter(|route| route.main_table && route.is_default() && route.interface != ours.as_str())
            .min_by_key(|route| route.metric)
            .map(|route| route.interface.as_str())
    }

    /// What of the host's own addressing our subnet would shadow: a text that names it. Default routes, also in halves
    /// (`0.0.0.0/1`, as VPNs write them), cover everything and shadow nothing.
    #[must_use]
    pub fn overlap(&self, subnet: Ipv4Net, ours: &InterfaceName) -> Option<String> {
        let touches = |other: Ipv4Net| subnet.contains(&other.trunc()) || other.trunc().contains(&subnet);
        let address = self
            .addresses
            .iter()
            .find(|address| address.interface != ours.as_str() && touches(address.net))
            .map(|address| format!("address {} of {}", address.net, address.interface));
        address.or_else(|| {
            self.routes
                .iter()
                .filter(|route| route.interface != ours.as_str() && route.destination.prefix_len() > 1)
                .find(|route| touches(route.destination))
                .map(|route| format!("route {} by {}", route.destination, route.interface))
        })
    }
}

/// The broadcast-free gateway address of a plan, as an interface address.
pub(crate) fn gateway_net(gateway: Ipv4Addr, prefix_len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(gateway, prefix_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn route(destination: &str, interface: &str, metric: u32) -> HostRoute {
        HostRoute { destination: net(destination), interface: interface.to_owned(), metric, main_table: true }
    }

    #[test]
    fn the_default_route_with_the_lowest_metric_names_the_uplink() {
        let ours = "vmbr0".parse().unwrap();
        let routes =
            vec![route("0.0.0.0/0", "wlan0", 600), route("0.0.0.0/0", "eth0", 100), route("0.0.0.0/0", "vmbr0", 0)];
        let addressing = Addressing { addresses: vec![], routes };
        assert_eq!(addressing.default_interface(&ours), Some("eth0"));
        assert_eq!(Addressing::default().default_interface(&ours), None);
    }

    #[test]
    fn foreign_addresses_and_routes_that_overlap_are_named() {
        let ours: InterfaceName = "vmbr0".parse().unwrap();
        let subnet = net("192.168.100.0/24");
        let address = |interface: &str, text| HostAddress { interface: interface.to_owned(), net: net(text) };
        let overlap = |addresses, routes| Addressing { addresses, routes }.overlap(subnet, &ours);
        assert_eq!(overlap(vec![address("vmbr0", "192.168.100.1/24")], vec![]), None);
        assert_eq!(overlap(vec![address("eth0", "192.168.101.1/24")], vec![route("0.0.0.0/1", "tun0", 0)]), None);
        assert_eq!(
            overlap(vec![address("eth0", "192.168.100.9/32")], vec![]).as_deref(),
            Some("address 192.168.100.9/32 of eth0")
        );
        assert_eq!(
            overlap(vec![address("eth0", "192.168.1.1/16")], vec![]).as_deref(),
            Some("address 192.168.1.1/16 of eth0")
        );
        assert_eq!(
            overlap(vec![], vec![route("192.168.100.128/25", "wg0", 0)]).as_deref(),
            Some("route 192.168.100.128/25 by wg0")
        );
    }
}
