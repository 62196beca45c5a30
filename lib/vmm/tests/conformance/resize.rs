//! Processors and memory that come and go while the guest runs.

use std::path::PathBuf;
use std::sync::Arc;

use dataplane_agent::{Answer, Ask, GuestMessage};
use dataplane_types::Mib;
use dataplane_vmm::{Sizes, VmHandle, VmState, VmmError};
use tokio::time::{sleep, timeout};

use crate::guests::Program;
use crate::rig::{LIMIT, RETRY, Rig, SIZES, message};

const LARGE: Sizes = Sizes { vcpus: 3, memory: Mib(SIZES.memory.0 + 130) };

/// Waits until the guest has taken what it was offered, and given what it was asked for. Its kernel keeps some memory
/// for itself, and may keep some of what it should give.
async fn guest_has(rig: &Rig, handle: &Arc<dyn VmHandle>, wanted: Sizes) {
    let most = wanted.memory.0 * 1024;
    let least = most - 64 * 1024;
    let mut agent = rig.agent(handle).await;
    let wait = async {
        loop {
            let asked = agent.ask(Ask::OnlineCpus).await.unwrap();
            let answer = loop {
                if let GuestMessage::Answer { id, answer } = message(&mut agent).await {
                    assert_eq!(id, asked);
                    break answer;
                }
            };
            match answer {
                Answer::Sizes { vcpus, memory_kib }
                    if vcpus == wanted.vcpus && (least..=most).contains(&memory_kib) =>
                {
                    return;
                }
                // A processor that is just going cannot be taken into use.
                Answer::Sizes { .. } | Answer::Failed { .. } => sleep(RETRY).await,
                Answer::Done | Answer::Clock { .. } | Answer::Processes { .. } | Answer::Usage(_) => {
                    panic!("{answer:?}")
                }
            }
        }
    };
    timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("the guest never had {wanted:?}\n{}", rig.story()));
}

#[tokio::test]
async fn sizes_change_within_their_bounds() {
    let mut rig = Rig::new(Program::Count);
    rig.launch.spec.max = LARGE;
    if !rig.vmm.capabilities().resize {
        let handle = rig.boot().await;
        handle.resize(LARGE).await.expect_err("this VMM cannot");
        handle.quit().await.unwrap();
        return;
    }
    let handle = rig.spawn().await;
    handle.create().await.unwrap();
    assert!(handle.resize(LARGE).await.is_err(), "there is no guest yet");
    handle.boot().await.unwrap();
    rig.counts_to(1).await;
    let both = Sizes { vcpus: 2, memory: Mib(SIZES.memory.0 + 65) };
    // Up in steps, down, and up again; what is so already is a success.
    for wanted in as_can_be(&rig, [SIZES, both, LARGE, LARGE, both, SIZES, LARGE]) {
        let done = handle.resize(wanted).await;
        done.unwrap_or_else(|error| panic!("{wanted:?}: {error:?}\n{}", rig.story()));
        guest_has(&rig, &handle, wanted).await;
    }
    for wanted in [
        Sizes { vcpus: LARGE.vcpus + 1, ..LARGE },
        Sizes { memory: Mib(LARGE.memory.0 + 1), ..LARGE },
        Sizes { vcpus: 0, ..LARGE },
        Sizes { memory: Mib(SIZES.memory.0 - 1), ..LARGE },
    ] {
        let error = handle.resize(wanted).await.expect_err("this is out of bounds");
        assert!(!error.retryable(), "{wanted:?}: {error:?}");
    }
    assert_eq!(handle.state().await.unwrap(), VmState::Running);
    handle.quit().await.unwrap();
}

#[tokio::test]
async fn other_sizes_outlive_a_standby() {
    let mut rig = Rig::new(Program::Count);
    rig.launch.spec.max = LARGE;
    if !rig.vmm.capabilities().resize {
        return;
    }
    let mut handle = rig.boot().await;
    rig.counts_to(1).await;
    for (round, wanted) in as_can_be(&rig, [LARGE, SIZES]).into_iter().enumerate() {
        handle.resize(wanted).await.unwrap();
        rig.launch.spec.now = wanted;
        if wanted == LARGE {
            // What is given, and not yet noticed when the guest is put away, is lost to it. What is taken is waited for.
            guest_has(&rig, &handle, wanted).await;
        }
        let directory = put_away(&rig, &handle, round).await;
        handle.quit().await.unwrap();
        handle = rig.restore(&directory).await;
        handle.resume().await.unwrap();
        rig.counts_to(rig.counted() + 2).await;
        guest_has(&rig, &handle, wanted).await;
    }
    handle.resize(LARGE).await.unwrap();
    guest_has(&rig, &handle, LARGE).await;
    handle.quit().await.unwrap();
}

/// The same sizes one after the other, but with the processors that it once had where they cannot be taken back.
fn as_can_be<const N: usize>(rig: &Rig, wanted: [Sizes; N]) -> [Sizes; N] {
    let mut most = 0;
    wanted.map(|sizes| {
        most = sizes.vcpus.max(most);
        let vcpus = if rig.vmm.capabilities().vcpu_unplug { sizes.vcpus } else { most };
        Sizes { vcpus, ..sizes }
    })
}

/// Puts a guest away as soon as it has let go of what was taken away: until then it is told to wait.
async fn put_away(rig: &Rig, handle: &Arc<dyn VmHandle>, round: usize) -> PathBuf {
    let put_away = async {
        for attempt in 0.. {
            let directory = rig.snapshot_directory(&format!("snapshot.{round}.{attempt}"));
            handle.pause().await.unwrap();
            match handle.snapshot(&directory).await {
                Ok(()) => return directory,
                Err(VmmError::Pending { .. }) => handle.resume().await.unwrap(),
                Err(error) => panic!("{error:?}\n{}", rig.story()),
            }
            sleep(RETRY).await;
        }
        unreachable!("there are enough numbers");
    };
    timeout(LIMIT, put_away).await.unwrap_or_else(|_| panic!("it must wait for ever\n{}", rig.story()))
}
