//! Standby and restore: what they keep, what they refuse, and what becomes of them when the VMM misbehaves.

use dataplane_testkit::http::{Event, Events};
use serde_json::{Value, json};

use crate::harness::Node;

/// The number that a `count` guest has said in an event, if that is what it said.
fn count(event: &Event) -> Option<u64> {
    let data: Value = serde_json::from_str(&event.data).unwrap();
    data["text"].as_str()?.strip_prefix("count ")?.parse().ok()
}

async fn next_count(events: &mut Events) -> u64 {
    loop {
        let event = events.next().await.unwrap().expect("the stream goes on");
        if let Some(count) = count(&event) {
            return count;
        }
    }
}

impl Node {
    /// Makes an instance of a class, and waits until its program runs.
    async fn ready(&self, id: &str, program: &str, class: &str) -> Value {
        let mut wish = Self::wish(id, &[program]);
        wish["standby"] = json!(class);
        let made = self.client.post_json("/instances", &wish).await.unwrap();
        assert_eq!((made.status, &made.json()["standby"]), (201, &json!(class)), "{:?}", made.body);
        self.until(id, |instance| instance["ready"] == true).await
    }

    async fn standby(&self, id: &str) -> Value {
        let (status, _, instance) = self.act(id, "standby").await;
        assert_eq!((status, &instance["state"]), (200, &json!("Standby")), "{instance}");
        assert_eq!((&instance["has_snapshot"], &instance["ready"]), (&json!(true), &json!(false)));
        assert!(instance["operation"].is_null(), "{instance}");
        instance
    }

    async fn restore(&self, id: &str) -> Value {
        let (status, _, instance) = self.act(id, "restore").await;
        assert_eq!((status, &instance["state"]), (200, &json!("Running")), "{instance}");
        assert_eq!(instance["has_snapshot"], false);
        assert!(instance["operation"].is_null() && instance["last_error"].is_null(), "{instance}");
        instance
    }

    async fn gone(&self, id: &str) {
        let answer = self.client.delete(&format!("/instances/{id}?grace_seconds=0")).await.unwrap();
        assert_eq!(answer.status, 204, "{:?}", answer.body);
    }
}

async fn keeps_what_it_is(class: &str) {
    let node = Node::start().await;
    node.import().await;
    let before = node.ready("one", "count", class).await;
    let mut log = node.client.events("/instances/one/logs?follow=true&tail=100000", None).await.unwrap();
    let mut seen = next_count(&mut log).await;
    for _ in 0..3 {
        let standing = node.standby("one").await;
        assert_eq!(node.vmms(), Vec::<u32>::new(), "no VMM is left");
        let listed = node.client.get("/instances?state=Standby").await.unwrap().json();
        assert_eq!((&listed["items"][0]["id"], listed["items"].as_array().unwrap().len()), (&json!("one"), 1));
        let restored = node.restore("one").await;
        assert_eq!(node.vmms().len(), 1);
        for field in ["uuid", "private_ip", "mac", "fqdn", "created_at", "memory_mb", "vcpus", "standby"] {
            assert_eq!((&standing[field], &restored[field]), (&before[field], &before[field]), "{field}");
        }
        // The follower has not noticed anything: none is missing, and none is there twice.
        let target = seen + 20;
        while seen < target {
            let next = next_count(&mut log).await;
            assert_eq!(next, seen + 1, "{class}");
            seen = next;
        }
        node.until("one", |instance| instance["ready"] == true).await;
    }
    let files = std::fs::read_dir(node.data().join("instances/one/logs")).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(
        names.iter().filter(|name| name.starts_with("events.")).count(),
        1,
        "those of the VMM that runs: {names:?}"
    );
    node.gone("one").await;
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_guest_goes_on_where_it_stopped() {
    keeps_what_it_is("sparse").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_whose_memory_is_a_file() {
    keeps_what_it_is("instant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_again_joins_or_changes_nothing() {
    let node = Node::start().await;
    node.import().await;
    node.ready("one", "count", "sparse").await;
    let both = tokio::join!(node.act("one", "standby"), node.act("one", "standby"));
    for (status, _, instance) in [both.0, both.1] {
        assert_eq!((status, &instance["state"]), (200, &json!("Standby")), "{instance}");
    }
    let before = node.get("one").await;
    assert_eq!(node.standby("one").await["generation"], before["generation"]);
    let both = tokio::join!(node.act("one", "restore"), node.act("one", "restore"));
    for (status, _, instance) in [both.0, both.1] {
        assert_eq!((status, &instance["state"]), (200, &json!("Running")), "{instance}");
    }
    let before = node.get("one").await;
    assert_eq!(node.restore("one").await["uuid"], before["uuid"]);
    assert_eq!(node.vmms().len(), 1);
}

/// The rows of the admission table that have to do with snapshots.
#[tokio::test(flavor = "multi_thread")]
async fn each_state_allows_what_the_table_says() {
    let node = Node::start().await;
    node.import().await;
    let refused = async |id: &str, rows: &[(&str, &str)]| {
        let before = node.get(id).await;
        for (action, code) in rows {
            let (status, found, _) = node.act(id, action).await;
            assert_eq!((status, found.as_str()), (409, *code), "{action} of {}", before["state"]);
        }
        let sizes = node.client.patch(&format!("/instances/{id}"), &json!({ "vcpus": 1, "memory_mb": 100 })).await;
        let (status, after) = (sizes.unwrap().status, node.get(id).await);
        if before["state"] == "Standby" {
            assert_eq!(status, 409, "its sizes are in the snapshot");
            assert_eq!(after, before);
        }
    };
    node.ready("sleeps", "stay", "sparse").await;
    node.standby("sleeps").await;
    let rows = [
        ("start", "has_snapshot"),
        ("start?discard_snapshot=false", "has_snapshot"),
        ("stop", "has_snapshot"),
        ("reboot", "invalid_state"),
        ("pause", "invalid_state"),
        ("resume", "invalid_state"),
    ];
    refused("sleeps", &rows).await;
    node.ready("stopped", "stay", "sparse").await;
    assert_eq!(node.act("stopped", "stop").await.0, 200);
    refused("stopped", &[("standby", "invalid_state"), ("restore", "no_snapshot")]).await;
    assert_eq!(node.act("stopped", "stop?discard_snapshot=true").await.0, 200, "it is stopped already");
    node.create("ended", &["exit", "0"]).await;
    node.until("ended", |instance| instance["state"] == "Shutdown").await;
    refused("ended", &[("standby", "invalid_state"), ("restore", "invalid_state")]).await;
    node.ready("runs", "stay", "sparse").await;
    assert_eq!(node.act("runs", "pause").await.0, 200);
    assert_eq!(node.act("runs", "restore").await.2["state"], "Paused", "there is nothing to restore, it is there");
    for action in ["standby", "restore"] {
        assert_eq!(node.act("none", action).await.1, "instance_not_found");
    }
    for id in ["sleeps", "stopped", "ended", "runs"] {
        node.gone(id).await;
    }
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_discarded_by_those_who_say_so() {
    let node = Node::start().await;
    node.import().await;
    node.ready("one", "count", "sparse").await;
    node.standby("one").await;
    let (status, _, stopped) = node.act("one", "stop?discard_snapshot=true").await;
    assert_eq!((status, &stopped["state"], &stopped["has_snapshot"]), (200, &json!("Stopped"), &json!(false)));
    assert_eq!(node.act("one", "restore").await.1, "no_snapshot");
    assert_eq!(node.act("one", "start").await.2["state"], "Running");
    node.until("one", |instance| instance["ready"] == true).await;
    node.standby("one").await;
    let (status, _, started) = node.act("one", "start?discard_snapshot=true").await;
    assert_eq!((status, &started["state"], &started["has_snapshot"]), (200, &json!("Running"), &json!(false)));
    // Booted anew: the count has begun again.
    let mut log = node.client.events("/instances/one/logs?follow=true&tail=100000", None).await.unwrap();
    let mut starts = 0;
    while starts < 3 {
        starts += u32::from(next_count(&mut log).await == 1);
    }
    let left: Vec<_> = std::fs::read_dir(node.data().join("instances/one")).unwrap().flatten().collect();
    let snapshots = left.iter().filter(|entry| entry.file_name().to_string_lossy().starts_with("snapshot"));
    assert_eq!(snapshots.count(), 0, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_from_standby_leaves_nothing() {
    let node = Node::start().await;
    node.import().await;
    for class in ["sparse", "instant"] {
        node.ready(class, "count", class).await;
        node.standby(class).await;
        node.gone(class).await;
    }
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn standby_outlives_the_daemon() {
    let mut node = Node::start().await;
    node.import().await;
    let before = node.ready("one", "count", "sparse").await;
    node.standby("one").await;
    node.stop().await;
    node.launch().await;
    let found = node.get("one").await;
    assert_eq!((&found["state"], &found["has_snapshot"]), (&json!("Standby"), &json!(true)), "{found}");
    // Its address is held all the time.
    let other = node.ready("two", "stay", "sparse").await;
    assert_ne!(other["private_ip"], before["private_ip"]);
    assert_eq!(node.restore("one").await["private_ip"], before["private_ip"]);
    for id in ["one", "two"] {
        node.gone(id).await;
    }
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_entity_tag_stops_a_standby() {
    let node = Node::start().await;
    node.import().await;
    node.ready("one", "stay", "sparse").await;
    let answer = node.client.get("/instances/one").await.unwrap();
    let standby = |tag: String| {
        let request =
            hyper::Request::post("/instances/one/standby").header("host", "localhost").header("if-match", tag);
        node.client.call(request.body(http_body_util::Full::default()).unwrap())
    };
    let stale = standby(format!("\"{}-0\"", answer.json()["uuid"].as_str().unwrap())).await.unwrap();
    assert_eq!((stale.status, stale.code().as_str()), (412, "precondition_failed"));
    assert_eq!(node.get("one").await["state"], "Running");
    let done = standby(answer.header("etag").to_owned()).await.unwrap();
    assert_eq!((done.status, &done.json()["state"]), (200, &json!("Standby")));
    assert_ne!(done.header("etag"), answer.header("etag"));
}

/// The VM goes on as if nothing had been asked, and the next try succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_fails_is_undone() {
    let node = Node::start().await;
    node.import().await;
    node.ready("one", "count", "sparse").await;
    let vmms = node.vmms();
    let mut log = node.client.events("/instances/one/logs?follow=true&tail=100000", None).await.unwrap();
    let mut seen = next_count(&mut log).await;
    for (orders, status, code) in [
        ("fail vm.snapshot", 503, "vmm_failed"),
        ("truncate vm.snapshot", 503, "vmm_failed"),
        ("full vm.snapshot", 507, "no_space"),
    ] {
        node.misbehave(orders);
        let (found, word, problem) = node.act("one", "standby").await;
        assert_eq!((found, word.as_str()), (status, code), "{orders}: {problem}");
        node.misbehave("");
        let after = node.until("one", |instance| instance["operation"].is_null()).await;
        assert_eq!((&after["state"], &after["has_snapshot"]), (&json!("Running"), &json!(false)), "{orders}");
        assert_eq!(after["last_error"]["code"], code, "{orders}: {after}");
        let target = seen + 5;
        while seen < target {
            let next = next_count(&mut log).await;
            assert_eq!(next, seen + 1, "{orders}");
            seen = next;
        }
    }
    assert_eq!(node.vmms(), vmms, "the same VMM all the time");
    node.standby("one").await;
    node.restore("one").await;
    node.gone("one").await;
    node.assert_clean();
}

/// The snapshot stays what it is, and the next try succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_keeps_the_snapshot() {
    let node = Node::start().await;
    node.import().await;
    node.ready("one", "count", "sparse").await;
    node.standby("one").await;
    for orders in ["fail vm.restore", "die vm.restore", "refuse vm.restore"] {
        node.misbehave(orders);
        let (status, code, problem) = node.act("one", "restore").await;
        assert_eq!((status, code.as_str()), (503, "vmm_failed"), "{orders}: {problem}");
        node.misbehave("");
        let after = node.until("one", |instance| instance["operation"].is_null()).await;
        assert_eq!((&after["state"], &after["has_snapshot"]), (&json!("Standby"), &json!(true)), "{orders}");
        assert_eq!(node.vmms(), Vec::<u32>::new(), "{orders}");
    }
    node.restore("one").await;
    node.gone("one").await;
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_another_hypervisor_says_the_way_out() {
    let node = Node::start().await;
    node.import().await;
    node.ready("one", "count", "sparse").await;
    node.standby("one").await;
    // As if it had been taken before an upgrade.
    let path = node.data().join("instances/one/snapshot/manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["hypervisor_version"] = json!("v1.0");
    serde_json::to_writer(std::fs::File::create(&path).unwrap(), &manifest).unwrap();
    let (status, code, problem) = node.act("one", "restore").await;
    assert_eq!((status, code.as_str()), (409, "hypervisor_mismatch"));
    let message = problem["message"].as_str().unwrap();
    assert!(message.contains("v1.0") && message.contains("discard_snapshot=true"), "{message}");
    let after = node.get("one").await;
    assert_eq!((&after["state"], &after["has_snapshot"]), (&json!("Standby"), &json!(true)));
    assert_eq!(node.act("one", "start?discard_snapshot=true").await.2["state"], "Running");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_instant_cannot_have_is_refused() {
    let node = Node::start().await;
    node.import().await;
    let mut wish = Node::wish("grows", &["stay"]);
    (wish["standby"], wish["memory_max_mb"]) = (json!("instant"), json!(256));
    let refused = node.client.post_json("/instances", &wish).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (422, "not_supported"), "{:?}", refused.body);
    node.assert_clean();
}
