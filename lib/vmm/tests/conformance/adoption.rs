//! A daemon that dies leaves its VMs as they are; the next one takes them up, and takes up nothing else.

use dataplane_agent::{GuestMessage, HostMessage};
use dataplane_vmm::{VmEvent, VmState, VmmProcess};

use crate::guests::Program;
use crate::rig::{LIMIT, Rig, alive, message};

const STOP: HostMessage = HostMessage::Stop { grace_ms: 10_000 };

#[tokio::test]
async fn a_running_guest_is_taken_up_and_driven_on() {
    let rig = Rig::new(Program::Say("alive"));
    let handle = rig.boot().await;
    let process = handle.process().clone();
    drop(handle);
    assert!(alive(&process));
    let handle = rig.adopt(&process).await.expect("the process is there");
    assert_eq!(handle.process(), &process);
    assert_eq!(handle.state().await.unwrap(), VmState::Running);
    let mut agent = rig.agent(&handle).await;
    assert!(matches!(message(&mut agent).await, GuestMessage::Started { .. }));
    let mut events = handle.events().unwrap();
    agent.send(&STOP).await.unwrap();
    assert!(matches!(message(&mut agent).await, GuestMessage::Exited { .. }));
    agent.send(&HostMessage::ExitRecorded).await.unwrap();
    assert_eq!(rig.event(&mut events).await, VmEvent::Shutdown);
    handle.boot().await.unwrap();
    assert_eq!(handle.state().await.unwrap(), VmState::Running);
    handle.quit().await.unwrap();
    assert!(!alive(&process));
}

#[tokio::test]
async fn what_happened_without_a_daemon_is_told() {
    let rig = Rig::new(Program::Say("alive"));
    let handle = rig.boot().await;
    let process = handle.process().clone();
    let mut agent = rig.agent(&handle).await;
    let mut witness = handle.events().unwrap();
    drop(handle);
    agent.send(&STOP).await.unwrap();
    while !matches!(message(&mut agent).await, GuestMessage::Exited { .. }) {}
    agent.send(&HostMessage::ExitRecorded).await.unwrap();
    assert_eq!(rig.event(&mut witness).await, VmEvent::Shutdown);
    let handle = rig.adopt(&process).await.expect("the VMM outlives its guest");
    assert_eq!(handle.state().await.unwrap(), VmState::Shutdown);
    let mut events = handle.events().unwrap();
    assert_eq!(rig.event(&mut events).await, VmEvent::Shutdown);
    handle.boot().await.unwrap();
    drop((handle, events));
    // The end of the first run is history in the second.
    let handle = rig.adopt(&process).await.expect("the process is there");
    let mut events = handle.events().unwrap();
    assert_eq!(handle.state().await.unwrap(), VmState::Running);
    handle.quit().await.unwrap();
    assert!(matches!(rig.event(&mut events).await, VmEvent::Exited(_)));
}

#[tokio::test]
async fn a_created_vm_is_taken_up_as_created() {
    let rig = Rig::new(Program::Say("alive"));
    let handle = rig.spawn().await;
    handle.create().await.unwrap();
    let process = handle.process().clone();
    drop(handle);
    let handle = rig.adopt(&process).await.expect("the process is there");
    assert_eq!(handle.state().await.unwrap(), VmState::Created);
    handle.create().await.unwrap();
    handle.boot().await.unwrap();
    assert_eq!(handle.state().await.unwrap(), VmState::Running);
    handle.kill().await.unwrap();
}

#[tokio::test]
async fn only_the_very_process_is_taken_up() {
    let rig = Rig::new(Program::Say("alive"));
    let handle = rig.spawn().await;
    let process = handle.process().clone();
    let later = VmmProcess { start_ticks: process.start_ticks + 1, ..process.clone() };
    let rebooted = VmmProcess { boot_id: "another boot".into(), ..process.clone() };
    for stranger in [later, rebooted] {
        assert!(rig.adopt(&stranger).await.is_none(), "{stranger:?}");
    }
    assert!(alive(&process), "a stranger is left alone");
    handle.kill().await.unwrap();
    assert!(rig.adopt(&process).await.is_none());
}

#[tokio::test]
async fn a_vmm_that_hangs_can_be_taken_up_and_killed() {
    let rig = Rig::new(Program::Say("alive"));
    let handle = rig.spawn().await;
    let process = handle.process().clone();
    drop(handle);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(process.pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let handle = rig.adopt(&process).await.expect("the process is there");
    let error = handle.state().await.expect_err("a stopped process answers nothing");
    assert!(error.retryable(), "{error:?}");
    tokio::time::timeout(LIMIT, handle.kill()).await.unwrap().unwrap();
    assert!(!alive(&process));
}
