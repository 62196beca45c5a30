//! Programs in a simulated guest: what the host makes of them.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::Node;

async fn node() -> Node {
    let node = Node::start().await;
    node.import().await;
    node.create("box", &["stay"]).await;
    node.until("box", |instance| instance["ready"] == true).await;
    node
}

async fn exec(node: &Node, body: Value) -> (u16, Value) {
    let answer = node.client.post_json("/instances/box/exec", &body).await.unwrap();
    (answer.status, answer.json())
}

async fn attach(node: &Node, request: &Value) -> WebSocketStream<UnixStream> {
    let stream = UnixStream::connect(node.data().parent().unwrap().join("run/api.sock")).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://localhost/instances/box/exec", stream).await.unwrap();
    let first = format!("\x03{request}").into_bytes();
    socket.send(Message::Binary(first.into())).await.unwrap();
    socket
}

/// The next message, its channel before it.
async fn next(socket: &mut WebSocketStream<UnixStream>) -> Vec<u8> {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), socket.next()).await.unwrap();
        match next {
            Some(Ok(Message::Binary(bytes))) => return bytes.to_vec(),
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn control(message: &[u8]) -> Value {
    assert_eq!(message[0], 3, "{message:?}");
    serde_json::from_slice(&message[1..]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_run_and_answered() {
    let node = node().await;
    let (status, ran) = exec(&node, json!({ "command": ["echo", "a b", "c"] })).await;
    assert_eq!((status, &ran["stdout"]["text"], &ran["exit_code"]), (200, &json!("a b c\n"), &json!(0)), "{ran}");
    let input = "0123456789".repeat(60_000);
    let (_, ran) = exec(&node, json!({ "command": ["cat"], "stdin": input })).await;
    assert_eq!(ran["stdout"]["text"].as_str().unwrap().len(), input.len());
    let (_, ran) = exec(&node, json!({ "command": ["exit", "9"] })).await;
    assert_eq!(ran["exit_code"], 9);
    let (_, ran) = exec(&node, json!({ "command": ["absent"] })).await;
    assert_eq!((&ran["exit_code"], ran["reason"].is_string(), &ran["pid"]), (&json!(127), true, &Value::Null), "{ran}");
    let (_, ran) = exec(&node, json!({ "command": ["sleep", "1000"], "timeout_seconds": 1 })).await;
    assert_eq!((&ran["signal"], &ran["timed_out"]), (&json!(9), &json!(true)), "{ran}");
    let (_, ran) = exec(&node, json!({ "command": ["yes", "1000000"], "max_output_bytes": 4 })).await;
    assert_eq!(ran["stdout"], json!({ "text": "y\ny\n", "truncated": true }));
    let both = json!({ "command": ["cat"], "stdin": "a", "stdin_base64": "YQ==" });
    assert_eq!(exec(&node, both).await.0, 400);
    assert_eq!(exec(&node, json!({ "command": ["cat"], "stdin_base64": "%" })).await.0, 400);
    let (status, refused) = exec(&node, json!({ "command": ["echo", "x".repeat(70_000)] })).await;
    assert_eq!((status, &refused["code"]), (413, &json!("payload_too_large")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_does_not_run_runs_nothing() {
    let node = node().await;
    let get = node.client.get("/instances/box/exec").await.unwrap();
    assert_eq!((get.status, get.code().as_str(), get.header("upgrade")), (426, "upgrade_required", "websocket"));
    let missing = node.client.post_json("/instances/none/exec", &json!({ "command": ["echo"] })).await.unwrap();
    assert_eq!((missing.status, missing.code().as_str()), (404, "instance_not_found"));
    node.act("box", "pause").await;
    let (status, refused) = exec(&node, json!({ "command": ["echo"] })).await;
    assert_eq!((status, &refused["code"]), (409, &json!("invalid_state")));
    node.act("box", "resume").await;
    node.act("box", "stop").await;
    for path in ["processes", "processes/7"] {
        let answer = node.client.get(&format!("/instances/box/{path}")).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (409, "invalid_state"));
    }
    let stats = node.client.get("/instances/box/stats").await.unwrap().json();
    assert!(stats["guest"].is_null() && stats["vmm"].is_null() && stats["disk"]["used_bytes"].is_u64(), "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_on_its_way_is_waited_for() {
    let node = Node::start().await;
    node.import().await;
    node.create("box", &["stay"]).await;
    // At once: the conversation with the guest begins behind the answers.
    let (status, ran) = exec(&node, json!({ "command": ["echo", "created"] })).await;
    assert_eq!((status, &ran["stdout"]["text"]), (200, &json!("created\n")), "{ran}");
    for _ in 0..5 {
        assert_eq!(node.act("box", "standby").await.0, 200);
        assert_eq!(node.act("box", "restore").await.0, 200);
        let (status, ran) = exec(&node, json!({ "command": ["echo", "back"] })).await;
        assert_eq!((status, &ran["stdout"]["text"]), (200, &json!("back\n")), "{ran}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_ends_the_program_unless_it_is_detached() {
    let node = node().await;
    let (_, kept) = exec(&node, json!({ "command": ["sleep", "1000"], "detach": true })).await;
    let kept = kept["pid"].as_u64().unwrap();
    let mut socket = attach(&node, &json!({ "command": ["cat"] })).await;
    let started = control(&next(&mut socket).await);
    socket.send(Message::Binary(b"\0hello".to_vec().into())).await.unwrap();
    assert_eq!(next(&mut socket).await, b"\x01hello");
    let body = json!({ "command": ["sleep", "1000"] });
    let alone = tokio::time::timeout(Duration::from_secs(1), node.client.post_json("/instances/box/exec", &body));
    assert!(alone.await.is_err());
    drop(socket);
    let attached = started["pid"].as_u64().unwrap();
    for pid in [attached, attached + 1] {
        let ended = node.client.get(&format!("/instances/box/processes/{pid}?wait_seconds=20")).await.unwrap().json();
        assert_eq!((&ended["running"], &ended["signal"]), (&json!(false), &json!(9)), "{ended}");
    }
    let running = node.client.get(&format!("/instances/box/processes/{kept}?wait_seconds=1")).await.unwrap().json();
    assert_eq!(running["running"], true);
    let list = node.client.get("/instances/box/processes").await.unwrap().json();
    assert_eq!(list["items"].as_array().unwrap().len(), 3, "{list}");
    let killed = node.client.delete(&format!("/instances/box/processes/{kept}")).await.unwrap();
    assert_eq!(killed.status, 204);
    let ended = node.client.get(&format!("/instances/box/processes/{kept}?wait_seconds=20")).await.unwrap().json();
    assert_eq!(ended["signal"], 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_ends_with_a_word() {
    let node = node().await;
    for (request, code) in [
        (json!({ "command": [] }), "invalid_field"),
        (json!({ "command": ["cat"], "stdin": "x" }), "invalid_field"),
        (json!({ "command": ["cat"], "shell": true }), "unknown_field"),
    ] {
        let refused = control(&next(&mut attach(&node, &request).await).await);
        assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!(code)), "{refused}");
    }
    let mut socket = attach(&node, &json!({ "command": ["exit", "4"] })).await;
    next(&mut socket).await;
    assert_eq!(control(&next(&mut socket).await), json!({ "type": "exit", "exit_code": 4 }));
    let mut socket = attach(&node, &json!({ "command": ["sleep", "1000"] })).await;
    next(&mut socket).await;
    socket.send(Message::Binary(b"\x03{\"type\":\"signal\",\"signal\":\"HUP\"}".to_vec().into())).await.unwrap();
    assert_eq!(control(&next(&mut socket).await), json!({ "type": "exit", "signal": 1 }));
    let mut lost = attach(&node, &json!({ "command": ["sleep", "1000"] })).await;
    next(&mut lost).await;
    assert_eq!(node.act("box", "standby").await.0, 200);
    assert_eq!(control(&next(&mut lost).await)["state"], "standby");
    assert_eq!(node.act("box", "restore").await.0, 200);
    node.until("box", |instance| instance["ready"] == true).await;
    let mut gone = attach(&node, &json!({ "command": ["sleep", "1000"] })).await;
    next(&mut gone).await;
    assert_eq!(node.act("box", "stop").await.0, 200);
    assert_eq!(control(&next(&mut gone).await)["state"], "gone");
}
