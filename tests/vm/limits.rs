//! A limit of the network holds for a real guest, each way, and through everything that becomes of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;

use crate::harness::{Host, PATIENCE, shell_image};

/// How long a transfer runs before it is measured, and how long that takes.
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(4);

/// Megabits per second: few, since a guest that is emulated inside an emulated host does not come to much more.
const FIRST: u32 = 3;
const THEN: u32 = 2;

/// What waits in our own socket is not sent: little enough not to be taken for it.
const SEND_BUFFER: usize = 64 << 10;

/// Where the guest sends all it can, and where it takes all it gets.
const SOURCE: u16 = 5001;
const SINK: u16 = 5002;

/// Bytes of a full frame for what a TCP segment in it carries.
const FRAME: f64 = 1514.0 / 1448.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_through_a_killed_daemon_a_change_and_a_standby() {
    let mut host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    let nc = "/bin/busybox nc -l -p";
    let script = format!(
        "while :; do {nc} {SOURCE} < /dev/zero; done & while :; do {nc} {SINK} > /dev/null; done & \
         sleep 10000"
    );
    let made = json!({ "id": "slow", "image": image, "memory_mb": 256, "vcpus": 1, "disk_gb": 1,
        "network": { "bandwidth_mbps": FIRST }, "cmd": ["/bin/sh", "-c", script] });
    let instance = host.create(made).await.unwrap();
    assert_eq!(instance["network"]["bandwidth_mbps"], FIRST);
    let address = instance["private_ip"].as_str().unwrap().to_owned();
    holds(&host, &address, FIRST, "fresh");

    host.daemon.kill().unwrap();
    host.daemon.launch().unwrap();
    holds(&host, &address, FIRST, "after the daemon was killed");

    let changed = patch(&host, json!(THEN)).await;
    assert_eq!(changed, json!(THEN));
    holds(&host, &address, THEN, "changed");

    for action in ["standby", "restore"] {
        let answer = host.client.act(&format!("/instances/slow/{action}")).await.unwrap();
        assert_eq!(answer.status, 200, "{action}: {:?}", answer.body);
    }
    holds(&host, &address, THEN, "restored");

    assert_eq!(patch(&host, json!(null)).await, json!(null));
    let free = host.daemon.space().run(move || received(&address));
    println!("without a limit: {free:.1} Mbit/s");
    assert!(free > 1.2 * f64::from(THEN), "{free}");
    host.delete("slow", 0).await.unwrap();
    host.assert_clean();
    assert!(!host.daemon.space().ip("-o link").contains("ifb"));
}

/// Changes the limit; what the instance then says of it.
async fn patch(host: &Host, limit: serde_json::Value) -> serde_json::Value {
    let body = json!({ "network": { "bandwidth_mbps": limit } });
    let answer = host.client.patch("/instances/slow", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.json()["network"]["bandwidth_mbps"].clone()
}

/// That both ways are as fast as the limit, within a tenth. A machine that is busy elsewhere delays what it then catches
/// up with, so one time of three both have to be.
fn holds(host: &Host, address: &str, megabits: u32, when: &str) {
    let megabits = f64::from(megabits);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let address = address.to_owned();
        let rates = host.daemon.space().run(move || [received(&address), sent(&address)]);
        eprintln!("{when}: {:.2} Mbit/s from the guest, {:.2} to it, of {megabits}", rates[0], rates[1]);
        if rates.iter().all(|rate| (0.9 * megabits..=1.1 * megabits).contains(rate)) {
            return;
        }
        seen.push(rates);
    }
    panic!("{when}: {seen:?} instead of {megabits}");
}

/// Megabits per second of frames that the guest sends.
fn received(address: &str) -> f64 {
    let mut stream = connect(address, SOURCE);
    let mut buffer = vec![0; 64 << 10];
    measure(|| stream.read(&mut buffer).unwrap())
}

/// Megabits per second of frames that it receives.
fn sent(address: &str) -> f64 {
    let mut stream = connect(address, SINK);
    setsockopt(&stream.as_fd(), sockopt::SndBuf, &SEND_BUFFER).unwrap();
    let buffer = vec![0; 16 << 10];
    measure(|| stream.write(&buffer).unwrap())
}

fn measure(mut transfer: impl FnMut() -> usize) -> f64 {
    let warm = Instant::now();
    while warm.elapsed() < WARM_UP {
        transfer();
    }
    let (begin, mut bytes) = (Instant::now(), 0);
    while begin.elapsed() < MEASURED {
        bytes += transfer();
    }
    bytes as f64 * FRAME * 8.0 / begin.elapsed().as_secs_f64() / 1e6
}

/// The listener of the guest comes back a moment after a connection has ended.
fn connect(address: &str, port: u16) -> TcpStream {
    let begin = Instant::now();
    loop {
        match TcpStream::connect((address, port)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(error) => assert!(begin.elapsed() < PATIENCE, "connect to {address}:{port}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
