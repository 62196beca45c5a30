//! The bridge: made or mended by netlink.
//!
//! Its MAC is given at creation, in the same request, so that even a bridge whose making was cut short can be told from
//! a foreign one. Sysctls are written before it is up: there is no instant at which it speaks IPv6.

use dataplane_types::Mac;
use nix::libc;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec};

use super::inventory::{self, errno, local_net, refused};
use super::sysctl;
use crate::backend::{BackendError, BridgeSpec};

pub(super) async fn ensure(netlink: &Handle, spec: &BridgeSpec) -> Result<(), BackendError> {
    let name = spec.name.as_str();
    if inventory::find(netlink, name).await?.is_none() {
        create(netlink, name, spec.mac).await?;
    }
    let index = inventory::index_of(name)?;
    sysctl::no_ipv6(&spec.name)?;
    sysctl::no_redirects(&spec.name)?;
    let message =
        LinkUnspec::new_with_index(index).alias(spec.alias.clone()).address(spec.mac.bytes().to_vec()).up().build();
    netlink.link().change(message).execute().await.map_err(refused("configure bridge", name))?;
    ensure_address(netlink, spec, index).await
}

async fn create(netlink: &Handle, name: &str, mac: Mac) -> Result<(), BackendError> {
    // Guests are the only ports and form no loops: no spanning tree, so no delay before a port forwards.
    let message = LinkMessageBuilder::<LinkBridge>::new(name).forward_delay(0).address(mac.bytes().to_vec()).build();
    match netlink.link().add(message).execute().await {
        Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(()),
        outcome => outcome.map_err(refused("create bridge", name)),
    }
}

/// The gateway's address, and no other: one of an earlier configuration would keep its subnet reachable.
async fn ensure_address(netlink: &Handle, spec: &BridgeSpec, index: u32) -> Result<(), BackendError> {
    let name = spec.name.as_str();
    let mut present = false;
    for message in inventory::address_messages(netlink).await? {
        if message.header.index != index || message.header.family != AddressFamily::Inet {
            continue;
        }
        if local_net(&message).is_some_and(|net| net == spec.net) {
            present = true;
            continue;
        }
        match netlink.address().del(message).execute().await {
            Err(error) if errno(&error) == Some(libc::EADDRNOTAVAIL) => {}
            outcome => outcome.map_err(refused("remove an old address of", name))?,
        }
    }
    if present {
        return Ok(());
    }
    let request = netlink.address().add(index, spec.net.addr().into(), spec.net.prefix_len());
    match request.execute().await {
        Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(()),
        outcome => outcome.map_err(refused("give the gateway address to", name)),
    }
}
