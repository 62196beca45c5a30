//! A guest on a TAP that somebody else made, in a network namespace of the test's own.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use dataplane_agent::GuestNetwork;
use dataplane_types::{Mac, TapName};
use dataplane_vmm::NetSpec;
use nix::sched::{CloneFlags, unshare};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::guests::Program;
use crate::rig::{LIMIT, Rig, is_simulated, vm_uid};

const HOST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

#[test]
fn a_guest_is_reached_over_a_tap_that_the_vmm_did_not_make() {
    in_namespace(reach_guest());
}

#[test]
fn a_guest_is_reached_over_a_tap_that_was_made_anew_while_it_was_away() {
    in_namespace(reach_restored_guest());
}

fn in_namespace(case: impl Future<Output = ()> + Send + 'static) {
    // A namespace belongs to a thread: this one has nothing else to do.
    let case = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("making a network namespace takes root");
        make_tap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(case);
    });
    case.join().unwrap();
}

fn make_tap() {
    let tap = TapName::of(GUEST);
    let host = Mac::of_host(GUEST).to_string();
    let user = vm_uid().unwrap_or(0).to_string();
    ip(&["tuntap", "add", tap.as_str(), "mode", "tap", "user", &user, "vnet_hdr"]);
    ip(&["link", "set", tap.as_str(), "address", &host, "up"]);
    ip(&["address", "add", &format!("{HOST}/24"), "dev", tap.as_str()]);
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).status().expect("ip is needed (iproute2)");
    assert!(done.success(), "ip {arguments:?}: {done}");
}

fn rig() -> Rig {
    let net = NetSpec { tap: TapName::of(GUEST), mac: Mac::of_guest(GUEST) };
    let guest = GuestNetwork {
        mac: net.mac.to_string(),
        address: GUEST,
        prefix_len: 24,
        gateway: HOST,
        nameservers: Vec::new(),
        search: None,
    };
    Rig::with_network(Program::Say("up"), Some((net, guest)))
}

/// A closed port answers with a reset: frames go both ways. Simulated guests have no network: that their VMM takes the
/// device is all there is to see.
async fn answers(rig: &Rig) {
    if !is_simulated() {
        timeout(LIMIT, refused()).await.unwrap_or_else(|_| panic!("no answer\n{}", rig.story()));
    }
}

/// Over two boots, since the TAP outlives the guest.
async fn reach_guest() {
    let mut rig = rig();
    for generation in 1..=2 {
        rig.launch.events = rig.path(&format!("events.{generation}.json"));
        let handle = rig.boot().await;
        rig.console_shows("up", generation).await;
        answers(&rig).await;
        handle.quit().await.unwrap();
    }
}

/// A TAP does not outlive a host's reboot, a standby does.
async fn reach_restored_guest() {
    let mut rig = rig();
    let handle = rig.boot().await;
    rig.console_shows("up", 1).await;
    answers(&rig).await;
    let directory = rig.snapshot_directory("snapshot");
    handle.pause().await.unwrap();
    handle.snapshot(&directory).await.unwrap();
    handle.quit().await.unwrap();
    ip(&["link", "delete", TapName::of(GUEST).as_str()]);
    make_tap();
    let handle = rig.restore(&directory).await;
    handle.resume().await.unwrap();
    answers(&rig).await;
    handle.quit().await.unwrap();
}

async fn refused() {
    loop {
        match timeout(Duration::from_secs(5), TcpStream::connect(SocketAddr::from((GUEST, 9)))).await {
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return,
            Ok(Ok(_)) => panic!("nothing listens on the discard port"),
            Ok(Err(_)) => sleep(Duration::from_millis(100)).await,
            Err(_elapsed) => {}
        }
    }
}
