//! What exists on the host: interfaces, addresses and routes by netlink; and removal of an interface.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;

use dataplane_types::Mac;
use futures_util::TryStreamExt as _;
use ipnet::Ipv4Net;
use nix::libc;
use rtnetlink::packet_core::{DefaultNla, Nla as _};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoTun, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::{Handle, LinkGetRequest, RouteMessageBuilder};

use crate::backend::{Addressing, BackendError, HostAddress, HostLink, HostRoute, LinkKind};

/// Attributes of a TUN or TAP device (linux/if_link.h, `IFLA_TUN_*`).
const IFLA_TUN_OWNER: u16 = 1;
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_TUN_PERSIST: u16 = 6;
const IFLA_TUN_MULTI_QUEUE: u16 = 7;

/// What a TAP was made with and cannot be changed by netlink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TunInfo {
    pub(super) owner: Option<u32>,
    pub(super) is_tap: bool,
    pub(super) is_persistent: bool,
    pub(super) is_multi_queue: bool,
}

/// An interface with what only the kernel module needs of it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) link: HostLink,
    /// For a TAP that is up: whether somebody is attached.
    pub(super) has_carrier: bool,
    pub(super) tun: Option<TunInfo>,
}

/// Turns a netlink answer into our error.
pub(super) fn refused(act: &'static str, subject: &str) -> impl FnOnce(rtnetlink::Error) -> BackendError {
    let subject = subject.to_owned();
    move |error| {
        let source = match errno(&error) {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(error.to_string()),
        };
        BackendError::Netlink { act, subject, source }
    }
}

/// The kernel's error number, when it was the kernel that refused.
pub(super) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    if let rtnetlink::Error::NetlinkError(message) = error { Some(message.raw_code().abs()) } else { None }
}

pub(super) async fn links(netlink: &Handle) -> Result<Vec<HostLink>, BackendError> {
    // Counters are a third of each answer, and there may be a thousand.
    let request = netlink.link().get().set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
    let messages: Vec<LinkMessage> = request.execute().try_collect().await.map_err(refused("list", "interfaces"))?;
    Ok(messages.into_iter().map(|message| read_link(message).link).collect())
}

pub(super) async fn find(netlink: &Handle, name: &str) -> Result<Option<Found>, BackendError> {
    first(netlink.link().get().match_name(name.to_owned()), name).await
}

async fn first(request: LinkGetRequest, subject: &str) -> Result<Option<Found>, BackendError> {
    let mut answers = Box::pin(request.execute());
    match answers.try_next().await {
        Ok(message) => Ok(message.map(read_link)),
        Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(refused("look up", subject)(error)),
    }
}

/// The number of an interface that has to be there. No netlink: this is one ioctl, and asked for every TAP.
pub(super) fn index_of(name: &str) -> Result<u32, BackendError> {
    nix::net::if_::if_nametoindex(name).map_err(|errno| BackendError::Netlink {
        act: "find",
        subject: name.to_owned(),
        source: errno.into(),
    })
}

/// The names of some interfaces, by number: of a thousand TAPs none has an address or a route.
async fn names(netlink: &Handle, indices: BTreeSet<u32>) -> Result<HashMap<u32, String>, BackendError> {
    let mut names = HashMap::new();
    for index in indices {
        // One that has gone meanwhile took its addresses and routes with it.
        if let Some(found) = first(netlink.link().get().match_index(index), &format!("interface {index}")).await? {
            names.insert(index, found.link.name);
        }
    }
    Ok(names)
}

pub(super) async fn remove(netlink: &Handle, index: u32, name: &str) -> Result<(), BackendError> {
    match netlink.link().del(index).execute().await {
        Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(()),
        outcome => outcome.map_err(refused("remove", name)),
    }
}

/// The IPv4 addresses, with the interface's number.
pub(super) async fn address_messages(netlink: &Handle) -> Result<Vec<AddressMessage>, BackendError> {
    let mut request = netlink.address().get();
    request.message_mut().header.family = AddressFamily::Inet;
    request.execute().try_collect().await.map_err(refused("list", "addresses"))
}

pub(super) async fn addressing(netlink: &Handle) -> Result<Addressing, BackendError> {
    let addresses = address_messages(netlink).await?;
    let request = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
    let routes: Vec<RouteMessage> =
        netlink.route().get(whole_table(request)).execute().try_collect().await.map_err(refused("list", "routes"))?;
    let indices = addresses.iter().map(|message| message.header.index).chain(routes.iter().filter_map(interface_of));
    let names = names(netlink, indices.collect()).await?;
    Ok(Addressing {
        addresses: addresses.iter().filter_map(|message| read_address(message, &names)).collect(),
        routes: routes.iter().filter_map(|message| read_route(message, &names)).collect(),
    })
}

/// A dump asks for everything: what the builder presets for a new route would be a filter.
fn whole_table(mut request: RouteMessage) -> RouteMessage {
    let family = request.header.address_family;
    request.header = RouteHeader { address_family: family, ..RouteHeader::default() };
    request
}

fn read_link(message: LinkMessage) -> Found {
    let mut found = Found {
        link: HostLink {
            index: message.header.index,
            name: String::new(),
            kind: LinkKind::Other,
            alias: None,
            mac: None,
            up: message.header.flags.contains(LinkFlags::Up),
        },
        has_carrier: message.header.flags.contains(LinkFlags::LowerUp),
        tun: None,
    };
    for attribute in message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            found.link.name = name;
        } else if let LinkAttribute::IfAlias(alias) = attribute {
            found.link.alias = Some(alias);
        } else if let LinkAttribute::Address(bytes) = attribute {
            found.link.mac = <[u8; 6]>::try_from(bytes).ok().map(Mac::new);
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            read_info(&mut found, &infos);
        }
    }
    found
}

fn read_info(found: &mut Found, infos: &[LinkInfo]) {
    for info in infos {
        if let LinkInfo::Kind(kind) = info {
            found.link.kind = if *kind == InfoKind::Bridge {
                LinkKind::Bridge
            } else if *kind == InfoKind::Tun {
                LinkKind::Tun
            } else if *kind == InfoKind::Ifb {
                LinkKind::Ifb
            } else {
                LinkKind::Other
            };
        } else if let LinkInfo::Data(InfoData::Tun(attributes)) = info {
            found.tun = Some(read_tun(attributes));
        }
    }
}

fn read_tun(attributes: &[InfoTun]) -> TunInfo {
    let mut tun = TunInfo::default();
    for attribute in attributes {
        // The crate does not model these and may begin to; then they would have to be read from the new variants.
        let InfoTun::Other(nla) = attribute else { continue };
        let value = nla_value(nla);
        let is_set = value.first().is_some_and(|byte| *byte != 0);
        match nla.kind() {
            IFLA_TUN_OWNER => tun.owner = <[u8; 4]>::try_from(value).ok().map(u32::from_ne_bytes),
            IFLA_TUN_TYPE => tun.is_tap = value.first().is_some_and(|kind| i32::from(*kind) == libc::IFF_TAP),
            IFLA_TUN_PERSIST => tun.is_persistent = is_set,
            IFLA_TUN_MULTI_QUEUE => tun.is_multi_queue = is_set,
            _ => {}
        }
    }
    tun
}

fn nla_value(nla: &DefaultNla) -> Vec<u8> {
    let mut value = vec![0; nla.value_len()];
    nla.emit_value(&mut value);
    value
}

/// The address of a message: `IFA_LOCAL` is the host's own, `IFA_ADDRESS` the peer's on a point-to-point link.
pub(super) fn local_net(message: &AddressMessage) -> Option<Ipv4Net> {
    let mut local = None;
    for attribute in &message.attributes {
        if let AddressAttribute::Local(IpAddr::V4(address)) = attribute {
            local = Some(*address);
        } else if let (AddressAttribute::Address(IpAddr::V4(address)), None) = (attribute, local) {
            local = Some(*address);
        }
    }
    Ipv4Net::new(local?, message.header.prefix_len).ok()
}

fn read_address(message: &AddressMessage, names: &HashMap<u32, String>) -> Option<HostAddress> {
    Some(HostAddress { interface: names.get(&message.header.index)?.clone(), net: local_net(message)? })
}

/// A unicast route. Routes without an interface of their own (blackholes, nexthop objects) shadow nothing that could be
/// named, and are no uplink.
fn read_route(message: &RouteMessage, names: &HashMap<u32, String>) -> Option<HostRoute> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let (mut destination, mut metric) = (std::net::Ipv4Addr::UNSPECIFIED, 0);
    let mut table = u32::from(message.header.table);
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute {
            destination = *address;
        } else if let RouteAttribute::Priority(priority) = attribute {
            metric = *priority;
        } else if let RouteAttribute::Table(number) = attribute {
            table = *number;
        }
    }
    Some(HostRoute {
        destination: Ipv4Net::new(destination, message.header.destination_prefix_length).ok()?,
        interface: names.get(&interface_of(message)?)?.clone(),
        metric,
        main_table: table == u32::from(RouteHeader::RT_TABLE_MAIN),
    })
}

/// By which interface a route leaves; of several the first.
fn interface_of(message: &RouteMessage) -> Option<u32> {
    let mut interface = None;
    for attribute in &message.attributes {
        if let RouteAttribute::Oif(index) = attribute {
            interface = Some(*index);
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            interface = interface.or(hops.first().map(|hop| hop.interface_index));
        }
    }
    interface
}
