//! Many followers of one log, and one that does not read.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dataplane_testkit::http::Events;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::harness::Node;

const FOLLOWERS: usize = 1000;

/// So many bytes each of them has to see: what is written before they come, and for some time after.
const ENOUGH: usize = 30_000;

/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

async fn open(node: std::net::SocketAddr, path: &str) -> Response<Incoming> {
    let stream = TcpStream::connect(node).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", node.to_string()).body(Full::<Bytes>::default()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_followers_see_the_same() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(most > 3 * FOLLOWERS as u64, "{most} files are not enough");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let node = Node::start().await;
    node.import().await;
    node.create("flood", &["flood", "1"]).await;
    let (address, begin) = (node.address(), Instant::now());
    let mut followers = JoinSet::new();
    // Not all at the same door at once: what the kernel's queue does not hold it turns away.
    let door = Arc::new(Semaphore::new(64));
    for _ in 0..FOLLOWERS {
        let door = Arc::clone(&door);
        followers.spawn(async move {
            let entering = door.acquire().await.unwrap();
            let mut answer = open(address, "/instances/flood/logs?follow=true&offset=0").await;
            drop(entering);
            let mut seen = Vec::new();
            while seen.len() < ENOUGH {
                let frame = answer.body_mut().frame().await.expect("the stream goes on").unwrap();
                seen.extend_from_slice(frame.data_ref().unwrap());
            }
            seen.truncate(ENOUGH);
            seen
        });
    }
    let all = async {
        let first = followers.join_next().await.unwrap().unwrap();
        while let Some(seen) = followers.join_next().await {
            assert!(seen.unwrap() == first, "two followers saw different things");
        }
        first
    };
    let first = tokio::time::timeout(PATIENCE, all).await.expect("they hang");
    assert!(first.starts_with(b"id: ") && !first.windows(4).any(|word| word == b": ga"), "gaps, or no events");
    println!("{FOLLOWERS} followers of {} kB each in {:?}", ENOUGH / 1000, begin.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_frozen_follower_harms_nobody_and_misses_nothing() {
    let node = Node::start().await;
    node.import().await;
    node.create("stay", &["stay"]).await;
    let path = "/instances/stay/logs?follow=true&offset=0";
    let log = node.data().join("instances/stay/logs/serial.log");
    // More than sockets hold.
    let lines: Vec<_> = (0..60_000).map(|number| format!("line {number:<45}\n")).collect();
    let mut file = File::options().append(true).open(log).unwrap();
    let mut frozen = node.client.events(path, None).await.unwrap();
    let followers = (0..4).map(|_| node.client.events(path, None));
    let mut followers = futures_util::future::try_join_all(followers).await.unwrap();
    for part in lines.chunks(1000) {
        file.write_all(part.concat().as_bytes()).unwrap();
    }
    for events in &mut followers {
        tokio::time::timeout(PATIENCE, see_all(events)).await.expect("one that reads waits for one that does not");
    }
    // It has not read anything yet.
    tokio::time::timeout(PATIENCE, see_all(&mut frozen)).await.expect("it is stuck");
}

async fn see_all(events: &mut Events) {
    let mut number = 0;
    while number < 60_000 {
        let event = events.next().await.unwrap().unwrap();
        assert_eq!(event.event, "", "{event:?}");
        if event.data.contains("line ") {
            assert!(event.data.contains(&format!("line {number} ")), "{event:?} instead of {number}");
            number += 1;
        }
    }
}
