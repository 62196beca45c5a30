//! A guest that prints without pause, a daemon that is restarted, a VM that goes into standby and comes back, a log
//! whose head is freed meanwhile: whoever resumes by the last id sees every line once and in order, or a gap that says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dataplane_testkit::http::{Client, Event, Events};
use dataplane_types::Mib;
use hyper::Request;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::Node;

const RESTARTS: usize = 10;
const STANDBYS: usize = 5;
const FOLLOWERS: usize = 6;

/// What the guest prints: some 2 MB a second.
const FLOOD: [&str; 2] = ["flood", "200"];

/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(100);

/// What one follower has seen.
#[derive(Debug, Default)]
struct Seen {
    /// The last event's id: where the next line begins.
    at: u64,
    /// The number of the last line, unless a gap came since.
    number: Option<u64>,
    lines: u64,
    gaps: u64,
    ended: bool,
}

impl Seen {
    fn take(&mut self, event: &Event) {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        match event.event.as_str() {
            "" => self.line(event.id.parse().unwrap(), data["text"].as_str().unwrap()),
            "gap" => {
                assert_eq!(data["from"], self.at, "{event:?}");
                let to = data["to"].as_u64().unwrap();
                assert!(to > self.at && event.id == to.to_string(), "{event:?} at {}", self.at);
                self.at = to;
                self.number = None;
                self.gaps += 1;
            }
            "end" => self.ended = true,
            other => assert_eq!(other, "restart"),
        }
    }

    fn line(&mut self, id: u64, text: &str) {
        // Not a byte is left out: the line begins where the last one ended.
        assert_eq!(id, self.at + text.len() as u64 + 1, "{text:?}");
        self.at = id;
        self.lines += 1;
        let Some(number) = text.strip_prefix("flood ").map(|number| number.trim_end().parse::<u64>().unwrap()) else {
            return assert!(text.starts_with("fake-guest"), "{text:?}");
        };
        if let Some(last) = self.number {
            assert_eq!(number, last + 1);
        }
        self.number = Some(number);
    }
}

/// Follows until the instance is gone, over as many connections as it takes. A slow one takes its time over the lines.
async fn follow(client: Client, is_slow: bool, at: Arc<AtomicU64>) -> Seen {
    let (mut seen, begin) = (Seen::default(), Instant::now());
    while !seen.ended {
        assert!(begin.elapsed() < PATIENCE, "{seen:?}");
        let request = Request::get("/instances/flood/logs?follow=true&offset=0").header("host", "localhost");
        let request = if seen.at > 0 { request.header("last-event-id", seen.at) } else { request };
        // Between two daemons there is nobody to connect to, or one that hangs up.
        let Ok(answer) = client.send(request.body(http_body_util::Full::default()).unwrap()).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        match answer.status().as_u16() {
            200 => read(&mut seen, Events::of(answer), is_slow, &at).await,
            204 => seen.ended = true,
            // Not all instances are known yet, or the daemon stops.
            status => assert_eq!(status, 503),
        }
    }
    seen
}

async fn read(seen: &mut Seen, mut events: Events, is_slow: bool, at: &AtomicU64) {
    while let Ok(Some(event)) = events.next().await {
        seen.take(&event);
        at.store(seen.at, Ordering::Relaxed);
        if is_slow && seen.lines.is_multiple_of(2000) {
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_line_is_seen_once_in_order_or_its_loss_is_told() {
    let mut node = Node::with(|config| config.log_limit = Mib(2)).await;
    node.import().await;
    node.create("flood", &FLOOD).await;
    let mut followers = JoinSet::new();
    let places: [Arc<AtomicU64>; FOLLOWERS] = Default::default();
    for (number, at) in places.iter().enumerate() {
        followers.spawn(follow(node.client.clone(), number == 0, Arc::clone(at)));
    }
    for round in 0..RESTARTS {
        tokio::time::sleep(Duration::from_millis(200)).await;
        node.stop().await;
        node.launch().await;
        if round % (RESTARTS / STANDBYS) == 0 {
            assert_eq!(node.act("flood", "standby").await.0, 200);
            assert_eq!(node.act("flood", "restore").await.0, 200);
        }
    }
    let log = node.data().join("instances/flood/logs/serial.log");
    // So much that even what was kept at first is gone.
    while std::fs::metadata(&log).unwrap().len() < 8 << 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.act("flood", "stop").await.0, 200);
    let text = std::fs::read(&log).unwrap();
    let length = text.len() as u64;
    let last = String::from_utf8_lossy(&text[text.len() - 100..]).trim_start_matches("flood ").trim_end().to_owned();
    let zeros = text.iter().take_while(|byte| **byte == 0).count();
    assert!(zeros >= 5 << 20 && length - zeros as u64 >= 2 << 20, "{zeros} of {length} are freed");
    // Whoever comes back after the end finds no log any more.
    let begin = Instant::now();
    while places.iter().any(|at| at.load(Ordering::Relaxed) < length) {
        assert!(begin.elapsed() < PATIENCE, "{places:?} of {length}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.client.delete("/instances/flood").await.unwrap().status, 204);
    let mut gaps = Vec::new();
    while let Some(seen) = followers.join_next().await {
        let seen = seen.unwrap();
        assert_eq!((seen.at, seen.number.unwrap().to_string()), (length, last.clone()), "{seen:?}");
        gaps.push(seen.gaps);
    }
    assert!(gaps.iter().any(|gaps| *gaps > 0), "nobody was too slow: {gaps:?}");
    node.assert_clean();
}
