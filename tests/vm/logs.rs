//! The log of a real guest that prints without pause, over restarts of the daemon, its death, standby and restore, while
//! the log's head is freed: whoever resumes by the last id sees every byte once, or a gap that says so.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use dataplane_testkit::http::{Client, Events};
use hyper::Request;
use serde_json::Value;
use tokio::sync::watch;

use crate::exec::count;
use crate::harness::{Host, PATIENCE, shell_image, text_of};

/// What is kept of a log, and what lies before it and goes when the log has grown so much.
const KEPT_MB: u64 = 1;
const FREED: u64 = 1 << 20;

/// What a follower has seen: the lines with where each ends, and where the next one begins.
#[derive(Default)]
struct Seen {
    lines: Vec<(u64, String)>,
    gaps: Vec<(u64, u64)>,
    at: u64,
    cut: bool,
    connections: usize,
}

/// Follows to the end. A slow one reads a few lines of a connection and then nothing for a while.
async fn follow(client: Client, is_slow: bool, gaps: watch::Sender<usize>) -> Seen {
    let (mut seen, begin) = (Seen::default(), Instant::now());
    loop {
        assert!(begin.elapsed() < 3 * PATIENCE, "the log does not end");
        let request = Request::get("/instances/one/logs?follow=true&offset=0").header("host", "localhost");
        let request = if seen.at > 0 { request.header("last-event-id", seen.at) } else { request };
        let Ok(answer) = client.send(request.body(http_body_util::Full::default()).unwrap()).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        match answer.status().as_u16() {
            200 => {
                seen.connections += 1;
                let most = if is_slow { 50 } else { usize::MAX };
                if read(&mut seen, Events::of(answer), most).await {
                    return seen;
                }
                gaps.send_replace(seen.gaps.len());
                if is_slow {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                }
            }
            204 => return seen,
            status => assert_eq!(status, 503),
        }
    }
}

/// Whether the log has ended.
async fn read(seen: &mut Seen, mut events: Events, most: usize) -> bool {
    let before = seen.lines.len();
    while seen.lines.len() - before < most
        && let Ok(Some(event)) = events.next().await
    {
        match event.event.as_str() {
            "" => {
                let (id, line) = (event.id.parse::<u64>().unwrap(), text_of(&event));
                let end = id - seen.at - line.len() as u64;
                // A guest that is stopped may be in the middle of a line: then that was the last one.
                assert!(end <= 2 && !seen.cut, "{line:?} ends at {id}, the last one at {}", seen.at);
                seen.cut = end == 0;
                (seen.at, _) = (id, seen.lines.push((id, line)));
            }
            "gap" => {
                let data: Value = serde_json::from_str(&event.data).unwrap();
                let (from, to) = (data["from"].as_u64().unwrap(), data["to"].as_u64().unwrap());
                assert!(from == seen.at && to > from && event.id == to.to_string(), "{event:?} at {}", seen.at);
                (seen.at, _) = (to, seen.gaps.push((from, to)));
            }
            "end" => return true,
            other => assert_eq!(other, "restart"),
        }
    }
    false
}

impl Seen {
    /// What is still in the file is what was seen of it; numbers come once and in order. The guest's kernel may say a
    /// word in the middle of a line.
    fn check(&self, file: &[u8]) {
        for (end, line) in &self.lines {
            let end = usize::try_from(*end).unwrap();
            let Some(there) = file.get(end.saturating_sub(line.len() + 2)..end) else { continue };
            assert!(is_freed(there) || String::from_utf8_lossy(there).contains(line.as_str()), "{line:?} at {end}");
        }
        let numbers: Vec<u64> =
            self.lines.iter().filter_map(|(_, line)| line.strip_prefix("number ")?.parse().ok()).collect();
        assert!(numbers.len() > 20, "{} numbers", numbers.len());
        assert!(numbers.is_sorted_by(|one, next| one < next), "a number comes again");
        let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
        if self.gaps.is_empty() {
            let garbled = last - first + 1 - numbers.len() as u64;
            assert!(garbled <= 20, "{garbled} numbers are missing, and no gap says so");
        }
    }
}

/// A freed block reads as zeros; a line may begin in one.
fn is_freed(bytes: &[u8]) -> bool {
    bytes.contains(&0)
}

/// How much of the log's head takes no space.
fn freed(log: &Path) -> u64 {
    let metadata = std::fs::metadata(log).unwrap();
    metadata.len().saturating_sub(metadata.blocks() * 512)
}

/// `DATAPLANE_TEST_LOG_ROUNDS` restarts of the daemon; 3 where it does not say. A standby in every second one.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_all_that_a_guest_printed_whatever_happened_meanwhile() {
    let rounds = count("DATAPLANE_TEST_LOG_ROUNDS", 3);
    let mut host = Host::start_with(&[("LOG_LIMIT_MB", &KEPT_MB.to_string())]).unwrap();
    let image = host.import(shell_image()).await.unwrap();
    host.script("one", &image, "n=0; while :; do n=$((n+1)); echo number $n; done").await.unwrap();
    host.line("one", "number 100").await.unwrap();
    let (told, mut gaps) = watch::channel(0);
    let followers = [(false, watch::Sender::new(0)), (true, told)]
        .map(|(is_slow, gaps)| tokio::spawn(follow(host.client.clone(), is_slow, gaps)));
    let log = host.daemon.data().join("instances/one/logs/serial.log");
    for round in 0..rounds {
        if round % 2 == 0 {
            host.daemon.kill().unwrap()
        } else {
            host.daemon.stop().unwrap()
        }
        host.daemon.launch().unwrap();
        for action in ["standby", "restore"].into_iter().filter(|_| round % 2 == 0) {
            let answer = host.client.act(&format!("/instances/one/{action}")).await.unwrap();
            assert_eq!(answer.status, 200, "{action}: {:?}\n{}", answer.body, host.daemon.log());
        }
    }
    // An emulated serial port takes minutes for so much: what lets the log grow beyond its limit is said for the guest,
    // among what it says itself.
    let filler = format!("{:>99}\n", "filler").repeat(usize::try_from((KEPT_MB << 20) + FREED).unwrap() / 100 + 1);
    File::options().append(true).open(&log).unwrap().write_all(filler.as_bytes()).unwrap();
    let begin = Instant::now();
    while freed(&log) < FREED / 2 {
        assert!(begin.elapsed() < PATIENCE, "{} bytes are freed", freed(&log));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = tokio::time::timeout(PATIENCE, gaps.wait_for(|gaps| *gaps > 0)).await;
    assert!(matches!(told, Ok(Ok(_))), "what was freed behind the slow one was not told");
    let stopped =
        host.client.post_json("/instances/one/stop", &serde_json::json!({ "grace_seconds": 0 })).await.unwrap();
    assert_eq!(stopped.status, 200, "{:?}", stopped.body);
    let file = std::fs::read(&log).unwrap();
    host.delete("one", 0).await.unwrap();
    for (follower, is_slow) in followers.into_iter().zip([false, true]) {
        let seen = tokio::time::timeout(PATIENCE, follower).await.unwrap().unwrap();
        // A daemon that was ended at once may have been gone before it came; one that restored was not.
        assert!(seen.connections as u64 >= rounds.div_ceil(2), "{} connections", seen.connections);
        let gaps = &seen.gaps;
        eprintln!("{} lines of {} bytes, slow: {is_slow}, gaps: {gaps:?}", seen.lines.len(), file.len());
        seen.check(&file);
    }
    host.assert_clean();
}
