//! Standby and restore of real guests, in both classes: memory, disk, address and log go on where they stopped.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{Host, shell_image};

/// How often a guest goes into standby and comes back; `STANDBY_ROUNDS` says otherwise.
const ROUNDS: usize = 5;

/// How much memory the guest dirties each time, in MiB, of 256; `STANDBY_DIRTY_MIB` says otherwise.
const DIRTY_MIB: usize = 130;

/// A guest that dirties memory, and a file on its disk, again and again, and reads both back.
const DIRTY: &str = "\
    B=/bin/busybox; $B mkdir -p /mem; $B mount -t tmpfs -o size=150m none /mem; n=0; \
    sum() { $B md5sum < $1; }; \
    while :; do n=$((n+1)); \
        $B head -c 1048576 /dev/urandom > /mem/piece; \
        for i in $(seq MIB); do cat /mem/piece; done > /mem/file; memory=$(sum /mem/file); \
        cat /mem/piece /mem/piece > /file; disk=$(sum /file); \
        echo beat $n; \
        [ \"$(sum /mem/file)\" = \"$memory\" ] || echo CORRUPT memory; \
        [ \"$(sum /file)\" = \"$disk\" ] || echo CORRUPT disk; \
    done";

fn number_in(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
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
    let script = DIRTY.replace("MIB", &number_in("STANDBY_DIRTY_MIB", DIRTY_MIB).to_string());
    let created = create(&host, &image, class, &script).await;
    host.line("one", "beat").await.unwrap();
    let mut times = Vec::new();
    for _ in 0..number_in("STANDBY_ROUNDS", ROUNDS) {
        let began = Instant::now();
        let standby = act(&host, "standby").await;
        let there = began.elapsed();
        assert_eq!((&standby["state"], &standby["has_snapshot"]), (&json!("Standby"), &json!(true)));
        assert_eq!(host.daemon.processes(), Vec::<u32>::new(), "a VMM is left");
        host.daemon.until_no_tap().unwrap();
        let said = log(&host);
        let began = Instant::now();
        let restored = act(&host, "restore").await;
        times.push((there, began.elapsed()));
        assert_eq!((&restored["state"], &restored["has_snapshot"]), (&json!("Running"), &json!(false)));
        for field in ["private_ip", "mac", "uuid", "started_at"] {
            assert_eq!(restored[field], created[field], "{field}");
        }
        // Behind all that it had said before.
        host.line_after("one", "beat", Some(&said.len().to_string())).await.unwrap();
    }
    let said = log(&host);
    assert!(!said.contains("CORRUPT"), "{said}");
    // The last one may be half there.
    let beats: Vec<_> = said.lines().rev().skip(1).filter(|line| line.starts_with("beat ")).map(number).collect();
    assert!(beats.iter().rev().copied().eq(1..=beats.len() as u64), "{said}");
    println!("{class}: standby and restore took {times:?}");
    host.delete("one", 0).await.unwrap();
    host.assert_clean();
}

/// All that the guest has said. An offset in it is an event's id.
fn log(host: &Host) -> String {
    let path = host.daemon.data().join("instances/one/logs/serial.log");
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

fn number(line: &str) -> u64 {
    line.trim_start_matches("beat ").trim().parse().unwrap_or_else(|_| panic!("no beat: {line:?}"))
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
    let line = host.line("one", "has 2 4").await.unwrap();
    act(&host, "standby").await;
    let said = log(&host).len().to_string();
    act(&host, "restore").await;
    let (after, _) = host.line_after("one", "has", Some(&said)).await.unwrap();
    assert_eq!(after, line, "the same after as before");
    host.delete("one", 0).await.unwrap();
    host.assert_clean();
}
