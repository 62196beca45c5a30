//! The console log over HTTP.

use std::io::Write as _;

use dataplane_api::types::{InstanceState, LogEntry, LogEntryKind, OperationKind};
use dataplane_testkit::http::Event;
use hyper::Request;
use serde_json::Value;

use crate::harness::Node;

fn text(event: &Event) -> String {
    let data: Value = serde_json::from_str(&event.data).unwrap();
    data["text"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_resumes_exactly_and_is_told_of_the_end() {
    let node = Node::start().await;
    node.import().await;
    node.create("count", &["count"]).await;
    let path = "/instances/count/logs?follow=true&tail=100000";
    let mut events = node.client.events(path, None).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(events.next().await.unwrap().unwrap());
    }
    drop(events);
    // From each event on, the next one is the one that followed it.
    for pair in seen.windows(2) {
        let mut events = node.client.events(path, Some(&pair[0].id)).await.unwrap();
        assert_eq!(events.next().await.unwrap().unwrap(), pair[1]);
    }
    let mut events = node.client.events(path, None).await.unwrap();
    events.next().await.unwrap();
    let (deleted, last) = tokio::join!(node.client.delete("/instances/count?grace_seconds=0"), async {
        let mut last = Event::default();
        while let Some(event) = events.next().await.unwrap() {
            last = event;
        }
        last
    });
    assert_eq!(deleted.unwrap().status, 204);
    assert_eq!(last.event, "end");
    let request = Request::get(path).header("host", "localhost").header("last-event-id", "10");
    let after = node.client.call(request.body(http_body_util::Full::default()).unwrap()).await.unwrap();
    assert_eq!(after.status, 204, "a client that comes back learns that there is no more");
    assert_eq!(node.client.get("/instances/count/logs").await.unwrap().code(), "instance_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_and_plain_text_do_what_they_say() {
    let node = Node::start().await;
    node.import().await;
    node.create("echo", &["echo", "hello", "world"]).await;
    node.until("echo", |instance| instance["ready"] == true).await;
    let mut events = node.client.events("/instances/echo/logs?follow=true&tail=1000", None).await.unwrap();
    while text(&events.next().await.unwrap().unwrap()) != "hello world" {}
    let request = |query: &str| {
        let path = format!("/instances/echo/logs?{query}");
        Request::get(path)
            .header("host", "localhost")
            .header("accept", "text/plain")
            .body(http_body_util::Full::default())
            .unwrap()
    };
    let plain = node.client.call(request("tail=1")).await.unwrap();
    assert_eq!((plain.status, plain.body.as_ref()), (200, &b"hello world\n"[..]));
    assert!(node.client.call(request("tail=0")).await.unwrap().body.is_empty());
    let refused = Request::get("/instances/echo/logs").header("host", "localhost").header("accept", "image/png");
    let refused = node.client.call(refused.body(http_body_util::Full::default()).unwrap()).await.unwrap();
    assert_eq!(refused.code(), "not_acceptable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stops_says_restart_and_the_log_goes_on_behind_it() {
    let mut node = Node::start().await;
    node.import().await;
    node.create("count", &["count"]).await;
    let path = "/instances/count/logs?follow=true&tail=100000";
    let mut events = node.client.events(path, None).await.unwrap();
    let first = events.next().await.unwrap().unwrap();
    let (mut kinds, ()) = tokio::join!(
        async {
            let mut last = first.clone();
            let mut kinds = Vec::new();
            while let Some(event) = events.next().await.unwrap() {
                if event.event.is_empty() { last = event } else { kinds.push((event.event.clone(), last.id.clone())) }
            }
            kinds
        },
        node.stop()
    );
    let (kind, id) = kinds.pop().unwrap();
    assert_eq!((kind.as_str(), kinds.len()), ("restart", 0));
    node.launch().await;
    let mut events = node.client.events(path, Some(&id)).await.unwrap();
    let next = events.next().await.unwrap().unwrap();
    let number = |event: &Event| text(event).rsplit(' ').next().unwrap().parse::<u64>();
    assert!(number(&next).is_ok(), "{next:?}");
    assert_eq!(next.id.parse::<u64>().unwrap(), id.parse::<u64>().unwrap() + text(&next).len() as u64 + 1);
}

async fn plain(node: &Node, path: &str) -> String {
    let request = Request::get(path).header("host", "localhost").header("accept", "text/plain");
    let answer = node.client.call(request.body(http_body_util::Full::default()).unwrap()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// The entries of the daemon's own log of an instance, as the spec has them.
async fn entries(node: &Node, id: &str) -> Vec<LogEntry> {
    let text = plain(node, &format!("/instances/{id}/logs?source=dataplane&offset=0")).await;
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_daemon_did_can_be_read() {
    let mut node = Node::start().await;
    node.import().await;
    node.create("told", &["stay"]).await;
    node.until("told", |instance| instance["ready"] == true).await;
    assert_eq!(node.act("told", "standby").await.0, 200);
    assert_eq!(node.act("told", "restore").await.0, 200);
    node.until("told", |instance| instance["ready"] == true).await;
    node.stop().await;
    node.launch().await;
    let [pid] = node.vmms()[..] else { panic!("one VMM") };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGKILL).unwrap();
    node.until("told", |instance| instance["state"] == "Stopped" && instance["operation"].is_null()).await;
    // Written behind the answers, but soon.
    let begin = std::time::Instant::now();
    let found = loop {
        let found = entries(&node, "told").await;
        if found.iter().any(|entry| entry.state == Some(InstanceState::Stopped)) {
            break found;
        }
        assert!(begin.elapsed().as_secs() < 10, "{found:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let operations: Vec<_> =
        found.iter().filter_map(|entry| Some((entry.operation?, entry.event, entry.code.clone()))).collect();
    let [begun, ended] = [LogEntryKind::OperationBegun, LogEntryKind::OperationEnded];
    let expected = [OperationKind::Create, OperationKind::Standby, OperationKind::Restore];
    assert_eq!(operations, expected.map(|kind| [(kind, begun, None), (kind, ended, None)]).concat(), "{found:#?}");
    let times = |kind| found.iter().filter(|entry| entry.event == kind).count();
    assert_eq!([times(LogEntryKind::Created), times(LogEntryKind::Resumed), times(LogEntryKind::VmmAdopted)], [1; 3]);
    assert_eq!([times(LogEntryKind::VmmSpawned), times(LogEntryKind::VmmExited)], [2; 2], "{found:#?}");
    let adopted = found.iter().find(|entry| entry.event == LogEntryKind::VmmAdopted).unwrap();
    assert_eq!(adopted.pid, Some(pid));
    // It may be asked, and not answer, before its end is heard of.
    let trouble = found.iter().rfind(|entry| entry.event == LogEntryKind::Trouble).unwrap();
    assert_eq!(trouble.code.as_deref(), Some("vmm_exited"));
    let states: Vec<_> = found.iter().filter_map(|entry| entry.state).collect();
    assert_eq!((states[0], states.last()), (InstanceState::Stopped, Some(&InstanceState::Stopped)), "{states:?}");
    assert!(states.windows(2).all(|pair| pair[0] != pair[1] || pair[0] == InstanceState::Running), "{states:?}");
    assert!(found.is_sorted_by_key(|entry| entry.at));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_source_has_a_stream_of_its_own() {
    let node = Node::start().await;
    node.import().await;
    node.create("echo", &["echo", "hello"]).await;
    let log = node.data().join("instances/echo/logs/vmm.log");
    std::fs::File::options().append(true).open(log).unwrap().write_all(b"a\xff\nvmm\n").unwrap();
    let mut events = node.client.events("/instances/echo/logs?source=vmm&offset=0&follow=true", None).await.unwrap();
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((event.id.as_str(), event.data.as_str()), ("3", r#"{"base64":"Yf8="}"#));
    assert_eq!(text(&events.next().await.unwrap().unwrap()), "vmm");
    assert_eq!(plain(&node, "/instances/echo/logs?source=vmm&offset=3").await, "vmm\n");
    let answer = node.client.get("/instances/echo/logs?source=kernel").await.unwrap();
    assert_eq!(answer.code(), "invalid_field");
    let ready = node.client.get("/readyz").await.unwrap().json();
    let logs = ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "logs").unwrap();
    assert_eq!((&logs["ok"], &logs["required"]), (&true.into(), &false.into()), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_is_not_there_is_a_gap_and_a_stranger_is_not_found() {
    let node = Node::start().await;
    node.import().await;
    node.create("echo", &["echo", "hello"]).await;
    let stop = |id: &'static str| node.act(id, "stop");
    assert_eq!(stop("echo").await.0, 200);
    let length = std::fs::metadata(node.data().join("instances/echo/logs/serial.log")).unwrap().len();
    let mut events = node.client.events("/instances/echo/logs?offset=1000000", None).await.unwrap();
    let gap = events.next().await.unwrap().unwrap();
    assert_eq!((gap.event.as_str(), gap.id.as_str()), ("gap", length.to_string().as_str()));
    assert_eq!(gap.data, format!(r#"{{"from":1000000,"to":{length}}}"#));
    assert_eq!(events.next().await.unwrap().unwrap().event, "end");
    // The id of a gap resumes as any other.
    let request = |path: &str, id: &str| {
        let request = Request::get(path).header("host", "localhost").header("last-event-id", id);
        node.client.call(request.body(http_body_util::Full::default()).unwrap())
    };
    assert_eq!(request("/instances/echo/logs", &gap.id).await.unwrap().status, 204);
    assert_eq!(node.client.delete("/instances/echo").await.unwrap().status, 204);
    assert_eq!(request("/instances/echo/logs?follow=true", &gap.id).await.unwrap().status, 204);
    assert_eq!(node.client.get("/instances/echo/logs?offset=0").await.unwrap().status, 204);
    assert_eq!(request("/instances/never/logs", &gap.id).await.unwrap().code(), "instance_not_found");
}
