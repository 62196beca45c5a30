//! Create, list, get and delete instances.

use hyper::Request;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::harness::Node;

/// The example that control planes are written after, word for word.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_request_makes_an_instance() {
    let node = Node::start().await;
    node.import().await;
    let archive = dataplane_testkit::image::ImageBuilder::new("nginx:latest").config("Cmd", json!(["stay"]));
    let answer = node.client.post("/images/import", "application/x-tar", archive.archive().unwrap()).await.unwrap();
    assert_eq!(answer.json()["id"], "img-nginx");
    let body = r#"{"id":"my-instance","name":"My Workload","image":"img-nginx","memory_mb":2048,"memory_max_mb":4096,"vcpus":2,"env":{"NODE_ENV":"production"}}"#;
    let answer = node.client.post("/instances", "application/json", body).await.unwrap();
    assert_eq!((answer.status, answer.header("location")), (201, "/instances/my-instance"));
    let instance = answer.json();
    let etag = format!("\"{}-{}\"", instance["uuid"].as_str().unwrap(), instance["generation"]);
    assert_eq!(answer.header("etag"), etag);
    assert!(answer.header("server-timing").contains("create"), "{:?}", answer.headers);
    for (field, value) in [
        ("state", json!("Running")),
        ("name", json!("My Workload")),
        ("memory_max_mb", json!(4096)),
        ("disk_gb", json!(10)),
        ("private_ip", json!("10.9.0.2")),
        ("mac", json!("02:d0:0a:09:00:02")),
        ("fqdn", json!("my-instance.dataplane.internal")),
        ("hypervisor", json!("cloud-hypervisor")),
        ("env", json!({ "NODE_ENV": "production" })),
        ("has_snapshot", json!(false)),
    ] {
        assert_eq!(instance[field], value, "{field}");
    }
    assert_eq!(node.client.delete("/instances/my-instance?grace_seconds=0").await.unwrap().status, 204);
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn repeating_is_safe_and_another_request_is_a_conflict() {
    let node = Node::start().await;
    node.import().await;
    let first = node.create("one", &["stay"]).await;
    let again = node.client.post_json("/instances", &Node::wish("one", &["stay"])).await.unwrap();
    assert_eq!((again.status, &again.json()["uuid"]), (200, &first["uuid"]));
    let other = node.client.post_json("/instances", &Node::wish("one", &["echo", "x"])).await.unwrap();
    assert_eq!((other.status, other.code().as_str()), (409, "already_exists"));
    // Many at once make one instance, and all are told of the same one.
    let wish = Node::wish("crowd", &["stay"]);
    let answers = futures_util::future::join_all((0..8).map(|_| node.client.post_json("/instances", &wish))).await;
    let mut uuids: Vec<Value> = answers.into_iter().map(|answer| answer.unwrap().json()["uuid"].clone()).collect();
    uuids.dedup();
    assert_eq!(uuids.len(), 1);
    assert_eq!(node.vmms().len(), 2);
    for id in ["one", "crowd"] {
        assert_eq!(node.client.delete(&format!("/instances/{id}?grace_seconds=0")).await.unwrap().status, 204);
    }
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_made_where_none_is_given() {
    let node = Node::start().await;
    node.import().await;
    let mut wish = Node::wish("x", &["stay"]);
    wish.as_object_mut().unwrap().remove("id");
    let [one, two] = [0, 1].map(|_| node.client.post_json("/instances", &wish));
    let (one, two) = tokio::join!(one, two);
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.status, two.status), (201, 201));
    assert_ne!(one.json()["id"], two.json()["id"]);
    assert!(one.json()["id"].as_str().unwrap().starts_with("i-"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_code_is_recorded_and_shown() {
    let node = Node::start().await;
    node.import().await;
    node.create("seven", &["exit", "7"]).await;
    let ended = node.until("seven", |instance| instance["state"] == "Shutdown").await;
    assert_eq!(ended["exit_code"], 7);
    assert!(ended["stopped_at"].is_string());
    assert_eq!(node.client.delete("/instances/seven").await.unwrap().status, 204);
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_asks_the_guest_and_then_insists() {
    let node = Node::start().await;
    node.import().await;
    node.create("polite", &["stay"]).await;
    node.until("polite", |instance| instance["ready"] == true).await;
    let answer = node.client.delete("/instances/polite?grace_seconds=60").await.unwrap();
    assert_eq!(answer.status, 204);
    // One that ignores the stop signal is ended after its grace.
    node.create("stubborn", &["spin"]).await;
    node.until("stubborn", |instance| instance["ready"] == true).await;
    assert_eq!(node.client.delete("/instances/stubborn?grace_seconds=1").await.unwrap().status, 204);
    assert_eq!(node.client.delete("/instances/stubborn").await.unwrap().code(), "instance_not_found");
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_entity_tag_stops_a_delete() {
    let node = Node::start().await;
    node.import().await;
    let instance = node.create("one", &["stay"]).await;
    let uuid = instance["uuid"].as_str().unwrap();
    let delete = |tag: String| {
        let request =
            Request::delete("/instances/one?grace_seconds=0").header("host", "localhost").header("if-match", tag);
        node.client.call(request.body(http_body_util::Full::default()).unwrap())
    };
    let stale = delete(format!("\"{uuid}-0\"")).await.unwrap();
    assert_eq!((stale.status, stale.code().as_str()), (412, "precondition_failed"));
    assert_eq!(node.get("one").await["state"], "Running");
    assert_eq!(delete("*".into()).await.unwrap().status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_and_by_label_and_state() {
    let node = Node::start().await;
    node.import().await;
    for (id, tier, program) in [("a", "web", "stay"), ("b", "db", "exit"), ("c", "web", "stay")] {
        let mut wish = Node::wish(id, &[program, "0"]);
        wish["labels"] = json!({ "tier": tier });
        assert_eq!(node.client.post_json("/instances", &wish).await.unwrap().status, 201);
    }
    node.until("b", |instance| instance["state"] == "Shutdown").await;
    let ids = async |query: &str| -> (Vec<String>, Option<String>) {
        let page = node.client.get(&format!("/instances?{query}")).await.unwrap().json();
        let ids =
            page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
        (ids, page["next_cursor"].as_str().map(str::to_owned))
    };
    let (first, cursor) = ids("limit=2").await;
    assert_eq!(first, ["a", "b"]);
    assert_eq!(ids(&format!("limit=2&cursor={}", cursor.unwrap())).await, (vec!["c".to_owned()], None));
    assert_eq!(ids("label=tier%3Dweb").await.0, ["a", "c"]);
    assert_eq!(ids("state=Shutdown").await.0, ["b"]);
    assert_eq!(ids("state=Shutdown&state=Running&label=tier%3Dweb&image=img-tiny").await.0, ["a", "c"]);
    assert_eq!(ids("image=img-other").await.0, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_cancels_nothing() {
    let node = Node::start().await;
    node.import().await;
    let body = Node::wish("alone", &["stay"]).to_string();
    let mut stream = tokio::net::TcpStream::connect(node.address()).await.unwrap();
    let head = format!(
        "POST /instances HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    // Gone as soon as the daemon has begun: the id is known, the answer is not yet there or just on its way.
    node.until("alone", |instance| instance["id"] == "alone").await;
    drop(stream);
    node.until("alone", |instance| instance["state"] == "Running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_reboots_is_started_anew_until_it_does_nothing_else() {
    let node = Node::start().await;
    node.import().await;
    node.create("loop", &["reboot"]).await;
    // Between two of its lives an instance is `Stopped` as well, with the restart in `operation`.
    let at_rest = |instance: &Value| instance["state"] == "Stopped" && instance["operation"].is_null();
    let ended = node.until("loop", at_rest).await;
    assert_eq!(ended["last_error"]["code"], "reboot_loop");
    node.create("panic", &["panic"]).await;
    let ended = node.until("panic", at_rest).await;
    assert_eq!(ended["last_error"]["code"], "guest_panic");
    for id in ["loop", "panic"] {
        assert_eq!(node.client.delete(&format!("/instances/{id}")).await.unwrap().status, 204);
    }
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_reboots_cannot_put_off_its_delete() {
    let node = Node::start().await;
    node.import().await;
    node.create("again", &["reboot"]).await;
    node.until("again", |instance| instance["ready"] == true).await;
    let delete = node.client.delete("/instances/again?grace_seconds=600");
    let answer = tokio::time::timeout(std::time::Duration::from_secs(30), delete).await.expect("it ends").unwrap();
    assert_eq!(answer.status, 204);
    node.assert_clean();
}
