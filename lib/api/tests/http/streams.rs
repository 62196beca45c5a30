//! Log streams: formats, resumption, and their ends.

use futures_util::StreamExt as _;

use crate::Harness;

#[tokio::test]
async fn events_are_the_default_and_end_with_their_subject() {
    let harness = Harness::new();
    let answer = harness.ask("GET /instances/a/logs", &[], "").await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!((answer.header("x-accel-buffering"), answer.header("cache-control")), (Some("no"), Some("no-store")));
    assert_eq!(String::from_utf8(answer.body).unwrap(), "id: 6\ndata: hello\n\nevent: end\ndata: end\n\n");
    let again = harness.ask("GET /instances/a/logs", &[("last-event-id", "99")], "").await;
    assert_eq!((again.status, again.body.len()), (204, 0));
}

#[tokio::test]
async fn plain_text_comes_as_it_is() {
    let harness = Harness::new();
    let answer = harness.ask("GET /instances/a/logs?tail=0", &[("accept", "text/plain")], "").await;
    assert_eq!((answer.header("content-type"), answer.body.as_slice()), (Some("text/plain"), &b"hello\n"[..]));
}

#[tokio::test]
async fn a_stop_ends_a_followed_stream_with_restart() {
    let harness = Harness::new();
    let response = harness.open("GET /instances/a/logs?follow=true", &[]).await;
    let mut body = response.into_body().into_data_stream();
    assert_eq!(body.next().await.unwrap().unwrap(), "id: 6\ndata: hello\n\n");
    harness.stop.send(true).unwrap();
    assert_eq!(body.next().await.unwrap().unwrap(), "event: restart\ndata: restart\n\n");
    assert!(body.next().await.is_none());
}
