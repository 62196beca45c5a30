//! A host in a namespace, with our network on it, guests behind its TAPs, and a world behind its uplink.

use std::net::Ipv4Addr;
use std::sync::Arc;

use dataplane_network::{HostLink, Kernel, Network, NetworkConfig, NetworkError, StartReport};
use dataplane_testkit::netns::{Netns, RawTap};
use dataplane_types::{AddressPlan, GuestPolicy, InstanceId, Link, Mac};
use uuid::Uuid;

use crate::frames;

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 1);
pub(crate) const GATEWAY_MAC: Mac = Mac::of_host(GATEWAY);
/// The host's own address on the uplink, and its neighbour there.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
pub(crate) const OWNER: Uuid = Uuid::from_u128(0x1111);
/// The uid of VMMs.
pub(crate) const UID: u32 = 70_001;

pub(crate) fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

pub(crate) fn config() -> NetworkConfig {
    NetworkConfig {
        bridge: "vmbr0".parse().unwrap(),
        plan: AddressPlan::new("192.168.100.0/24".parse().unwrap(), GATEWAY).unwrap(),
        uplink: None,
        dns_server: Ipv4Addr::new(1, 1, 1, 1),
        owner: OWNER,
    }
}

/// A namespace and the daemon's network in it.
pub(crate) struct Host {
    pub(crate) ns: Netns,
    pub(crate) network: Arc<Network>,
}

impl Host {
    pub(crate) fn new(ns: Netns) -> Self {
        Self::with(ns, config())
    }

    pub(crate) fn with(ns: Netns, config: NetworkConfig) -> Self {
        let network = network(&ns, config);
        Self { ns, network }
    }

    /// A started host, alone in the world.
    pub(crate) fn started() -> Self {
        let host = Self::new(Netns::new());
        host.start().unwrap();
        host
    }

    /// A started host with a default route by `eth0` to the neighbour `STRANGER`.
    pub(crate) fn with_uplink() -> (Self, Netns) {
        let (ns, world) = uplinked();
        let host = Self::new(ns);
        host.start().unwrap();
        (host, world)
    }

    pub(crate) fn start(&self) -> Result<StartReport, NetworkError> {
        let network = self.network.clone();
        self.ns.block_on(move || async move { network.start().await })
    }

    pub(crate) fn ensure(&self, name: &str, link: &Link, uid: u32) -> Result<(), NetworkError> {
        self.ensure_with(name, link, GuestPolicy::default(), uid)
    }

    pub(crate) fn ensure_with(
        &self,
        name: &str,
        link: &Link,
        policy: GuestPolicy,
        uid: u32,
    ) -> Result<(), NetworkError> {
        let (network, id, link) = (self.network.clone(), id(name), link.clone());
        self.ns.block_on(move || async move { network.ensure(&id, &link, &policy, uid).await })
    }

    /// Limits a link, or lifts the limit.
    pub(crate) fn limit(&self, name: &str, link: &Link, megabits: Option<u32>) -> Result<(), NetworkError> {
        let (network, id, link) = (self.network.clone(), id(name), link.clone());
        self.ns.block_on(move || async move { network.limit(&id, &link, megabits).await })
    }

    pub(crate) fn remove(&self, link: &Link) -> Result<(), NetworkError> {
        let (network, link) = (self.network.clone(), link.clone());
        self.ns.block_on(move || async move {
            network.remove(&link).await?;
            network.settle().await;
            Ok(())
        })
    }

    pub(crate) fn teardown(&self) -> Result<(), NetworkError> {
        let network = self.network.clone();
        self.ns.block_on(move || async move { network.teardown().await })
    }

    /// The checks that are not as they shall be, as `name: detail`.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let network = self.network.clone();
        let checks = self.ns.block_on(move || async move { network.check().await });
        checks.into_iter().filter(|check| !check.ok).map(|check| format!("{}: {}", check.name, check.detail)).collect()
    }

    /// A claimed link with its TAP.
    pub(crate) fn link(&self, name: &str) -> Link {
        let link = self.network.claim(&id(name), None, None, &[]).unwrap();
        self.ensure(name, &link, UID).unwrap();
        link
    }

    /// A guest behind a TAP of its own, known to the host's neighbour table.
    pub(crate) fn guest(&self, name: &str) -> Guest {
        let link = self.link(name);
        self.ns.ip(&format!("neigh replace {} lladdr {} dev vmbr0", link.ip, link.mac));
        Guest { tap: self.ns.tap(link.tap.as_str()), link, seen: Vec::new() }
    }

    pub(crate) fn forwarding(&self, interface: &str) -> String {
        forwarding(&self.ns, interface)
    }

    /// Takes all protection away: what arrives now, arrived not because of it.
    pub(crate) fn drop_rules(&self) {
        self.ns.command("nft", &["flush", "ruleset"]);
    }

    pub(crate) fn find(&self, name: &str) -> Option<HostLink> {
        let (kernel, name) = (kernel(&self.ns), name.to_owned());
        self.ns.block_on(move || async move { dataplane_network::Backend::link(&kernel, &name).await.unwrap() })
    }
}

pub(crate) fn forwarding(ns: &Netns, interface: &str) -> String {
    ns.command("cat", &[&format!("/proc/sys/net/ipv4/conf/{interface}/forwarding")]).trim().to_owned()
}

/// Another daemon's network in the same namespace.
pub(crate) fn network(ns: &Netns, config: NetworkConfig) -> Arc<Network> {
    Arc::new(Network::new(config, Arc::new(kernel(ns))))
}

pub(crate) fn kernel(ns: &Netns) -> Kernel {
    ns.run(|| Kernel::start().unwrap())
}

/// A namespace with a default route by `eth0` into another one, which knows no route back but to `OUTSIDE`.
pub(crate) fn uplinked() -> (Netns, Netns) {
    let (ns, world) = (Netns::new(), Netns::new());
    ns.connect("eth0", &world, "w0");
    ns.ip(&format!("addr add {OUTSIDE}/24 dev eth0"));
    world.ip(&format!("addr add {STRANGER}/24 dev w0"));
    ns.ip(&format!("route add default via {STRANGER} dev eth0 metric 100"));
    (ns, world)
}

/// The guest's side of a link.
pub(crate) struct Guest {
    pub(crate) link: Link,
    tap: RawTap,
    /// Every frame that has come so far.
    pub(crate) seen: Vec<Vec<u8>>,
}

impl Guest {
    pub(crate) fn me(&self) -> (Mac, Ipv4Addr) {
        (self.link.mac, self.link.ip)
    }

    pub(crate) fn send(&mut self, frame: &[u8]) {
        self.tap.send(frame).unwrap();
    }

    /// Receives until a frame is what is looked for; answers ARP on the way, as a guest's kernel does.
    pub(crate) fn until<T>(&mut self, what: &str, wanted: impl Fn(&[u8]) -> Option<T>) -> T {
        for _ in 0..1000 {
            let frame = self.tap.receive().unwrap_or_else(|error| panic!("no {what}: {error}"));
            if let Some(answer) = frames::arp_answer(&frame, self.me()) {
                self.send(&answer);
            }
            let found = wanted(&frame);
            self.seen.push(frame);
            if let Some(found) = found {
                return found;
            }
        }
        panic!("no {what} among a thousand frames");
    }

    /// Asks the gateway for its MAC and waits for the answer: whatever was sent to this guest before is in `seen` then.
    pub(crate) fn fence(&mut self) -> Mac {
        let request = frames::arp_request(self.me(), GATEWAY);
        self.send(&request);
        self.until("answer from the gateway", |frame| frames::arp_reply(frame, GATEWAY))
    }

    /// An echo request that leaves by the gateway.
    pub(crate) fn ping_frame(&self, to: Ipv4Addr, number: u8) -> Vec<u8> {
        frames::echo_request(frames::Way { from: self.me(), to: (GATEWAY_MAC, to) }, number)
    }

    /// Pings by the gateway and waits for the answer.
    pub(crate) fn ping(&mut self, to: Ipv4Addr, number: u8) {
        let frame = self.ping_frame(to, number);
        self.send(&frame);
        self.until(&format!("echo from {to}"), |frame| frames::echo_reply(frame, number).filter(|from| *from == to));
    }

    pub(crate) fn has_seen(&self, text: &[u8]) -> bool {
        self.seen.iter().any(|frame| frames::holds(frame, text))
    }
}
