//! The limit of the network link, changed while the instance is there.

use crate::ActionError;
use crate::actor::{Actor, Patch, chain};
use crate::plan::SeenLink;

impl Actor {
    /// The limit that a patch wants, or the one that there is.
    pub(crate) fn check_limit(&self, patch: &Patch) -> Result<Option<u32>, ActionError> {
        let wanted = patch.bandwidth_mbps.unwrap_or(self.record.spec.bandwidth_mbps);
        if wanted.is_some() && self.record.spec.link.is_none() {
            let message = "there is no network".to_owned();
            return Err(ActionError::Impossible { field: "network.bandwidth_mbps", message });
        }
        Ok(wanted)
    }

    /// Brings the limit of a link that is there to what the record says. The record stays as it is when that fails: the
    /// next time that the link is made or taken up, it is tried again.
    pub(crate) async fn renew_limit(&mut self) {
        if !std::mem::take(&mut self.limit_is_due) || self.link != SeenLink::Up {
            return;
        }
        let Some(link) = &self.record.spec.link else { return };
        let id = &self.record.id;
        if let Err(error) = self.deps.links.limit(id, link, self.record.spec.bandwidth_mbps).await {
            tracing::warn!(instance.id = %id, error = %chain(&error), "limit the link");
            if self.record.op.is_none() {
                self.tell_joined(Err(ActionError::Failed(id.clone(), chain(&error))));
            }
        }
    }
}
