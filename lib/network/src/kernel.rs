//! The real host: rtnetlink for interfaces, addresses and routes, ioctl for TAPs (netlink cannot make them), plain files
//! below `/proc/sys/net`, one `nft -f -` for the rules, and our own few netlink messages for what they look up.
//!
//! Invariant: everything happens on one thread of ours, and so in the network namespace of whoever called
//! [`Kernel::start`]. The namespace is a property of the thread: an open `/dev/net/tun`, `/proc/sys/net` and a child
//! process all follow it. The same thread takes the time that such calls block (the kernel removes a TAP in some
//! 20 ms), which therefore never stops the daemon's own workers; and a caller that goes away cancels nothing.
//!
//! Knows no marks and no instances.

mod bridge;
mod elements;
mod foreign;
mod inventory;
mod listeners;
mod nfnetlink;
mod nft;
mod reaper;
mod shape;
mod sysctl;
mod tap;

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use async_trait::async_trait;
use dataplane_types::{HostPort, TapName};
use rtnetlink::Handle;
use tokio::sync::oneshot;

use self::nfnetlink::Wire;
use self::reaper::Reaper;
use crate::backend::{
    Addressing, Backend, BackendError, BridgeSpec, ForeignChain, HostLink, Listener, Setting, TapSpec,
};
use crate::element::{ElementChange, Family};
use crate::limit::ShapeSpec;

/// The kernel's network of one namespace.
#[derive(Debug)]
pub struct Kernel {
    runtime: tokio::runtime::Handle,
    netlink: Handle,
    netfilter: Arc<Mutex<Wire>>,
    reaper: Reaper,
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
        let netfilter = Arc::new(Mutex::new(Wire::netfilter()?));
        Ok(Self { runtime, netlink, netfilter, reaper: Reaper::start()?, _alive: alive })
    }

    /// Runs work on our thread, to its end, that asks netfilter.
    async fn with_netfilter<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Wire) -> Result<T, BackendError> + Send + 'static,
    ) -> Result<T, BackendError> {
        let netfilter = Arc::clone(&self.netfilter);
        // Each request reads all its answers, so a panic in between leaves at most some that nobody takes.
        self.inside(async move { work(&mut netfilter.lock().unwrap_or_else(PoisonError::into_inner)) }).await
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

    async fn discard_link(&self, link: HostLink) {
        self.reaper.discard(link);
    }

    async fn spare_link(&self, name: &str) {
        self.reaper.spare(name).await;
    }

    async fn discarded(&self) {
        self.reaper.finished().await;
    }

    async fn apply_ruleset(&self, script: &str) -> Result<(), BackendError> {
        let script = script.to_owned();
        self.inside(async move { nft::apply(&script).await }).await
    }

    async fn change_elements(&self, change: &ElementChange) -> Result<(), BackendError> {
        let change = change.clone();
        self.with_netfilter(move |wire| elements::change(wire, &change)).await
    }

    async fn table_exists(&self, family: Family, name: &str) -> Result<bool, BackendError> {
        let name = name.to_owned();
        self.with_netfilter(move |wire| nft::table_exists(wire, family, &name)).await
    }

    async fn dropping_chains(&self, table: &str, bridge: &str) -> Result<Vec<ForeignChain>, BackendError> {
        let (table, bridge) = (table.to_owned(), bridge.to_owned());
        self.with_netfilter(move |wire| foreign::dropping(wire, &table, &bridge)).await
    }

    async fn listener(&self, port: HostPort) -> Result<Option<Listener>, BackendError> {
        self.inside(async move { listeners::find(port) }).await
    }

    async fn setting(&self, setting: &Setting) -> Result<bool, BackendError> {
        let path = sysctl::path_of(setting);
        self.inside(async move { sysctl::read(&path) }).await
    }

    async fn set(&self, setting: &Setting, on: bool) -> Result<(), BackendError> {
        let path = sysctl::path_of(setting);
        self.inside(async move { sysctl::write(&path, on) }).await
    }
}
