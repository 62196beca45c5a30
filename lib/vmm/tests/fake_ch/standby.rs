//! Snapshots and restores that go wrong, as the driver sees them, and what a guest makes of an image that does not fit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane_agent::host::AgentClient;
use dataplane_agent::{Answer, Ask, GuestMessage};
use dataplane_types::Mib;
use dataplane_vmm::{Effect, ExitReason, Sizes, VmEvent, VmHandle, VmState, VmmError};

use crate::bench::{Bench, SIZES};

const LIMIT: Duration = Duration::from_secs(10);

/// A bench whose guest counts, running, with an empty directory for its snapshot.
async fn counting() -> (Bench, Arc<dyn VmHandle>, PathBuf) {
    let mut bench = Bench::new();
    bench.run(&["count"]);
    let handle = bench.spawned().await;
    handle.create().await.unwrap();
    handle.boot().await.unwrap();
    let directory = bench.path("snapshot");
    std::fs::create_dir(&directory).unwrap();
    (bench, handle, directory)
}

async fn event(events: &mut tokio::sync::mpsc::Receiver<VmEvent>) -> VmEvent {
    tokio::time::timeout(LIMIT, events.recv()).await.unwrap().unwrap()
}

/// A file's apparent and its allocated size.
fn sizes(path: PathBuf) -> (u64, u64) {
    let metadata = std::fs::metadata(path).unwrap();
    (metadata.len(), std::os::unix::fs::MetadataExt::blocks(&metadata) * 512)
}

#[tokio::test]
async fn a_pause_that_got_stuck_half_way_is_completed() {
    let (bench, handle, directory) = counting().await;
    bench.order("stall vm.pause");
    handle.pause().await.unwrap();
    assert_eq!(handle.state().await.unwrap(), VmState::Paused);
    handle.snapshot(&directory).await.unwrap();
    handle.resume().await.unwrap();
    assert_eq!(handle.state().await.unwrap(), VmState::Running);
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_has_the_real_ones_shape() {
    let (bench, handle, directory) = counting().await;
    handle.pause().await.unwrap();
    handle.snapshot(&directory).await.unwrap();
    let (length, allocated) = sizes(directory.join("memory-ranges"));
    assert_eq!(length, SIZES.memory.bytes());
    assert!(allocated <= 64 << 10, "{allocated} bytes of holes");
    let read = |name: &str| -> serde_json::Value {
        let path = directory.join(name);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{name}");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let (config, state) = (read("config.json"), read("state.json"));
    assert_eq!(config["vsock"]["socket"], bench.path("run/vsock.sock").to_str().unwrap());
    assert!(config["vsock"]["id"].is_string(), "ids are given when the devices are made");
    let memory = state["snapshots"]["memory-manager"]["snapshot_data"]["state"].as_str().unwrap();
    let memory: serde_json::Value = serde_json::from_str(memory).unwrap();
    assert_eq!(memory["memory_ranges"]["data"], serde_json::json!([{"gpa": 0, "length": length}]));
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_that_fails_leaves_a_guest_that_can_go_on() {
    let (bench, handle, directory) = counting().await;
    handle.pause().await.unwrap();
    let empty = |number| {
        let path = bench.path(&format!("snapshot.{number}"));
        std::fs::create_dir(&path).unwrap();
        path
    };
    for (number, (order, words, full)) in [
        ("refuse vm.snapshot", "Refused on demand", false),
        ("fail vm.snapshot", "Failed on demand", false),
        ("full vm.snapshot", "No space left on device", true),
        ("truncate vm.snapshot", "memory-ranges is 67104768 bytes long, 67108864 would be right", false),
    ]
    .into_iter()
    .enumerate()
    {
        bench.order(order);
        let error = handle.snapshot(&empty(number)).await.unwrap_err();
        assert!(error.to_string().contains(words), "{order}: {error}");
        assert_eq!((error.no_space(), error.retryable(), error.effect()), (full, false, Effect::None), "{order}");
        assert_eq!(handle.state().await.unwrap(), VmState::Paused, "{order}");
    }
    bench.order("");
    handle.snapshot(&directory).await.unwrap();
    handle.resume().await.unwrap();
    assert_eq!(handle.state().await.unwrap(), VmState::Running);
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_that_the_vmm_does_not_notice_is_noticed() {
    let mut bench = Bench::new();
    bench.run(&["count"]);
    let file = bench.path("memory");
    std::fs::File::create(&file).unwrap().set_len(SIZES.memory.bytes()).unwrap();
    bench.launch.spec.memory_file = Some(file);
    let handle = bench.spawned().await;
    handle.create().await.unwrap();
    handle.boot().await.unwrap();
    handle.pause().await.unwrap();
    let directory = bench.path("snapshot");
    std::fs::create_dir(&directory).unwrap();
    bench.order("full vm.snapshot");
    let error = handle.snapshot(&directory).await.unwrap_err();
    assert!(matches!(&error, VmmError::Snapshot { message, .. } if message.starts_with("state.json: EOF")), "{error}");
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn memory_that_is_still_filled_in_is_waited_for() {
    let (bench, handle, directory) = counting().await;
    handle.pause().await.unwrap();
    bench.order("busy vm.snapshot");
    let snapshot = tokio::spawn({
        let (handle, directory) = (Arc::clone(&handle), directory.clone());
        async move { handle.snapshot(&directory).await }
    });
    // Other calls get through in between.
    for _ in 0..3 {
        assert_eq!(handle.state().await.unwrap(), VmState::Paused);
    }
    assert!(!snapshot.is_finished());
    bench.order("");
    snapshot.await.unwrap().unwrap();
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn processors_that_are_still_going_keep_a_guest_from_being_put_away() {
    let mut bench = Bench::new();
    bench.run(&["count"]);
    bench.launch.spec.max = Sizes { vcpus: 2, ..SIZES };
    let handle = bench.spawned().await;
    handle.create().await.unwrap();
    handle.boot().await.unwrap();
    handle.resize(bench.launch.spec.max).await.unwrap();
    handle.pause().await.unwrap();
    handle.resize(SIZES).await.unwrap();
    let directory = bench.path("snapshot");
    std::fs::create_dir(&directory).unwrap();
    for _ in 0..2 {
        let error = handle.snapshot(&directory).await.unwrap_err();
        assert!(matches!(error, VmmError::Pending { call: "vm.snapshot", .. }), "{error:?}");
        assert!(error.retryable() && error.effect() == Effect::None);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "nothing was begun");
    }
    // A guest that runs lets go, and until it has, it is waited for: two again are two new ones.
    handle.resume().await.unwrap();
    handle.resize(bench.launch.spec.max).await.unwrap();
    handle.pause().await.unwrap();
    handle.snapshot(&directory).await.unwrap();
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn a_vmm_that_dies_or_is_killed_in_a_snapshot_is_unreachable() {
    for order in ["die vm.snapshot", "hang vm.snapshot"] {
        let (bench, handle, directory) = counting().await;
        let mut events = handle.events().unwrap();
        handle.pause().await.unwrap();
        bench.order(order);
        let snapshot = tokio::spawn({
            let (handle, directory) = (Arc::clone(&handle), directory.clone());
            async move { handle.snapshot(&directory).await }
        });
        if order.starts_with("hang") {
            // Behind the info that comes before it.
            handle.state().await.unwrap();
            handle.kill().await.unwrap();
        }
        let error = snapshot.await.unwrap().unwrap_err();
        assert!(matches!(error, VmmError::Unreachable { .. }), "{order}: {error:?}");
        assert_eq!(event(&mut events).await, VmEvent::Exited(ExitReason::Signal(9)));
    }
}

/// A snapshot whose VMM is gone.
async fn put_away() -> (Bench, PathBuf) {
    let (bench, handle, directory) = counting().await;
    handle.pause().await.unwrap();
    handle.snapshot(&directory).await.unwrap();
    handle.quit().await.unwrap();
    (bench, directory)
}

#[tokio::test]
async fn a_restore_that_fails_spends_nothing_and_leaves_no_copy() {
    let (mut bench, directory) = put_away().await;
    for order in ["refuse vm.restore", "fail vm.restore", "die vm.restore", "garbage vm.restore"] {
        let handle = bench.spawned().await;
        bench.order(order);
        let restored = handle.restore(&directory).await;
        bench.order("");
        match order {
            "die vm.restore" => assert!(matches!(restored, Err(VmmError::Unreachable { .. })), "{restored:?}"),
            // It says yes, and there is nothing.
            "garbage vm.restore" => assert!(matches!(restored, Err(VmmError::Nonsense { .. })), "{restored:?}"),
            _ => {
                assert!(matches!(restored, Err(VmmError::Refused { .. })), "{order}: {restored:?}");
                assert_eq!(handle.state().await.unwrap(), VmState::Empty, "{order}");
            }
        }
        assert!(!bench.path("run/restore").exists(), "{order}");
        handle.kill().await.unwrap();
    }
    let handle = bench.spawned().await;
    handle.restore(&directory).await.unwrap();
    handle.resume().await.unwrap();
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn a_restore_takes_locked_disks_from_nobody() {
    let (bench, handle, directory) = counting().await;
    handle.pause().await.unwrap();
    handle.snapshot(&directory).await.unwrap();
    let mut second = Bench::new();
    second.launch.spec = bench.launch.spec.clone();
    let other = second.spawned().await;
    let error = other.restore(&directory).await.unwrap_err();
    assert!(error.to_string().contains("The file is already locked"), "{error}");
    assert_eq!(other.state().await.unwrap(), VmState::Empty);
    other.quit().await.unwrap();
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_that_lacks_a_disk_of_the_vm_names_it() {
    let (mut bench, directory) = put_away().await;
    let mut disk = bench.launch.spec.disks[0].clone();
    disk.serial = "later".into();
    bench.launch.spec.disks.push(disk);
    let handle = bench.spawned().await;
    let error = handle.restore(&directory).await.unwrap_err();
    assert!(error.to_string().contains("it does not hold the device \"later\""), "{error}");
    assert_eq!(handle.state().await.unwrap(), VmState::Empty, "the VMM was not even asked");
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn a_spent_snapshot_is_found_out_by_its_guest() {
    let (mut bench, directory) = put_away().await;
    for fits in [true, false] {
        let handle = bench.spawned().await;
        let mut events = handle.events().unwrap();
        handle.restore(&directory).await.unwrap();
        handle.resume().await.unwrap();
        if fits {
            // It runs, and writes to its disk.
            handle.kill().await.unwrap();
        } else {
            assert_eq!(event(&mut events).await, VmEvent::Panicked);
            handle.quit().await.unwrap();
        }
    }
}

async fn ask(agent: &mut AgentClient, ask: Ask) -> Answer {
    let asked = agent.ask(ask).await.unwrap();
    loop {
        if let GuestMessage::Answer { id, answer } = tokio::time::timeout(LIMIT, agent.next()).await.unwrap().unwrap() {
            assert_eq!(id, asked);
            return answer;
        }
    }
}

#[tokio::test]
async fn a_restored_guest_is_late_until_its_clock_is_set_and_takes_processors_when_told() {
    let mut bench = Bench::new();
    bench.run(&["count"]);
    bench.launch.spec.max = Sizes { vcpus: 2, memory: Mib(64 + 128) };
    let handle = bench.spawned().await;
    handle.create().await.unwrap();
    handle.boot().await.unwrap();
    handle.resize(bench.launch.spec.max).await.unwrap();
    handle.pause().await.unwrap();
    let directory = bench.path("snapshot");
    std::fs::create_dir(&directory).unwrap();
    let before = Instant::now();
    handle.snapshot(&directory).await.unwrap();
    handle.quit().await.unwrap();
    let handle = bench.spawned().await;
    handle.restore(&directory).await.unwrap();
    let away = before.elapsed();
    handle.resume().await.unwrap();
    let mut agent = AgentClient::handshake(handle.connect_agent().await.unwrap(), LIMIT).await.unwrap();
    let now = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::try_from(since.as_nanos()).unwrap()
    };
    let Answer::Clock { unix_ns } = ask(&mut agent, Ask::ReadClock).await else { panic!("no clock") };
    assert!(now() - unix_ns >= u64::try_from(away.as_nanos()).unwrap() / 2, "it cannot know how long it was away");
    let set = ask(&mut agent, Ask::SetClock { unix_ns: now() + 3_600_000_000_000, seed: "00".repeat(32) }).await;
    assert_eq!(set, Answer::Done);
    let Answer::Clock { unix_ns } = ask(&mut agent, Ask::ReadClock).await else { panic!("no clock") };
    assert!(unix_ns > now(), "it takes what it is told");
    assert_eq!(ask(&mut agent, Ask::Ping).await, Answer::Done);
    assert_eq!(ask(&mut agent, Ask::Sync).await, Answer::Done);
    let memory_kib = (64 + 128 - 16) * 1024;
    assert_eq!(ask(&mut agent, Ask::OnlineCpus).await, Answer::Sizes { vcpus: 2, memory_kib });
    handle.quit().await.unwrap();
}
