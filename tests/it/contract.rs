//! The spec and the server are the same thing.

use dataplane_api::OPERATIONS;
use http_body_util::Full;
use hyper::Request;

use crate::harness::Node;

/// Every operation is there, and answers a request for nothing in particular as the spec says.
#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_within_the_spec() {
    let node = Node::start().await;
    for operation in OPERATIONS {
        let path = operation.path.replace("{image_id}", "img-none").replace("{instance_id}", "none");
        let request = Request::builder().method(operation.method).uri(&path).header("host", "localhost");
        let request = match operation.consumes.first() {
            Some(media) => request.header("content-type", *media).body(Full::from("{}")),
            None => request.body(Full::default()),
        };
        // The client refuses every answer that the spec does not have.
        let answer = node.client.call(request.unwrap()).await.unwrap();
        assert!(operation.statuses.contains(&answer.status), "{} {path}: {}", operation.method, answer.status);
        assert_ne!(answer.code(), "route_not_found", "{} {path}", operation.method);
        assert!(!answer.header("x-request-id").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spec_is_served_byte_for_byte() {
    let node = Node::start().await;
    let yaml = node.client.get("/spec.yaml").await.unwrap();
    assert_eq!(yaml.body, include_bytes!("../../openapi.yaml").as_slice());
    let json = node.client.get("/spec.json").await.unwrap().json();
    assert_eq!(json["openapi"], "3.1.0");
    let operations: usize = json["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|path| {
            path.as_object()
                .unwrap()
                .keys()
                .filter(|key| ["get", "post", "put", "patch", "delete"].contains(&key.as_str()))
                .count()
        })
        .sum();
    assert_eq!(operations, OPERATIONS.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn request_ids_and_traces_are_continued() {
    let node = Node::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = Request::get("/health")
        .header("host", "localhost")
        .header("x-request-id", "mine-1")
        .header("traceparent", trace);
    let answer = node.client.call(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(answer.header("x-request-id"), "mine-1");
    assert!(answer.header("traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    let request = Request::get("/nothing").header("host", "localhost").header("x-request-id", "no blanks");
    let answer = node.client.call(request.body(Full::default()).unwrap()).await.unwrap();
    assert_ne!(answer.header("x-request-id"), "no blanks");
    assert_eq!(answer.json()["request_id"], answer.header("x-request-id"));
}
