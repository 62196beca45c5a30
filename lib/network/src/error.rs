//! Why the host's network is not as it shall be.

use dataplane_types::TapName;
use ipnet::Ipv4Net;

use crate::backend::BackendError;
use crate::config::{InterfaceName, InterfaceNameError};
use crate::egress::EgressTooFine;
use crate::ledger::ClaimError;

/// Why the host's network is not as it shall be.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The subnet would shadow something that the host already reaches.
    #[error("subnet {subnet} overlaps with {foreign}; choose another SUBNET_CIDR")]
    SubnetOverlap {
        /// Our subnet.
        subnet: Ipv4Net,
        /// The address or route, with its interface.
        foreign: String,
    },
    /// The bridge exists and is somebody else's.
    #[error("interface {bridge} exists and is not ours (alias {alias:?}); choose another BRIDGE_NAME")]
    ForeignBridge {
        /// The configured bridge.
        bridge: InterfaceName,
        /// Its alias.
        alias: String,
    },
    /// A TAP of this name exists and is somebody else's.
    #[error("interface {tap} exists and is not ours (alias {alias:?})")]
    ForeignTap {
        /// The TAP.
        tap: TapName,
        /// Its alias.
        alias: String,
    },
    /// An interface of a name that we need exists and is somebody else's.
    #[error("interface {name} exists and is not ours (alias {alias:?})")]
    ForeignInterface {
        /// The interface.
        name: InterfaceName,
        /// Its alias.
        alias: String,
    },
    /// The configured uplink does not exist.
    #[error("uplink {0} does not exist; check UPLINK_INTERFACE")]
    UplinkMissing(InterfaceName),
    /// The uplink is the bridge itself.
    #[error("uplink {0} is the bridge itself")]
    UplinkIsBridge(InterfaceName),
    /// The default route leaves by an interface whose name we do not put into rules.
    #[error("the interface of the default route cannot be the uplink; set UPLINK_INTERFACE")]
    UplinkName(#[source] InterfaceNameError),
    /// Somebody has a port of the host.
    #[error(transparent)]
    Port(ClaimError),
    /// An instance's list of where it may go.
    #[error(transparent)]
    Egress(#[from] EgressTooFine),
    /// The host refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Some of it could not be removed; the rest is gone.
    #[error("{} of our interfaces or rules could not be removed: {}", .0.len(), .0.join("; "))]
    Teardown(Vec<String>),
}
