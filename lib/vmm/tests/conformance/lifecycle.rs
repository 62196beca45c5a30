//! From nothing to a running guest, to its end, and round again.

use dataplane_agent::{ExitStatus, GuestMessage, HostMessage};
use dataplane_vmm::{VmEvent, VmState};

use crate::guests::Program;
use crate::rig::{Rig, message};

const STOP: HostMessage = HostMessage::Stop { grace_ms: 10_000 };

#[tokio::test]
async fn a_guest_boots_stops_and_boots_again_in_the_same_vmm() {
    let rig = Rig::new(Program::Say("alive"));
    let handle = rig.spawn().await;
    assert!(matches!(handle.state().await.unwrap(), VmState::Empty | VmState::Created));
    handle.create().await.unwrap();
    handle.create().await.unwrap();
    assert_eq!(handle.state().await.unwrap(), VmState::Created);
    let mut events = handle.events().unwrap();
    assert!(handle.events().is_none(), "there is one receiver");
    for round in 1..=2 {
        handle.boot().await.unwrap();
        assert_eq!(handle.state().await.unwrap(), VmState::Running);
        handle.boot().await.unwrap();
        let mut agent = rig.agent(&handle).await;
        assert!(matches!(message(&mut agent).await, GuestMessage::Started { .. }));
        rig.console_shows("alive", round).await;
        agent.send(&STOP).await.unwrap();
        let exited = message(&mut agent).await;
        let GuestMessage::Exited { status, reason: None } = exited else { panic!("{exited:?}") };
        assert_ne!(status, ExitStatus::Signal(9), "it was asked, not killed");
        agent.send(&HostMessage::ExitRecorded).await.unwrap();
        assert_eq!(rig.event(&mut events).await, VmEvent::Shutdown, "round {round}");
        assert_eq!(handle.state().await.unwrap(), VmState::Shutdown, "round {round}");
    }
    handle.quit().await.unwrap();
    handle.quit().await.unwrap();
    assert!(matches!(rig.event(&mut events).await, VmEvent::Exited(_)));
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn a_paused_guest_stands_still_until_it_is_resumed() {
    let rig = Rig::new(Program::Exit(7));
    let handle = rig.spawn().await;
    handle.create().await.unwrap();
    assert!(handle.pause().await.is_err(), "what does not run cannot be paused");
    handle.boot().await.unwrap();
    handle.pause().await.unwrap();
    handle.pause().await.unwrap();
    assert_eq!(handle.state().await.unwrap(), VmState::Paused);
    let mut events = handle.events().unwrap();
    handle.resume().await.unwrap();
    handle.resume().await.unwrap();
    assert_eq!(handle.state().await.unwrap(), VmState::Running);
    let mut agent = rig.agent(&handle).await;
    assert!(matches!(message(&mut agent).await, GuestMessage::Started { .. }));
    let exited = GuestMessage::Exited { status: ExitStatus::Code(7), reason: None };
    assert_eq!(message(&mut agent).await, exited);
    agent.send(&HostMessage::ExitRecorded).await.unwrap();
    assert_eq!(rig.event(&mut events).await, VmEvent::Shutdown);
    assert!(handle.pause().await.is_err() && handle.resume().await.is_err(), "a guest that has ended does neither");
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn an_exit_code_is_told_until_it_is_recorded() {
    let rig = Rig::new(Program::Exit(7));
    let handle = rig.boot().await;
    let mut events = handle.events().unwrap();
    let exited = GuestMessage::Exited { status: ExitStatus::Code(7), reason: None };
    for conversation in 1..=2 {
        let mut agent = rig.agent(&handle).await;
        assert!(matches!(message(&mut agent).await, GuestMessage::Started { .. }), "conversation {conversation}");
        assert_eq!(message(&mut agent).await, exited, "conversation {conversation}");
        assert_eq!(handle.state().await.unwrap(), VmState::Running);
        if conversation == 2 {
            agent.send(&HostMessage::ExitRecorded).await.unwrap();
        }
    }
    assert_eq!(rig.event(&mut events).await, VmEvent::Shutdown);
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn the_console_is_appended_to_over_boots_and_generations() {
    let mut rig = Rig::new(Program::Say("marker"));
    crate::guests::put(&rig.launch.serial_log, b"from an earlier life\n");
    for generation in 1..=2 {
        rig.launch.events = rig.path(&format!("events.{generation}.json"));
        let handle = rig.boot().await;
        rig.console_shows("marker", generation).await;
        handle.quit().await.unwrap();
    }
    assert!(rig.serial().starts_with("from an earlier life\n"));
}

#[tokio::test]
async fn a_guest_that_resets_is_reported() {
    let rig = Rig::new(Program::Reboot);
    let handle = rig.boot().await;
    let mut events = handle.events().unwrap();
    assert_eq!(rig.event(&mut events).await, VmEvent::Reset);
    handle.kill().await.unwrap();
}

#[tokio::test]
async fn a_guest_that_panics_is_reported_once() {
    let rig = Rig::new(Program::Panic);
    let handle = rig.boot().await;
    let mut events = handle.events().unwrap();
    assert_eq!(rig.event(&mut events).await, VmEvent::Panicked);
    handle.kill().await.unwrap();
    assert!(matches!(rig.event(&mut events).await, VmEvent::Exited(_)));
}
