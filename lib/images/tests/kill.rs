//! A process that imports is killed at many instants; whoever opens the directory next finds whole images, failed
//! ones, or nothing, and no leftovers.

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use dataplane_images::{ImageStatus, ImportRequest};
use dataplane_testkit::registry::{Compression, Layout};
use serde_json::json;
use support::{LayerTar, Place};

/// Tells the victim which directory to work in.
const DIRECTORY: &str = "DATAPLANE_TEST_DIRECTORY";

/// Kills, each a little later than the one before.
const KILLS: u32 = 40;
const STEP: Duration = Duration::from_millis(11);

fn layout(round: u32) -> Layout {
    let noise: Vec<u8> =
        (0..200_000u32).flat_map(|at| (at ^ round).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let layer = LayerTar::default().file("noise", 0, &noise).finish();
    Layout::new(&[(layer, Compression::Gzip)], &json!({})).expect("write a layout")
}

/// Imports one image after the other under one name; run by the other test as the process that it kills.
#[tokio::test]
async fn victim() {
    let (place, rounds) = match std::env::var_os(DIRECTORY) {
        Some(directory) => (Place::at(directory.into()), 1000),
        None => (Place::new(), 2),
    };
    let images = place.open().await;
    for round in 0..rounds {
        let archive = layout(round).archive().expect("read the layout");
        let request = ImportRequest { name: Some("demo:1".to_owned()), ..ImportRequest::default() };
        images.import(request, &archive[..]).await.expect("import");
        if round % 2 == 1 {
            let id = images.list()[0].id.clone();
            images.delete(&id, |_| None).await.expect("delete");
        }
    }
}

#[tokio::test]
async fn a_kill_at_any_instant_leaves_no_half_image() {
    let place = Place::new();
    let mut seen = std::collections::BTreeMap::new();
    for kill in 0..KILLS {
        let mut victim = Command::new(std::env::current_exe().expect("this test's own path"))
            .args(["--exact", "victim"])
            .env(DIRECTORY, place.root())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the victim");
        // No event marks an arbitrary instant; whatever the timing, what follows must hold.
        std::thread::sleep(Duration::from_millis(15) + STEP * kill);
        victim.kill().expect("kill the victim");
        victim.wait().expect("wait for the victim");

        let images = place.open().await;
        assert!(place.files("work").is_empty());
        let mut disks = 0;
        for image in images.list() {
            *seen.entry(image.status.to_string()).or_insert(0) += 1;
            match image.status {
                ImageStatus::Ready => support::fsck(images.lease(image.id.as_str()).expect("a lease").disk()),
                ImageStatus::Failed => assert!(image.error.expect("a failure").message.contains("daemon ended")),
                ImageStatus::Pending | ImageStatus::Pulling | ImageStatus::Converting => panic!("{image:?}"),
            }
            images.collect(|_| false).await.expect("collect");
            disks += usize::from(image.digest.is_some());
        }
        assert_eq!(place.files("disks").len(), disks, "every disk has its record");
        assert!(place.files("records").iter().all(|name| name.ends_with(".json")));
    }
    eprintln!("what was found: {seen:?}");
}
