//! The log of a real guest that prints without pause, over restarts of the daemon, its death, standby and restore: one
//! follower that resumes by the last id sees the whole file, once.

use std::time::{Duration, Instant};

use dataplane_testkit::http::{Client, Events};
use hyper::Request;

use crate::harness::{Host, PATIENCE, shell_image, text_of};

const ROUNDS: usize = 3;

/// What a follower has seen: the lines, and where the next one begins.
#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    at: u64,
    connections: usize,
}

async fn follow(client: Client) -> Seen {
    let (mut seen, begin) = (Seen::default(), Instant::now());
    loop {
        assert!(begin.elapsed() < PATIENCE, "the log does not end");
        let request = Request::get("/instances/one/logs?follow=true&offset=0").header("host", "localhost");
        let request = if seen.at > 0 { request.header("last-event-id", seen.at) } else { request };
        let Ok(answer) = client.send(request.body(http_body_util::Full::default()).unwrap()).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        match answer.status().as_u16() {
            200 => {
                seen.connections += 1;
                if read(&mut seen, Events::of(answer)).await {
                    return seen;
                }
            }
            204 => return seen,
            status => assert_eq!(status, 503),
        }
    }
}

/// Whether the log has ended.
async fn read(seen: &mut Seen, mut events: Events) -> bool {
    while let Ok(Some(event)) = events.next().await {
        match event.event.as_str() {
            "" => {
                let (id, line) = (event.id.parse::<u64>().unwrap(), text_of(&event));
                let end = id - seen.at - line.len() as u64;
                assert!((1..=2).contains(&end), "{line:?} ends at {id}, the last one at {}", seen.at);
                (seen.at, _) = (id, seen.lines.push(line));
            }
            "end" => return true,
            other => assert_eq!(other, "restart"),
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_all_that_a_guest_printed_whatever_happened_meanwhile() {
    let mut host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    host.script("one", &image, "n=0; while :; do n=$((n+1)); echo number $n; done").await.unwrap();
    host.line("one", "number 100").await.unwrap();
    let follower = tokio::spawn(follow(host.client.clone()));
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            host.daemon.kill().unwrap()
        } else {
            host.daemon.stop().unwrap()
        }
        host.daemon.launch().unwrap();
        for action in ["standby", "restore"] {
            let answer = host.client.act(&format!("/instances/one/{action}")).await.unwrap();
            assert_eq!(answer.status, 200, "{action}: {:?}\n{}", answer.body, host.daemon.log());
        }
    }
    let stopped =
        host.client.post_json("/instances/one/stop", &serde_json::json!({ "grace_seconds": 0 })).await.unwrap();
    assert_eq!(stopped.status, 200, "{:?}", stopped.body);
    let file = std::fs::read(host.daemon.data().join("instances/one/logs/serial.log")).unwrap();
    host.delete("one", 0).await.unwrap();
    let seen = tokio::time::timeout(PATIENCE, follower).await.unwrap().unwrap();
    // It may have come after the first daemon was gone.
    assert!(seen.connections >= ROUNDS, "{} connections", seen.connections);
    let lines: Vec<_> =
        String::from_utf8(file).unwrap().lines().map(|line| line.trim_end_matches('\r').to_owned()).collect();
    assert!(seen.lines.len() > 100 && seen.lines[..] == lines[..seen.lines.len()], "it saw something else");
    assert!(lines.len() <= seen.lines.len() + 1, "{} of {} lines", seen.lines.len(), lines.len());
    // The guest's kernel may say a word in the middle of a line; a number that comes again would be a lie.
    let numbers = lines.iter().filter_map(|line| line.strip_prefix("number ")?.parse::<u64>().ok());
    assert!(numbers.collect::<Vec<_>>().is_sorted_by(|one, next| one < next), "a number comes again");
    host.assert_clean();
}
