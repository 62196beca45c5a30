//! Limits in the kernel: a token bucket (`tbf`) at the root of the TAP and of the intermediate device (IFB), and a filter
//! that leads all that the guest sends through the latter. Only what a Linux 6.1 cloud kernel has, and no more of it than
//! one filter of the oldest kind (`u32`), which matches everything.
//!
//! What comes back from the device passes neither filters nor netfilter's `netdev` hooks of the TAP a second time, and
//! everything else as if it came from there: our rules may be of the families `bridge` and `inet`, never `netdev`.
//!
//! The device comes first and goes last: where there is none, nothing of ours is at the TAP either.

use futures_util::StreamExt as _;
use nix::libc;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use rtnetlink::{Handle, LinkIfb, LinkUnspec};

use super::inventory::{self, errno, refused};
use super::sysctl;
use crate::backend::BackendError;
use crate::limit::{Rate, ShapeSpec};
use dataplane_types::TapName;

/// Attributes of a token bucket (linux/pkt_sched.h).
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;

/// `TC_LINKLAYER_ETHERNET`: the kernel works out the time that a frame takes, and wants no table of it.
const LINK_LAYER: u8 = 1;

/// `ffff:`, where what arrives can be filtered.
const INGRESS: u32 = 0xffff_0000;

/// `ETH_P_ALL` as it stands in the message: in network order.
const EVERY_PROTOCOL: u16 = 0x0003_u16.to_be();

const PRIORITY: u16 = 1;

/// Makes or mends the limits of a TAP that is there.
pub(super) async fn apply(netlink: &Handle, spec: &ShapeSpec) -> Result<(), BackendError> {
    let (tap_name, ifb_name) = (spec.tap.as_str(), spec.ifb.as_str());
    if inventory::find(netlink, ifb_name).await?.is_none() {
        create(netlink, spec).await?;
    }
    let (tap, ifb) = (inventory::index_of(tap_name)?, inventory::index_of(ifb_name)?);
    sysctl::no_ipv6(&spec.ifb)?;
    bucket(netlink, ifb, &spec.rate).await.map_err(refused("limit", ifb_name))?;
    let message = LinkUnspec::new_with_index(ifb).alias(spec.alias.clone()).up().build();
    netlink.link().change(message).execute().await.map_err(refused("mark and bring up", ifb_name))?;
    bucket(netlink, tap, &spec.rate).await.map_err(refused("limit", tap_name))?;
    // Anew, whatever it was: a filter that leads to a device that has gone drops everything.
    stop_leading(netlink, tap, tap_name).await?;
    let ingress = netlink.qdisc().add(signed(tap)).ingress();
    ingress.execute().await.map_err(refused("filter what arrives on", tap_name))?;
    let mut filter = netlink.traffic_filter(signed(tap));
    let filter = filter.add().parent(INGRESS).priority(PRIORITY).protocol(EVERY_PROTOCOL).redirect(ifb);
    let filter = filter.map_err(refused("redirect", tap_name))?;
    filter.execute().await.map_err(refused("redirect what arrives on", tap_name))
}

/// Takes the limits off a TAP; none there, or no TAP, is success.
pub(super) async fn lift(netlink: &Handle, tap: &TapName) -> Result<(), BackendError> {
    let name = tap.as_str();
    let Some(found) = inventory::find(netlink, name).await? else { return Ok(()) };
    stop_leading(netlink, found.link.index, name).await?;
    no_bucket(netlink, found.link.index).await.map_err(refused("lift the limit of", name))
}

async fn no_bucket(netlink: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    let mut root = netlink.qdisc().del(signed(index));
    root.message_mut().header.parent = TcHandle::ROOT;
    gone(root.execute().await)
}

async fn create(netlink: &Handle, spec: &ShapeSpec) -> Result<(), BackendError> {
    let name = spec.ifb.as_str();
    let message = LinkIfb::new(name).address(spec.mac.bytes().to_vec()).build();
    match netlink.link().add(message).execute().await {
        Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(()),
        outcome => outcome.map_err(refused("create", name)),
    }
}

async fn stop_leading(netlink: &Handle, tap: u32, name: &str) -> Result<(), BackendError> {
    let mut ingress = netlink.qdisc().del(signed(tap));
    ingress.message_mut().header.parent = TcHandle::INGRESS;
    gone(ingress.execute().await).map_err(refused("stop filtering what arrives on", name))
}

/// What is not there need not be removed. The kernel's own root cannot be, and says so in the same words.
fn gone(outcome: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match outcome {
        Err(error) if matches!(errno(&error), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => Ok(()),
        outcome => outcome,
    }
}

/// A new token bucket at the root, in place of the kernel's own or of an earlier one of ours, and of what waits in that.
/// One that is changed instead stands still for ever when a batch waits in it that is larger than its new burst.
async fn bucket(netlink: &Handle, index: u32, rate: &Rate) -> Result<(), rtnetlink::Error> {
    no_bucket(netlink, index).await?;
    let mut message = TcMessage::with_index(signed(index));
    message.header.parent = TcHandle::ROOT;
    message.attributes = vec![TcAttribute::Kind("tbf".to_owned()), TcAttribute::Options(options(rate))];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let mut answers = netlink.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(rtnetlink::Error::NetlinkError(error));
        }
    }
    Ok(())
}

/// `struct tc_tbf_qopt`: two `tc_ratespec`, the second unused, then limit, buffer and MTU; the rate beyond 32 bits and
/// the burst in bytes go beside it.
fn options(rate: &Rate) -> Vec<TcOption> {
    let mut parameters = vec![0, LINK_LAYER, 0, 0, 0, 0, 0, 0];
    parameters.extend(u32::try_from(rate.bytes_per_second).unwrap_or(u32::MAX).to_ne_bytes());
    parameters.extend([0; 12]);
    parameters.extend(rate.queue.to_ne_bytes());
    parameters.extend([0; 8]);
    let option = |kind, value| TcOption::Other(DefaultNla::new(kind, value));
    vec![
        option(TCA_TBF_PARMS, parameters),
        option(TCA_TBF_BURST, rate.burst.to_ne_bytes().to_vec()),
        option(TCA_TBF_RATE64, rate.bytes_per_second.to_ne_bytes().to_vec()),
    ]
}

/// Interfaces are numbered from 1 up in 31 bits.
fn signed(index: u32) -> i32 {
    index.cast_signed()
}
