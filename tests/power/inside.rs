//! The inside: a daemon on the disk that survives, and a few clients that write down what they do before they do it.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane_testkit::http::{Answer, Client};
use dataplane_testkit::image::ImageBuilder;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Phase, Subject, Tally};
use crate::journal::{Guests, MARK, Orders};
use crate::processes::{VMM, alone, vmms_below};
use crate::random::Random;

const SIMULATED: usize = 5;
const REAL: usize = 2;
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const DATA: &str = "/data/dataplane";
const RUN: &str = "/run/dataplane";
const LOG: &str = "/run/daemon.log";

/// A guest that knows in its memory what it has written to its disk, looks there again and again, and ends when the two
/// are not of one time.
const DOUBTER: &str = "f=/var/count; i=$(cat $f 2>/dev/null); [ \"$i\" -ge 0 ] 2>/dev/null || i=0; echo $i >$f; \
    while sync; echo 3 >/proc/sys/vm/drop_caches; [ \"$(cat $f)\" = \"$i\" ]; do \
    i=$((i + 1)); echo $i >$f; echo count $i; sleep 0.1; done; echo \"found $(cat $f), expected $i\"; exit 1";

fn instances(guests: Guests) -> usize {
    match guests {
        Guests::Simulated => SIMULATED,
        Guests::Real => REAL,
    }
}

/// Reaches the outside before it returns: the kernel inside waits until the emulator has taken it.
fn journal(line: &str) {
    println!("{MARK}{line}");
}

fn as_it_comes(_: &str, _: &str, _: &Answer) -> Result<(), String> {
    Ok(())
}

pub(crate) async fn run() {
    journal("booted");
    if let Err(violation) = live().await {
        println!("{}\n{violation}", std::fs::read_to_string(LOG).unwrap_or_default());
        journal(&format!("violation {}", violation.replace('\n', " | ")));
        // Whoever reads this cuts the power; and if nobody does, the time limit of the host does.
        std::future::pending::<()>().await;
    }
}

async fn live() -> Result<(), String> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    if !mounts.lines().any(|line| line.contains(" /data ext4 ")) {
        return Err("the disk cannot be mounted".into());
    }
    let orders = Orders::parse(&std::fs::read_to_string("/run/nested.input").unwrap()).unwrap();
    let mut random = Random::new(orders.seed);
    let mut daemon = spawn(orders.guests);
    let client = Client::new(&Path::new(RUN).join("api.sock"), as_it_comes);
    wait_up(&mut daemon).await?;
    import(&client).await?;
    journal("up");
    let (phase, phases) = watch::channel(Phase::Down(0));
    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for number in 0..instances(orders.guests) {
        let id = format!("vm-{number}");
        // One of the simulated guests ends by itself.
        let ends = number == SIMULATED - 1;
        let mut wish = json!({ "id": id, "image": "img-tiny", "memory_mb": 128, "vcpus": 1, "disk_gb": 1 });
        match orders.guests {
            Guests::Simulated if ends => wish["entrypoint"] = json!(["exit", "3"]),
            Guests::Simulated => wish["entrypoint"] = json!(["count"]),
            Guests::Real => wish["cmd"] = json!(["/bin/sh", "-c", DOUBTER]),
        }
        let subject = Subject {
            known: orders.known.known(&id),
            wish,
            id,
            ends,
            client: client.clone(),
            run_dir: PathBuf::from(RUN),
            random: random.fork(),
            tally: Arc::clone(&tally),
            journal: Some(journal),
            history: Vec::new(),
        };
        clients.spawn(subject.live(phases.clone()));
    }
    phase.send_replace(if orders.last { Phase::Last } else { Phase::Up(0) });
    while let Some(ended) = clients.join_next().await {
        ended.map_err(|panic| panic.to_string())??;
        alone(Path::new(RUN))?;
    }
    drop(phase);
    leftovers()?;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    journal(&format!("done at last {tally}"));
    Ok(())
}

fn spawn(guests: Guests) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dataplane"));
    command.arg("serve").env("DATA_DIR", DATA).env("RUNTIME_DIR", RUN).env("PORT", "0").env("RESERVED_BYTES", "0");
    command.env("LOG_FORMAT", "text").env("HYPERVISOR", "cloud-hypervisor");
    match guests {
        Guests::Simulated => {
            let exe = std::env::current_exe().unwrap();
            let boot = "/run/boot-file";
            File::create(boot).unwrap().write_all(b"kernel").unwrap();
            command.env("CLOUD_HYPERVISOR_BIN", exe.parent().and_then(Path::parent).unwrap().join(VMM));
            command.env("KERNEL_PATH", boot).env("INITRD_PATH", boot);
        }
        Guests::Real => {
            let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("bin");
            command.env("KERNEL_PATH", bin.join("vmlinux")).env("INITRD_PATH", bin.join("initrd.img"));
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(LOG).unwrap());
    command.spawn().unwrap()
}

async fn wait_up(daemon: &mut Child) -> Result<(), String> {
    let begin = Instant::now();
    while UnixStream::connect(Path::new(RUN).join("api.sock")).is_err() {
        if let Some(status) = daemon.try_wait().unwrap() {
            return Err(format!("the daemon ended by itself with {status}"));
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("the daemon did not serve within {PATIENCE:?}"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Imports the image at the first boot; at each later one it must be there.
async fn import(client: &Client) -> Result<(), String> {
    let images = client.get("/images").await.map_err(|error| format!("{error:#}"))?;
    if images.json()["items"].as_array().is_some_and(|items| !items.is_empty()) {
        return Ok(());
    }
    let image = ImageBuilder::busybox("tiny:1").unwrap().archive().unwrap();
    let answer =
        client.post("/images/import", "application/x-tar", image).await.map_err(|error| format!("{error:#}"))?;
    (answer.status == 201).then_some(()).ok_or_else(|| format!("import: {}", answer.json()))
}

/// All was deleted: nothing is left.
fn leftovers() -> Result<(), String> {
    let mut left: Vec<String> = vmms_below(Path::new(RUN)).iter().map(|vmm| format!("VMM {vmm:?}")).collect();
    let shown = Command::new("ip").args(["-o", "link", "show", "type", "tun"]).output().unwrap();
    left.extend(String::from_utf8_lossy(&shown.stdout).lines().map(str::to_owned));
    for directory in ["instances", "trash", "images/work"] {
        let entries = std::fs::read_dir(Path::new(DATA).join(directory)).unwrap().flatten();
        left.extend(entries.map(|entry| entry.path().display().to_string()));
    }
    if left.is_empty() { Ok(()) } else { Err(format!("this is left: {left:?}")) }
}
