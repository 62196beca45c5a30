//! Start, stop, reboot, pause, resume and wait.

use serde_json::json;

use crate::harness::Node;

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_instance_keeps_what_it_is_and_starts_again() {
    let node = Node::start().await;
    node.import().await;
    let before = node.create("one", &["stay"]).await;
    node.until("one", |instance| instance["ready"] == true).await;
    let (status, _, stopped) = node.act("one", "stop").await;
    assert_eq!((status, &stopped["state"], &stopped["operation"]), (200, &json!("Stopped"), &json!(null)));
    assert!(stopped["stopped_at"].is_string() && stopped["last_error"].is_null(), "{stopped}");
    assert_eq!(node.vmms(), Vec::<u32>::new());
    assert_eq!(node.act("one", "stop").await.0, 200, "it is stopped already");
    let (status, _, started) = node.act("one", "start").await;
    assert_eq!((status, &started["state"]), (200, &json!("Running")));
    for field in ["uuid", "private_ip", "mac", "created_at"] {
        assert_eq!(started[field], before[field], "{field}");
    }
    assert_eq!(node.act("one", "start").await.0, 200, "it runs already");
    assert_eq!(node.vmms().len(), 1);
    assert_eq!(node.client.delete("/instances/one?grace_seconds=0").await.unwrap().status, 204);
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_has_shut_down_starts_again_in_its_vmm() {
    let node = Node::start().await;
    node.import().await;
    node.create("short", &["exit", "7"]).await;
    node.until("short", |instance| instance["state"] == "Shutdown").await;
    let before = node.vmms();
    let (status, _, started) = node.act("short", "start").await;
    assert_eq!(status, 200, "{started}");
    let again = node.until("short", |instance| instance["state"] == "Shutdown" && instance["exit_code"] == 7).await;
    assert!(again["stopped_at"].is_string());
    assert_eq!(node.vmms(), before, "the same VMM");
    assert_eq!(node.act("short", "stop").await.2["state"], "Stopped");
    assert_eq!(node.client.delete("/instances/short").await.unwrap().status, 204);
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_guest_is_resumed_rebooted_or_deleted() {
    let node = Node::start().await;
    node.import().await;
    node.create("one", &["stay"]).await;
    for _ in 0..2 {
        assert_eq!(node.act("one", "pause").await.2["state"], "Paused");
    }
    for _ in 0..2 {
        assert_eq!(node.act("one", "resume").await.2["state"], "Running");
    }
    node.act("one", "pause").await;
    let before = node.vmms();
    let (status, _, rebooted) = node.act("one", "reboot").await;
    assert_eq!((status, &rebooted["state"]), (200, &json!("Running")));
    assert_ne!(node.vmms(), before, "a reboot begins with a new VMM");
    node.act("one", "pause").await;
    let answer = node.client.delete("/instances/one?grace_seconds=30").await.unwrap();
    assert_eq!(answer.status, 204);
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_state_does_not_allow_is_a_conflict() {
    let node = Node::start().await;
    node.import().await;
    node.create("one", &["stay"]).await;
    node.act("one", "stop").await;
    for action in ["pause", "resume", "reboot"] {
        let (status, code, _) = node.act("one", action).await;
        assert_eq!((status, code.as_str()), (409, "invalid_state"), "{action}");
    }
    for action in ["start", "stop", "pause", "resume", "reboot"] {
        let (status, code, _) = node.act("none", action).await;
        assert_eq!((status, code.as_str()), (404, "instance_not_found"), "{action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_joins_another_is_busy_and_a_delete_wins() {
    let node = Node::start().await;
    node.import().await;
    node.create("slow", &["spin"]).await;
    node.until("slow", |instance| instance["ready"] == true).await;
    let stop = json!({ "grace_seconds": 3600 });
    let stops = async {
        tokio::join!(
            node.client.post_json("/instances/slow/stop", &stop),
            node.client.post_json("/instances/slow/stop", &stop)
        )
    };
    let others = async {
        node.until("slow", |instance| instance["operation"]["kind"] == "stop").await;
        let (status, code, _) = node.act("slow", "pause").await;
        assert_eq!((status, code.as_str()), (409, "busy"));
        node.client.delete("/instances/slow?grace_seconds=0").await.unwrap().status
    };
    let ((one, two), deleted) = tokio::join!(stops, others);
    assert_eq!(deleted, 204);
    for stopped in [one.unwrap(), two.unwrap()] {
        assert_eq!(stopped.code(), "instance_not_found", "what they waited for is gone");
    }
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_when_it_comes_true_or_its_time_is_over() {
    let node = Node::start().await;
    node.import().await;
    node.create("one", &["stay"]).await;
    let ready = node.client.get("/instances/one/wait?state=Running&ready=true").await.unwrap().json();
    assert_eq!((&ready["timed_out"], &ready["instance"]["ready"]), (&json!(false), &json!(true)));
    let late = node.client.get("/instances/one/wait?state=Stopped&timeout_seconds=0").await.unwrap().json();
    assert_eq!((&late["timed_out"], &late["instance"]["state"]), (&json!(true), &json!("Running")));
    let (stopped, waited) = tokio::join!(node.act("one", "stop"), node.client.get("/instances/one/wait?state=Stopped"));
    assert_eq!((stopped.0, &waited.unwrap().json()["timed_out"]), (200, &json!(false)));
    assert_eq!(node.client.get("/instances/none/wait").await.unwrap().code(), "instance_not_found");
}
