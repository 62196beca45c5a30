//! Published ports through the API: reached, refused by name, changed, kept over restarts, and let go.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use dataplane_testkit::netns::Netns;
use serde_json::{Value, json};

use crate::node::Node;

/// Answers each connection in a guest with a word.
fn serve(guest: &Netns, port: u16, word: &'static str) {
    let listener = guest.run(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(word.as_bytes());
        }
    });
}

fn ask(space: &Netns, to: Ipv4Addr, port: u16) -> Option<String> {
    space.run(move || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((to, port)), Duration::from_secs(20)).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok().map(|_| text)
    })
}

fn mapping(host_port: u16, guest_port: u16) -> Value {
    json!({ "port_mappings": [{ "host_port": host_port, "guest_port": guest_port }] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and /dev/net/tun"]
async fn a_port_is_published_changed_and_let_go() {
    let mut node = Node::start().await;
    let made = node.create("web", mapping(8080, 80)).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(made.json()["port_mappings"], json!([{ "host_port": 8080, "guest_port": 80, "protocol": "tcp" }]));
    let guest = node.guest_of(&made.json());
    serve(&guest, 80, "eighty");
    serve(&guest, 81, "eighty-one");
    let local = |node: &Node, port| ask(node.daemon.space(), Ipv4Addr::LOCALHOST, port);
    assert_eq!(local(&node, 8080).as_deref(), Some("eighty"));

    // Whoever has a port is named.
    let taken = node.create("other", mapping(8080, 80)).await;
    assert_eq!((taken.status, taken.code().as_str()), (409, "port_in_use"));
    assert!(taken.json()["message"].as_str().unwrap().contains("instance web"), "{:?}", taken.body);
    let program = node.daemon.space().run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 7000)).unwrap());
    let taken = node.create("other", mapping(7000, 80)).await;
    assert_eq!((taken.status, taken.code().as_str()), (409, "port_in_use"));
    assert!(taken.json()["message"].as_str().unwrap().contains("127.0.0.1"), "{:?}", taken.body);
    assert_eq!(node.create("other", mapping(8081, 80)).await.status, 201, "a refusal holds nothing");
    for (port, code) in [(7000, "port_in_use"), (8081, "port_in_use")] {
        let refused = node.client.patch("/instances/web", &mapping(port, 80)).await.unwrap();
        assert_eq!((refused.status, refused.code().as_str()), (409, code), "{port}");
        assert_eq!(local(&node, 8080).as_deref(), Some("eighty"), "nothing has changed");
    }
    drop(program);

    // The daemon is not needed for it, and a new one leaves it as it is.
    node.daemon.kill().unwrap();
    assert_eq!(local(&node, 8080).as_deref(), Some("eighty"));
    node.daemon.launch().unwrap();
    assert_eq!(local(&node, 8080).as_deref(), Some("eighty"));

    let patch = json!({ "port_mappings": [
        { "host_port": 8080, "guest_port": 81 }, { "host_port": 9000, "guest_port": 80 } ], "name": "W" });
    let patched = node.client.patch("/instances/web", &patch).await.unwrap();
    assert_eq!((patched.status, &patched.json()["name"]), (200, &json!("W")), "{:?}", patched.body);
    assert_eq!(local(&node, 8080).as_deref(), Some("eighty-one"));
    assert_eq!(local(&node, 9000).as_deref(), Some("eighty"));
    let none = node.client.patch("/instances/web", &json!({ "port_mappings": [] })).await.unwrap();
    assert_eq!((none.status, &none.json()["port_mappings"]), (200, &json!([])));
    assert_eq!((local(&node, 8080), local(&node, 9000)), (None, None));

    // What was let go of is anybody's at once.
    let moved = node.client.patch("/instances/other", &mapping(8080, 80)).await.unwrap();
    assert_eq!(moved.status, 200, "{:?}", moved.body);
    let stopped = node.client.act("/instances/other/stop").await.unwrap();
    assert_eq!(stopped.status, 200);
    let while_stopped = node.client.patch("/instances/other", &mapping(8082, 80)).await.unwrap();
    assert_eq!(while_stopped.status, 200);
    assert_eq!(node.client.patch("/instances/web", &mapping(8080, 80)).await.unwrap().status, 200);
    assert_eq!(local(&node, 8080).as_deref(), Some("eighty"));
    for id in ["web", "other"] {
        node.delete(id).await;
    }
    node.daemon.until_no_tap().unwrap();
    assert!(!node.rules().contains("elements"), "{}", node.rules());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and /dev/net/tun"]
async fn lists_and_mappings_that_mean_nothing_are_refused_by_field() {
    let node = Node::start().await;
    let twice = json!({ "port_mappings": [
        { "host_port": 80, "guest_port": 80 }, { "host_port": 80, "guest_port": 81 } ] });
    let egress = |rule: Value| json!({ "network": { "egress": [rule] } });
    for (wanted, field) in [
        (twice, "port_mappings[1].host_port"),
        (egress(json!({ "cidr": "10.0.0.1/8" })), "network.egress[0].cidr"),
        (egress(json!({ "cidr": "10.0.0.0/33" })), "network.egress[0].cidr"),
        (egress(json!({ "cidr": "10.0.0.0/8", "ports": ["9-8"] })), "network.egress[0].ports"),
        (egress(json!({ "cidr": "10.0.0.0/8", "ports": ["70000"] })), "network.egress[0].ports"),
        (egress(json!({ "cidr": "10.0.0.0/8", "protocol": "icmp", "ports": ["1"] })), "network.egress[0].ports"),
    ] {
        let refused = node.create("bad", wanted).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_field"));
        assert_eq!(refused.json()["details"][0]["field"], field);
    }
    let list =
        json!([{ "cidr": "10.0.0.0/8", "protocol": "tcp", "ports": ["443", "8000-8999"] }, { "cidr": "1.1.1.1/32" }]);
    let made = node.create("good", json!({ "network": { "egress": list } })).await;
    assert_eq!((made.status, &made.json()["network"]["egress"]), (201, &list), "{:?}", made.body);
    let rules = node.rules();
    assert!(rules.contains("10.0.0.0/8 . tcp . 8000-8999"), "{rules}");
}
