//! The real host: rtnetlink for interfaces, addresses and routes, ioctl for TAPs (netlink cannot make them), plain files
//! below `/proc/sys/net`, and one `nft -f -` for the rules.
//!
//! Invariant: everything happens on one thread of ours, and so in the network namespace of whoever called
//! [`Kernel::start`]. The namespace is a property of the thread: an open `/dev/net/tun`, `/proc/sys/net` and a child
//! process all follow it. The same thread takes the time that such calls block (the kernel removes a TAP in some
//! 20 ms), which therefore never stops the daemon's own workers; and a caller that goes away cancels nothing.
//!
//! Knows no marks and no instances.

mod bridge;
mod inventory;
mod nft;
mod shape;
mod sysctl;
mod tap;

use std::io;
use std::sync::mpsc;

use async_trait::async_trait;
use dataplane_types::TapName;
use rtnetlink::Handle;
use tokio::sync::oneshot;

use crate::backend::{Addressing, Backend, BackendError, BridgeSpec, HostLink, Setting, TapSpec};
use crate::config::InterfaceName;
use crate::limit::ShapeSpec;

/// The kernel's network of one namespace.
#[derive(Debug)]
pub struct Kernel {
    runtime: tokio::runtime::Handle,
    netlink: Handle,
    /// Dropped with us, which ends the thread.
    _alive: oneshot::Sender<()>,
}

impl Kernel {
    /// Opens the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the thread or the netlink socket cannot be made.
    pub fn start() -> io::Result<Self> {
        let (alive, ended) = oneshot::channel::<()>();
        let (report, ready) = mpsc::sync_channel(1);
        let body = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = report.send(Err(error));
                    return;
                }
            };
            runtime.block_on(async move {
                let opened = rtnetlink::new_connection().map(|(connection, netlink, _)| {
                    tokio::spawn(connection);
                    (tokio::runtime::Handle::current(), netlink)
                });
                let failed = opened.is_err();
                if report.send(opened).is_ok() && !failed {
                    let _ = ended.await;
                }
            });
        };
        std::thread::Builder::new().name("network".to_owned()).spawn(body)?;
        let (runtime, netlink) = ready.recv().map_err(|_| io::Error::other("the network thread has ended"))??;
        Ok(Self { runtime, netlink, _alive: alive })
    }

    /// Runs work on our thread, to its end.
    async fn inside<T, F>(&self, work: F) -> Result<T, BackendError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, BackendError>> + Send + 'static,
    {
        self.runtime.spawn(work).await.map_err(|_| BackendError::Gone)?
    }
}

#[async_trait]
impl Backend for Kernel {
    fn is_real(&self) -> bool {
        true
    }

    async fn links(&self) -> Result<Vec<HostLink>, BackendError> {
        let netlink = self.netlink.clone();
        self.inside(async move { inventory::links(&netlink).await }).await
    }

    async fn link(&self, name: &str) -> Result<Option<HostLink>, BackendError> {
        let (netlink, name) = (self.netlink.clone(), name.to_owned());
        self.inside(async move { Ok(inventory::find(&netlink, &name).await?.map(|found| found.link)) }).await
    }

    async fn addressing(&self) -> Result<Addressing, BackendError> {
        let netlink = self.netlink.clone();
        self.inside(async move { inventory::addressing(&netlink).await }).await
    }

    async fn ensure_bridge(&self, spec: &BridgeSpec) -> Result<(), BackendError> {
        let (netlink, spec) = (self.netlink.clone(), spec.clone());
        self.inside(async move { bridge::ensure(&netlink, &spec).await }).await
    }

    async fn make_tap(&self, spec: &TapSpec) -> Result<bool, BackendError> {
        let (netlink, spec) = (self.netlink.clone(), spec.clone());
        self.inside(async move { tap::make(&netlink, &spec).await }).await
    }

    async fn ensure_tap(&self, spec: &TapSpec) -> Result<(), BackendError> {
        let (netlink, spec) = (self.netlink.clone(), spec.clone());
        self.inside(async move { tap::ensure(&netlink, &spec).await }).await
    }

    async fn shape(&self, spec: &ShapeSpec) -> Result<(), BackendError> {
        let (netlink, spec) = (self.netlink.clone(), spec.clone());
        self.inside(async move { shape::apply(&netlink, &spec).await }).await
    }

    async fn unshape(&self, tap: &TapName) -> Result<(), BackendError> {
        let (netlink, tap) = (self.netlink.clone(), tap.clone());
        self.inside(async move { shape::lift(&netlink, &tap).await }).await
    }

    async fn remove_link(&self, link: &HostLink) -> Result<(), BackendError> {
        let (netlink, link) = (self.netlink.clone(), link.clone());
        self.inside(async move { inventory::remove(&netlink, link.index, &link.name).await }).await
    }

    async fn apply_ruleset(&self, script: &str) -> Result<(), BackendError> {
        let script = script.to_owned();
        self.inside(async move { nft::apply(&script).await }).await
    }

    async fn table_exists(&self, name: &str) -> Result<bool, BackendError> {
        let name = name.to_owned();
        self.inside(async move { nft::table_exists(&name) }).await
    }

    async fn setting(&self, setting: &Setting) -> Result<bool, BackendError> {
        let path = sysctl::path_of(setting);
        self.inside(async move { sysctl::read(&path) }).await
    }

    async fn set_forwarding(&self, interface: &InterfaceName, on: bool) -> Result<(), BackendError> {
        let path = sysctl::path_of(&Setting::Forwarding(interface.clone()));
        self.inside(async move { sysctl::write(&path, on) }).await
    }
}
