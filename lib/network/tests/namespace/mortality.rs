//! A daemon that dies between any two things that it asks of the host: the next one finds what there is, and leaves
//! nothing that no record names.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use dataplane_network::{
    Addressing, Backend, BackendError, BridgeSpec, ElementChange, Family, ForeignChain, HostLink, Kernel, Listener,
    Network, Setting, ShapeSpec, TapSpec,
};
use dataplane_testkit::netns::Netns;
use dataplane_types::{GuestPolicy, HostPort, Link, PortMapping, TapName, Transport};

use crate::host::{Host, UID, config, id, kernel, uplinked};

/// The kernel, until a number of changes have been made; then nothing is done any more.
#[derive(Debug)]
struct Mortal {
    kernel: Kernel,
    left: AtomicUsize,
}

impl Mortal {
    /// Counts a change that is about to be made.
    fn live(&self) -> Result<(), BackendError> {
        let spend = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).map(drop).map_err(|_| BackendError::Gone)
    }
}

#[async_trait]
impl Backend for Mortal {
    fn is_real(&self) -> bool {
        true
    }
    async fn links(&self) -> Result<Vec<HostLink>, BackendError> {
        self.kernel.links().await
    }
    async fn link(&self, name: &str) -> Result<Option<HostLink>, BackendError> {
        self.kernel.link(name).await
    }
    async fn addressing(&self) -> Result<Addressing, BackendError> {
        self.kernel.addressing().await
    }
    async fn ensure_bridge(&self, spec: &BridgeSpec) -> Result<(), BackendError> {
        self.live()?;
        self.kernel.ensure_bridge(spec).await
    }
    async fn make_tap(&self, spec: &TapSpec) -> Result<bool, BackendError> {
        self.live()?;
        self.kernel.make_tap(spec).await
    }
    async fn ensure_tap(&self, spec: &TapSpec) -> Result<(), BackendError> {
        self.live()?;
        self.kernel.ensure_tap(spec).await
    }
    async fn shape(&self, spec: &ShapeSpec) -> Result<(), BackendError> {
        self.live()?;
        self.kernel.shape(spec).await
    }
    async fn unshape(&self, tap: &TapName) -> Result<(), BackendError> {
        self.live()?;
        self.kernel.unshape(tap).await
    }
    async fn remove_link(&self, link: &HostLink) -> Result<(), BackendError> {
        self.live()?;
        self.kernel.remove_link(link).await
    }
    async fn discard_link(&self, link: HostLink) {
        if self.live().is_ok() {
            self.kernel.discard_link(link).await;
        }
    }
    async fn spare_link(&self, name: &str) {
        self.kernel.spare_link(name).await;
    }
    async fn discarded(&self) {
        self.kernel.discarded().await;
    }
    async fn apply_ruleset(&self, script: &str) -> Result<(), BackendError> {
        self.live()?;
        self.kernel.apply_ruleset(script).await
    }
    async fn change_elements(&self, change: &ElementChange) -> Result<(), BackendError> {
        self.live()?;
        self.kernel.change_elements(change).await
    }
    async fn table_exists(&self, family: Family, name: &str) -> Result<bool, BackendError> {
        self.kernel.table_exists(family, name).await
    }
    async fn dropping_chains(&self, table: &str, bridge: &str) -> Result<Vec<ForeignChain>, BackendError> {
        self.kernel.dropping_chains(table, bridge).await
    }
    async fn listener(&self, port: HostPort) -> Result<Option<Listener>, BackendError> {
        self.kernel.listener(port).await
    }
    async fn setting(&self, setting: &Setting) -> Result<bool, BackendError> {
        self.kernel.setting(setting).await
    }
    async fn set(&self, setting: &Setting, on: bool) -> Result<(), BackendError> {
        self.live()?;
        self.kernel.set(setting, on).await
    }
}

fn policy(host_port: u16) -> GuestPolicy {
    let protocol = Transport::Tcp;
    GuestPolicy { port_mappings: vec![PortMapping { host_port, guest_port: 80, protocol }], egress: None }
}

/// A whole life, up to the death: start, two guests, one changes its ports, one goes. What the records say then.
async fn live(network: &Network) -> Vec<(&'static str, Link, GuestPolicy)> {
    let mut records = Vec::new();
    let _ = network.start().await;
    for (name, port) in [("one", 8080), ("two", 8081)] {
        let link = network.claim(&id(name), None, None, &policy(port).port_mappings).unwrap();
        // The record comes before anything in the kernel.
        records.push((name, link.clone(), policy(port)));
        let _ = network.ensure(&id(name), &link, &policy(port), UID).await;
    }
    records[0].2 = policy(9000);
    let _ = network.ensure(&id("one"), &records[0].1.clone(), &policy(9000), UID).await;
    let _ = network.limit(&id("two"), &records[1].1.clone(), Some(10)).await;
    let _ = network.remove(&records[1].1.clone()).await;
    network.settle().await;
    records.pop();
    records
}

/// What the namespace shows of elements and TAPs; the order is the kernel's.
fn shown(ns: &Netns) -> Vec<String> {
    let rules = ns.command("nft", &["list", "ruleset"]);
    let mut lines: Vec<String> = rules.split_whitespace().map(str::to_owned).collect();
    lines.sort();
    let taps = ns.ip("-o link show type tun") + &ns.ip("-o link show type ifb");
    lines.extend(taps.lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned));
    lines
}

pub(crate) fn nothing_is_left_wherever_it_dies() {
    let mut deaths = 0;
    for steps in 0.. {
        let (ns, _world) = uplinked();
        let mortal = Arc::new(Mortal { kernel: kernel(&ns), left: AtomicUsize::new(steps) });
        let network = Arc::new(Network::new(config(), Arc::clone(&mortal) as Arc<dyn Backend>));
        let records = ns.block_on(move || async move { live(&network).await });
        let lived = mortal.left.load(Ordering::SeqCst) > 0;
        drop(mortal);

        let host = Host::new(ns);
        for (name, link, policy) in &records {
            host.network.adopt(&id(name), link, policy).unwrap();
        }
        host.start().unwrap();
        let network = Arc::clone(&host.network);
        host.ns.block_on(move || async move { network.sweep(&[]).await.unwrap() });
        let (name, link, policy) = records[0].clone();
        host.ensure_with(name, &link, policy, UID).unwrap();
        let after_death = shown(&host.ns);
        assert!(after_death.iter().any(|word| word == link.tap.as_str()), "steps {steps}: {after_death:?}");

        // A host on which nobody ever died shows the same.
        let (ns, _world) = uplinked();
        let fresh = Host::new(ns);
        fresh.start().unwrap();
        let (name, link, policy) = records[0].clone();
        fresh.network.adopt(&id(name), &link, &policy).unwrap();
        fresh.ensure_with(name, &link, policy, UID).unwrap();
        assert_eq!(after_death, shown(&fresh.ns), "died after {steps} steps");
        host.teardown().unwrap();
        assert_eq!(host.ns.command("nft", &["list", "ruleset"]), "");
        if lived {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 8, "{deaths}");
}
