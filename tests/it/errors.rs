//! Bad input and bad luck: each gets its status and code, and leaves nothing behind.

use serde_json::{Value, json};

use crate::harness::Node;

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_body_is_refused_by_its_field() {
    let node = Node::start().await;
    node.import().await;
    let with = |field: &str, value: Value| {
        let mut wish = Node::wish("bad", &["stay"]);
        wish[field] = value;
        wish.to_string()
    };
    let cases = [
        ("{".to_owned(), 400, "bad_request", ""),
        ("[]".to_owned(), 400, "invalid_field", ""),
        ("{}".to_owned(), 400, "invalid_field", "image"),
        (with("memroy_mb", json!(1)), 400, "unknown_field", "memroy_mb"),
        (with("network", json!({ "ipv6": true })), 400, "unknown_field", "network.ipv6"),
        (with("memory_mb", json!("1")), 400, "invalid_field", "memory_mb"),
        (with("memory_mb", json!(128.5)), 400, "invalid_field", "memory_mb"),
        (with("memory_mb", json!(1)), 400, "invalid_field", "memory_mb"),
        (with("vcpus", json!(0)), 400, "invalid_field", "vcpus"),
        (with("id", json!("../../x")), 400, "invalid_field", "id"),
        (with("id", json!("/etc")), 400, "invalid_field", "id"),
        (with("id", json!("a\0b")), 400, "invalid_field", "id"),
        (with("id", json!("a".repeat(300))), 400, "invalid_field", "id"),
        (with("env", json!({ "A=B": "x" })), 400, "invalid_field", "env"),
        (with("vcpus", json!(254)), 422, "insufficient_host", "vcpus"),
        (with("memory_max_mb", json!(64)), 400, "invalid_field", "memory_max_mb"),
        (with("network", json!({ "enabled": false, "ip": "10.9.0.9" })), 400, "invalid_field", "network"),
        (with("hypervisor", json!("qemu")), 422, "not_supported", ""),
        (with("standby", json!("lazy")), 400, "invalid_field", "standby"),
        (with("restart_policy", json!("sometimes")), 400, "invalid_field", "restart_policy"),
        (with("image", json!("img-none")), 404, "image_not_found", ""),
        (with("entrypoint", json!([])), 422, "image_unsupported", ""),
        (with("network", json!({ "ip": "10.9.0.1" })), 422, "address_out_of_range", ""),
        (with("network", json!({ "ip": "192.0.2.1" })), 422, "address_out_of_range", ""),
    ];
    for (body, status, code, field) in cases {
        let answer = node.client.post("/instances", "application/json", body.clone()).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body}: {:?}", answer.body);
        if !field.is_empty() {
            let named = answer.json()["details"][0]["field"].as_str().unwrap_or_default().to_owned();
            assert!(named.starts_with(field), "{body}: {named}");
        }
    }
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_in_paths_never_reach_the_disk() {
    let node = Node::start().await;
    for id in ["..%2f..%2fx", "%2fetc", "a%00b", "A", &"a".repeat(300)] {
        let answer = node.client.get(&format!("/instances/{id}")).await.unwrap();
        assert_eq!(answer.status, 400, "{id}");
    }
    assert_eq!(node.client.get("/instances/../../etc/passwd").await.unwrap().status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_media_types_methods_and_routes_are_judged() {
    let node = Node::start().await;
    let large = format!("{{\"image\":\"{}\"}}", "x".repeat(2 << 20));
    let answer = node.client.post("/instances", "application/json", large).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (413, "payload_too_large"));
    let answer = node.client.post("/instances", "text/plain", "{}").await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_media_type"));
    let answer = node.client.get("/nothing").await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (404, "route_not_found"));
    let answer = node.client.delete("/instances").await.unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, "GET, POST"));
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=!", "unknown=1", "limit=1&limit=2", "state=Unknown"] {
        let answer = node.client.get(&format!("/instances?{query}")).await.unwrap();
        assert_eq!(answer.status, 400, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_run_out_with_a_conflict() {
    let plan = dataplane_types::AddressPlan::new("10.9.0.0/30".parse().unwrap(), [10, 9, 0, 1].into()).unwrap();
    let node = Node::with(|config| config.plan = plan).await;
    node.import().await;
    node.create("one", &["stay"]).await;
    let full = node.client.post_json("/instances", &Node::wish("two", &["stay"])).await.unwrap();
    assert_eq!((full.status, full.code().as_str()), (409, "network_full"));
    assert_eq!(node.client.delete("/instances/one?grace_seconds=0").await.unwrap().status, 204);
    node.create("two", &["stay"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_reserve_nothing_that_grows_is_started() {
    let node = Node::with(|config| config.reserved_bytes = u64::MAX).await;
    let image = dataplane_testkit::image::ImageBuilder::new("tiny:1").archive().unwrap();
    let answer = node.client.post("/images/import", "application/x-tar", image).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (507, "no_space"));
    let answer = node.client.post_json("/instances", &Node::wish("one", &["stay"])).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (507, "no_space"));
    let ready = node.client.get("/readyz").await.unwrap();
    assert_eq!(ready.status, 503);
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_cannot_boot_is_taken_back_whole() {
    let node = Node::start().await;
    node.import().await;
    // The pinned kernel vanishes: the VMM starts, takes the VM, and cannot boot it.
    for entry in std::fs::read_dir(node.data().join("boot")).unwrap().flatten() {
        std::fs::remove_file(entry.path()).unwrap();
    }
    let answer = node.client.post_json("/instances", &Node::wish("one", &["stay"])).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (503, "vmm_failed"));
    assert!(answer.json()["inner_error"]["message"].as_str().unwrap().contains("boot"), "{:?}", answer.body);
    assert_eq!(node.client.get("/instances/one").await.unwrap().status, 404);
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::start().await;
    node.import().await;
    node.create("one", &["stay"]).await;
    let root = node.data().join("instances/one");
    for (name, group) in [("instance.json", 0), ("rootfs.img", 0), ("config.img", 0o040)] {
        let mode = std::fs::metadata(root.join(name)).unwrap().permissions().mode();
        // Only the VM's own user is in the group of its configuration.
        assert_eq!(mode & 0o077 & !group, 0, "{name}: {mode:o}");
    }
}
