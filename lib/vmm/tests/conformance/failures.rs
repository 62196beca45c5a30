//! What cannot work says so, and leaves nothing.

use dataplane_vmm::{Effect, ExitReason, VmEvent, VmmError};

use crate::guests::Program;
use crate::rig::{Rig, alive};

/// Starts as far as it goes; whatever process there was is gone afterwards.
async fn refusal(rig: &Rig) -> VmmError {
    let handle = match rig.try_spawn().await {
        Ok(handle) => handle,
        Err(error) => return error,
    };
    let booted = match handle.create().await {
        Ok(()) => handle.boot().await,
        failed => failed,
    };
    let error = booted.expect_err("this cannot boot");
    handle.quit().await.unwrap();
    assert!(!alive(handle.process()));
    error
}

fn assert_says(error: &VmmError, words: &[&str]) {
    let said = format!("{error} {}", std::error::Error::source(error).map(ToString::to_string).unwrap_or_default());
    assert!(words.iter().any(|word| said.contains(word)), "none of {words:?} is in: {said}");
    assert_eq!(error.effect(), Effect::None, "{said}");
    assert!(!error.retryable(), "{said}");
}

#[tokio::test]
async fn a_missing_kernel_is_an_error_that_says_so() {
    let mut rig = Rig::new(Program::Say("never"));
    rig.launch.spec.kernel = rig.path("nothing");
    let error = refusal(&rig).await;
    assert!(matches!(error, VmmError::Refused { .. } | VmmError::EndedAtStart { .. }), "{error:?}");
    assert_says(&error, &["Cannot open kernel file", "could not open kernel file"]);
}

#[tokio::test]
async fn a_missing_disk_is_an_error_that_names_it() {
    let mut rig = Rig::new(Program::Say("never"));
    rig.launch.spec.disks[1].path = rig.path("nothing");
    assert_says(&refusal(&rig).await, &["nothing"]);
}

#[tokio::test]
async fn a_refused_boot_leaves_a_vm_that_can_be_booted() {
    let mut rig = Rig::new(Program::Say("at last"));
    let missing = rig.path("later");
    let present = std::mem::replace(&mut rig.launch.spec.disks[1].path, missing.clone());
    let Ok(handle) = rig.try_spawn().await else {
        // This VMM opens its disks when it starts.
        return;
    };
    handle.create().await.unwrap();
    handle.boot().await.expect_err("a disk is missing");
    std::fs::copy(present, missing).unwrap();
    handle.boot().await.unwrap();
    rig.console_shows("at last", 1).await;
    handle.kill().await.unwrap();
}

#[tokio::test]
async fn a_second_writer_of_a_disk_is_refused() {
    let first = Rig::new(Program::Say("first"));
    let handle = first.boot().await;
    let mut second = Rig::new(Program::Say("second"));
    second.launch.spec.disks[1].path.clone_from(&first.launch.spec.disks[1].path);
    assert_says(&refusal(&second).await, &["already locked", "Failed to get \"write\" lock"]);
    handle.kill().await.unwrap();
}

#[tokio::test]
async fn readers_share_a_disk() {
    let first = Rig::new(Program::Say("first"));
    let handle = first.boot().await;
    let mut second = Rig::new(Program::Say("second"));
    second.launch.spec.disks[0].path.clone_from(&first.launch.spec.disks[0].path);
    let other = second.boot().await;
    second.console_shows("second", 1).await;
    handle.kill().await.unwrap();
    other.kill().await.unwrap();
}

#[tokio::test]
async fn a_killed_vmm_is_reported_and_unreachable() {
    let rig = Rig::new(Program::Say("alive"));
    let handle = rig.boot().await;
    let mut events = handle.events().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(handle.process().pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(rig.event(&mut events).await, VmEvent::Exited(ExitReason::Signal(9)));
    assert!(matches!(handle.state().await, Err(VmmError::Unreachable { .. })));
    assert!(matches!(handle.connect_agent().await, Err(VmmError::Unreachable { .. })));
    handle.kill().await.unwrap();
    handle.quit().await.unwrap();
    assert!(rig.adopt(handle.process()).await.is_none());
}

#[tokio::test]
async fn a_new_vmm_starts_among_the_leavings_of_a_dead_one() {
    let mut rig = Rig::new(Program::Say("alive"));
    let handle = rig.boot().await;
    handle.kill().await.unwrap();
    assert!(std::fs::read_dir(&rig.launch.run_dir).unwrap().count() > 0, "a killed VMM leaves its sockets");
    rig.launch.events = rig.path("events.2.json");
    let handle = rig.boot().await;
    rig.agent(&handle).await;
    handle.quit().await.unwrap();
}
