//! What a guest's agent is asked, and what it then does: the clock, the disks' caches, processors, further disks.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use dataplane_agent::host::AgentClient;
use dataplane_agent::{Answer, Ask, GuestConfig, GuestMessage, HostMessage, IMAGE_DISK_SERIAL};
use dataplane_vmm::{DiskSpec, VmState};
use tokio::time::{sleep, timeout};

use crate::guests::{Program, put};
use crate::rig::{LIMIT, RETRY, Rig, SIZES, is_simulated, message};

const HOUR: Duration = Duration::from_secs(3600);
/// How far a guest's clock may be from the host's once it was set, beside the time that the word took to get there.
const CLOSE: Duration = Duration::from_millis(100);

async fn ask(agent: &mut AgentClient, ask: Ask) -> Answer {
    let question = format!("{ask:?}");
    let asked = agent.ask(ask).await.unwrap();
    loop {
        match message(agent).await {
            GuestMessage::Answer { id, answer } if id == asked => return answer,
            GuestMessage::Hello { .. } | GuestMessage::Started { .. } => {}
            other @ (GuestMessage::Answer { .. }
            | GuestMessage::Exited { .. }
            | GuestMessage::Opened { .. }
            | GuestMessage::Credit { .. }
            | GuestMessage::End { .. }
            | GuestMessage::ProcessEnded { .. }) => panic!("{question}: {other:?}"),
        }
    }
}

async fn refusal(agent: &mut AgentClient, question: Ask) -> String {
    match ask(agent, question).await {
        Answer::Failed { message } => message,
        other @ (Answer::Done
        | Answer::Clock { .. }
        | Answer::Sizes { .. }
        | Answer::Processes { .. }
        | Answer::Usage(_)) => panic!("{other:?}"),
    }
}

fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap()
}

fn set_clock(to: Duration) -> Ask {
    Ask::SetClock { unix_ns: to.as_nanos().try_into().unwrap(), seed: "0123456789abcdef".repeat(4) }
}

/// Sets the guest's clock ahead of this machine's by so much, and asserts that it then is.
async fn set_and_read_the_clock(agent: &mut AgentClient, ahead: Duration) {
    let asked = now();
    assert_eq!(ask(agent, set_clock(asked + ahead)).await, Answer::Done);
    let set = now();
    let Answer::Clock { unix_ns } = ask(agent, Ask::ReadClock).await else { panic!("no clock") };
    let (clock, read) = (Duration::from_nanos(unix_ns), now());
    eprintln!("the clock was set within {:?} and read within {:?}", set - asked, read - set);
    let least = asked + ahead;
    let most = read + ahead;
    // It was right for some moment between the two words, and has gone on since.
    assert!(clock + CLOSE >= least, "{:?} late", least - clock);
    assert!(clock <= most + CLOSE, "{:?} early", clock - most);
    if set - asked < CLOSE / 2 && read - set < CLOSE / 2 {
        assert!(clock + CLOSE >= set + ahead, "{:?} late", set + ahead - clock);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_answers_what_it_is_asked() {
    let rig = Rig::new(Program::Say("up"));
    let handle = rig.boot().await;
    rig.console_shows("up", 1).await;
    let mut agent = rig.agent(&handle).await;
    assert_eq!(ask(&mut agent, Ask::Ping).await, Answer::Done);
    assert_eq!(ask(&mut agent, Ask::Sync).await, Answer::Done);
    for ahead in [HOUR, Duration::ZERO] {
        set_and_read_the_clock(&mut agent, ahead).await;
    }
    let Answer::Sizes { vcpus, memory_kib } = ask(&mut agent, Ask::OnlineCpus).await else { panic!("no sizes") };
    assert_eq!(vcpus, SIZES.vcpus);
    assert!((16..=SIZES.memory.0).contains(&(memory_kib >> 10)), "{memory_kib} KiB");

    // Questions that nobody waits for, and then another conversation.
    for _ in 0..8 {
        agent.ask(Ask::Sync).await.unwrap();
    }
    drop(agent);
    let mut agent = rig.agent(&handle).await;
    assert!(matches!(message(&mut agent).await, GuestMessage::Started { .. }));
    assert_eq!(ask(&mut agent, Ask::Ping).await, Answer::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_guest_is_asked_in_a_new_conversation() {
    let mut rig = Rig::new(Program::Say("up"));
    let handle = rig.boot().await;
    rig.console_shows("up", 1).await;
    // Its conversation is open, and in the middle of something, when the guest is put away.
    let mut old = rig.agent(&handle).await;
    assert_eq!(ask(&mut old, Ask::Sync).await, Answer::Done);
    old.ask(Ask::Sync).await.unwrap();
    handle.pause().await.unwrap();
    let directory = rig.snapshot_directory("snapshot");
    handle.snapshot(&directory).await.unwrap_or_else(|error| panic!("snapshot: {error:?}\n{}", rig.story()));
    handle.quit().await.unwrap();
    drop(old);
    let handle = rig.restore(&directory).await;
    handle.resume().await.unwrap();
    let mut agent = rig.agent(&handle).await;
    assert!(matches!(message(&mut agent).await, GuestMessage::Started { .. }));
    set_and_read_the_clock(&mut agent, Duration::ZERO).await;
    assert_eq!(ask(&mut agent, Ask::Sync).await, Answer::Done);
    agent.send(&HostMessage::Stop { grace_ms: 10_000 }).await.unwrap();
    assert!(matches!(message(&mut agent).await, GuestMessage::Exited { .. }));
    assert_eq!(handle.state().await.unwrap(), VmState::Running);
}

/// The program of a guest with a further disk: it waits for the disk, holds it until it gets SIGTERM, and writes to it.
const USES_A_DISK: &str = "
    ln -s /bin /link
    trap 'let=go' TERM
    pause() { sleep 0.1 & wait $!; }
    echo; echo up
    until [ -e /data/of/mine/marker ]; do pause; done
    exec 3< /data/of/mine/marker
    echo holding
    until [ -n \"$let\" ]; do pause; done
    echo written > /data/of/mine/written
    exec 3<&-
    echo released
    while :; do sleep 1000 & wait $!; done
";

/// A rig with one more disk, and a program that uses it; the disk's image.
fn rig_with_a_disk() -> (Rig, PathBuf) {
    let mut rig = Rig::new(Program::Say("up"));
    let config_disk = &rig.launch.spec.disks.last().unwrap().path;
    let mut config = GuestConfig::from_disk(&std::fs::read(config_disk).unwrap()).unwrap();
    config.argv = ["/bin/busybox", "sh", "-c", USES_A_DISK].map(str::to_owned).to_vec();
    put(config_disk, &config.to_disk().unwrap());
    let (content, path) = (rig.path("content"), rig.path("volume.img"));
    std::fs::create_dir(&content).unwrap();
    put(&content.join("marker"), b"here\n");
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-d"], &[&content, &path, Path::new("16M")]);
    rig.launch.spec.disks.push(DiskSpec { serial: "volume".into(), path: path.clone(), readonly: false });
    (rig, path)
}

fn run(program: &str, options: &[&str], paths: &[&Path]) {
    let ended = Command::new(program).args(options).args(paths).stdout(Stdio::null()).status().unwrap();
    assert!(ended.success(), "{program} {options:?} {paths:?}: {ended}");
}

fn mount(serial: &str, path: &str) -> Ask {
    Ask::Mount { serial: serial.into(), path: path.into(), filesystem: "ext4".into(), readonly: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_disk_is_mounted_frozen_and_unmounted() {
    let (rig, image) = rig_with_a_disk();
    let handle = rig.boot().await;
    let mut agent = rig.agent(&handle).await;
    if is_simulated() {
        let refused = refusal(&mut agent, mount("volume", "/data")).await;
        return assert!(refused.contains("no file systems"), "{refused}");
    }
    rig.console_shows("up", 1).await;
    let serial = || "volume".to_owned();
    let unmount = || Ask::Unmount { serial: serial() };
    let freeze = |thaw_after_ms| Ask::Freeze { serial: serial(), thaw_after_ms };

    let refused = refusal(&mut agent, mount("volume", "/link/data")).await;
    assert!(refused.contains("link"), "{refused}");
    let refused = refusal(&mut agent, mount(IMAGE_DISK_SERIAL, "/data")).await;
    assert!(refused.contains("own"), "{refused}");
    let refused = refusal(&mut agent, mount("absent", "/data")).await;
    assert!(refused.contains("no disk"), "{refused}");
    let refused = refusal(&mut agent, freeze(1000)).await;
    assert!(refused.contains("not mounted"), "{refused}");
    assert_eq!(ask(&mut agent, unmount()).await, Answer::Done);

    // Twice is once, elsewhere is refused, and the program sees it.
    for _ in 0..2 {
        assert_eq!(ask(&mut agent, mount("volume", "/data/of/mine")).await, Answer::Done);
    }
    let refused = refusal(&mut agent, mount("volume", "/elsewhere")).await;
    assert!(refused.contains("/data/of/mine"), "{refused}");
    rig.console_shows("holding", 1).await;
    let refused = refusal(&mut agent, unmount()).await;
    assert!(refused.contains("busy") && refused.contains("(busybox)"), "{refused}");

    // Its writes wait for the thaw.
    assert_eq!(ask(&mut agent, freeze(60_000)).await, Answer::Done);
    let refused = refusal(&mut agent, unmount()).await;
    assert!(refused.contains("frozen"), "{refused}");
    agent.send(&HostMessage::Stop { grace_ms: 300_000 }).await.unwrap();
    assert_eq!(ask(&mut agent, freeze(60_000)).await, Answer::Done);
    assert_eq!(ask(&mut agent, Ask::Ping).await, Answer::Done);
    assert!(!rig.serial().contains("released"));
    for _ in 0..2 {
        assert_eq!(ask(&mut agent, Ask::Thaw { serial: serial() }).await, Answer::Done);
    }
    rig.console_shows("released", 1).await;

    // What nobody thaws thaws by itself, and can be unmounted then.
    // A slow machine may take longer to freeze it than it is to be frozen: then it is told so.
    let mut times = [1500, 6000, 24_000].into_iter();
    while ask(&mut agent, freeze(times.next().expect("the disk can be frozen"))).await != Answer::Done {}
    let thawed = async {
        while ask(&mut agent, unmount()).await != Answer::Done {
            sleep(RETRY).await;
        }
    };
    timeout(LIMIT, thawed).await.unwrap_or_else(|_| panic!("the disk stays frozen\n{}", rig.story()));
    handle.kill().await.unwrap();
    run("e2fsck", &["-fn"], &[&image]);
    let written = Command::new("debugfs").args(["-R", "cat written"]).arg(&image).output().unwrap();
    assert_eq!(written.stdout, b"written\n");
}
