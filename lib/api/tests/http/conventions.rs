//! Routing, identity, parameters, lists, headers.

use axum::body::Body;
use dataplane_api::{Limits, OPERATIONS};
use serde_json::json;

use crate::Harness;

#[tokio::test]
async fn every_operation_answers_and_nothing_else_does() {
    let harness = Harness::new();
    for operation in OPERATIONS {
        let path =
            operation.path.replace("{image_id}", "img-nginx").replace("{instance_id}", "a").replace("{pid}", "7");
        let media = operation.consumes.first().copied().unwrap_or("application/json");
        let body = match operation.id {
            "create_image" => r#"{"name":"nginx"}"#,
            "create_instance" => r#"{"id":"a","image":"img-nginx"}"#,
            "patch_instance" => "{}",
            "exec_in_instance" => r#"{"command":["id"]}"#,
            "signal_process" => r#"{"signal":"TERM"}"#,
            _ => "",
        };
        let answer = harness.ask(&format!("{} {path}", operation.method), &[("content-type", media)], body).await;
        let expected = match operation.id {
            "get_readiness" => 503,
            // Without the headers of a WebSocket.
            "attach_exec" => 426,
            _ => 200,
        };
        assert!((expected..=expected + 4).contains(&answer.status), "{}: {}", operation.id, answer.status);
    }
    for line in
        ["GET /", "GET /metrics", "GET /images/", "GET /images/a/b", "POST /instances/a/migrate", "GET //health"]
    {
        assert_eq!(harness.ask(line, &[], "").await.code(), "route_not_found", "{line}");
    }
}

#[tokio::test]
async fn another_method_is_405_with_allow() {
    let harness = Harness::new();
    for (line, allow) in [
        ("PUT /images", "GET, POST"),
        ("PATCH /images/a", "GET, DELETE"),
        ("POST /instances/a", "GET, PATCH, DELETE"),
        ("OPTIONS /health", "GET"),
        ("HEAD /health", "GET"),
        ("BREW /health", "GET"),
        ("GET /images/import", "POST"),
    ] {
        let answer = harness.ask(line, &[], "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{line}");
    }
}

#[tokio::test]
async fn identity_is_asked_for_where_the_document_says_so() {
    let harness = Harness::new();
    for operation in OPERATIONS {
        let path = operation.path.replace("{image_id}", "a").replace("{instance_id}", "a");
        let answer = harness.ask_as(&format!("{} {path}", operation.method), &[], "").await;
        assert_eq!(answer.status == 401, operation.auth, "{}", operation.id);
        assert_eq!(answer.header("www-authenticate").is_some(), operation.auth);
        let answer = harness.ask(&format!("{} {path}", operation.method), &[("host", "evil.example")], "").await;
        assert_eq!(answer.code(), "forbidden", "{}", operation.id);
    }
    assert_eq!(harness.ask("GET /nowhere", &[("host", "evil.example")], "").await.code(), "forbidden");
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_name() {
    let harness = Harness::new();
    for (line, headers, code, field) in [
        ("GET /images?limit=0", &[][..], "invalid_field", "limit"),
        ("GET /images?limit=1001", &[], "invalid_field", "limit"),
        ("GET /images?limit=1.0", &[], "invalid_field", "limit"),
        ("GET /images?limit=", &[], "invalid_field", "limit"),
        ("GET /images?limit=99999999999999999999", &[], "invalid_field", "limit"),
        ("GET /images?limit=1&limit=2", &[], "invalid_field", "limit"),
        ("GET /images?cursor=abc", &[], "invalid_field", "cursor"),
        ("GET /images?label=x", &[], "invalid_field", "label"),
        ("GET /images?colour=red", &[], "unknown_field", "colour"),
        ("GET /health?x", &[], "unknown_field", "x"),
        ("GET /instances?state=running", &[], "invalid_field", "state"),
        ("GET /instances?image=../x", &[], "invalid_field", "image"),
        ("GET /instances/..%2f..%2fx", &[], "invalid_field", "instance_id"),
        ("GET /instances/%2Fetc%2Fpasswd", &[], "invalid_field", "instance_id"),
        ("GET /instances/a%00b", &[], "invalid_field", "instance_id"),
        ("GET /instances/A", &[], "invalid_field", "instance_id"),
        ("DELETE /instances/a?grace_seconds=3601", &[], "invalid_field", "grace_seconds"),
        ("DELETE /instances/a?grace_seconds=-1", &[], "invalid_field", "grace_seconds"),
        ("DELETE /instances/a", &[("if-match", "x")], "invalid_field", "If-Match"),
        ("GET /instances/a/logs?follow=1", &[], "invalid_field", "follow"),
        ("GET /instances/a/logs", &[("last-event-id", "x")], "invalid_field", "Last-Event-ID"),
    ] {
        let answer = harness.ask(line, headers, "").await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{line}");
        assert_eq!(answer.json()["details"][0]["field"], field, "{line}");
    }
    let long = format!("GET /instances/{}", "a".repeat(300));
    assert_eq!(harness.ask(&long, &[], "").await.status, 400);
    for line in ["GET /instances/%ff", "GET /images?cursor=%ff"] {
        assert_eq!(harness.ask(line, &[], "").await.code(), "bad_request", "{line}");
    }
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let harness = Harness::new();
    let (mut seen, mut path) = (Vec::new(), "/instances?limit=2".to_owned());
    for _ in 0..5 {
        let page = harness.ask(&format!("GET {path}"), &[], "").await.json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/instances?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    for (query, count) in [
        ("label=tier%3Dweb", 5),
        ("label=tier=web&label=zone=x", 0),
        ("state=Running&state=Stopped", 5),
        ("state=Stopped", 0),
        ("image=img-nginx", 5),
        ("image=img-other", 0),
    ] {
        let page = harness.ask(&format!("GET /instances?{query}"), &[], "").await.json();
        assert_eq!(page["items"].as_array().unwrap().len(), count, "{query}");
    }
}

#[tokio::test]
async fn answers_carry_their_headers() {
    let harness = Harness::new();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let traceparent = format!("00-{trace}-b7ad6b7169203331-01");
    let headers = [("x-request-id", "mine-1"), ("traceparent", traceparent.as_str())];
    let answer = harness.ask("GET /instances/a", &headers, "").await;
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    assert!(answer.header("traceparent").unwrap().contains(trace));
    assert_eq!(answer.header("etag"), Some("\"0198c0f0-a7b1-7c5e-9d3f-2a4b6c8d0e1f-3\""));
    assert_eq!(answer.header("server-timing"), None);

    let made = harness.post("/images", r#"{"name":"nginx"}"#).await;
    assert_eq!((made.status, made.header("location")), (201, Some("/images/img-nginx")));
    let timing = made.header("server-timing").unwrap();
    assert!(timing.starts_with("pull;dur=12.0, total;dur="), "{timing}");

    let headers = [("content-type", "application/json"), ("prefer", "wait=5, respond-async")];
    let accepted = harness.ask("POST /images", &headers, r#"{"name":"nginx"}"#).await;
    assert_eq!((accepted.status, accepted.header("preference-applied")), (202, Some("respond-async")));

    let busy = harness.post("/images", r#"{"name":"busy"}"#).await;
    assert_eq!((busy.status, busy.header("retry-after")), (503, Some("7")));
    assert_eq!(busy.json()["inner_error"], json!({ "code": "429", "message": "slow down" }));
    let missing = harness.ask("GET /images/nothing", &[("x-request-id", "mine-2")], "").await;
    assert_eq!((missing.status, missing.json()["request_id"].as_str()), (404, Some("mine-2")));
}

#[tokio::test]
async fn a_stale_if_match_is_412() {
    let harness = Harness::new();
    let current = "\"0198c0f0-a7b1-7c5e-9d3f-2a4b6c8d0e1f-3\"";
    let stale = "\"0198c0f0-a7b1-7c5e-9d3f-2a4b6c8d0e1f-2\"";
    for (value, status) in [(current, 204), ("*", 204), (stale, 412)] {
        assert_eq!(harness.ask("DELETE /instances/a", &[("if-match", value)], "").await.status, status, "{value}");
    }
}

#[tokio::test]
async fn what_cannot_be_accepted_is_406() {
    let harness = Harness::new();
    for (line, accept, status) in [
        ("GET /health", "text/html", 406),
        ("GET /health", "text/html, */*;q=0.1", 200),
        ("GET /spec.yaml", "application/json", 406),
        ("GET /spec.yaml", "application/yaml", 200),
        ("GET /instances/a/logs", "application/json", 406),
    ] {
        assert_eq!(harness.ask(line, &[("accept", accept)], "").await.status, status, "{line} {accept}");
    }
    let yaml = harness.ask("GET /spec.yaml", &[], "").await;
    assert_eq!(yaml.body, dataplane_api::SPEC_YAML.as_bytes());
}

#[tokio::test]
async fn handlers_are_bounded_and_health_is_not() {
    let harness = Harness::with(Limits { handlers: 1, ..Limits::default() });
    let json = [("authorization", "Bearer token"), ("content-type", "application/json")];
    let waiting = crate::request("POST /images", &json, Body::from(r#"{"name":"wait"}"#));
    let router = harness.router();
    let first = tokio::spawn(tower::ServiceExt::oneshot(router, waiting));
    harness.service.begun.notified().await;
    assert_eq!(harness.ask("GET /images", &[], "").await.status, 429);
    assert_eq!(harness.ask("GET /health", &[], "").await.status, 200);
    harness.service.go.notify_one();
    assert_eq!(first.await.unwrap().unwrap().status(), 201);
    assert_eq!(harness.ask("GET /images", &[], "").await.status, 200);
}
