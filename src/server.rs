//! The listeners: a TCP address and a Unix socket, bounded in connections, header size and time.
//!
//! Invariant: a stop never waits longer than [`Times::drain`] for callers, and touches nothing but connections; work that is
//! under way goes on in tasks of its own. This module knows HTTP/1.1 connections and nothing of what is served.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use dataplane_api::{Answered, Api, Limits, Runtime};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt as _;

use crate::auth::{AuthError, Peer, Policy};

/// The most bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;

/// The most connections at once, over each listener.
const CONNECTIONS: usize = 1024;

/// How long sent bytes may stay unacknowledged; event streams send one at least every 15 s.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// How long to wait after a failed accept, which is most often a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration would leave it open.
    #[error("guard the API")]
    Auth(#[from] AuthError),
    /// The TCP address cannot be had.
    #[error("listen on {address}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The Unix socket cannot be made.
    #[error("listen on {}", path.display())]
    Unix {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// How long connections may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// To send the head of a request; also how long a connection may be idle before the next one.
    pub(crate) head: Duration,
    /// To get the answers that are under way when the daemon stops.
    pub(crate) drain: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { head: Duration::from_secs(20), drain: Duration::from_secs(5) }
    }
}

/// What is served where, and to whom.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    /// Port 0 lets the system choose.
    pub(crate) address: SocketAddr,
    /// The Unix socket, made anew.
    pub(crate) socket: &'a Path,
    /// The secret of the tokens; without one only loopback is served.
    pub(crate) secret: Option<&'a [u8]>,
    /// The audience that tokens must name.
    pub(crate) audience: Option<&'a str>,
    /// Bounds on requests.
    pub(crate) limits: Limits,
    /// Bounds on connections.
    pub(crate) times: Times,
}

impl<'a> From<&'a crate::Config> for Options<'a> {
    fn from(config: &'a crate::Config) -> Self {
        Self {
            address: SocketAddr::new(config.listen_address, config.port),
            socket: &config.socket_path,
            secret: config.jwt_secret.as_ref().map(crate::config::Secret::bytes),
            audience: config.jwt_audience.as_deref(),
            limits: Limits::default(),
            times: Times::default(),
        }
    }
}

/// A running server; dropping it without [`Server::stop`] cuts every connection.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    socket: PathBuf,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
}

/// Serves an implementation of the API.
///
/// # Errors
/// [`ServerError`]: nothing is served then.
pub(crate) async fn serve<'a, A: Api>(options: impl Into<Options<'a>>, api: A) -> Result<Server, ServerError> {
    let api = Arc::new(api);
    listen(options.into(), |runtime| dataplane_api::router(api, runtime)).await
}

async fn listen(options: Options<'_>, routes: impl FnOnce(Runtime) -> Router) -> Result<Server, ServerError> {
    let policy = Policy::new(options.secret, options.audience, options.address.ip())?;
    let tcp_error = |source| ServerError::Tcp { address: options.address, source };
    let tcp = TcpListener::bind(options.address).await.map_err(tcp_error)?;
    let address = tcp.local_addr().map_err(tcp_error)?;
    let unix =
        bind_unix(options.socket).map_err(|source| ServerError::Unix { path: options.socket.to_owned(), source })?;
    let (stop, stopping) = watch::channel(false);
    let router = routes(Runtime::new(Arc::new(policy), stopping.clone(), options.limits));
    let shared = Shared { router, stopping, times: options.times };
    let listeners =
        vec![tokio::spawn(accept_all(Tcp(tcp), shared.clone())), tokio::spawn(accept_all(Unix(unix), shared))];
    Ok(Server { address, socket: options.socket.to_owned(), stop, listeners })
}

impl Server {
    /// The TCP address that is served.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, tells streams, and gives requests in flight a bounded time to finish.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        for listener in std::mem::take(&mut self.listeners) {
            if let Err(error) = listener.await {
                tracing::error!(%error, "a listener failed");
            }
        }
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::debug!(%error, "remove the API's socket");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Aborting a listener drops its connections with it.
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}

/// A socket that only the daemon's user can open, in the place of one that a killed daemon left. One that is answered
/// belongs to another daemon, with another data directory, and stays.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon serves it"));
            }
            std::fs::remove_file(path)?;
        }
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there, no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    // Who connects in the instant before this is still checked by its credentials.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// What both kinds of listener have in common.
trait Accept {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// The next connection; none if its peer may not connect.
    fn accept(&self) -> impl Future<Output = io::Result<Option<(Self::Stream, Peer)>>> + Send;
}

struct Tcp(TcpListener);
struct Unix(UnixListener);

impl Accept for Tcp {
    type Stream = TcpStream;
    async fn accept(&self) -> io::Result<Option<(TcpStream, Peer)>> {
        let (stream, address) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        let wait = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(&stream, wait)?;
        Ok(Some((stream, Peer::Tcp(address))))
    }
}

impl Accept for Unix {
    type Stream = UnixStream;
    async fn accept(&self) -> io::Result<Option<(UnixStream, Peer)>> {
        let (stream, _) = self.0.accept().await?;
        let uid = stream.peer_cred()?.uid();
        if uid == 0 || uid == rustix::process::geteuid().as_raw() {
            return Ok(Some((stream, Peer::Unix)));
        }
        tracing::warn!(peer.uid = uid, "a connection to the API's socket was refused");
        Ok(None)
    }
}

/// What all connections share.
#[derive(Clone)]
struct Shared {
    router: Router,
    stopping: watch::Receiver<bool>,
    times: Times,
}

/// Accepts until the stop, then waits for what is in flight.
async fn accept_all<L: Accept>(listener: L, mut shared: Shared) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // Each branch is cancel-safe: a watch, a reaper, and an accept whose permit is given back when dropped.
        let accepted = tokio::select! {
            biased;
            _ = shared.stopping.wait_for(|stopping| *stopping) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept_one(&listener, &slots) => accepted,
        };
        match accepted {
            Ok(Some((stream, peer, slot))) => {
                connections.spawn(serve_connection(stream, peer, shared.clone(), slot));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(shared.times.drain, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!(connections = connections.len(), "connections were cut: their answers took too long");
        connections.shutdown().await;
    }
}

async fn accept_one<L: Accept>(
    listener: &L,
    slots: &Arc<Semaphore>,
) -> io::Result<Option<(L::Stream, Peer, OwnedSemaphorePermit)>> {
    // Without a free slot nothing is accepted: callers wait in the kernel's queue.
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    Ok(listener.accept().await?.map(|(stream, peer)| (stream, peer, slot)))
}

async fn serve_connection<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    peer: Peer,
    mut shared: Shared,
    _slot: OwnedSemaphorePermit,
) {
    let router = shared.router;
    let service = service_fn(move |request| answer(router.clone(), peer, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.times.head)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let mut told = false;
    loop {
        // Cancel-safe: the connection is pinned outside and polled again, the other branch is a watch.
        tokio::select! {
            biased;
            _ = shared.stopping.wait_for(|stopping| *stopping), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, %peer, "a connection ended early");
                }
                return;
            }
        }
    }
}

/// Answers one request and writes the line of the access log: neither query nor headers nor body are in it.
async fn answer(router: Router, peer: Peer, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let start = Instant::now();
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(256).collect();
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    let response = router.oneshot(request).await?;
    let status = response.status().as_u16();
    let answered = response.extensions().get::<Answered>();
    let request_id = answered.map_or("-", |answered| &*answered.request_id);
    let operation = answered.and_then(|answered| answered.operation);
    let code = answered.and_then(|answered| answered.code).map(|code| code.to_string());
    let code = code.as_deref().unwrap_or("-");
    let took_ms = start.elapsed().as_secs_f64() * 1e3;
    if status < 400 && operation.is_some_and(|operation| !operation.auth) {
        // Probes ask every few seconds.
        tracing::debug!(request.id = request_id, %peer, %method, path, status, took_ms, "answered");
    } else {
        tracing::info!(request.id = request_id, %peer, %method, path, status, code, took_ms, "answered");
    }
    Ok(response)
}

#[cfg(test)]
mod tests;
