//! Who holds which address, MAC and port of the host. Pure bookkeeping: no I/O, no clock; rebuilt from the instances' records at start.
//!
//! Invariant: an address, a MAC and a port of the host has at most one holder each, an instance holds at most one link,
//! and none of them is the host's. Free addresses are handed out in rotation, so a released one comes back as late as
//! possible and a neighbour's stale ARP entry or an old connection does not meet its next holder.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use dataplane_types::{AddressPlan, HostPort, InstanceId, Link, Mac, PortMapping, TapName};

/// Most guests on one bridge: the kernel numbers a bridge's ports with ten bits, from 1 (`BR_PORT_BITS`,
/// net/bridge/br_private.h); the 1,024th is refused with `EXFULL`.
pub const MAX_GUESTS: usize = 1023;

/// Why a link is not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Somebody else has this address.
    #[error("address {address} is held by instance {holder}")]
    AddressInUse {
        /// The address.
        address: Ipv4Addr,
        /// Who holds it.
        holder: InstanceId,
    },
    /// The address is outside the subnet, or its network, broadcast or gateway address.
    #[error("address {address} is no guest address of {subnet}")]
    NotInSubnet {
        /// The address.
        address: Ipv4Addr,
        /// The subnet of this host.
        subnet: ipnet::Ipv4Net,
    },
    /// Somebody else has this MAC.
    #[error("MAC {mac} is held by instance {holder}")]
    MacInUse {
        /// The MAC.
        mac: Mac,
        /// Who holds it.
        holder: InstanceId,
    },
    /// The MAC is one that the host gives to its own side of links.
    #[error("MAC {mac} is reserved for the host; any unicast one outside 02:d1:… would do")]
    MacReserved {
        /// The MAC.
        mac: Mac,
    },
    /// Another instance has this port of the host.
    #[error("host port {port} is held by instance {holder}")]
    PortInUse {
        /// The port.
        port: HostPort,
        /// Who holds it.
        holder: InstanceId,
    },
    /// A program of the host has this port.
    #[error("host port {port} is held by a program of the host, which listens on {address} (uid {uid})")]
    PortOfHost {
        /// The port.
        port: HostPort,
        /// On which address.
        address: std::net::IpAddr,
        /// Whose it is.
        uid: u32,
    },
    /// No address, or no port of the bridge, is left.
    #[error("no address of {subnet} is free ({held} held, at most {MAX_GUESTS} fit one bridge)")]
    Full {
        /// The subnet of this host.
        subnet: ipnet::Ipv4Net,
        /// How many are held.
        held: usize,
    },
    /// The instance holds a link already, and it is not what is asked for.
    #[error("instance {id} already holds address {address} with MAC {mac}")]
    AlreadyHolds {
        /// The instance.
        id: InstanceId,
        /// Its address.
        address: Ipv4Addr,
        /// Its MAC.
        mac: Mac,
    },
    /// A recorded link was made for another subnet or gateway than the daemon has now.
    #[error("the record of instance {id} has gateway {gateway}/{prefix_len}, but the network is {plan}")]
    OtherPlan {
        /// The instance.
        id: InstanceId,
        /// The recorded gateway.
        gateway: Ipv4Addr,
        /// The recorded prefix length.
        prefix_len: u8,
        /// The gateway and prefix of now.
        plan: ipnet::Ipv4Net,
    },
    /// A recorded TAP is not the one that belongs to its address.
    #[error("the record of instance {id} names TAP {tap}, but {expected} belongs to its address")]
    OtherTap {
        /// The instance.
        id: InstanceId,
        /// The recorded TAP.
        tap: TapName,
        /// The TAP of its address.
        expected: TapName,
    },
}

/// The holders of one subnet.
#[derive(Debug)]
pub(crate) struct Ledger {
    plan: AddressPlan,
    links: HashMap<InstanceId, Link>,
    by_address: HashMap<Ipv4Addr, InstanceId>,
    by_mac: HashMap<Mac, InstanceId>,
    by_port: HashMap<HostPort, InstanceId>,
    ports: HashMap<InstanceId, BTreeSet<HostPort>>,
    /// The address to try next; always in the subnet.
    next: u32,
}

impl Ledger {
    pub(crate) fn new(plan: AddressPlan) -> Self {
        Self {
            plan,
            links: HashMap::new(),
            by_address: HashMap::new(),
            by_mac: HashMap::new(),
            by_port: HashMap::new(),
            ports: HashMap::new(),
            next: u32::from(plan.subnet().network()),
        }
    }

    /// Takes a link over from a record. The rotation goes on behind the highest address seen.
    pub(crate) fn adopt(&mut self, id: &InstanceId, link: &Link) -> Result<(), ClaimError> {
        if let Some(held) = self.links.get(id) {
            return if held == link { Ok(()) } else { Err(already(id, held)) };
        }
        self.check_address(link.ip)?;
        let subnet = self.plan.subnet();
        if (link.gateway, link.prefix_len) != (self.plan.gateway(), subnet.prefix_len()) {
            return Err(ClaimError::OtherPlan {
                id: id.clone(),
                gateway: link.gateway,
                prefix_len: link.prefix_len,
                plan: crate::backend::gateway_net(self.plan.gateway(), subnet.prefix_len()),
            });
        }
        let expected = TapName::of(link.ip);
        if link.tap != expected {
            return Err(ClaimError::OtherTap { id: id.clone(), tap: link.tap.clone(), expected });
        }
        self.check_mac(link.mac)?;
        self.check_room()?;
        self.next = self.next.max(u32::from(link.ip).saturating_add(1));
        self.insert(id, link.clone());
        Ok(())
    }

    /// Gives an instance a link: the wanted address and MAC, or the next free ones. Asking again gives the same.
    pub(crate) fn claim(
        &mut self,
        id: &InstanceId,
        want_ip: Option<Ipv4Addr>,
        want_mac: Option<Mac>,
    ) -> Result<Link, ClaimError> {
        if let Some(held) = self.links.get(id) {
            let same = want_ip.is_none_or(|ip| ip == held.ip) && want_mac.is_none_or(|mac| mac == held.mac);
            return if same { Ok(held.clone()) } else { Err(already(id, held)) };
        }
        if let Some(mac) = want_mac {
            self.check_mac(mac)?;
        }
        let ip = match want_ip {
            Some(ip) => {
                self.check_address(ip)?;
                self.check_room()?;
                ip
            }
            None => self.next_free(want_mac.is_none())?,
        };
        let mac = want_mac.unwrap_or_else(|| Mac::of_guest(ip));
        self.check_mac(mac)?;
        let prefix_len = self.plan.subnet().prefix_len();
        let link = Link { ip, prefix_len, gateway: self.plan.gateway(), mac, tap: TapName::of(ip) };
        self.insert(id, link.clone());
        Ok(link)
    }

    /// Gives an instance ports of the host beside those that it holds: all of them or none.
    pub(crate) fn claim_ports(&mut self, id: &InstanceId, wanted: &[PortMapping]) -> Result<(), ClaimError> {
        for port in wanted.iter().map(PortMapping::host) {
            if let Some(holder) = self.by_port.get(&port).filter(|holder| *holder != id) {
                return Err(ClaimError::PortInUse { port, holder: holder.clone() });
            }
        }
        for port in wanted.iter().map(PortMapping::host) {
            self.by_port.insert(port, id.clone());
            self.ports.entry(id.clone()).or_default().insert(port);
        }
        Ok(())
    }

    /// Lets go of all ports that an instance holds but these.
    pub(crate) fn keep_ports(&mut self, id: &InstanceId, kept: &[PortMapping]) {
        let Some(held) = self.ports.get_mut(id) else { return };
        held.retain(|port| {
            let keep = kept.iter().any(|mapping| mapping.host() == *port);
            if !keep {
                self.by_port.remove(port);
            }
            keep
        });
        if held.is_empty() {
            self.ports.remove(id);
        }
    }

    /// Whether an instance holds a port of the host.
    pub(crate) fn holds_port(&self, id: &InstanceId, port: HostPort) -> bool {
        self.by_port.get(&port) == Some(id)
    }

    /// Lets go of whatever the instance holds.
    pub(crate) fn release(&mut self, id: &InstanceId) {
        self.keep_ports(id, &[]);
        if let Some(link) = self.links.remove(id) {
            self.by_address.remove(&link.ip);
            self.by_mac.remove(&link.mac);
        }
    }

    /// The address that an instance holds.
    pub(crate) fn address_of(&self, id: &InstanceId) -> Option<Ipv4Addr> {
        self.links.get(id).map(|link| link.ip)
    }

    /// Which instance holds an address.
    pub(crate) fn holder_of(&self, address: Ipv4Addr) -> Option<&InstanceId> {
        self.by_address.get(&address)
    }

    /// Whether an instance holds a link.
    pub(crate) fn holds(&self, id: &InstanceId) -> bool {
        self.links.contains_key(id)
    }

    /// Whether somebody holds the TAP of this name.
    pub(crate) fn holds_tap(&self, name: &str) -> bool {
        let address = name.strip_prefix("tap").and_then(|hex| u32::from_str_radix(hex, 16).ok()).map(Ipv4Addr::from);
        address.is_some_and(|address| TapName::of(address).as_str() == name && self.by_address.contains_key(&address))
    }

    fn insert(&mut self, id: &InstanceId, link: Link) {
        self.by_address.insert(link.ip, id.clone());
        self.by_mac.insert(link.mac, id.clone());
        self.links.insert(id.clone(), link);
    }

    fn check_address(&self, address: Ipv4Addr) -> Result<(), ClaimError> {
        if !self.plan.is_guest_address(address) {
            return Err(ClaimError::NotInSubnet { address, subnet: self.plan.subnet() });
        }
        match self.by_address.get(&address) {
            Some(holder) => Err(ClaimError::AddressInUse { address, holder: holder.clone() }),
            None => Ok(()),
        }
    }

    fn check_mac(&self, mac: Mac) -> Result<(), ClaimError> {
        // The bridge and every TAP's host side are `of_host` of some address: 02:d1 and four bytes.
        if mac.bytes()[..2] == Mac::of_host(Ipv4Addr::UNSPECIFIED).bytes()[..2] {
            return Err(ClaimError::MacReserved { mac });
        }
        match self.by_mac.get(&mac) {
            Some(holder) => Err(ClaimError::MacInUse { mac, holder: holder.clone() }),
            None => Ok(()),
        }
    }

    fn check_room(&self) -> Result<(), ClaimError> {
        if self.links.len() < MAX_GUESTS {
            return Ok(());
        }
        Err(ClaimError::Full { subnet: self.plan.subnet(), held: self.links.len() })
    }

    /// The first free address from where the last search ended. Each holder blocks at most two candidates (its address,
    /// and the one whose default MAC it wears) and the host three, which bounds the search however large the subnet is.
    fn next_free(&mut self, default_mac: bool) -> Result<Ipv4Addr, ClaimError> {
        self.check_room()?;
        let subnet = self.plan.subnet();
        let (first, last) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
        for _ in 0..=2 * self.links.len() + 3 {
            let candidate = if (first..=last).contains(&self.next) { self.next } else { first };
            self.next = candidate.wrapping_add(1);
            let address = Ipv4Addr::from(candidate);
            let taken_mac = default_mac && self.check_mac(Mac::of_guest(address)).is_err();
            if !taken_mac && self.check_address(address).is_ok() {
                return Ok(address);
            }
        }
        Err(ClaimError::Full { subnet, held: self.links.len() })
    }
}

fn already(id: &InstanceId, held: &Link) -> ClaimError {
    ClaimError::AlreadyHolds { id: id.clone(), address: held.ip, mac: held.mac }
}

#[cfg(test)]
mod tests;
