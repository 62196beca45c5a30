//! The backend that does nothing: for tests of other parts, and for machines where the daemon may not touch the network.
//! Guests then have no link to the host; addresses are still handed out.

use async_trait::async_trait;
use dataplane_types::{HostPort, TapName};

use crate::backend::{
    Addressing, Backend, BackendError, BridgeSpec, ForeignChain, HostLink, Listener, Setting, TapSpec,
};
use crate::element::{ElementChange, Family};
use crate::limit::ShapeSpec;

/// A host without network: everything succeeds, nothing exists.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBackend;

#[async_trait]
impl Backend for NoBackend {
    fn is_real(&self) -> bool {
        false
    }

    async fn links(&self) -> Result<Vec<HostLink>, BackendError> {
        Ok(Vec::new())
    }

    async fn link(&self, _name: &str) -> Result<Option<HostLink>, BackendError> {
        Ok(None)
    }

    async fn addressing(&self) -> Result<Addressing, BackendError> {
        Ok(Addressing::default())
    }

    async fn ensure_bridge(&self, _spec: &BridgeSpec) -> Result<(), BackendError> {
        Ok(())
    }

    async fn make_tap(&self, _spec: &TapSpec) -> Result<bool, BackendError> {
        Ok(true)
    }

    async fn ensure_tap(&self, _spec: &TapSpec) -> Result<(), BackendError> {
        Ok(())
    }

    async fn shape(&self, _spec: &ShapeSpec) -> Result<(), BackendError> {
        Ok(())
    }

    async fn unshape(&self, _tap: &TapName) -> Result<(), BackendError> {
        Ok(())
    }

    async fn remove_link(&self, _link: &HostLink) -> Result<(), BackendError> {
        Ok(())
    }

    async fn discard_link(&self, _link: HostLink) {}

    async fn spare_link(&self, _name: &str) {}

    async fn discarded(&self) {}

    async fn apply_ruleset(&self, _script: &str) -> Result<(), BackendError> {
        Ok(())
    }

    async fn change_elements(&self, _change: &ElementChange) -> Result<(), BackendError> {
        Ok(())
    }

    async fn table_exists(&self, _family: Family, _name: &str) -> Result<bool, BackendError> {
        Ok(false)
    }

    async fn dropping_chains(&self, _table: &str, _bridge: &str) -> Result<Vec<ForeignChain>, BackendError> {
        Ok(Vec::new())
    }

    async fn listener(&self, _port: HostPort) -> Result<Option<Listener>, BackendError> {
        Ok(None)
    }

    async fn setting(&self, _setting: &Setting) -> Result<bool, BackendError> {
        Ok(false)
    }

    async fn set(&self, _setting: &Setting, _on: bool) -> Result<(), BackendError> {
        Ok(())
    }
}
