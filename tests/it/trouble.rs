//! VMMs that hang, cannot be reached or talk nonsense: the others do not notice, nobody waits to read what is known, and
//! one delete takes everything away.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::Node;

/// Reading what is known asks no VMM; this is far below what one that hangs is given.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A node with two running instances, and the first one's VMM.
async fn two() -> (Node, u32) {
    let node = Node::start().await;
    node.import().await;
    let mut wish = Node::wish("one", &["count"]);
    wish["memory_max_mb"] = json!(512);
    assert_eq!(node.client.post_json("/instances", &wish).await.unwrap().status, 201);
    let vmm = node.vmms()[0];
    node.create("two", &["count"]).await;
    for id in ["one", "two"] {
        node.until(id, |instance| instance["ready"] == true).await;
    }
    (node, vmm)
}

/// That the second instance lives a whole life while the first is in trouble, and that what is known can be read.
async fn others_go_on(node: &Node) {
    let begin = Instant::now();
    let list = node.client.get("/instances").await.unwrap().json();
    assert_eq!(list["items"].as_array().unwrap().len(), 2, "{list}");
    assert_eq!(node.get("one").await["state"], "Running");
    assert!(begin.elapsed() < AT_ONCE, "reading took {:?}", begin.elapsed());
    for (action, state) in [("pause", "Paused"), ("resume", "Running"), ("standby", "Standby"), ("restore", "Running")]
    {
        let (status, code, body) = node.act("two", action).await;
        assert_eq!((status, &body["state"]), (200, &json!(state)), "{action}: {code}");
    }
    assert_eq!(node.client.delete("/instances/two?grace_seconds=0").await.unwrap().status, 204);
}

async fn delete(node: &Node) {
    assert_eq!(node.client.delete("/instances/one?grace_seconds=0").await.unwrap().status, 204);
    node.assert_clean();
}

fn signal(vmm: u32, signal: Signal) {
    kill(Pid::from_raw(vmm.cast_signed()), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmm_that_is_stopped_is_not_a_dead_one() {
    let (mut node, vmm) = two().await;
    signal(vmm, Signal::SIGSTOP);
    others_go_on(&node).await;
    // Asked for something it is found out, and stays what it was.
    let (status, code, problem) = node.act("one", "pause").await;
    assert_eq!((status, code.as_str()), (503, "vmm_failed"), "{problem}");
    let one = node.get("one").await;
    assert_eq!((&one["state"], &one["last_error"]["code"]), (&json!("Running"), &json!("vmm_unresponsive")), "{one}");
    let resized = node.client.patch("/instances/one", &json!({ "memory_mb": 256 })).await.unwrap();
    assert_eq!((resized.status, resized.code().as_str()), (503, "vmm_failed"), "{:?}", resized.body);
    assert_eq!(node.get("one").await["memory_mb"], 128, "nobody has given it more");
    // Neither does a daemon that starts meanwhile give it up.
    node.stop().await;
    node.launch().await;
    assert_eq!(node.get("one").await["state"], "Running");
    assert!(node.vmms().contains(&vmm));
    signal(vmm, Signal::SIGCONT);
    let paused = |one: &Value| one["state"] == "Paused";
    let (status, code, one) = node.act("one", "pause").await;
    assert!(status == 200 && paused(&one), "{code}");
    delete(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmm_that_is_stopped_can_be_deleted() {
    let (node, vmm) = two().await;
    signal(vmm, Signal::SIGSTOP);
    others_go_on(&node).await;
    delete(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmm_without_its_socket_can_be_deleted() {
    let (mut node, vmm) = two().await;
    let arguments = std::fs::read(format!("/proc/{vmm}/cmdline")).unwrap();
    let arguments = String::from_utf8(arguments).unwrap();
    let socket = arguments.split('\0').find_map(|word| word.strip_prefix("path=")).unwrap();
    std::fs::remove_file(PathBuf::from(socket)).unwrap();
    others_go_on(&node).await;
    // A daemon that starts now has no connection from before, and knows what the record says.
    node.stop().await;
    node.launch().await;
    let one = node.until("one", |one| one["last_error"]["code"] == "vmm_unresponsive").await;
    assert_eq!(one["state"], "Running");
    let (status, code, problem) = node.act("one", "pause").await;
    assert_eq!((status, code.as_str()), (503, "vmm_failed"), "{problem}");
    assert!(node.vmms().contains(&vmm));
    delete(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmm_that_talks_nonsense_can_be_deleted() {
    let node = Node::start().await;
    node.import().await;
    node.create("one", &["count"]).await;
    node.misbehave("garbage vm.info\ngarbage vm.pause\n");
    let (status, code, problem) = node.act("one", "pause").await;
    assert_eq!((status, code.as_str()), (503, "vmm_failed"), "{problem}");
    let begin = Instant::now();
    assert_eq!(node.get("one").await["state"], "Running");
    assert!(begin.elapsed() < AT_ONCE);
    delete(&node).await;
}
