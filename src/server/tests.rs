//! Real connections over loopback and over a Unix socket.

use std::net::Ipv4Addr;

use axum::routing::any;
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::*;

struct Running {
    server: Server,
    begun: Arc<Notify>,
    go: Arc<Notify>,
    directory: tempfile::TempDir,
}

/// A server whose `/slow` waits to be let go and whose `/endless` never ends.
async fn running() -> Running {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let options = Options {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        socket: &socket,
        secret: None,
        audience: None,
        limits: Limits::default(),
        times: Times { head: Duration::from_millis(100), drain: Duration::from_millis(500) },
    };
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (in_begun, in_go) = (Arc::clone(&begun), Arc::clone(&go));
    let server = listen(options, move |_| {
        let slow = move || async move {
            in_begun.notify_one();
            in_go.notified().await;
            "slow"
        };
        let peer = |request: axum::extract::Request| async move {
            request.extensions().get::<Peer>().map_or_else(String::new, ToString::to_string)
        };
        let endless =
            || async { Body::from_stream(futures_util::stream::pending::<Result<&str, io::Error>>().boxed()) };
        Router::new().route("/slow", any(slow)).route("/peer", any(peer)).route("/endless", any(endless))
    });
    Running { server: server.await.unwrap(), begun, go, directory }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end like any other.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn both_listeners_serve_and_know_their_peers() {
    let running = running().await;
    let mut tcp = TcpStream::connect(running.server.address()).await.unwrap();
    assert!(exchange(&mut tcp, &get("/peer")).await.contains("127.0.0.1:"));
    let socket = running.directory.path().join("api.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut unix = UnixStream::connect(&socket).await.unwrap();
    assert!(exchange(&mut unix, &get("/peer")).await.ends_with("unix"));
    running.server.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_left_over_socket_is_replaced_and_anything_else_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    drop(bind_unix(&path).unwrap());
    assert!(path.exists());
    drop(bind_unix(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(bind_unix(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn a_socket_that_another_daemon_serves_stays_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let other = UnixListener::bind(&path).unwrap();
    assert_eq!(bind_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(other);
    assert!(bind_unix(&path).is_ok(), "what a dead one left is replaced");
}

#[tokio::test]
async fn a_head_over_its_limit_is_refused() {
    let running = running().await;
    let mut tcp = TcpStream::connect(running.server.address()).await.unwrap();
    let request = format!("GET /peer HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(HEAD_BYTES * 2));
    assert!(exchange(&mut tcp, &request).await.starts_with("HTTP/1.1 431 "));
    running.server.stop().await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    let running = running().await;
    let mut tcp = TcpStream::connect(running.server.address()).await.unwrap();
    let asked = exchange(&mut tcp, "GET /peer HTTP/1.1\r\nHost: local");
    let answer = tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap();
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    running.server.stop().await;
}

#[tokio::test]
async fn a_stop_lets_answers_finish_and_accepts_nothing_more() {
    let running = running().await;
    let address = running.server.address();
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let asked = tokio::spawn(async move { exchange(&mut tcp, &get("/slow")).await });
    running.begun.notified().await;
    let stopped = tokio::spawn(running.server.stop());
    // The listener closes first; until then a connection may still be made.
    let mut refused = false;
    for _ in 0..1000 {
        refused = refused || TcpStream::connect(address).await.is_err();
        tokio::task::yield_now().await;
    }
    assert!(refused);
    running.go.notify_one();
    assert!(asked.await.unwrap().ends_with("slow"));
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let running = running().await;
    let mut tcp = TcpStream::connect(running.server.address()).await.unwrap();
    tcp.write_all(get("/endless").as_bytes()).await.unwrap();
    let mut head = [0; 12];
    tcp.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    tokio::time::timeout(Duration::from_secs(30), running.server.stop()).await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let running = running().await;
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        address: running.server.address(),
        socket: &directory.path().join("s"),
        secret: None,
        audience: None,
        limits: Limits::default(),
        times: Times::default(),
    };
    let error = listen(options, |_| Router::new()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("listen on {}", running.server.address()));
    running.server.stop().await;
}
