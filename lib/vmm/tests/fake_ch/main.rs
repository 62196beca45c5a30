//! `fake-ch` where the conformance suite cannot look: the HTTP layer's limits, and misbehaviour on demand as the driver
//! sees it. The expected answers were read off the real VMM.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod bench;
mod standby;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dataplane_vmm::{ExitReason, VmEvent, Vmm, VmmError};

use crate::bench::Bench;

const BINARY: &str = env!("CARGO_BIN_EXE_fake-ch");

struct Server {
    directory: tempfile::TempDir,
    child: Child,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let child = Command::new(BINARY).arg("--api-socket").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let server = Self { directory, child };
        let end = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(server.socket()).is_err() {
            assert!(Instant::now() < end, "it does not listen");
            std::thread::yield_now();
        }
        server
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// Everything that comes back until the answer to these bytes is complete.
    fn say(&self, request: &str) -> String {
        answer(&mut UnixStream::connect(self.socket()).unwrap(), request)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn answer(stream: &mut UnixStream, request: &str) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // A connection over the limit is answered and closed before it is read.
    let _closed = stream.write_all(request.as_bytes());
    let mut text = Vec::new();
    loop {
        let seen = String::from_utf8_lossy(&text);
        if let Some((head, body)) = seen.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return seen.into_owned();
            }
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).unwrap();
        assert_ne!(count, 0, "closed in the middle of {seen:?}");
        text.extend_from_slice(&chunk[..count]);
    }
}

#[test]
fn the_http_layer_answers_as_the_real_one() {
    let server = Server::start();
    let unsupported = "{ \"error\": \"Invalid HTTP Method: Unsupported HTTP method.\n";
    let large = "Request payload with size 51201 is larger than the limit of 51200 allowed by server.\n";
    for (request, status, body) in [
        ("GET /api/v1/vm.info HTTP/1.1\r\n\r\n", "404 ", r#""VM is not created"]"#),
        ("GET /api/v1/vm.info/ HTTP/1.1\r\n\r\n", "404 ", r#"["Not Found"]"#),
        ("PUT /api/v1/vm.info HTTP/1.1\r\n\r\n", "400 ", r#"["Bad Request"]"#),
        ("PUT /api/v1/vm.boot HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", "400 ", r#"["Bad Request"]"#),
        ("PUT /api/v1/vm.boot HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "404 ", r#""VM config is missing"]"#),
        ("POST /api/v1/vm.boot HTTP/1.1\r\n\r\n", "400 ", unsupported),
        ("PATCH /api/v1/vm.boot HTTP/1.1\r\n\r\n", "400 ", "\r\n\r\n"),
        ("PUT /api/v1/vm.create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "400 ", "Invalid request.\n"),
        ("PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 51201\r\n\r\n", "400 ", large),
        ("PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 1\r\n\r\n{", "400 ", "\"EOF while parsing"),
        ("PUT /api/v1/vm.delete HTTP/1.1\r\n\r\n", "204 ", "\r\n\r\n"),
        ("PUT /api/v1/vm.pause HTTP/1.1\r\n\r\n", "500 ", r#""VM is not running"]"#),
    ] {
        let answer = server.say(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {answer:?}");
        assert!(answer.contains(body), "{request:?}: {body:?} is not in {answer:?}");
    }
}

#[test]
fn the_eleventh_connection_is_refused_until_one_is_closed() {
    let server = Server::start();
    let ping = "GET /api/v1/vmm.ping HTTP/1.1\r\n\r\n";
    let open = |_| {
        let mut stream = UnixStream::connect(server.socket()).unwrap();
        assert!(answer(&mut stream, ping).starts_with("HTTP/1.1 200 "));
        stream
    };
    let end = Instant::now() + Duration::from_secs(10);
    // Those that `start` opened may still be counted.
    while !server.say(ping).starts_with("HTTP/1.1 200 ") {
        assert!(Instant::now() < end);
    }
    let mut streams = Vec::new();
    while streams.len() < 10 {
        streams.push(open(()));
    }
    assert!(server.say("").starts_with("HTTP/1.1 503 "));
    streams.pop();
    while server.say(ping).starts_with("HTTP/1.1 503 ") {
        assert!(Instant::now() < end, "a closed connection counts for ever");
    }
}

#[tokio::test]
async fn a_vmm_that_hangs_in_a_call_times_out_and_can_be_killed() {
    let bench = Bench::new();
    let handle = bench.created().await;
    bench.order("hang vm.info\n");
    assert!(matches!(handle.state().await, Err(VmmError::Timeout { call: "vm.info", .. })));
    handle.kill().await.unwrap();
}

#[tokio::test]
async fn a_late_answer_is_not_taken_for_the_next_one() {
    let bench = Bench::new();
    let handle = bench.created().await;
    bench.order("hang vm.info\n");
    handle.state().await.unwrap_err();
    bench.order("");
    assert_eq!(handle.state().await.unwrap(), dataplane_vmm::VmState::Created);
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn a_vmm_that_dies_in_a_call_is_unreachable_and_reported() {
    let bench = Bench::new();
    let handle = bench.created().await;
    let mut events = handle.events().unwrap();
    bench.order("crash vm.boot\n");
    assert!(matches!(handle.boot().await, Err(VmmError::Unreachable { call: "vm.boot", .. })));
    assert_eq!(events.recv().await, Some(VmEvent::Exited(ExitReason::Signal(9))));
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn nonsense_and_refusals_are_told_apart() {
    let bench = Bench::new();
    let handle = bench.created().await;
    bench.order("garbage vm.info\n");
    assert!(matches!(handle.state().await, Err(VmmError::Nonsense { call: "vm.info", .. })));
    bench.order("refuse vm.boot\n");
    let error = handle.boot().await.unwrap_err();
    assert_eq!(error.to_string(), "the VMM refused vm.boot: Error from API: Refused on demand");
    bench.order("");
    handle.boot().await.unwrap();
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn a_start_that_fails_leaves_no_process_and_quotes_the_vmm() {
    let bench = Bench::new();
    let first = bench.created().await;
    let error = bench.driver.spawn(&bench.launch).await.unwrap_err();
    let VmmError::EndedAtStart { status, message } = &error else { panic!("{error:?}") };
    assert_eq!(status, "exit code 1");
    assert!(message.contains("is already in use by another running instance"), "{message}");
    first.quit().await.unwrap();
}
