//! How fast a log comes as server-sent events, beside the same log as a plain response of the same daemon: a file that is
//! read and sent as it is.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use serde_json::json;

use crate::Node;
use crate::table::{Table, Times};

const LOG_BYTES: usize = 256 << 20;
const ROUNDS: usize = 5;

/// So long are lines of programs that log: a time, a level, a few fields.
const LINES: [usize; 3] = [40, 100, 300];

pub(crate) fn measure(table: &mut Table) {
    let node = Node::start_with(&[("LOG_LIMIT_MB", "4096")]);
    node.sample(128, &json!({}));
    let log = node.daemon.data().join("instances/sample/logs/serial.log");
    let how = format!("{} MiB, one follower, best of {ROUNDS} in turn, bytes of the answer", LOG_BYTES >> 20);
    table.section("logs", &how);
    for length in LINES {
        let begin = std::fs::metadata(&log).unwrap().len();
        let lines: Vec<u8> =
            (0..10_000).flat_map(|number| format!("{number:<width$}\n", width = length - 1).into_bytes()).collect();
        let mut file = File::options().append(true).open(&log).unwrap();
        let mut written = 0;
        while written < LOG_BYTES {
            file.write_all(&lines).unwrap();
            written += lines.len();
        }
        file.sync_data().unwrap();
        let [mut plain, mut events] = [(); 2].map(|()| Times::default());
        let mut sent = 0;
        for _ in 0..ROUNDS {
            plain.push(read(&node, begin, "text/plain", written).0);
            let (time, received) = read(&node, begin, "text/event-stream", written);
            events.push(time);
            sent = received;
        }
        let rate = |bytes: usize, times: &Times| bytes as f64 / f64::from(1 << 20) / times.quantile(0.0) * 1e3;
        let (base, throughput) = (rate(written, &plain), rate(sent, &events));
        table.line(&format!("text/plain, lines of {length} bytes"), &format!("{base:.0} MiB/s"));
        let value = format!("{throughput:.0} MiB/s, {:.2} x", throughput / base);
        let aim = (">= 0.5 x plain", throughput >= 0.5 * base);
        table.aim(&format!("text/event-stream, lines of {length} bytes"), &value, aim);
        let lines = rate(written, &events);
        table.line("  of these, bytes of the log", &format!("{lines:.0} MiB/s, {:.2} x", lines / base));
    }
}

/// How long all of it took, and how many bytes came.
fn read(node: &Node, offset: u64, accept: &str, at_least: usize) -> (Duration, usize) {
    let path = format!("/instances/sample/logs?offset={offset}");
    let request = Request::get(path).header("host", "localhost").header("accept", accept);
    let begin = Instant::now();
    let received = node.runtime.block_on(async {
        let mut answer = node.client.send(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut received = 0;
        while let Some(frame) = answer.body_mut().frame().await {
            received += frame.unwrap().data_ref().map_or(0, bytes::Bytes::len);
        }
        received
    });
    assert!(received >= at_least, "{received} of {at_least} bytes as {accept}");
    (begin.elapsed(), received)
}
