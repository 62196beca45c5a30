//! The responder: its sockets, kept open or tried again, and what it says of itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::Ipv4Net;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use crate::limits::{Limits, Ration};
use crate::zone::{Names, Zone, ZoneError};
use crate::{socket, tcp, udp};

/// How long until the port is tried again: nothing tells when somebody else lets go of it.
const AGAIN: Duration = Duration::from_secs(5);

/// Where a responder listens, and for whom.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address that it listens on.
    pub gateway: Ipv4Addr,
    /// The port.
    pub port: u16,
    /// The interface that questions have to arrive on.
    pub device: String,
    /// Whose questions are answered, and whose addresses have names.
    pub subnet: Ipv4Net,
    /// The domain below which hosts are named.
    pub domain: String,
    /// Who is asked everything else.
    pub upstream: SocketAddr,
    /// What guests may ask for.
    pub limits: Limits,
}

/// Why there is no responder.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The domain.
    #[error(transparent)]
    Zone(#[from] ZoneError),
}

/// What tasks share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) zone: Zone,
    pub(crate) ration: Ration,
    pub(crate) upstream: SocketAddr,
    subnet: Ipv4Net,
    gateway: Ipv4Addr,
}

impl Service {
    /// Who asks, when it is somebody who may.
    pub(crate) fn guest(&self, from: SocketAddr) -> Option<Ipv4Addr> {
        match from.ip() {
            IpAddr::V4(address) => Some(address).filter(|it| self.subnet.contains(it) && *it != self.gateway),
            IpAddr::V6(_) => None,
        }
    }
}

/// A name server that runs until it is dropped.
#[derive(Debug)]
pub struct Responder {
    status: Arc<Mutex<Result<SocketAddr, String>>>,
    task: JoinHandle<()>,
}

impl Responder {
    /// Listens, or goes on trying to: a port that somebody else holds is told by [`Self::status`] and is no error. To be
    /// called inside a runtime, in the network namespace of the bridge.
    ///
    /// # Errors
    /// [`DnsError`] when the domain cannot be one.
    pub fn start(config: Config, names: Arc<dyn Names>) -> Result<Self, DnsError> {
        let service = Arc::new(Service {
            zone: Zone::new(&config.domain, config.subnet, names)?,
            ration: Ration::new(config.limits),
            upstream: config.upstream,
            subnet: config.subnet,
            gateway: config.gateway,
        });
        let status = Arc::new(Mutex::new(Err("not tried yet".to_owned())));
        let first = listen(&config, &status);
        let task = tokio::spawn(run(config, service, Arc::clone(&status), first));
        Ok(Self { status, task })
    }

    /// Where it listens, or why it does not.
    ///
    /// # Errors
    /// The reason.
    pub fn status(&self) -> Result<SocketAddr, String> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Sockets = (UdpSocket, TcpListener);

async fn run(
    config: Config,
    service: Arc<Service>,
    status: Arc<Mutex<Result<SocketAddr, String>>>,
    mut sockets: Option<Sockets>,
) {
    loop {
        if let Some((udp, tcp)) = sockets.take() {
            // Whichever fails, both are opened anew.
            let error = tokio::select! {
                error = udp::serve(udp, Arc::clone(&service)) => error,
                error = tcp::serve(tcp, Arc::clone(&service)) => error,
            };
            tell(&status, Err(error.to_string()), &config);
        }
        tokio::time::sleep(AGAIN).await;
        sockets = listen(&config, &status);
    }
}

fn listen(config: &Config, status: &Mutex<Result<SocketAddr, String>>) -> Option<Sockets> {
    let opened = socket::open(config);
    let address = SocketAddr::from((config.gateway, config.port));
    tell(status, opened.as_ref().map(|_| address).map_err(ToString::to_string), config);
    opened.ok()
}

/// Notes how it stands; a change goes into the log.
fn tell(status: &Mutex<Result<SocketAddr, String>>, now: Result<SocketAddr, String>, config: &Config) {
    let mut status = status.lock().unwrap_or_else(PoisonError::into_inner);
    if *status == now {
        return;
    }
    match &now {
        Ok(address) => {
            tracing::info!(dns.address = %address, dns.domain = config.domain, dns.upstream = %config.upstream, "guests can resolve names");
        }
        Err(reason) => {
            tracing::warn!(dns.address = %config.gateway, dns.port = config.port, reason, "guests cannot resolve names here; trying on");
        }
    }
    *status = now;
}
