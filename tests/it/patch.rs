//! Changes of an instance by merge patch, and what is asked for once at create.

use hyper::Request;
use serde_json::{Value, json};

use crate::harness::Node;

#[tokio::test(flavor = "multi_thread")]
async fn names_and_labels_merge_and_a_repeated_create_is_none_the_wiser() {
    let mut node = Node::start().await;
    node.import().await;
    let mut wish = Node::wish("one", &["stay"]);
    (wish["name"], wish["labels"]) = (json!("First"), json!({ "tier": "web", "keep": "1" }));
    let made = node.client.post_json("/instances", &wish).await.unwrap();
    assert_eq!(made.status, 201);
    node.until("one", |instance| instance["ready"] == true).await;
    for (patch, name, labels) in [
        (json!({}), json!("First"), json!({ "tier": "web", "keep": "1" })),
        (
            json!({ "labels": { "tier": "db", "new": "" } }),
            json!("First"),
            json!({ "tier": "db", "keep": "1", "new": "" }),
        ),
        (
            json!({ "name": "My Other", "labels": { "new": null, "none": null } }),
            json!("My Other"),
            json!({ "tier": "db", "keep": "1" }),
        ),
        (json!({ "name": null }), Value::Null, json!({ "tier": "db", "keep": "1" })),
    ] {
        let before = node.client.get("/instances/one").await.unwrap();
        let answer = node.client.patch("/instances/one", &patch).await.unwrap();
        let instance = answer.json();
        assert_eq!((answer.status, &instance["name"], &instance["labels"]), (200, &name, &labels), "{patch}");
        let changed = answer.header("etag") != before.header("etag");
        assert_eq!(changed, patch != json!({}), "an entity tag changes with its resource");
        assert_eq!(node.get("one").await, instance);
    }
    let labelled = node.client.get("/instances?label=tier%3Ddb").await.unwrap().json();
    assert_eq!(labelled["items"][0]["id"], "one");
    let again = node.client.post_json("/instances", &wish).await.unwrap();
    assert_eq!((again.status, &again.json()["labels"]["tier"]), (200, &json!("db")), "what was asked for is the same");
    node.stop().await;
    node.launch().await;
    let after = node.get("one").await;
    assert_eq!((&after["name"], &after["labels"]), (&Value::Null, &json!({ "tier": "db", "keep": "1" })));
    assert_eq!(node.client.post_json("/instances", &wish).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_the_network_is_given_changed_and_taken_away() {
    let mut node = Node::start().await;
    node.import().await;
    let mut wish = Node::wish("one", &["stay"]);
    wish["network"] = json!({ "bandwidth_mbps": 50 });
    let made = node.client.post_json("/instances", &wish).await.unwrap();
    assert_eq!((made.status, &made.json()["network"]["bandwidth_mbps"]), (201, &json!(50)));
    for (patch, limit) in [
        (json!({ "network": {} }), json!(50)),
        (json!({ "network": { "bandwidth_mbps": 100_000 } }), json!(100_000)),
        (json!({ "network": { "bandwidth_mbps": null } }), Value::Null),
        (json!({ "network": { "bandwidth_mbps": 7 }, "name": "x" }), json!(7)),
    ] {
        let answer = node.client.patch("/instances/one", &patch).await.unwrap();
        assert_eq!((answer.status, &answer.json()["network"]["bandwidth_mbps"]), (200, &limit), "{patch}");
    }
    assert_eq!(node.client.post_json("/instances", &wish).await.unwrap().status, 200, "what was asked for is the same");
    node.stop().await;
    node.launch().await;
    assert_eq!(node.get("one").await["network"]["bandwidth_mbps"], 7);
    for wrong in [json!(0), json!(100_001), json!("7"), json!(1.5)] {
        let patch = json!({ "network": { "bandwidth_mbps": wrong } });
        let answer = node.client.patch("/instances/one", &patch).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_field"), "{patch}");
    }
    let mut alone = Node::wish("alone", &["stay"]);
    alone["network"] = json!({ "enabled": false, "bandwidth_mbps": 1 });
    let answer = node.client.post_json("/instances", &alone).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_field"));
    alone["network"] = json!({ "enabled": false });
    let made = node.client.post_json("/instances", &alone).await.unwrap();
    assert_eq!((made.status, &made.json()["fqdn"]), (201, &Value::Null), "what has no address has no name");
    let limited = node.client.patch("/instances/alone", &json!({ "network": { "bandwidth_mbps": 1 } })).await.unwrap();
    assert_eq!(limited.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_is_done_whole_or_not_at_all() {
    let node = Node::start().await;
    node.import().await;
    let before = node.create("one", &["stay"]).await;
    let many: serde_json::Map<String, Value> = (0..33).map(|n| (format!("l{n}"), json!("x"))).collect();
    for (patch, status, code, field) in [
        (json!({ "name": "x", "disk_gb": 5 }), 400, "unknown_field", "disk_gb"),
        (json!({ "name": "x", "memory_mb": null }), 400, "invalid_field", "memory_mb"),
        (json!({ "name": "x", "labels": many }), 400, "invalid_field", "labels"),
        (json!({ "name": "x", "memory_mb": 4096 }), 422, "insufficient_host", "memory_mb"),
        (json!({ "name": "x", "vcpus": 254 }), 422, "insufficient_host", "vcpus"),
    ] {
        let answer = node.client.patch("/instances/one", &patch).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{patch}: {:?}", answer.body);
        assert_eq!(answer.json()["details"][0]["field"], field, "{patch}");
        assert!(node.get("one").await["name"].is_null(), "{patch}");
    }
    let patch = |tag: &str, media: &str| {
        let request = Request::patch("/instances/one").header("host", "localhost").header("content-type", media);
        node.client.call(request.header("if-match", tag).body(r#"{"name":"x"}"#.into()).unwrap())
    };
    let stale = format!("\"{}-0\"", before["uuid"].as_str().unwrap());
    assert_eq!(patch(&stale, "application/merge-patch+json").await.unwrap().code(), "precondition_failed");
    assert_eq!(patch("*", "application/json-patch+json").await.unwrap().code(), "unsupported_media_type");
    let changed = patch("*", "application/json").await.unwrap();
    assert_eq!((changed.status, &changed.json()["name"]), (200, &json!("x")));
    assert_eq!(node.client.patch("/instances/none", &json!({})).await.unwrap().code(), "instance_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_change_at_once_where_it_runs_and_at_the_next_start_where_not() {
    let node = Node::start().await;
    node.import().await;
    let mut wish = Node::wish("one", &["stay"]);
    (wish["memory_max_mb"], wish["max_vcpus"]) = (json!(512), json!(2));
    assert_eq!(node.client.post_json("/instances", &wish).await.unwrap().status, 201);
    node.until("one", |instance| instance["ready"] == true).await;
    let vmms = node.vmms();
    for sizes in [json!({ "memory_mb": 384 }), json!({ "memory_mb": 512, "vcpus": 2 }), json!({ "vcpus": 1 })] {
        let answer = node.client.patch("/instances/one", &sizes).await.unwrap();
        assert_eq!(answer.status, 200, "{sizes}: {:?}", answer.body);
        for (field, value) in sizes.as_object().unwrap() {
            assert_eq!(&answer.json()[field], value, "{sizes}");
        }
    }
    assert_eq!(node.vmms(), vmms);
    // What it was resized to goes through a standby.
    // Not before the guest has let go of the processor that was taken from it.
    let mut standby = node.act("one", "standby").await;
    while standby.1 == "busy" {
        standby = node.act("one", "standby").await;
    }
    assert_eq!(standby.0, 200, "{standby:?}");
    assert_eq!(node.act("one", "restore").await.2["memory_mb"], 512);
    assert_eq!(node.act("one", "stop").await.0, 200);
    let smaller = node.client.patch("/instances/one", &json!({ "memory_mb": 64, "vcpus": 2 })).await.unwrap();
    assert_eq!((smaller.status, &smaller.json()["memory_mb"]), (200, &json!(64)));
    let started = node.act("one", "start").await.2;
    assert_eq!((&started["memory_mb"], &started["vcpus"]), (&json!(64), &json!(2)));
    assert_eq!(node.client.delete("/instances/one?grace_seconds=0").await.unwrap().status, 204);
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_policy_is_shown_and_followed() {
    let node = Node::start().await;
    node.import().await;
    for (id, policy) in [("never", "never"), ("fails", "on_failure"), ("always", "always")] {
        let mut wish = Node::wish(id, &["exit", if id == "always" { "0" } else { "7" }]);
        wish["restart_policy"] = json!(policy);
        let made = node.client.post_json("/instances", &wish).await.unwrap();
        assert_eq!((made.status, &made.json()["restart_policy"]), (201, &json!(policy)), "{:?}", made.body);
    }
    let ended = node.until("never", |instance| instance["state"] == "Shutdown").await;
    assert_eq!((&ended["restart_policy"], &ended["exit_code"]), (&json!("never"), &json!(7)));
    for id in ["fails", "always"] {
        // Each start says its program on the console.
        let mut log = node.client.events(&format!("/instances/{id}/logs?follow=true&tail=1000"), None).await.unwrap();
        let mut starts = 0;
        while starts < 2 {
            let event = log.next().await.unwrap().expect("it is started anew");
            starts += u32::from(event.data.contains("fake-guest"));
        }
        // A stop is meant, and not undone.
        assert_eq!(node.client.delete(&format!("/instances/{id}?grace_seconds=0")).await.unwrap().status, 204);
    }
    assert_eq!(node.client.delete("/instances/never").await.unwrap().status, 204);
    node.assert_clean();
}
#[tokio::test(flavor = "multi_thread")]
async fn labels_that_add_up_to_too_many_are_refused() {
    let node = Node::start().await;
    node.import().await;
    node.create("one", &["stay"]).await;
    let labels = |range: std::ops::Range<u32>| {
        let labels: serde_json::Map<String, Value> = range.map(|n| (format!("l{n}"), json!("x"))).collect();
        json!({ "labels": labels })
    };
    assert_eq!(node.client.patch("/instances/one", &labels(0..32)).await.unwrap().status, 200);
    let refused = node.client.patch("/instances/one", &labels(30..33)).await.unwrap();
    assert_eq!((refused.status, refused.json()["details"][0]["field"].as_str()), (422, Some("labels")));
    assert_eq!(node.get("one").await["labels"].as_object().unwrap().len(), 32);
}
