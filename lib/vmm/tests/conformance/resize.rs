//! Processors and memory that come and go while the guest runs.

use dataplane_types::Mib;
use dataplane_vmm::{Sizes, VmState};

use crate::guests::Program;
use crate::rig::{Rig, SIZES};

const LARGE: Sizes = Sizes { vcpus: 3, memory: Mib(SIZES.memory.0 + 130) };

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
    let handle = rig.boot().await;
    rig.counts_to(1).await;
    let both = Sizes { vcpus: 2, memory: Mib(SIZES.memory.0 + 65) };
    // Up in steps, down, and up again; what is so already is a success.
    for wanted in [SIZES, both, LARGE, LARGE, both, SIZES, LARGE] {
        let done = handle.resize(wanted).await;
        done.unwrap_or_else(|error| panic!("{wanted:?}: {error:?}\n{}", rig.story()));
        rig.counts_to(rig.counted() + 1).await;
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
    for (round, wanted) in [LARGE, SIZES].into_iter().enumerate() {
        handle.resize(wanted).await.unwrap();
        rig.launch.spec.now = wanted;
        rig.counts_to(rig.counted() + 2).await;
        let directory = rig.snapshot_directory(&format!("snapshot.{round}"));
        handle.pause().await.unwrap();
        handle.snapshot(&directory).await.unwrap_or_else(|error| panic!("{error:?}\n{}", rig.story()));
        handle.quit().await.unwrap();
        handle = rig.restore(&directory).await;
        handle.resume().await.unwrap();
        rig.counts_to(rig.counted() + 2).await;
    }
    handle.resize(LARGE).await.unwrap();
    rig.counts_to(rig.counted() + 1).await;
    handle.quit().await.unwrap();
}
