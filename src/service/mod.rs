//! The API's operations: one file per resource. Each turns a request into calls of managers and their answers into the
//! types of the spec; what is wrong goes through the one table in [`problems`].

mod attach;
mod files;
mod guest;
mod images;
mod instances;
mod logs;
mod ports;
mod problems;
mod signals;
mod system;

use std::sync::Arc;

use dataplane_dns::Responder;
use dataplane_images::Images;
use dataplane_instances::Instances;
use dataplane_network::Network;
use dataplane_store::Store;
use dataplane_vmm::{Confiner, Vmm};

/// What `/readyz` looks at.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) vmms: Vec<Arc<dyn Vmm>>,
    pub(crate) network: Arc<Network>,
    /// Absent where there is no network to answer on.
    pub(crate) names: Option<Arc<Responder>>,
    pub(crate) store: Store,
    pub(crate) reserved_bytes: u64,
    pub(crate) confiner: Confiner,
}

/// Everything that a handler can reach.
#[derive(Debug)]
pub(crate) struct Dataplane {
    images: Images,
    instances: Instances,
    checks: Checks,
}

impl Dataplane {
    pub(crate) fn new(images: Images, instances: Instances, checks: Checks) -> Self {
        Self { images, instances, checks }
    }
}
