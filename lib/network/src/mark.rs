//! Our marks: the interface alias (`ifalias`) of everything that we make. Ownership is read from here and from nowhere
//! else; a name alone proves nothing.
//!
//! - TAP: `<owner>:<instance id>`
//! - bridge: `dataplane:<owner>`, then `:forwarding=<uplink>` when it was we who switched forwarding on there: the
//!   bridge carries what has to be undone when it goes.

use dataplane_types::InstanceId;
use uuid::Uuid;

use crate::config::InterfaceName;

const PREFIX: &str = "dataplane:";
const FORWARDING: &str = "forwarding=";

/// The alias of an instance's TAP.
pub(crate) fn of_tap(owner: Uuid, id: &InstanceId) -> String {
    format!("{owner}:{id}")
}

/// Whether an alias marks a TAP of this daemon.
pub(crate) fn is_our_tap(alias: Option<&str>, owner: Uuid) -> bool {
    alias
        .and_then(|alias| alias.split_once(':'))
        .is_some_and(|(uuid, _)| uuid.parse::<Uuid>().is_ok_and(|uuid| uuid == owner))
}

/// What the alias of a bridge says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeMark {
    /// The daemon that made it.
    pub(crate) owner: Uuid,
    /// The uplink on which we switched forwarding on.
    pub(crate) forwarding: Option<InterfaceName>,
}

impl BridgeMark {
    pub(crate) fn parse(alias: &str) -> Option<Self> {
        let mut parts = alias.strip_prefix(PREFIX)?.splitn(2, ':');
        let owner = parts.next()?.parse().ok()?;
        let forwarding = match parts.next() {
            None => None,
            Some(rest) => Some(rest.strip_prefix(FORWARDING)?.parse().ok()?),
        };
        Some(Self { owner, forwarding })
    }

    pub(crate) fn render(&self) -> String {
        let owner = self.owner;
        match &self.forwarding {
            None => format!("{PREFIX}{owner}"),
            Some(uplink) => format!("{PREFIX}{owner}:{FORWARDING}{uplink}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridge_marks_round_trip() {
        let owner = Uuid::from_u128(7);
        let uplink = Some("eth0.1".parse().unwrap());
        for mark in [BridgeMark { owner, forwarding: None }, BridgeMark { owner, forwarding: uplink }] {
            assert_eq!(BridgeMark::parse(&mark.render()), Some(mark));
        }
        for foreign in [
            "",
            "dataplane",
            "dataplane:",
            "dataplane:x",
            "uplink of rack 7",
            "dataplane:host",
            "dataplane:00000000-0000-0000-0000-000000000007:forwarding=",
        ] {
            assert_eq!(BridgeMark::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_tap_of_another_owner_is_not_ours() {
        let (ours, theirs) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let id = "web-1".parse().unwrap();
        assert!(is_our_tap(Some(&of_tap(ours, &id)), ours));
        assert!(!is_our_tap(Some(&of_tap(theirs, &id)), ours));
        assert!(!is_our_tap(Some("web-1"), ours));
        assert!(!is_our_tap(None, ours));
    }
}
