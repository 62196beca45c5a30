//! The manager: start, the claims, one TAP per instance. It decides what is ours and what may be touched; the backend
//! carries out.
//!
//! Invariant: whatever does not carry our mark is refused or passed over, never changed; and every act may be repeated.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dataplane_types::{GuestPolicy, InstanceId, Link, Mac, PortMapping};
use tracing::{info, warn};

use crate::backend::{Backend, BridgeSpec, HostLink, LinkKind, Setting, TapSpec, gateway_net};
use crate::check::{self, Check};
use crate::config::{InterfaceName, NetworkConfig};
use crate::element::{self, Element};
use crate::error::NetworkError;
use crate::ledger::{ClaimError, Ledger};
use crate::limit::ifb_of;
use crate::mark::{self, BridgeMark};
use crate::rules::Rules;
use crate::ruleset::{self, Uplink};

/// What start found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartReport {
    /// By which interface guests leave; `None`: they reach the gateway only.
    pub uplink: Option<InterfaceName>,
    /// Whether the bridge was made just now.
    pub bridge_created: bool,
    /// The name of our nftables tables.
    pub table: String,
}

/// Handle to the network of this daemon; cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Network {
    pub(crate) config: NetworkConfig,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) rules: Rules,
    pub(crate) started: Mutex<Option<StartReport>>,
}

impl Network {
    /// A network that nothing exists of yet.
    #[must_use]
    pub fn new(config: NetworkConfig, backend: Arc<dyn Backend>) -> Self {
        let ledger = Mutex::new(Ledger::new(config.plan));
        let rules = Rules::new(config.table());
        Self { config, backend, ledger, rules, started: Mutex::new(None) }
    }

    /// Brings bridge, rules and forwarding into being, or mends them. Everything is looked at before anything is
    /// changed; may be called again at any time, for example after somebody has flushed the rules.
    ///
    /// # Errors
    /// [`NetworkError`] names what is in the way; then nothing of a foreign interface has been touched.
    pub async fn start(&self) -> Result<StartReport, NetworkError> {
        let table = self.config.table();
        if !self.backend.is_real() {
            let report = StartReport { uplink: None, bridge_created: false, table };
            *lock(&self.started) = Some(report.clone());
            return Ok(report);
        }
        let bridge = self.backend.link(self.config.bridge.as_str()).await?;
        let mark = self.bridge_mark(bridge.as_ref())?;
        let addressing = self.backend.addressing().await?;
        let subnet = self.config.plan.subnet();
        if let Some(foreign) = addressing.overlap(subnet, &self.config.bridge) {
            return Err(NetworkError::SubnetOverlap { subnet, foreign });
        }
        let uplink = self.find_uplink(addressing.default_interface(&self.config.bridge)).await?;
        let uplink = match uplink {
            Some(interface) => Some(self.judge_forwarding(interface, mark.forwarding.as_ref()).await?),
            None => None,
        };

        let forwarding = uplink.as_ref().filter(|uplink| uplink.guarded).map(|uplink| uplink.interface.clone());
        self.replace_rules(uplink.as_ref()).await?;
        self.backend.ensure_bridge(&self.bridge_spec(forwarding)).await?;
        // Not before the rules that keep guests from the host's loopback.
        let ours = self.config.bridge.clone();
        self.backend.set(&Setting::RouteLocalnet(ours.clone()), true).await?;
        // Without an uplink too: whoever else the host routes for reaches published ports.
        self.backend.set(&Setting::Forwarding(ours), true).await?;
        if let Some(uplink) = &uplink {
            self.backend.set(&Setting::Forwarding(uplink.interface.clone()), true).await?;
        }
        let interface = uplink.map(|uplink| uplink.interface);
        self.restore_forwarding(mark.forwarding.filter(|old| Some(old) != interface.as_ref())).await;

        let report = StartReport { uplink: interface, bridge_created: bridge.is_none(), table };
        let (bridge, gateway) = (&self.config.bridge, self.config.plan.gateway());
        match &report.uplink {
            Some(uplink) => {
                info!(network.bridge = %bridge, network.gateway = %gateway, network.uplink = %uplink, "network is up")
            }
            None => {
                info!(network.bridge = %bridge, network.gateway = %gateway, "network is up without an uplink: the host has no default route, guests reach the gateway only");
            }
        }
        *lock(&self.started) = Some(report.clone());
        Ok(report)
    }

    /// All rules anew, with the elements of the guests whose TAPs are there.
    async fn replace_rules(&self, uplink: Option<&Uplink>) -> Result<(), NetworkError> {
        let links = self.backend.links().await?;
        let taps: BTreeSet<String> =
            links.into_iter().filter(|link| self.is_our_tap(link)).map(|link| link.name).collect();
        let render = |elements: &[Element]| ruleset::render(&self.config, uplink, elements);
        Ok(self.rules.replace(self.backend.as_ref(), &taps, render).await?)
    }

    /// Takes over what an instance's record says it holds; for the start, before any claim.
    ///
    /// # Errors
    /// [`ClaimError`] when two records claim the same, or the record is of another subnet.
    pub fn adopt(&self, id: &InstanceId, link: &Link, policy: &GuestPolicy) -> Result<(), ClaimError> {
        let mut ledger = lock(&self.ledger);
        ledger.adopt(id, link)?;
        ledger.claim_ports(id, &policy.port_mappings)?;
        match element::of_guest(link, policy) {
            Ok(elements) => self.rules.expect(link.tap.clone(), elements),
            // It was accepted once; a guest without its rules reaches nothing, until it is ensured and says so.
            Err(error) => warn!(instance.id = %id, error = %error, "the guest's rules cannot be made"),
        }
        Ok(())
    }

    /// Gives an instance address, MAC, TAP name and ports of the host. They are held once the caller has written them
    /// into its record; until then a crash simply forgets them.
    ///
    /// # Errors
    /// [`ClaimError`] says who has them, or why they cannot be had.
    pub fn claim(
        &self,
        id: &InstanceId,
        want_ip: Option<Ipv4Addr>,
        want_mac: Option<Mac>,
        ports: &[PortMapping],
    ) -> Result<Link, ClaimError> {
        let mut ledger = lock(&self.ledger);
        let had = ledger.holds(id);
        let link = ledger.claim(id, want_ip, want_mac)?;
        if let Err(error) = ledger.claim_ports(id, ports) {
            if !had {
                ledger.release(id);
            }
            return Err(error);
        }
        Ok(link)
    }

    /// Gives an instance ports of the host beside those that it holds: all of them or none.
    ///
    /// # Errors
    /// [`ClaimError::PortInUse`].
    pub fn claim_ports(&self, id: &InstanceId, ports: &[PortMapping]) -> Result<(), ClaimError> {
        lock(&self.ledger).claim_ports(id, ports)
    }

    /// Lets go of all ports that an instance holds but these.
    pub fn keep_ports(&self, id: &InstanceId, ports: &[PortMapping]) {
        lock(&self.ledger).keep_ports(id, ports);
    }

    /// Looks whether programs of the host have ports that an instance wants; those that it holds are its own.
    ///
    /// # Errors
    /// [`NetworkError::Port`] with who has one, or what the host said.
    pub async fn check_ports(&self, id: &InstanceId, ports: &[PortMapping]) -> Result<(), NetworkError> {
        for port in ports.iter().map(PortMapping::host) {
            if lock(&self.ledger).holds_port(id, port) {
                continue;
            }
            if let Some(found) = self.backend.listener(port).await? {
                let (address, uid) = (found.address, found.uid);
                return Err(NetworkError::Port(ClaimError::PortOfHost { port, address, uid }));
            }
        }
        Ok(())
    }

    /// Lets go of what the instance holds; holding nothing is fine.
    pub fn release(&self, id: &InstanceId) {
        lock(&self.ledger).release(id);
    }

    /// The address that an instance holds.
    #[must_use]
    pub fn address_of(&self, id: &InstanceId) -> Option<Ipv4Addr> {
        lock(&self.ledger).address_of(id)
    }

    /// Which instance holds an address.
    #[must_use]
    pub fn holder_of(&self, address: Ipv4Addr) -> Option<InstanceId> {
        lock(&self.ledger).holder_of(address).cloned()
    }

    /// Makes or mends the TAP of an instance: persistent, owned by `owner_uid`, on the bridge, isolated, up; and before
    /// it what its guest may do. Again for a guest that runs, it changes that.
    ///
    /// # Errors
    /// [`NetworkError::ForeignTap`] when the name is taken by somebody else, otherwise what the host said.
    pub async fn ensure(
        &self,
        id: &InstanceId,
        link: &Link,
        policy: &GuestPolicy,
        owner_uid: u32,
    ) -> Result<(), NetworkError> {
        self.backend.spare_link(link.tap.as_str()).await;
        self.backend.spare_link(ifb_of(&link.tap).as_str()).await;
        self.allow(link, policy).await?;
        let made = self.ensure_tap(id, link, owner_uid).await;
        if let Err(NetworkError::ForeignTap { .. }) = made {
            self.rules.clear(self.backend.as_ref(), &link.tap).await?;
        }
        made
    }

    /// Gives a guest what its policy says, and takes away what it does not.
    ///
    /// # Errors
    /// What the host said; then what was so before may still be.
    pub async fn allow(&self, link: &Link, policy: &GuestPolicy) -> Result<(), NetworkError> {
        let elements = element::of_guest(link, policy)?;
        Ok(self.rules.put(self.backend.as_ref(), &link.tap, elements).await?)
    }

    async fn ensure_tap(&self, id: &InstanceId, link: &Link, owner_uid: u32) -> Result<(), NetworkError> {
        let alias = mark::of_tap(self.config.owner, id);
        let bridge = self.config.bridge.clone();
        let spec = TapSpec { name: link.tap.clone(), alias, bridge, mac: link.host_mac(), owner_uid };
        // Nearly always there is none: that is known by making it, without a look before.
        if self.backend.make_tap(&spec).await? {
            return Ok(());
        }
        if let Some(found) = self.backend.link(link.tap.as_str()).await? {
            if !self.is_our_tap(&found) {
                return Err(NetworkError::ForeignTap { tap: link.tap.clone(), alias: found.alias.unwrap_or_default() });
            }
            if found.alias.as_ref() != Some(&spec.alias) {
                // Left by an instance that held this address before: whoever has it open is not this one.
                self.backend.remove_link(&found).await?;
            }
        }
        Ok(self.backend.ensure_tap(&spec).await?)
    }

    /// Takes away what the guest of a link may do, and its TAP in a while: until then it reaches nothing. Gone already
    /// is success, and so is a foreign interface in its place: ours is gone.
    ///
    /// # Errors
    /// What the host said.
    pub async fn remove(&self, link: &Link) -> Result<(), NetworkError> {
        self.rules.clear(self.backend.as_ref(), &link.tap).await?;
        match self.backend.link(link.tap.as_str()).await? {
            Some(found) if self.is_our_tap(&found) => self.backend.discard_link(found).await,
            Some(found) => {
                warn!(network.tap = %link.tap, network.alias = found.alias.unwrap_or_default(), "interface is not ours and stays");
            }
            None => {}
        }
        self.discard_ifb(link).await
    }

    /// Waits until all TAPs that were to be removed are gone.
    pub async fn settle(&self) {
        self.backend.discarded().await;
    }

    /// What `/readyz` asks: is everything there that [`Self::start`] made?
    pub async fn check(&self) -> Vec<Check> {
        let started = lock(&self.started).clone();
        check::run(&self.config, self.backend.as_ref(), started.as_ref()).await
    }

    pub(crate) fn is_our_tap(&self, link: &HostLink) -> bool {
        link.kind == LinkKind::Tun && mark::is_our_tap(link.alias.as_deref(), self.config.owner)
    }

    fn bridge_spec(&self, forwarding: Option<InterfaceName>) -> BridgeSpec {
        let plan = &self.config.plan;
        BridgeSpec {
            name: self.config.bridge.clone(),
            alias: BridgeMark { owner: self.config.owner, forwarding }.render(),
            mac: self.config.bridge_mac(),
            net: gateway_net(plan.gateway(), plan.subnet().prefix_len()),
        }
    }

    /// The mark of the bridge if it is ours or absent. Creation sets the MAC at once and the alias a
    /// moment later: one with our MAC and no alias is what a crash in between left.
    pub(crate) fn bridge_mark(&self, bridge: Option<&HostLink>) -> Result<BridgeMark, NetworkError> {
        let fresh = BridgeMark { owner: self.config.owner, forwarding: None };
        let Some(bridge) = bridge else { return Ok(fresh) };
        let alias = bridge.alias.as_deref().unwrap_or_default();
        let is_bridge = bridge.kind == LinkKind::Bridge;
        if is_bridge && alias.is_empty() && bridge.mac == Some(self.config.bridge_mac()) {
            return Ok(fresh);
        }
        BridgeMark::parse(alias)
            .filter(|mark| is_bridge && mark.owner == self.config.owner)
            .ok_or_else(|| NetworkError::ForeignBridge { bridge: self.config.bridge.clone(), alias: alias.to_owned() })
    }

    pub(crate) async fn find_uplink(&self, default: Option<&str>) -> Result<Option<InterfaceName>, NetworkError> {
        let uplink = match (&self.config.uplink, default) {
            (Some(chosen), _) => chosen.clone(),
            (None, Some(name)) => name.parse().map_err(NetworkError::UplinkName)?,
            (None, None) => return Ok(None),
        };
        if uplink == self.config.bridge {
            return Err(NetworkError::UplinkIsBridge(uplink));
        }
        if self.backend.link(uplink.as_str()).await?.is_none() {
            return Err(NetworkError::UplinkMissing(uplink));
        }
        Ok(Some(uplink))
    }

    /// Whether forwarding on the uplink is our doing: it is off now, or was when we marked the bridge. Once somebody
    /// has declared the whole host a router, it is theirs.
    async fn judge_forwarding(
        &self,
        interface: InterfaceName,
        marked: Option<&InterfaceName>,
    ) -> Result<Uplink, NetworkError> {
        let on = self.backend.setting(&Setting::Forwarding(interface.clone())).await?;
        let router = self.backend.setting(&Setting::HostForwarding).await?;
        let guarded = if on { marked == Some(&interface) && !router } else { true };
        Ok(Uplink { interface, guarded })
    }

    pub(crate) async fn restore_forwarding(&self, interface: Option<InterfaceName>) {
        let Some(interface) = interface else { return };
        let still_ours = matches!(self.backend.setting(&Setting::HostForwarding).await, Ok(false));
        if !still_ours {
            return;
        }
        if let Err(error) = self.backend.set(&Setting::Forwarding(interface.clone()), false).await {
            // An uplink that is gone takes its setting with it.
            warn!(network.uplink = %interface, error = %chain(&error), "forwarding of the former uplink is not restored");
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each section leaves the value whole, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
