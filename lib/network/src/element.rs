//! What belongs to one guest in the kernel's rules: elements of sets and maps, never rules. Here is what they say; how
//! they are written for `nft` and for the kernel is next door.

use std::fmt;
use std::net::Ipv4Addr;

use dataplane_types::{GuestPolicy, HostPort, Link, Mac, TapName, Transport};

use crate::egress::{self, Cell, EgressTooFine};

/// An element of one of our sets and maps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Who may be behind a port of the bridge.
    Guest {
        /// The port.
        tap: TapName,
        /// Its only MAC.
        mac: Mac,
        /// Its only address.
        ip: Ipv4Addr,
    },
    /// A guest that may go wherever the uplink leads.
    Unlimited(Ipv4Addr),
    /// A guest, and a cell of its list.
    Egress(Ipv4Addr, Cell),
    /// A port of the host, and to where it leads.
    Published(HostPort, Ipv4Addr, u16),
}

/// An element of one of our sets and maps, opaque to whoever is not a backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element(pub(crate) Rule);

/// What there is to be put into sets and maps and taken out of them, all at once or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ElementChange {
    /// Our tables' name.
    pub table: String,
    /// Taken out first; what is not there is no error.
    pub remove: Vec<Element>,
    /// Then put in; what is there already is no error.
    pub add: Vec<Element>,
}

/// The family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Packets: IPv4 and IPv6.
    Inet,
    /// Frames on bridges.
    Bridge,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        })
    }
}

/// One of our sets or maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set {
    Guests,
    Unlimited,
    /// The lists of those guests whose addresses end in these bits.
    Egress(u8),
    Published,
}

/// Into how many sets the guests' lists are divided: the kernel copies a set of ranges whole at every change, so that
/// one for all would cost 20 ms where a thousand guests have lists.
pub(crate) const EGRESS_SETS: u8 = 64;

/// Which of them has an address's list.
pub(crate) fn egress_set(ip: Ipv4Addr) -> u8 {
    ip.octets()[3] % EGRESS_SETS
}

impl Set {
    pub(crate) fn family(self) -> Family {
        match self {
            Self::Guests => Family::Bridge,
            Self::Unlimited | Self::Egress(_) | Self::Published => Family::Inet,
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guests => f.write_str("guests"),
            Self::Unlimited => f.write_str("unlimited"),
            Self::Egress(number) => write!(f, "egress{number}"),
            Self::Published => f.write_str("published"),
        }
    }
}

impl Element {
    pub(crate) fn set(&self) -> Set {
        match self.0 {
            Rule::Guest { .. } => Set::Guests,
            Rule::Unlimited(_) => Set::Unlimited,
            Rule::Egress(ip, _) => Set::Egress(egress_set(ip)),
            Rule::Published(..) => Set::Published,
        }
    }
}

impl fmt::Display for Element {
    /// As `nft` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Guest { tap, mac, ip } => write!(f, "\"{tap}\" . {mac} . {ip}"),
            Rule::Unlimited(ip) => write!(f, "{ip}"),
            Rule::Egress(ip, Cell { first, last, protocols, ports }) => {
                write!(f, "{ip} . {first}-{last} . {}-{} . {}-{}", protocols.0, protocols.1, ports.0, ports.1)
            }
            Rule::Published(HostPort { protocol, number }, ip, port) => {
                write!(f, "{protocol} . {number} : {ip} . {port}")
            }
        }
    }
}

/// The number of a protocol in an IP header.
pub(crate) fn protocol_number(protocol: Transport) -> u8 {
    match protocol {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}

/// Everything that one guest has.
pub(crate) fn of_guest(link: &Link, policy: &GuestPolicy) -> Result<Vec<Element>, EgressTooFine> {
    let ip = link.ip;
    let mut rules = vec![Rule::Guest { tap: link.tap.clone(), mac: link.mac, ip }];
    match &policy.egress {
        None => rules.push(Rule::Unlimited(ip)),
        Some(list) => rules.extend(egress::cells(list)?.into_iter().map(|cell| Rule::Egress(ip, cell))),
    }
    rules.extend(policy.port_mappings.iter().map(|mapping| Rule::Published(mapping.host(), ip, mapping.guest_port)));
    Ok(rules.into_iter().map(Element).collect())
}
