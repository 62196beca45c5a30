//! What working in a guest costs beside its channel: a program that does nothing beside a question that the agent answers
//! at once, and copies of files beside the same number of bytes through a program that only reads or writes. Real guests
//! only: a simulated one has no programs.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dataplane_testkit::socket::{Said, Socket};
use futures_util::stream::iter;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::Node;
use crate::node::is_real;
use crate::table::{Table, Times};

const EXECS: usize = 300;
const ROUNDS: usize = 3;
const COPIED: usize = 128 << 20;
const CHUNK: usize = 256 << 10;

/// A guest with a program that waits, and a file of [`COPIED`] bytes in its page cache.
fn node() -> Node {
    let node = Node::start();
    node.run(512, &json!({ "disk_gb": 2 }));
    exec(&node, &["/bin/busybox", "mkdir", "-p", "/copy"]);
    let count = format!("count={}", COPIED >> 20);
    exec(&node, &["/bin/busybox", "dd", "if=/dev/urandom", "of=/copy/file", "bs=1M", &count]);
    node
}

fn exec(node: &Node, command: &[&str]) -> (Value, Duration) {
    let body = json!({ "command": command, "timeout_seconds": 300 });
    let (answer, time) = node.expect(200, node.client.post_json("/instances/sample/exec", &body));
    let ran = answer.json();
    assert_eq!(ran["exit_code"], 0, "{ran}");
    (ran, time)
}

pub(crate) fn programs(table: &mut Table) {
    if !is_real() {
        table.section("exec", "skipped: it needs real guests (DATAPLANE_BENCH_VMM)");
        return;
    }
    let node = node();
    table.section("exec", &format!("{EXECS} in turn: a question that is answered at once, `busybox true`"));
    let waits = json!({ "command": ["/bin/busybox", "sleep", "1000000"], "detach": true });
    let waits = node.expect(200, node.client.post_json("/instances/sample/exec", &waits)).0.json();
    let question = format!("/instances/sample/processes/{}", waits["pid"]);
    let [mut channel, mut programs] = [(); 2].map(|()| Times::default());
    for _ in 0..EXECS {
        channel.push(node.expect(200, node.client.get(&question)).1);
        programs.push(exec(&node, &["/bin/busybox", "true"]).1);
    }
    let body = "n=0; while [ $n -lt 300 ]; do /bin/busybox true; n=$((n+1)); done";
    let (_, inside) = exec(&node, &["/bin/busybox", "sh", "-c", body]);
    let above = programs.quantile(0.5) - channel.quantile(0.5);
    table.line("a question (of a process)", &channel.show());
    table.line("a program in the guest's own shell", &format!("{:.2} ms", inside.as_secs_f64() * 1e3 / 300.0));
    table.aim("exec", &programs.show(), ("p50 <= the question + 3 ms", above <= 3.0));
}

pub(crate) fn files(table: &mut Table) {
    if !is_real() {
        table.section("files", "skipped: it needs real guests (DATAPLANE_BENCH_VMM)");
        return;
    }
    let node = node();
    let how =
        format!("{} MiB, best of {ROUNDS} in turn; the channel: a program that reads or writes them", COPIED >> 20);
    table.section("files", &how);
    let (mut times, mut written) = ([(); 4].map(|()| Times::default()), Times::default());
    for _ in 0..ROUNDS {
        times[0].push(said(&node));
        times[1].push(download(&node));
        times[2].push(fed(&node, "/dev/null"));
        written.push(fed(&node, "/copy/written"));
        times[3].push(upload(&node));
    }
    let rate = |times: &Times| (COPIED >> 20) as f64 / times.quantile(0.0) * 1e3;
    for (name, pair) in ["out of the guest", "into the guest"].into_iter().zip(times.chunks(2)) {
        let (channel, copied) = (rate(&pair[0]), rate(&pair[1]));
        table.line(&format!("{name}: the channel"), &format!("{channel:.1} MiB/s"));
        let value = format!("{copied:.1} MiB/s, {:.2} x", copied / channel);
        table.aim(&format!("{name}: a file"), &value, (">= 0.7 x the channel", copied >= 0.7 * channel));
    }
    table.line("into the guest: a program that writes a file", &format!("{:.1} MiB/s", rate(&written)));
}

async fn open(socket: &Path, command: &[&str]) -> Socket {
    Socket::open(socket, "sample", &json!({ "command": command })).await.unwrap()
}

/// A program that writes them from memory.
fn said(node: &Node) -> Duration {
    let count = format!("count={}", COPIED >> 16);
    node.runtime.block_on(async {
        let begin = Instant::now();
        let command = ["/bin/busybox", "dd", "if=/dev/zero", "bs=64k", &count];
        let mut socket = open(&node.daemon.socket(), &command).await;
        let mut received = 0;
        while let Some(said) = socket.next().await.unwrap() {
            if let Said::Output(bytes) = said {
                received += bytes.len();
            }
        }
        assert_eq!(received, COPIED);
        begin.elapsed()
    })
}

/// A program that reads them, for nothing or into a file.
fn fed(node: &Node, to: &str) -> Duration {
    node.runtime.block_on(async {
        let begin = Instant::now();
        let socket =
            open(&node.daemon.socket(), &["/bin/busybox", "sh", "-c", &format!("exec /bin/busybox cat >{to}")]).await;
        let (mut sink, mut stream) = socket.split();
        let send = async move {
            let chunk = vec![0; CHUNK + 1];
            for _ in 0..COPIED / CHUNK {
                sink.send(Message::Binary(chunk.clone().into())).await.unwrap();
            }
            sink.send(Message::Binary(b"\x03{\"type\":\"close_stdin\"}".to_vec().into())).await.unwrap();
            sink
        };
        let hear = async move {
            let mut last = Vec::new();
            while let Some(Ok(Message::Binary(bytes))) = stream.next().await {
                last = bytes.to_vec();
            }
            last
        };
        let (_sink, last) = tokio::join!(send, hear);
        assert_eq!(last, b"\x03{\"type\":\"exit\",\"exit_code\":0}");
        begin.elapsed()
    })
}

fn download(node: &Node) -> Duration {
    let request = Request::get("/instances/sample/files?path=/copy/file").header("host", "localhost");
    let begin = Instant::now();
    node.runtime.block_on(async {
        let mut answer = node.client.send(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut received = 0;
        while let Some(frame) = answer.body_mut().frame().await {
            received += frame.unwrap().data_ref().map_or(0, Bytes::len);
        }
        assert!(received > COPIED);
    });
    begin.elapsed()
}

fn upload(node: &Node) -> Duration {
    let mut header = tar::Header::new_gnu();
    header.set_path("copy").unwrap();
    header.set_mode(0o644);
    header.set_size(COPIED as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let head = Bytes::copy_from_slice(header.as_bytes());
    let end = Bytes::from_static(&[0; 1024]);
    let chunk = Bytes::from(vec![7; CHUNK]);
    let body = iter([head]).chain(iter(std::iter::repeat_n(chunk, COPIED / CHUNK))).chain(iter([end]));
    let request = Request::put("/instances/sample/files?path=/copy").header("host", "localhost");
    let request = request.header("content-type", "application/x-tar");
    let body = StreamBody::new(body.map(|bytes| Ok::<_, std::io::Error>(Frame::data(bytes))));
    let begin = Instant::now();
    node.runtime.block_on(async {
        let answer = node.client.send_body(request.body(body).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 204);
    });
    begin.elapsed()
}
