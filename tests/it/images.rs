//! Images through the API: import, repeat, list, delete, refuse.

use dataplane_testkit::image::ImageBuilder;
use serde_json::json;

use crate::harness::Node;

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_shown_repeated_and_deleted() {
    let node = Node::start().await;
    let build = || {
        ImageBuilder::new("tiny:1")
            .file("etc/x", 0o644, b"x")
            .unwrap()
            .config("Entrypoint", json!(["/run"]))
            .config("User", json!("1234"))
            .config("ExposedPorts", json!({ "80/tcp": {} }))
            .archive()
            .unwrap()
    };
    let first = node.client.post("/images/import", "application/x-tar", build()).await.unwrap();
    assert_eq!((first.status, first.header("location")), (201, "/images/img-tiny"));
    let image = first.json();
    for (field, value) in [
        ("status", json!("ready")),
        ("version", json!("1")),
        ("user", json!("1234")),
        ("entrypoint", json!(["/run"])),
        ("exposed_ports", json!(["80/tcp"])),
        ("platform", json!("linux/amd64")),
    ] {
        assert_eq!(image[field], value, "{field}");
    }
    let again = node.client.post("/images/import", "application/x-tar", build()).await.unwrap();
    assert_eq!((again.status, &again.json()["digest"]), (200, &image["digest"]));
    let list = node.client.get("/images").await.unwrap().json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(node.client.delete("/images/img-tiny").await.unwrap().status, 204);
    assert_eq!(node.client.get("/images/img-tiny").await.unwrap().code(), "image_not_found");
    assert_eq!(std::fs::read_dir(node.data().join("images/disks")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_none_or_escapes_leaves_nothing() {
    let node = Node::start().await;
    let escaping = ImageBuilder::new("evil:1").link("bin/x", "../../etc/passwd").unwrap().archive().unwrap();
    for (name, body) in [("garbage", b"garbage".repeat(999)), ("empty", Vec::new()), ("escaping", escaping)] {
        let answer = node.client.post("/images/import", "application/x-tar", body).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (422, "image_invalid"), "{name}: {:?}", answer.body);
    }
    for directory in ["images/disks", "images/work"] {
        assert_eq!(std::fs::read_dir(node.data().join(directory)).unwrap().count(), 0, "{directory}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_use_stays_and_a_missing_registry_is_said() {
    let node = Node::start().await;
    node.import().await;
    node.create("one", &["stay"]).await;
    let answer = node.client.delete("/images/img-tiny").await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (409, "image_in_use"));
    assert!(answer.json()["message"].as_str().unwrap().contains("one"));
    // A port that was free a moment ago, on loopback: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let wish = json!({ "name": format!("127.0.0.1:{port}/none:1") });
    let answer = node.client.post_json("/images", &wish).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (503, "registry_unavailable"));
    assert!(!answer.header("retry-after").is_empty());
    let wish = json!({ "name": "UPPER/..//x" });
    assert_eq!(node.client.post_json("/images", &wish).await.unwrap().status, 400);
}
