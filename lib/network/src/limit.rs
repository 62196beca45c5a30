//! How fast a guest may send and receive: what the manager makes of a number of megabits, and of what is there already.
//!
//! Towards the guest the TAP itself holds packets back. Nothing can hold back what arrives, so what the guest sends is
//! led through an intermediate device (IFB) of its own, which can, and comes back from there as if nothing had happened.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use dataplane_types::{InstanceId, Link, Mac, TapName};
use tracing::warn;

use crate::backend::{HostLink, LinkKind};
use crate::config::InterfaceName;
use crate::error::NetworkError;
use crate::manager::Network;
use crate::mark;

/// Bytes per second in one megabit per second.
const BYTES_PER_MEGABIT: u64 = 1_000_000 / 8;

/// How much may go at once, as time at the rate. The kernel looks again when enough has gathered, and may be late by a
/// tick: what gathers meanwhile must not be lost. 10 ms is the tick of the slowest common kernel (`HZ=100`), and what
/// the manual of `tc-tbf` asks for ("10 kbyte for 10 mbit/s").
const BURST_MS: u64 = 10;

/// How much may wait, as time at the rate. One TCP connection fills a link when the queue holds what its congestion
/// window loses at a drop: a round trip's worth (C. Villamizar, C. Song: High performance TCP in ANSNET, 1994). 50 ms
/// is one across a continent, and a delay that people still bear.
const QUEUE_MS: u64 = 50;

/// The least of both: some whole frames, lest a single one does not fit, and one batch that a guest hands over at once
/// (64 KiB, GSO), which is cut into frames where it is more than the burst.
const LEAST_BURST: u64 = 8 * 1514;
const LEAST_QUEUE: u64 = 72 * 1514;

/// The most that may wait: the host's memory is not the guest's.
const MOST_QUEUE: u64 = 32 << 20;

/// A rate as the kernel wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bytes per second, of whole frames.
    pub bytes_per_second: u64,
    /// Bytes that may go at once.
    pub burst: u32,
    /// Bytes that may wait.
    pub queue: u32,
}

impl Rate {
    /// So many millions of bits per second.
    #[must_use]
    pub fn of_megabits(megabits: NonZeroU32) -> Self {
        let bytes_per_second = u64::from(megabits.get()) * BYTES_PER_MEGABIT;
        let worth = |milliseconds: u64| bytes_per_second.saturating_mul(milliseconds) / 1000;
        let narrow = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            bytes_per_second,
            burst: narrow(worth(BURST_MS).max(LEAST_BURST)),
            queue: narrow(worth(QUEUE_MS).clamp(LEAST_QUEUE, MOST_QUEUE)),
        }
    }
}

/// A limited link as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeSpec {
    /// The TAP.
    pub tap: TapName,
    /// The intermediate device.
    pub ifb: InterfaceName,
    /// Our mark, on the intermediate device.
    pub alias: String,
    /// Its MAC, by which it is known to be ours before it has its mark.
    pub mac: Mac,
    /// How fast, each way.
    pub rate: Rate,
}

/// The intermediate device of a TAP: `ifb` and the same 8 hex digits.
pub(crate) fn ifb_of(tap: &TapName) -> InterfaceName {
    let name = format!("ifb{}", digits(tap.as_str()));
    name.parse().expect("ifb and 8 hex digits are an interface name")
}

/// The TAP of an intermediate device, as far as its name says.
pub(crate) fn tap_of(ifb: &str) -> Option<TapName> {
    ifb.strip_prefix("ifb").and_then(|digits| TapName::try_from(format!("tap{digits}")).ok())
}

fn digits(tap: &str) -> &str {
    tap.strip_prefix("tap").unwrap_or(tap)
}

impl Network {
    /// Limits what a guest sends and what it receives to so many millions of bits per second each, or no longer. Its TAP
    /// has to be there.
    ///
    /// # Errors
    /// [`NetworkError::ForeignInterface`] when the intermediate device's name is somebody else's, otherwise what the
    /// host said.
    pub async fn limit(&self, id: &InstanceId, link: &Link, megabits: Option<u32>) -> Result<(), NetworkError> {
        let ifb = ifb_of(&link.tap);
        let alias = mark::of_tap(self.config.owner, id);
        self.backend.spare_link(ifb.as_str()).await;
        let found = self.backend.link(ifb.as_str()).await?;
        let Some(megabits) = megabits.and_then(NonZeroU32::new) else {
            if found.is_some_and(|found| self.is_our_ifb(&found)) {
                self.backend.unshape(&link.tap).await?;
                self.discard_ifb(link).await?;
            }
            return Ok(());
        };
        if let Some(found) = found.filter(|found| found.alias.as_ref() != Some(&alias)) {
            if !self.is_our_ifb(&found) {
                return Err(NetworkError::ForeignInterface { name: ifb, alias: found.alias.unwrap_or_default() });
            }
            // Left by an instance that held this address before, or cut short.
            self.backend.remove_link(&found).await?;
        }
        let rate = Rate::of_megabits(megabits);
        let spec = ShapeSpec { tap: link.tap.clone(), ifb, alias, mac: Mac::of_host(link.ip), rate };
        Ok(self.backend.shape(&spec).await?)
    }

    /// Removes the intermediate device of a link in a while, where there is one of ours.
    pub(crate) async fn discard_ifb(&self, link: &Link) -> Result<(), NetworkError> {
        match self.backend.link(ifb_of(&link.tap).as_str()).await? {
            Some(found) if self.is_our_ifb(&found) => self.backend.discard_link(found).await,
            Some(found) => warn!(network.interface = found.name, "interface is not ours and stays"),
            None => {}
        }
        Ok(())
    }

    /// Whether an interface is an intermediate device of this daemon. One that has no mark yet is known by its name and
    /// MAC, both of the same address of our subnet: what a crash left between its making and its marking.
    pub(crate) fn is_our_ifb(&self, link: &HostLink) -> bool {
        if link.kind != LinkKind::Ifb {
            return false;
        }
        if link.alias.as_deref().unwrap_or_default().is_empty() {
            let address = tap_of(&link.name).and_then(|tap| u32::from_str_radix(digits(tap.as_str()), 16).ok());
            return address.map(Ipv4Addr::from).is_some_and(|address| {
                self.config.plan.is_guest_address(address) && link.mac == Some(Mac::of_host(address))
            });
        }
        mark::is_our_tap(link.alias.as_deref(), self.config.owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_in_bytes_and_what_may_gather_follows_from_it() {
        let rate = |megabits| Rate::of_megabits(NonZeroU32::new(megabits).unwrap());
        let exact = |bytes_per_second, burst, queue| Rate { bytes_per_second, burst, queue };
        assert_eq!(rate(1), exact(125_000, 8 * 1514, 72 * 1514));
        assert_eq!(rate(100), exact(12_500_000, 125_000, 625_000));
        assert_eq!(rate(100_000), exact(12_500_000_000, 125_000_000, 32 << 20), "beyond 32 bits per second");
    }

    #[test]
    fn the_intermediate_device_is_named_after_the_tap() {
        let tap = TapName::of(Ipv4Addr::new(192, 168, 100, 7));
        assert_eq!(ifb_of(&tap).as_str(), "ifbc0a86407");
        assert_eq!(tap_of("ifbc0a86407"), Some(tap));
        for other in ["ifb0", "tapc0a86407", "ifbc0a8640", "ifb"] {
            assert_eq!(tap_of(other), None, "{other}");
        }
    }
}
