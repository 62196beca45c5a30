//! A paused guest becomes a directory, and a guest again: in another process, as often as wanted, where it stopped.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use dataplane_agent::{ExitStatus, GuestMessage, HostMessage};
use dataplane_vmm::{VmEvent, VmHandle, VmState, VmmError};

use crate::guests::Program;
use crate::rig::{Rig, alive, message};

const STOP: HostMessage = HostMessage::Stop { grace_ms: 10_000 };

/// Where the guest's memory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Sparse,
    Instant,
}

/// How often a snapshot is loaded and its VMM killed before it is put to use: `STANDBY_ROUNDS`, or twice.
fn rounds() -> usize {
    std::env::var("STANDBY_ROUNDS").ok().and_then(|number| number.parse().ok()).unwrap_or(2)
}

/// A rig with a counting guest; `None` where the VMM does not have the class.
fn counting(class: Class) -> Option<Rig> {
    let mut rig = Rig::new(Program::Count);
    let can = class == Class::Sparse || rig.use_memory_file();
    can.then_some(rig)
}

/// Pauses a guest and puts it into a new directory, and says how long it took.
async fn put_away(rig: &Rig, handle: &Arc<dyn VmHandle>, name: &str) -> PathBuf {
    let directory = rig.snapshot_directory(name);
    let start = Instant::now();
    handle.pause().await.unwrap_or_else(|error| panic!("pause: {error:?}\n{}", rig.story()));
    let paused = start.elapsed();
    let taken = handle.snapshot(&directory).await;
    taken.unwrap_or_else(|error| panic!("snapshot: {error:?}\n{}", rig.story()));
    let size = allocated(&directory);
    if let Some(memory) = &rig.launch.spec.memory_file {
        let memory = std::fs::metadata(memory).unwrap();
        assert!(memory.blocks() * 512 >= memory.len(), "the memory file has got holes, for which there may be no room");
    }
    eprintln!("{name}: paused in {paused:?}, snapshot in {:?}, {} KiB", start.elapsed() - paused, size >> 10);
    directory
}

/// Loads a snapshot in a new VMM, and says how long it took.
async fn bring_back(rig: &mut Rig, directory: &Path) -> Arc<dyn VmHandle> {
    let start = Instant::now();
    let handle = rig.spawn_for_restore().await;
    let spawned = start.elapsed();
    let restored = handle.restore(directory).await;
    restored.unwrap_or_else(|error| panic!("restore: {error:?}\n{}", rig.story()));
    eprintln!("spawned in {spawned:?}, restored in {:?}", start.elapsed() - spawned);
    assert_eq!(handle.state().await.unwrap(), VmState::Paused);
    handle
}

/// What the files of a directory take on disk.
fn allocated(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|entry| entry.metadata().unwrap().blocks() * 512).sum()
}

/// Handles a test's own files from outside, as an operator would.
fn run(program: &str, arguments: &[&Path]) {
    assert!(std::process::Command::new(program).args(arguments).status().unwrap().success(), "{program} {arguments:?}");
}

/// A guest that runs counts on from where it was.
async fn goes_on(rig: &Rig, handle: &Arc<dyn VmHandle>) {
    assert_eq!(handle.state().await.unwrap(), VmState::Running);
    rig.counts_to(rig.counted() + 3).await;
}

async fn go_round(class: Class) {
    let Some(mut rig) = counting(class) else { return };
    let handle = rig.boot().await;
    rig.counts_to(3).await;
    let directory = put_away(&rig, &handle, "snapshot").await;
    assert_eq!(handle.state().await.unwrap(), VmState::Paused);
    handle.quit().await.unwrap();
    let stopped_at = rig.counted();
    if class == Class::Instant {
        assert!(allocated(&directory) < 1 << 20, "the memory is copied");
    }
    let handle = bring_back(&mut rig, &directory).await;
    assert_eq!(rig.counted(), stopped_at, "what is paused counts on");
    handle.resume().await.unwrap();
    goes_on(&rig, &handle).await;
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn a_guest_goes_on_where_it_stopped() {
    go_round(Class::Sparse).await;
}

#[tokio::test]
async fn a_guest_whose_memory_is_a_file_goes_on_where_it_stopped() {
    go_round(Class::Instant).await;
}

async fn third_is_as_cheap(class: Class) {
    let Some(mut rig) = counting(class) else { return };
    let mut handle = rig.boot().await;
    let mut sizes = Vec::new();
    for round in 1..=3 {
        rig.counts_to(rig.counted() + 2).await;
        let directory = put_away(&rig, &handle, &format!("snapshot.{round}")).await;
        sizes.push(allocated(&directory));
        handle.quit().await.unwrap();
        handle = bring_back(&mut rig, &directory).await;
        handle.resume().await.unwrap();
    }
    goes_on(&rig, &handle).await;
    handle.quit().await.unwrap();
    assert!(sizes[2] * 2 <= sizes[0] * 3, "snapshots grow from round to round: {sizes:?}");
}

#[tokio::test]
async fn the_third_snapshot_is_as_small_as_the_first() {
    third_is_as_cheap(Class::Sparse).await;
}

#[tokio::test]
async fn the_third_snapshot_beside_a_memory_file_is_as_small_as_the_first() {
    third_is_as_cheap(Class::Instant).await;
}

#[tokio::test]
async fn a_guest_can_go_on_after_its_snapshot() {
    for class in [Class::Sparse, Class::Instant] {
        let Some(rig) = counting(class) else { continue };
        let handle = rig.boot().await;
        rig.counts_to(2).await;
        put_away(&rig, &handle, "first").await;
        handle.resume().await.unwrap();
        goes_on(&rig, &handle).await;
        put_away(&rig, &handle, "second").await;
        handle.resume().await.unwrap();
        goes_on(&rig, &handle).await;
        handle.quit().await.unwrap();
    }
}

#[tokio::test]
async fn a_restore_alone_spends_nothing() {
    for class in [Class::Sparse, Class::Instant] {
        let Some(mut rig) = counting(class) else { continue };
        let handle = rig.boot().await;
        rig.counts_to(2).await;
        let directory = put_away(&rig, &handle, "snapshot").await;
        handle.kill().await.unwrap();
        for _ in 0..rounds() {
            let handle = bring_back(&mut rig, &directory).await;
            handle.kill().await.unwrap();
        }
        let handle = bring_back(&mut rig, &directory).await;
        handle.resume().await.unwrap();
        goes_on(&rig, &handle).await;
        handle.quit().await.unwrap();
    }
}

#[tokio::test]
async fn a_restored_snapshot_may_be_renamed_and_deleted() {
    for class in [Class::Sparse, Class::Instant] {
        let Some(mut rig) = counting(class) else { continue };
        let handle = rig.boot().await;
        rig.counts_to(2).await;
        let directory = put_away(&rig, &handle, "snapshot").await;
        handle.quit().await.unwrap();
        let handle = bring_back(&mut rig, &directory).await;
        let spent = rig.path("spent");
        run("mv", &[&directory, &spent]);
        handle.resume().await.unwrap();
        run("rm", &["-r".as_ref(), &spent]);
        assert!(!directory.exists() && !spent.exists());
        goes_on(&rig, &handle).await;
        // All of it must be there, not only what a counter touches.
        let directory = put_away(&rig, &handle, "next").await;
        handle.quit().await.unwrap();
        let handle = bring_back(&mut rig, &directory).await;
        handle.resume().await.unwrap();
        goes_on(&rig, &handle).await;
        handle.quit().await.unwrap();
    }
}

#[tokio::test]
async fn a_restored_guest_ends_and_boots_again() {
    let mut rig = Rig::new(Program::Say("alive"));
    let handle = rig.boot().await;
    rig.console_shows("alive", 1).await;
    let directory = put_away(&rig, &handle, "snapshot").await;
    handle.quit().await.unwrap();
    let handle = bring_back(&mut rig, &directory).await;
    let mut events = handle.events().unwrap();
    handle.resume().await.unwrap();
    let mut agent = rig.agent(&handle).await;
    assert!(matches!(message(&mut agent).await, GuestMessage::Started { .. }));
    agent.send(&STOP).await.unwrap();
    let exited = message(&mut agent).await;
    let GuestMessage::Exited { status, reason: None } = exited else { panic!("{exited:?}") };
    assert_ne!(status, ExitStatus::Signal(9), "it was asked, not killed");
    agent.send(&HostMessage::ExitRecorded).await.unwrap();
    assert_eq!(rig.event(&mut events).await, VmEvent::Shutdown);
    assert_eq!(handle.state().await.unwrap(), VmState::Shutdown);
    handle.boot().await.unwrap();
    rig.console_shows("alive", 2).await;
    handle.quit().await.unwrap();
    assert!(matches!(rig.event(&mut events).await, VmEvent::Exited(_)));
}

#[tokio::test]
async fn an_exit_code_outlives_a_standby() {
    let mut rig = Rig::new(Program::Exit(7));
    let handle = rig.boot().await;
    let exited = GuestMessage::Exited { status: ExitStatus::Code(7), reason: None };
    let mut agent = rig.agent(&handle).await;
    while message(&mut agent).await != exited {}
    let directory = put_away(&rig, &handle, "snapshot").await;
    handle.quit().await.unwrap();
    let handle = bring_back(&mut rig, &directory).await;
    let mut events = handle.events().unwrap();
    handle.resume().await.unwrap();
    let mut agent = rig.agent(&handle).await;
    while message(&mut agent).await != exited {}
    agent.send(&HostMessage::ExitRecorded).await.unwrap();
    assert_eq!(rig.event(&mut events).await, VmEvent::Shutdown);
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn a_restored_vmm_is_taken_up_in_every_state() {
    let mut rig = Rig::new(Program::Count);
    let handle = rig.boot().await;
    rig.counts_to(2).await;
    let directory = put_away(&rig, &handle, "snapshot").await;
    handle.quit().await.unwrap();
    let handle = bring_back(&mut rig, &directory).await;
    let process = handle.process().clone();
    drop(handle);
    let handle = rig.adopt(&process).await.expect("the process is there");
    assert_eq!(handle.state().await.unwrap(), VmState::Paused);
    handle.resume().await.unwrap();
    drop(handle);
    let handle = rig.adopt(&process).await.expect("the process is there");
    goes_on(&rig, &handle).await;
    let mut witness = handle.events().unwrap();
    drop(handle.clone());
    let mut agent = rig.agent(&handle).await;
    agent.send(&STOP).await.unwrap();
    while !matches!(message(&mut agent).await, GuestMessage::Exited { .. }) {}
    agent.send(&HostMessage::ExitRecorded).await.unwrap();
    assert_eq!(rig.event(&mut witness).await, VmEvent::Shutdown);
    drop((handle, witness));
    let handle = rig.adopt(&process).await.expect("the VMM outlives its guest");
    assert_eq!(handle.state().await.unwrap(), VmState::Shutdown);
    let mut events = handle.events().unwrap();
    assert_eq!(rig.event(&mut events).await, VmEvent::Shutdown);
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn only_what_is_paused_can_be_put_away() {
    let rig = Rig::new(Program::Count);
    let handle = rig.spawn().await;
    handle.create().await.unwrap();
    let directory = rig.snapshot_directory("snapshot");
    assert!(handle.snapshot(&directory).await.is_err(), "there is nothing to put away");
    handle.boot().await.unwrap();
    rig.counts_to(1).await;
    assert!(handle.snapshot(&directory).await.is_err(), "it runs");
    goes_on(&rig, &handle).await;
    handle.pause().await.unwrap();
    assert!(handle.snapshot(&rig.path("nothing")).await.is_err(), "there is no such directory");
    std::fs::File::create(directory.join("somebody's")).unwrap();
    assert!(handle.snapshot(&directory).await.is_err(), "the directory is not empty");
    assert_eq!(handle.state().await.unwrap(), VmState::Paused);
    handle.resume().await.unwrap();
    goes_on(&rig, &handle).await;
    handle.quit().await.unwrap();
}

/// Restores what cannot be; whatever is left of the VMM is of no use, and is gone afterwards.
async fn refusal(rig: &mut Rig, directory: &Path) -> VmmError {
    // A VMM that opens the memory as it starts has refused it then.
    let handle = match rig.try_spawn_for_restore().await {
        Ok(handle) => handle,
        Err(error) => return error,
    };
    let error = handle.restore(directory).await.expect_err("this cannot be restored");
    if let Ok(state) = handle.state().await {
        assert!(!matches!(state, VmState::Running | VmState::Paused), "{state:?} after {error:?}");
    }
    handle.quit().await.unwrap();
    assert!(!alive(handle.process()));
    error
}

#[tokio::test]
async fn memory_that_is_not_all_there_is_refused() {
    let Some(mut rig) = counting(Class::Instant) else { return };
    let handle = rig.boot().await;
    rig.counts_to(2).await;
    let directory = put_away(&rig, &handle, "snapshot").await;
    handle.quit().await.unwrap();
    let (memory, away) = (rig.launch.spec.memory_file.clone().unwrap(), rig.path("away"));
    run("mv", &[&memory, &away]);
    let error = refusal(&mut rig, &directory).await;
    assert!(!error.retryable(), "{error:?}");
    let short = std::fs::File::create(&memory).unwrap();
    short.set_len(rig.launch.spec.now.memory.bytes() / 2).unwrap();
    let error = refusal(&mut rig, &directory).await;
    assert!(!error.retryable(), "{error:?}");
    run("mv", &[&away, &memory]);
    let handle = bring_back(&mut rig, &directory).await;
    handle.resume().await.unwrap();
    goes_on(&rig, &handle).await;
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn a_broken_snapshot_is_refused_and_the_whole_one_still_works() {
    for class in [Class::Sparse, Class::Instant] {
        let Some(mut rig) = counting(class) else { continue };
        let handle = rig.boot().await;
        rig.counts_to(2).await;
        let directory = put_away(&rig, &handle, "snapshot").await;
        handle.quit().await.unwrap();
        let broken = rig.path("broken");
        for keep in ["half", "nothing"] {
            run("cp", &["-r".as_ref(), &directory, &broken]);
            let files = std::fs::read_dir(&broken).unwrap().map(|entry| entry.unwrap());
            let largest = files.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap();
            let file = std::fs::File::options().write(true).open(largest.path()).unwrap();
            let length = if keep == "half" { file.metadata().unwrap().len() / 2 } else { 0 };
            file.set_len(length).unwrap();
            let error = refusal(&mut rig, &broken).await;
            assert!(!error.retryable(), "{keep} of {:?} is kept: {error:?}", largest.path());
            run("rm", &["-r".as_ref(), &broken]);
        }
        let nothing = rig.path("nothing");
        let error = refusal(&mut rig, &nothing).await;
        assert!(!error.retryable(), "{error:?}");
        let handle = bring_back(&mut rig, &directory).await;
        handle.resume().await.unwrap();
        goes_on(&rig, &handle).await;
        handle.quit().await.unwrap();
    }
}
