//! The console log over HTTP.

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
