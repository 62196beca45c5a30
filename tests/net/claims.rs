//! Whatever is held is held once, however many ask at once and whenever the daemon dies.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::node::{Node, wish};

const MANY: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and /dev/net/tun"]
async fn five_hundred_creates_at_once_share_nothing() {
    let node = Node::start().await;
    let empty = node.daemon.space().command("nft", &["-t", "list", "ruleset"]);
    let mut creates = JoinSet::new();
    for number in 0..MANY {
        let client = node.client.clone();
        let port = json!({ "port_mappings": [{ "host_port": 20_000 + number, "guest_port": 80 }] });
        creates
            .spawn(async move { client.post_json("/instances", &wish(&format!("i-{number}"), port)).await.unwrap() });
        // Of each pair one asks for what the other asks for too.
        if number % 50 == 0 {
            for rival in ["a", "b"] {
                let client = node.client.clone();
                let wanted = json!({ "network": { "ip": format!("10.9.3.{}", number / 50 + 100) },
                    "port_mappings": [{ "host_port": 30_000 + number, "guest_port": 80, "protocol": "udp" }] });
                let body = wish(&format!("{rival}-{number}"), wanted);
                creates.spawn(async move { client.post_json("/instances", &body).await.unwrap() });
            }
        }
    }
    let (mut made, mut refused): (Vec<Value>, Vec<String>) = (Vec::new(), Vec::new());
    while let Some(answer) = creates.join_next().await {
        let answer = answer.unwrap();
        match answer.status {
            201 => made.push(answer.json()),
            _ => refused.push(answer.code()),
        }
    }
    assert_eq!(made.len(), MANY + MANY / 50, "{refused:?}");
    assert_eq!(refused, vec!["address_in_use"; MANY / 50]);

    let records = node.daemon.data().join("instances");
    let uid = |id: &str| {
        let record = std::fs::read(records.join(id).join("instance.json")).unwrap();
        serde_json::from_slice::<Value>(&record).unwrap()["uid"].as_u64().unwrap()
    };
    let distinct = |of: &dyn Fn(&Value) -> String| made.iter().map(of).collect::<BTreeSet<_>>().len();
    assert_eq!(distinct(&|instance| instance["private_ip"].to_string()), made.len());
    assert_eq!(distinct(&|instance| instance["mac"].to_string()), made.len());
    assert_eq!(distinct(&|instance| instance["port_mappings"][0].to_string()), made.len());
    assert_eq!(distinct(&|instance| uid(instance["id"].as_str().unwrap()).to_string()), made.len());
    assert_eq!(node.daemon.taps().len(), made.len());
    let rules = node.rules();
    assert_eq!(rules.matches("tcp . 2").count(), MANY);
    let terse = node.daemon.space().command("nft", &["-t", "list", "ruleset"]);
    assert_eq!(terse, empty, "rules do not grow with guests");

    let mut deletes = JoinSet::new();
    for instance in &made {
        let (client, id) = (node.client.clone(), instance["id"].as_str().unwrap().to_owned());
        deletes.spawn(async move { client.delete(&format!("/instances/{id}?grace_seconds=0")).await.unwrap().status });
    }
    while let Some(status) = deletes.join_next().await {
        assert_eq!(status.unwrap(), 204);
    }
    node.daemon.until_no_tap().unwrap();
    assert!(!node.rules().contains("elements"), "{}", node.rules());
    assert_eq!(node.daemon.processes(), Vec::<u32>::new());
}

/// Twelve times the daemon dies at some instant of making and deleting; after each restart what is there is what the
/// records say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and /dev/net/tun"]
async fn a_daemon_that_is_killed_leaks_nothing() {
    let mut node = Node::start().await;
    for round in 0..12_u64 {
        let mut requests = JoinSet::new();
        for number in 0..8 {
            let client = node.client.clone();
            requests.spawn(async move {
                let port = json!({ "port_mappings": [{ "host_port": 20_000 + number, "guest_port": 80 }] });
                let id = format!("i-{round}-{number}");
                let _ = client.post_json("/instances", &wish(&id, port)).await;
                let _ = client.delete(&format!("/instances/{id}?grace_seconds=0")).await;
            });
        }
        tokio::time::sleep(std::time::Duration::from_millis(7 + 11 * round)).await;
        node.crash();
        requests.abort_all();
        while requests.join_next().await.is_some() {}
        let list = node.client.get("/instances?limit=1000").await.unwrap().json();
        for instance in list["items"].as_array().unwrap() {
            let id = instance["id"].as_str().unwrap();
            let answer = node.client.delete(&format!("/instances/{id}?grace_seconds=0")).await.unwrap();
            assert!([204, 404].contains(&answer.status), "{:?}", answer.body);
        }
        node.daemon.until_no_tap().unwrap();
        assert!(!node.rules().contains("elements"), "round {round}: {}", node.rules());
        assert_eq!(node.daemon.processes(), Vec::<u32>::new(), "round {round}");
    }
    let again = node.create("again", json!({ "port_mappings": [{ "host_port": 20_000, "guest_port": 80 }] })).await;
    assert_eq!(again.status, 201, "nothing holds the port: {:?}", again.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and /dev/net/tun"]
async fn what_is_held_is_stable_and_what_is_not_there_is_not_held() {
    let mut node = Node::start().await;
    let port = json!({ "port_mappings": [{ "host_port": 20_000, "guest_port": 80 }] });
    let made = node.create("one", port.clone()).await.json();
    for action in ["stop", "start", "standby", "restore", "stop"] {
        assert_eq!(node.client.act(&format!("/instances/one/{action}")).await.unwrap().status, 200, "{action}");
        node.crash();
        let now = node.client.get("/instances/one").await.unwrap().json();
        for field in ["private_ip", "mac", "port_mappings"] {
            assert_eq!(now[field], made[field], "{field} after {action}");
        }
        let taken = node.create("two", port.clone()).await;
        assert_eq!((taken.status, taken.code().as_str()), (409, "port_in_use"));
    }
    node.daemon.until_no_tap().unwrap();
    let none = node.create("none", json!({ "network": { "enabled": false } })).await.json();
    assert_eq!((&none["private_ip"], node.daemon.taps().len()), (&Value::Null, 0));
    let nowhere = json!({ "network": { "enabled": false }, "port_mappings": [{ "host_port": 1, "guest_port": 1 }] });
    assert_eq!(node.create("nowhere", nowhere).await.status, 400);
    node.delete("one").await;
    assert_eq!(node.create("two", port).await.status, 201);
    for id in ["two", "none"] {
        node.delete(id).await;
    }
    node.daemon.until_no_tap().unwrap();
}
