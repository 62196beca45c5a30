//! What the operator does by hand, and what is left of it all.

use std::process::{Command, Output};

use dataplane_testkit::daemon::Daemon;
use dataplane_testkit::netns::Netns;
use serde_json::{Value, json};

use crate::node::{DATAPLANE, Node};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/setup-host-network.sh");

/// Everything that a namespace shows of its network; numbers that only count are left out.
fn snapshot(space: &Netns) -> String {
    let settings = "cd /proc/sys/net && find . -type f -perm -u=r | sort | xargs grep -sH . | \
                    grep -vE 'nf_conntrack_count|inode_threshold|/flush|generation'";
    [
        space.ip("-j addr"),
        space.ip("-j -d link"),
        space.ip("-j route show table all"),
        space.ip("-j rule"),
        space.command("nft", &["-j", "list", "ruleset"]),
        space.command("tc", &["-j", "qdisc", "show"]),
        space.command("sh", &["-c", settings]),
    ]
    .join("\n--\n")
}

/// A namespace with an uplink, and what is behind it.
fn uplinked(space: &Netns) -> Netns {
    let world = Netns::new();
    space.connect("eth0", &world, "w0");
    space.ip("addr add 10.99.0.1/24 dev eth0");
    space.ip("route add default via 10.99.0.2 dev eth0");
    world
}

fn run(space: &Netns, data: &std::path::Path, program: &'static str, arguments: &[&'static str]) -> Output {
    let (data, arguments) = (data.to_owned(), arguments.to_vec());
    space.run(move || {
        let mut command = Command::new(program);
        command.args(arguments).env("DATA_DIR", &data).env("RUNTIME_DIR", data.with_file_name("run"));
        command.env("SUBNET_CIDR", "10.9.0.0/22").env("SUBNET_GATEWAY", "10.9.0.1").env("DATAPLANE", DATAPLANE);
        command.output().unwrap()
    })
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn the_script_makes_shows_and_removes_and_leaves_nothing() {
    let (space, directory) = (Netns::new(), tempfile::tempdir().unwrap());
    let (_world, data) = (uplinked(&space), directory.path().join("data"));
    let before = snapshot(&space);
    let script = |verb| run(&space, &data, SCRIPT, &[verb]);
    assert!(said(&script("down")).contains("no data directory"));
    assert!(said(&script("show")).contains("bridge vmbr0 does not exist"));
    for _ in 0..2 {
        assert!(said(&script("up")).contains("guests leave by eth0"));
    }
    let shown = said(&script("show"));
    for line in
        ["bridge vmbr0 is ours", "table inet dataplane_vmbr0", "table bridge dataplane_vmbr0", "ok    forwarding"]
    {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(!shown.contains("WRONG"), "{shown}");
    for _ in 0..2 {
        said(&script("down"));
    }
    assert_eq!(snapshot(&space), before);
    assert!(!script("nothing").status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and /dev/net/tun"]
async fn a_teardown_leaves_the_namespace_as_it_was() {
    let mut node = Node::start().await;
    let data = node.daemon.data();
    let teardown = |daemon: &Daemon| run(daemon.space(), &data, DATAPLANE, &["network", "teardown"]);
    let refused = teardown(&node.daemon);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another daemon"), "not beside a daemon that runs");

    node.daemon.stop().unwrap();
    said(&teardown(&node.daemon));
    let _world = uplinked(node.daemon.space());
    let before = snapshot(node.daemon.space());
    node.daemon.launch().unwrap();
    for (id, extra) in [
        ("one", json!({ "port_mappings": [{ "host_port": 8080, "guest_port": 80 }] })),
        ("two", json!({ "network": { "egress": [{ "cidr": "10.0.0.0/8" }] } })),
    ] {
        assert_eq!(node.create(id, extra).await.status, 201);
    }
    // A daemon that is killed leaves all of it; the command finds it by its mark.
    node.daemon.kill().unwrap();
    let shown = said(&run(node.daemon.space(), &data, DATAPLANE, &["network", "status"]));
    assert!(shown.contains("of instance one") && shown.contains("of instance two"), "{shown}");
    said(&teardown(&node.daemon));
    assert_eq!(snapshot(node.daemon.space()), before);

    // The daemon makes it anew, for the guests that still run.
    node.daemon.launch().unwrap();
    for id in ["one", "two"] {
        node.delete(id).await;
    }
    node.daemon.until_no_tap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and /dev/net/tun"]
async fn a_foreign_policy_is_found_and_the_remedy_mends_it() {
    let node = Node::start().await;
    let space = node.daemon.space();
    let forward_policy = async || {
        let checks = node.client.get("/readyz").await.unwrap().json();
        let found =
            checks["checks"].as_array().unwrap().iter().find(|check| check["name"] == "forward_policy").cloned();
        found.unwrap()
    };
    assert_eq!(forward_policy().await["ok"], true);
    // As a container engine leaves it.
    space.command("nft", &["add table ip filter"]);
    space.command("nft", &["add chain ip filter FORWARD { type filter hook forward priority filter; policy drop; }"]);
    space.command("nft", &["add chain ip filter DOCKER-USER"]);
    space.command("nft", &["add rule ip filter FORWARD counter jump DOCKER-USER"]);
    let found = forward_policy().await;
    assert_eq!((&found["ok"], &found["required"]), (&json!(false), &json!(false)), "{found}");
    let detail = found["detail"].as_str().unwrap();
    assert!(detail.contains("ip filter FORWARD"), "{found}");
    assert!(found["remedy"].as_str().unwrap().contains("-i vmbr0 -j ACCEPT"), "{found}");
    space.command("nft", &["insert rule ip filter DOCKER-USER iifname \"vmbr0\" counter accept"]);
    assert_eq!(forward_policy().await["ok"], false, "one way is not both");
    space.command("nft", &["insert rule ip filter DOCKER-USER oifname \"vmbr0\" counter accept"]);
    assert_eq!(forward_policy().await["ok"], Value::Bool(true));
    space.command("nft", &["delete table inet dataplane_vmbr0"]);
    let ready = node.client.get("/readyz").await.unwrap();
    assert_eq!(ready.status, 503, "without our rules it is not ready: {}", ready.json());
}
