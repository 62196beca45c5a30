use super::*;
use crate::ExitReason;

fn start(directory: &Path, script: &str) -> Watched {
    spawn(Program {
        binary: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        stdout: Log::open(&directory.join("out")).unwrap().file().unwrap(),
        stderr: Log::open(&directory.join("err")).unwrap().file().unwrap(),
        inherit: Vec::new(),
        jail: Jail::default(),
    })
    .unwrap()
}

#[tokio::test]
async fn a_child_has_its_own_session_no_capability_and_no_foreign_descriptor() {
    let directory = tempfile::tempdir().unwrap();
    let leak = File::open("/proc/self/exe").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let script = "cat /proc/self/status; echo sid $$ $(cut -d' ' -f6 /proc/$$/stat); ls /proc/$$/fd; env; exit 7";
    let child = start(directory.path(), script);
    assert_eq!(child.exited().await, ExitReason::Code(7));
    let out = std::fs::read_to_string(directory.path().join("out")).unwrap();
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "\n0\n1\n2\n"] {
        assert!(out.contains(line), "{line:?} is missing in {out}");
    }
    let session = format!("sid {pid} {pid}\n", pid = child.process().pid);
    assert!(out.contains(&session), "{session:?} is missing in {out}");
    assert!(!out.contains("CARGO"), "the environment leaked: {out}");
}

#[tokio::test]
async fn a_process_is_adopted_by_its_identity_only_while_it_lives() {
    let directory = tempfile::tempdir().unwrap();
    let child = start(directory.path(), "exec sleep 60");
    let process = child.process().clone();
    drop(child);
    let stranger = VmmProcess { start_ticks: process.start_ticks + 1, ..process.clone() };
    assert!(adopt(&stranger, None).unwrap().is_none());
    let adopted = adopt(&process, None).unwrap().unwrap();
    assert_eq!(adopted.ended(), None);
    adopted.kill().await.unwrap();
    adopted.kill().await.unwrap();
    assert!(adopt(&process, None).unwrap().is_none());
}

#[tokio::test]
async fn a_process_that_ignores_being_terminated_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let child = start(directory.path(), "trap '' TERM; echo ready; while :; do sleep 1; done");
    let out = directory.path().join("out");
    while std::fs::read(&out).unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    child.terminate().await.unwrap();
    assert_eq!(child.ended(), Some(ExitReason::Signal(9)));
}

#[test]
fn a_binary_that_is_missing_or_fails_is_an_error() {
    let says = |script: &str| first_output(Path::new("/bin/sh"), &["-c".as_ref(), script.as_ref()]);
    assert_eq!(says("echo 1.0").unwrap(), "1.0\n");
    assert!(matches!(says("exit 3"), Err(VmmError::Binary { .. })));
    assert!(matches!(first_output(Path::new("/nowhere/vmm"), &[]), Err(VmmError::Binary { .. })));
}
