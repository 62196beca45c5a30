//! Request bodies, good and bad; handlers that outlive their caller, and ones that panic.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use dataplane_api::{Limits, types};
use futures_util::{StreamExt as _, stream};

use crate::{Harness, request};

#[tokio::test]
async fn the_example_of_the_documentation_is_taken_and_defaults_are_filled_in() {
    let harness = Harness::new();
    let example = r#"{"id":"my-instance","name":"My Workload","image":"img-nginx","memory_mb":2048,"memory_max_mb":4096,"vcpus":2,"env":{"NODE_ENV":"production"}}"#;
    let answer = harness.post("/instances", example).await;
    assert_eq!((answer.status, answer.header("location")), (201, Some("/instances/my-instance")));
    let asked = harness.service.created.lock().unwrap().pop().unwrap();
    assert_eq!((asked.memory_mb, asked.memory_max_mb, asked.vcpus, asked.disk_gb), (2048, Some(4096), 2, 10));
    assert_eq!(asked.name.as_deref(), Some("My Workload"));
    assert_eq!((asked.entrypoint, asked.max_vcpus, asked.network), (None, None, None));

    let answer = harness.post("/instances", r#"{"id":"a","image":"x","entrypoint":[],"network":{}}"#).await;
    assert_eq!(answer.status, 201);
    let asked = harness.service.created.lock().unwrap().pop().unwrap();
    assert_eq!((asked.entrypoint, asked.memory_mb), (Some(vec![]), 1024));
    assert!(asked.network.unwrap().enabled);
    let defaults = (types::StandbyClass::Sparse, types::RestartPolicy::Never);
    assert_eq!((asked.standby, asked.restart_policy), defaults);
}

#[tokio::test]
async fn a_patch_tells_null_from_absence_in_both_media_types() {
    let harness = Harness::new();
    for media in ["application/merge-patch+json", "application/json; charset=utf-8"] {
        for (body, name, labels) in [
            ("{}", None, &[][..]),
            (r#"{"name":null,"labels":{}}"#, Some(None), &[]),
            (r#"{"name":"A b","labels":{"a":"1","b":null}}"#, Some(Some("A b")), &[("a", Some("1")), ("b", None)]),
        ] {
            let answer = harness.ask("PATCH /instances/a", &[("content-type", media)], body).await;
            assert_eq!(answer.status, 200, "{body}: {:?}", answer.json());
            let asked = harness.service.patched.lock().unwrap().pop().unwrap();
            assert_eq!(asked.name, name.map(|it: Option<&str>| it.map(str::to_owned)), "{body}");
            let given: Vec<_> = asked.labels.iter().map(|(key, it)| (key.as_str(), it.as_deref())).collect();
            assert_eq!(given, labels, "{body}");
            assert_eq!((asked.memory_mb, asked.vcpus), (None, None));
        }
    }
    for (body, code, field) in [
        ("", "bad_request", None),
        ("null", "invalid_field", Some("")),
        (r#"[{"op":"remove","path":"/name"}]"#, "invalid_field", Some("")),
        (r#"{"disk_gb":20}"#, "unknown_field", Some("disk_gb")),
        (r#"{"name":""}"#, "invalid_field", Some("name")),
        (r#"{"name":7}"#, "invalid_field", Some("name")),
        (r#"{"labels":null}"#, "invalid_field", Some("labels")),
        (r#"{"labels":{"a b":null}}"#, "invalid_field", Some("labels.a b")),
        (r#"{"labels":{"a":1}}"#, "invalid_field", Some("labels.a")),
        (r#"{"memory_mb":null}"#, "invalid_field", Some("memory_mb")),
        (r#"{"vcpus":0}"#, "invalid_field", Some("vcpus")),
    ] {
        let headers = [("content-type", "application/merge-patch+json")];
        let answer = harness.ask("PATCH /instances/a", &headers, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{body}");
        assert_eq!(answer.json()["details"][0]["field"].as_str(), field, "{body}");
    }
    let headers = [("content-type", "application/json-patch+json")];
    assert_eq!(harness.ask("PATCH /instances/a", &headers, "[]").await.status, 415);
    assert!(harness.service.patched.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_snapshot_is_thrown_away_only_where_the_caller_says_so() {
    let harness = Harness::new();
    let path = "POST /instances/standing-by/start";
    for (query, status) in
        [("", 409), ("?discard_snapshot=false", 409), ("?discard_snapshot=true", 200), ("?discard_snapshot", 400)]
    {
        assert_eq!(harness.ask(&format!("{path}{query}"), &[], "").await.status, status, "{query}");
    }
    assert_eq!(harness.ask("POST /instances/a/standby", &[], "").await.json()["state"], "Standby");
}

#[tokio::test]
async fn each_wrong_field_is_named_and_no_value_comes_back() {
    let harness = Harness::new();
    for (body, code, fields) in [
        ("", "bad_request", &[][..]),
        ("{", "bad_request", &[]),
        ("{} x", "bad_request", &[]),
        (r#"{"image":"a","image":"b"}"#, "bad_request", &[]),
        ("[]", "invalid_field", &[""]),
        ("{}", "invalid_field", &["image"]),
        (r#"{"image":null}"#, "invalid_field", &["image"]),
        (r#"{"image":"a","volume":"x"}"#, "unknown_field", &["volume"]),
        (r#"{"image":"a","standby":"lazy"}"#, "invalid_field", &["standby"]),
        (r#"{"image":"a","restart_policy":null}"#, "invalid_field", &["restart_policy"]),
        (r#"{"image":"a","network":{"ipv6":"hunter2"}}"#, "unknown_field", &["network.ipv6"]),
        (r#"{"image":"a","network":{"ip":"192.168.0.300"}}"#, "invalid_field", &["network.ip"]),
        (r#"{"image":"a","network":{"mac":"01:00:00:00:00:00"}}"#, "invalid_field", &["network.mac"]),
        (r#"{"image":"a","vcpus":128.0}"#, "invalid_field", &["vcpus"]),
        (r#"{"image":"a","vcpus":"hunter2"}"#, "invalid_field", &["vcpus"]),
        (r#"{"image":"a","vcpus":1e400}"#, "bad_request", &[]),
        (r#"{"image":"a","memory_mb":0,"vcpus":255}"#, "invalid_field", &["memory_mb", "vcpus"]),
        (r#"{"image":"a","memory_mb":18446744073709551616}"#, "invalid_field", &["memory_mb"]),
        (r#"{"image":"a","id":"../../hunter2"}"#, "invalid_field", &["id"]),
        (r#"{"image":"a","id":"a\u0000b"}"#, "invalid_field", &["id"]),
        (r#"{"image":"a","env":{"A=B":"x"}}"#, "invalid_field", &["env.A=B"]),
        (r#"{"image":"a","env":{"A":"hunter2\u0000"}}"#, "invalid_field", &["env.A"]),
        (r#"{"image":"a","cmd":["ok",1]}"#, "invalid_field", &["cmd[1]"]),
        (r#"{"image":"a","name":"two\nlines"}"#, "invalid_field", &["name"]),
        (r#"{"image":"a","hypervisor":"xen"}"#, "invalid_field", &["hypervisor"]),
    ] {
        let answer = harness.post("/instances", body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{body}");
        let details = answer.json()["details"].as_array().cloned().unwrap_or_default();
        let named: Vec<_> = details.iter().map(|it| it["field"].as_str().unwrap()).collect();
        assert_eq!(named, fields, "{body}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("hunter2"), "{body}");
    }
    assert!(harness.service.created.lock().unwrap().is_empty());
    let deep = format!(r#"{{"image":{}"#, "[".repeat(200_000));
    assert_eq!(harness.post("/instances", &deep).await.status, 400);
    assert_eq!(harness.post("/images", r#"{"name":"a","id":"import"}"#).await.status, 400);
    assert_eq!(harness.post("/images", r#"{"name":"a","source":"containerd"}"#).await.status, 400);
}

#[tokio::test]
async fn secrets_of_a_request_do_not_print() {
    let body = r#"{"name":"a","credentials":{"username":"u","password":"hunter2"}}"#;
    let parsed: types::CreateImageRequest = serde_json::from_str(body).unwrap();
    assert!(!format!("{parsed:?} {}", serde_json::to_string(&parsed).unwrap()).contains("hunter2"));
    assert_eq!(parsed.credentials.unwrap().password.unwrap().expose(), "hunter2");
}

#[tokio::test]
async fn a_body_over_a_mebibyte_is_413_whether_it_says_so_or_not() {
    let harness = Harness::new();
    let large = format!(r#"{{"image":"{}"}}"#, "a".repeat(1 << 20));
    assert_eq!(harness.post("/instances", &large).await.code(), "payload_too_large");
    let expect = ("expect", "100-continue");
    let headers = [("content-type", "application/json"), ("content-length", "99999999999"), expect];
    assert_eq!(harness.ask("POST /instances", &headers, "").await.code(), "payload_too_large");
    let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 4096])));
    let json = [("content-type", "application/json")];
    assert_eq!(harness.ask("POST /instances", &json, Body::from_stream(endless)).await.code(), "payload_too_large");
}

#[tokio::test]
async fn another_media_type_is_415() {
    let harness = Harness::new();
    for (line, media) in [
        ("POST /instances", "text/plain"),
        ("POST /instances", "application/x-www-form-urlencoded"),
        ("POST /images/import", "application/json"),
    ] {
        let answer = harness.ask(line, &[("content-type", media)], r#"{"image":"a"}"#).await;
        assert_eq!(answer.code(), "unsupported_media_type", "{line} {media}");
    }
    assert_eq!(harness.ask("POST /instances", &[], r#"{"image":"a"}"#).await.status, 415);
}

#[tokio::test]
async fn an_archive_streams_without_a_limit_of_ours() {
    let harness = Harness::new();
    let chunks = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 65536]))).take(64);
    let headers = [("content-type", "application/x-tar")];
    let answer = harness.ask("POST /images/import?name=a/b:1&id=img-b", &headers, Body::from_stream(chunks)).await;
    assert_eq!((answer.status, *harness.service.imported.lock().unwrap()), (201, 64 * 65536));
}

#[tokio::test]
async fn a_broken_or_silent_upload_is_the_callers_fault() {
    let limits =
        Limits { body_idle: Duration::from_millis(20), json_time: Duration::from_millis(20), ..Limits::default() };
    let harness = Harness::with(limits);
    let silent = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let tar = [("content-type", "application/x-tar")];
    assert_eq!(harness.ask("POST /images/import", &tar, silent()).await.code(), "request_timeout");
    let json = [("content-type", "application/json")];
    assert_eq!(harness.ask("POST /images", &json, silent()).await.code(), "request_timeout");
    let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
    assert_eq!(harness.ask("POST /images/import", &tar, Body::from_stream(broken)).await.code(), "bad_request");
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_next_request_is_served() {
    let harness = Harness::new();
    let answer = harness.post("/images", r#"{"name":"panic"}"#).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert!(!String::from_utf8_lossy(&answer.body).contains("as it was told"));
    assert_eq!(harness.post("/images", r#"{"name":"nginx"}"#).await.status, 201);
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_nothing() {
    let harness = Harness::new();
    let headers = [("authorization", "Bearer token"), ("content-type", "application/json")];
    let asked = request("POST /images", &headers, Body::from(r#"{"name":"wait"}"#));
    let mut call = Box::pin(tower::ServiceExt::oneshot(harness.router(), asked));
    // Polled until it waits for the handler, then dropped as a server does when its client is gone.
    assert!(futures_util::poll!(&mut call).is_pending());
    drop(call);
    harness.service.go.notify_one();
    tokio::time::timeout(Duration::from_secs(5), harness.service.done.notified()).await.unwrap();
}

#[tokio::test]
async fn a_handler_that_asks_is_told_that_its_client_hung_up() {
    let harness = Harness::new();
    let headers = [("authorization", "Bearer token"), ("content-type", "application/json")];
    let asked = request("POST /instances/a/exec", &headers, Body::from(r#"{"command":["wait"]}"#));
    let mut call = Box::pin(tower::ServiceExt::oneshot(harness.router(), asked));
    tokio::select! {
        _ = &mut call => panic!("it is answered"),
        () = harness.service.begun.notified() => {}
    }
    let told = harness.service.done.notified();
    let mut told = std::pin::pin!(told);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut told).await.is_err());
    drop(call);
    tokio::time::timeout(Duration::from_secs(5), told).await.unwrap();
}
