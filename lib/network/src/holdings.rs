//! What is there of ours, and how it goes: orphans at the start, everything when an operator says so.
//!
//! Invariant: as the manager's; what does not carry our mark stays.

use std::collections::BTreeSet;

use dataplane_types::TapName;
use tracing::warn;

use crate::backend::HostLink;
use crate::check::{self, Check};
use crate::element::Family;
use crate::error::NetworkError;
use crate::limit::tap_of;
use crate::manager::{Network, StartReport, chain, lock};
use crate::ruleset;

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkStatus {
    /// An interface of the bridge's name.
    pub bridge: Option<HostLink>,
    /// Whether that carries our mark.
    pub is_ours: bool,
    /// The TAPs that carry our mark.
    pub taps: Vec<HostLink>,
    /// Our tables that are loaded.
    pub tables: Vec<(Family, String)>,
    /// The same that `/readyz` looks at.
    pub checks: Vec<Check>,
}

impl Network {
    /// Removes the TAPs that carry our mark and that neither `keep` nor the ledger names.
    ///
    /// # Errors
    /// [`NetworkError::Teardown`] with those that could not be removed; the others are gone.
    pub async fn sweep(&self, keep: &[TapName]) -> Result<Vec<String>, NetworkError> {
        // The ledger is asked after the interfaces were listed, and a claim comes before its TAP: no TAP of a claim made
        // meanwhile is taken for an orphan.
        let is_kept = |name: &str| {
            let tap = tap_of(name);
            let name = tap.as_ref().map_or(name, TapName::as_str);
            keep.iter().any(|tap| tap.as_str() == name) || lock(&self.ledger).holds_tap(name)
        };
        self.remove_taps(|link| !is_kept(&link.name)).await
    }

    /// What is there of ours, whoever made it; changes nothing.
    ///
    /// # Errors
    /// What the host said.
    pub async fn status(&self) -> Result<NetworkStatus, NetworkError> {
        let links = self.backend.links().await?;
        let bridge = links.iter().find(|link| link.name == self.config.bridge.as_str()).cloned();
        let is_ours = bridge.is_some() && self.bridge_mark(bridge.as_ref()).is_ok();
        let addressing = self.backend.addressing().await?;
        let uplink = self.find_uplink(addressing.default_interface(&self.config.bridge)).await?;
        let table = self.config.table();
        let mut tables = Vec::new();
        for family in [Family::Bridge, Family::Inet] {
            if self.backend.table_exists(family, &table).await? {
                tables.push((family, table.clone()));
            }
        }
        let report = StartReport { uplink, bridge_created: false, table };
        let checks = check::run(&self.config, self.backend.as_ref(), Some(&report)).await;
        let taps = links.into_iter().filter(|link| self.is_our_tap(link)).collect();
        Ok(NetworkStatus { bridge, is_ours, taps, tables, checks })
    }

    /// Removes everything that is ours and nothing else: TAPs, bridge, rules, and forwarding on the uplink where it was
    /// off before us. Claims are untouched.
    ///
    /// # Errors
    /// [`NetworkError::Teardown`] with what is left; everything else is gone.
    pub async fn teardown(&self) -> Result<(), NetworkError> {
        if !self.backend.is_real() {
            return Ok(());
        }
        let mut left = match self.remove_taps(|_| true).await {
            Ok(_) => Vec::new(),
            Err(NetworkError::Teardown(left)) => left,
            Err(other) => vec![chain(&other)],
        };
        match self.backend.link(self.config.bridge.as_str()).await {
            Ok(Some(bridge)) => match self.bridge_mark(Some(&bridge)) {
                Ok(mark) => {
                    self.restore_forwarding(mark.forwarding).await;
                    left.extend(self.backend.remove_link(&bridge).await.err().map(|error| chain(&error)));
                }
                Err(_foreign) => warn!(network.bridge = %self.config.bridge, "bridge is not ours and stays"),
            },
            Ok(None) => {}
            Err(error) => left.push(chain(&error)),
        }
        left.extend(self.backend.apply_ruleset(&ruleset::remove(&self.config)).await.err().map(|error| chain(&error)));
        self.rules.forget().await;
        *lock(&self.started) = None;
        if left.is_empty() { Ok(()) } else { Err(NetworkError::Teardown(left)) }
    }

    async fn remove_taps(&self, doomed: impl Fn(&HostLink) -> bool) -> Result<Vec<String>, NetworkError> {
        let mut going = BTreeSet::new();
        for link in self.backend.links().await? {
            if self.is_ours(&link) && doomed(&link) {
                going.insert(link.name.clone());
                self.backend.discard_link(link).await;
            }
        }
        self.backend.discarded().await;
        let links = self.backend.links().await?;
        let stayed = links.into_iter().filter(|link| going.contains(&link.name) && self.is_ours(link) && doomed(link));
        let left: Vec<String> = stayed.map(|link| link.name).collect();
        if left.is_empty() { Ok(going.into_iter().collect()) } else { Err(NetworkError::Teardown(left)) }
    }

    fn is_ours(&self, link: &HostLink) -> bool {
        self.is_our_tap(link) || self.is_our_ifb(link)
    }
}
