//! The VMM as a process: what it may, and what it must not have.

use std::fs::File;

use dataplane_vmm::{ExitReason, SHARED_GID, VmEvent, VmState};

use crate::guests::Program;
use crate::rig::{Rig, cgroups, vm_uid};

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
        let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        assert!(groups.split_whitespace().any(|group| group == SHARED_GID.to_string()), "{groups}");
        assert!(!groups.split_whitespace().any(|group| group == "0"), "{groups}");
    }
    if let Some(cgroup) = &rig.launch.confinement.cgroup {
        // A VMM may have a helper process beside it.
        let held = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
        assert!(held.lines().any(|held| held == pid.to_string()), "{held}");
    }
    handle.kill().await.unwrap();
    if let Some(cgroup) = &rig.launch.confinement.cgroup {
        assert!(!cgroup.exists(), "the cgroup outlives its process");
    }
}

#[tokio::test]
async fn a_vmm_that_outgrows_its_limits_is_killed_whole_and_alone() {
    let (rig, sibling) = (Rig::new(Program::Say("alive")), Rig::new(Program::Say("alive")));
    let Some(cgroup) = &rig.launch.confinement.cgroup else {
        eprintln!("no limits here: {}", cgroups().err().unwrap_or_default());
        return;
    };
    let (handle, other) = (rig.boot().await, sibling.boot().await);
    rig.console_shows("alive", 1).await;
    sibling.console_shows("alive", 1).await;
    let read = |name: &str| std::fs::read_to_string(cgroup.join(name)).unwrap();
    let memory: u64 = read("memory.max").trim().parse().unwrap();
    let spec = &rig.launch.spec;
    assert!(
        (spec.max.memory.bytes() + (100 << 20)..spec.max.memory.bytes() + (400 << 20)).contains(&memory),
        "{memory}"
    );
    assert_eq!(read("cpu.max"), format!("{} 100000\n", (spec.max.vcpus + 1) * 100_000));
    assert_eq!((read("memory.oom.group"), read("pids.max")), ("1\n".into(), "1024\n".into()));
    let name = cgroup.file_name().unwrap().to_str().unwrap().to_owned();
    let held = cgroups().unwrap().sweep().unwrap();
    let pid = handle.process().pid;
    assert!(held.iter().any(|(held, pids)| *held == name && pids.contains(&pid)), "{held:?}");
    let mut events = handle.events().unwrap();
    std::io::Write::write_all(&mut File::create(cgroup.join("memory.max")).unwrap(), b"1M").unwrap();
    assert_eq!(rig.event(&mut events).await, VmEvent::Exited(ExitReason::Signal(9)));
    assert!(!cgroup.exists());
    assert_eq!(other.state().await.unwrap(), VmState::Running);
    other.kill().await.unwrap();
    let held = cgroups().unwrap().sweep().unwrap();
    assert!(held.iter().all(|(held, _)| *held != name), "{held:?}");
}
