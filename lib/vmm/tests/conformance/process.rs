//! The VMM as a process: what it may, and what it must not have.

use dataplane_vmm::SHARED_GID;

use crate::guests::Program;
use crate::rig::{Rig, vm_uid};

#[tokio::test]
async fn a_vmm_has_a_session_of_its_own_and_no_capability() {
    let rig = Rig::new(Program::Say("alive"));
    let handle = rig.boot().await;
    let pid = handle.process().pid;
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap();
    let status = String::from_utf8(read("status")).unwrap();
    for line in
        ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"]
    {
        assert!(status.contains(line), "{line:?} is missing in {status}");
    }
    let stat = String::from_utf8(read("stat")).unwrap();
    let session = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap();
    assert_eq!(session, pid.to_string());
    let environment = String::from_utf8_lossy(&read("environ")).into_owned();
    let names: Vec<_> = environment.split('\0').filter_map(|pair| pair.split('=').next()).collect();
    assert_eq!(names.iter().filter(|name| !matches!(**name, "PATH" | "")).count(), 0, "{names:?}");
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap().to_str(), Some("/dev/null"));
    if let Some(uid) = vm_uid() {
        for line in [format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n"), format!("Gid:\t{uid}\t{uid}\t{uid}\t{uid}\n")] {
            assert!(status.contains(&line), "{line:?} is missing in {status}");
        }
        assert!(status.contains(&format!("Groups:\t{SHARED_GID}")), "{status}");
    }
    if let Some(cgroup) = &rig.launch.confinement.cgroup {
        assert_eq!(std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap(), format!("{pid}\n"));
    }
    handle.kill().await.unwrap();
    if let Some(cgroup) = &rig.launch.confinement.cgroup {
        assert!(!cgroup.exists(), "the cgroup outlives its process");
    }
}
