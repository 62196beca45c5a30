//! Standby and restore of real guests, in both classes: memory, disk, address and log go on where they stopped.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{Host, shell_image};

/// How often a guest goes into standby and comes back; `STANDBY_ROUNDS` says otherwise.
const ROUNDS: usize = 5;

/// A guest that dirties more than half of its memory, and a file on its disk, again and again, and reads both back.
const DIRTY: &str = "\
    B=/bin/busybox; $B mkdir -p /mem; $B mount -t tmpfs -o size=150m none /mem; n=0; \
    sum() { $B md5sum < $1; }; \
    while :; do n=$((n+1)); \
        $B head -c 1048576 /dev/urandom > /mem/piece; \
        for i in $(seq 130); do cat /mem/piece; done > /mem/file; memory=$(sum /mem/file); \
        cat /mem/piece /mem/piece > /file; disk=$(sum /file); \
        echo beat $n; \
        [ \"$(sum /mem/file)\" = \"$memory\" ] || echo CORRUPT memory; \
        [ \"$(sum /file)\" = \"$disk\" ] || echo CORRUPT disk; \
    done";

fn rounds() -> usize {
    std::env::var("STANDBY_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

async fn create(host: &Host, image: &str, class: &str, script: &str) -> Value {
    let body = json!({
        "id": "one", "image": image, "memory_mb": 256, "vcpus": 1, "disk_gb": 1, "standby": class,
        "cmd": ["/bin/sh", "-c", script],
    });
    host.create(body).await.unwrap()
}

async fn act(host: &Host, action: &str) -> Value {
    let answer = host.client.act(&format!("/instances/one/{action}")).await.unwrap();
    assert_eq!(answer.status, 200, "{action}: {:?}\n{}", answer.body, host.daemon.log());
    answer.json()
}

/// Goes round and round, and says what each standby and restore took.
#[expect(clippy::print_stdout, reason = "a figure of this run, for whoever reads it")]
async fn goes_on(class: &str) {
    let host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    let created = create(&host, &image, class, DIRTY).await;
    let (mut last, mut event) = host.line_after("one", "beat", None).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..rounds() {
        let began = Instant::now();
        let standby = act(&host, "standby").await;
        let there = began.elapsed();
        assert_eq!((&standby["state"], &standby["has_snapshot"]), (&json!("Standby"), &json!(true)));
        assert_eq!(host.daemon.processes(), Vec::<u32>::new(), "a VMM is left");
        assert_eq!(host.daemon.taps(), Vec::<String>::new(), "a TAP is left");
        let began = Instant::now();
        let restored = act(&host, "restore").await;
        times.push((there, began.elapsed()));
        assert_eq!((&restored["state"], &restored["has_snapshot"]), (&json!("Running"), &json!(false)));
        for field in ["private_ip", "mac", "uuid", "started_at"] {
            assert_eq!(restored[field], created[field], "{field}");
        }
        let (line, next) = host.line_after("one", "", Some(&event)).await.unwrap();
        assert_eq!(number(&line), number(&last) + 1, "{line} after {last}");
        (last, event) = (line, next);
    }
    println!("{class}: standby and restore took {times:?}");
    host.delete("one", 0).await.unwrap();
    host.assert_clean();
}

fn number(line: &str) -> u64 {
    let number = line.strip_prefix("beat ").and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no beat: {line:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_guest_goes_on_where_it_stopped() {
    goes_on("sparse").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instant_guest_goes_on_where_it_stopped() {
    goes_on("instant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_guest_knows_the_time_and_a_killed_daemon_its_standby() {
    let mut host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    let script = "while :; do echo now $(/bin/busybox date +%s); sleep 0.2; done";
    create(&host, &image, "sparse", script).await;
    host.until("one", "ready", |instance| instance["ready"] == true).await.unwrap();
    act(&host, "standby").await;
    host.daemon.kill().unwrap();
    // Long enough to be seen in a clock that stood still.
    tokio::time::sleep(Duration::from_secs(5)).await;
    host.daemon.launch().unwrap();
    assert_eq!(host.get("one").await.unwrap()["state"], "Standby");
    let refused = host.client.act("/instances/one/start").await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (409, "has_snapshot"));
    act(&host, "restore").await;
    let restored = now();
    let mut event = None;
    let behind = loop {
        let (line, next) = host.line_after("one", "now", event.as_deref()).await.unwrap();
        let guest: u64 = line.trim_start_matches("now ").parse().unwrap();
        if guest >= restored {
            break now() - guest;
        }
        assert!(now() < restored + 60, "the guest's clock stays behind: {line}");
        event = Some(next);
    };
    assert!(behind <= 2, "{behind} s behind");
    host.delete("one", 0).await.unwrap();
    host.assert_clean();
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_change_while_the_guest_runs_and_survive_standby() {
    let host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    let script = "while :; do echo has $(/bin/busybox nproc) $(/bin/busybox free -m | /bin/busybox awk '/Mem/{print $2}'); sleep 0.2; done";
    let body = json!({
        "id": "one", "image": image, "memory_mb": 256, "memory_max_mb": 512, "vcpus": 1, "max_vcpus": 2, "disk_gb": 1,
        "cmd": ["/bin/sh", "-c", script],
    });
    host.create(body).await.unwrap();
    host.line("one", "has 1").await.unwrap();
    host.until("one", "ready", |instance| instance["ready"] == true).await.unwrap();
    let patch = json!({ "vcpus": 2, "memory_mb": 512 });
    let resized = host.client.patch("/instances/one", &patch).await.unwrap();
    assert_eq!(resized.status, 200, "{:?}", resized.body);
    assert_eq!((&resized.json()["vcpus"], &resized.json()["memory_mb"]), (&json!(2), &json!(512)));
    let (line, event) = host.line_after("one", "has 2 4", None).await.unwrap();
    act(&host, "standby").await;
    act(&host, "restore").await;
    let (after, _) = host.line_after("one", "has", Some(&event)).await.unwrap();
    assert_eq!(after, line, "the same after as before");
    host.delete("one", 0).await.unwrap();
    host.assert_clean();
}
