//! What a new daemon makes of what an old one left.

use crate::harness::Node;

#[tokio::test(flavor = "multi_thread")]
async fn living_vms_are_adopted_and_dead_ones_told() {
    let mut node = Node::start().await;
    node.import().await;
    let before = node.create("lives", &["stay"]).await;
    let [survivor] = node.vmms()[..] else { panic!("one VMM") };
    node.create("dies", &["stay"]).await;
    node.stop().await;
    assert_eq!(node.vmms().len(), 2, "stopping the daemon stops no VM");
    for pid in node.vmms().into_iter().filter(|pid| *pid != survivor) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
    }
    node.launch().await;
    let lives = node.get("lives").await;
    assert_eq!((&lives["state"], &lives["uuid"]), (&"Running".into(), &before["uuid"]));
    assert_eq!(lives["private_ip"], before["private_ip"]);
    let dies = node.until("dies", |instance| instance["stopped_at"].is_string()).await;
    assert_eq!((&dies["state"], &dies["last_error"]["code"]), (&"Stopped".into(), &"vmm_exited".into()));
    // The address of the living one is still held; the next one gets another.
    let third = node.create("third", &["stay"]).await;
    assert_ne!(third["private_ip"], before["private_ip"]);
    for id in ["lives", "dies", "third"] {
        assert_eq!(node.client.delete(&format!("/instances/{id}?grace_seconds=0")).await.unwrap().status, 204);
    }
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_guest_is_asked_and_ends() {
    let mut node = Node::start().await;
    node.import().await;
    node.create("late", &["stay"]).await;
    node.until("late", |instance| instance["ready"] == true).await;
    node.stop().await;
    node.launch().await;
    let answer = node.client.delete("/instances/late?grace_seconds=30").await.unwrap();
    assert_eq!(answer.status, 204, "the adopted guest is asked and ends");
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_and_orphans_of_a_dead_daemon_are_swept() {
    let mut node = Node::start().await;
    node.import().await;
    node.create("one", &["stay"]).await;
    node.stop().await;
    // As if the daemon had died between the spawn and the record of the process.
    let path = node.data().join("instances/one/instance.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record["vmm"]["process"] = serde_json::Value::Null;
    record["op"] = serde_json::json!({ "kind": "create", "id": "0".repeat(32), "since": "2026-01-01T00:00:00Z" });
    let file = std::fs::File::create(&path).unwrap();
    serde_json::to_writer(file, &record).unwrap();
    std::fs::create_dir(node.data().join("instances").join(format!(".new-{}", "0".repeat(32)))).unwrap();
    let before = node.vmms();
    node.launch().await;
    let one = node.until("one", |instance| instance["state"] == "Running" && instance["operation"].is_null()).await;
    assert_eq!(one["last_error"], serde_json::Value::Null);
    let after = node.vmms();
    assert_eq!(after.len(), 1, "never two VMMs for one record");
    assert_ne!(before, after, "the orphan was ended, the create rolled forward");
    assert_eq!(node.client.delete("/instances/one?grace_seconds=0").await.unwrap().status, 204);
    node.assert_clean();
}
