//! Processes with a confinement, as the kernel sees them. A change of uid takes root.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::{Confinement, DiskSpec, ExitReason, Launch, Purpose, SHARED_GID, Sizes, VmIdentity, VmSpec};

const ME: u32 = 1_900_060_001;
const OTHER: u32 = 1_900_060_002;
const SIZES: Sizes = Sizes { vcpus: 1, memory: dataplane_types::Mib(64) };

/// A VM's directory with a file for each kind of access.
fn launch(directory: &Path, uid: u32) -> Launch {
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o711)).unwrap();
    let path = |name: &str| directory.join(name);
    let disk = |name: &str, readonly, mode| {
        make(&path(name), mode);
        DiskSpec { serial: name.into(), path: path(name), readonly }
    };
    for file in ["vmlinux", "initrd"] {
        make(&path(file), 0o444);
    }
    std::fs::create_dir_all(path("run")).unwrap();
    Launch {
        purpose: Purpose::Boot,
        spec: VmSpec {
            uuid: uuid::Uuid::nil(),
            boot: SIZES,
            now: SIZES,
            max: SIZES,
            memory_file: None,
            kernel: path("vmlinux"),
            initramfs: path("initrd"),
            cmdline: String::new(),
            disks: vec![disk("image", true, 0o440), disk("writable", false, 0o600), disk("config", true, 0o600)],
            net: None,
        },
        run_dir: path("run"),
        serial_log: path("serial.log"),
        vmm_log: path("vmm.log"),
        events: path("events"),
        confinement: Confinement { identity: Some(VmIdentity::of(uid)), ..Confinement::default() },
    }
}

fn make(path: &Path, mode: u32) {
    io::Write::write_all(&mut File::create(path).unwrap(), b"content\n").unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// What a shell prints that is confined to a launch.
async fn run(launch: &Launch, script: &str) -> String {
    make_run_dir_fresh(launch).unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let needs = Needs { binary: Path::new("/bin/sh"), devices: &[], files: &[], overhead_mib: 16 };
    let child = spawn(Program {
        binary: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        stdout: append_to(log.path()).unwrap(),
        stderr: append_to(log.path()).unwrap(),
        inherit: Vec::new(),
        jail: Jail::prepare(launch, &needs).unwrap(),
    });
    let reason = child.unwrap().exited().await;
    let said = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(reason, ExitReason::Code(0), "{said}");
    said
}

fn owner(path: &Path) -> (u32, u32, u32) {
    let metadata = std::fs::metadata(path).unwrap();
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

#[tokio::test]
#[ignore = "needs root: changes uids"]
async fn a_child_is_nobody_but_its_vm() {
    let directory = tempfile::tempdir().unwrap();
    let launch = launch(directory.path(), ME);
    let said = run(&launch, "cat /proc/self/status; ulimit -c; touch run/mine 2>&1 || touch \"$0\"; true").await;
    for line in [
        format!("Uid:\t{ME}\t{ME}\t{ME}\t{ME}\n"),
        format!("Gid:\t{ME}\t{ME}\t{ME}\t{ME}\n"),
        format!("Groups:\t{SHARED_GID} \n"),
        "CapPrm:\t0000000000000000\n".into(),
        "CapEff:\t0000000000000000\n".into(),
        "CapBnd:\t0000000000000000\n".into(),
        "CapAmb:\t0000000000000000\n".into(),
        "NoNewPrivs:\t1\n".into(),
    ] {
        assert!(said.contains(&line), "{line:?} is missing in {said}");
    }
}

#[tokio::test]
#[ignore = "needs root: changes uids"]
async fn a_vm_has_its_files_and_nobody_elses() {
    let (mine, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut me, other) = (launch(mine.path(), ME), launch(others.path(), OTHER));
    let closed = mine.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    make(&closed.join("memory"), 0o600);
    me.spec.memory_file = Some(closed.join("memory"));
    hand_over(&other).unwrap();
    make_run_dir_fresh(&other).unwrap();
    let (a, b) = (mine.path().display(), others.path().display());
    let script = format!(
        "cd {a}; for file in image config writable vmlinux initrd; do head -c1 $file >/dev/null && echo reads $file; done
        for file in image config writable; do (echo x >> $file) && echo writes $file; done
        touch run/socket && mv run/socket run/other && echo makes sockets
        for file in {b}/config {b}/writable; do head -c1 $file && echo reads $file; (echo x >> $file) && echo writes $file; done
        ls {a} && echo lists its directory; touch {a}/new && echo makes files; ls {b}/run && echo looks at sockets
        head -c1 {b}/image && echo reads the shared image; (echo x >> closed/memory) && echo writes memory
        touch closed/new && echo makes files beside it; true"
    );
    let said: Vec<_> = run(&me, &script).await.lines().map(str::to_owned).collect();
    let done: Vec<_> = said.iter().filter(|line| !line.contains("ermission denied")).map(String::as_str).collect();
    let expected = [
        "reads image",
        "reads config",
        "reads writable",
        "reads vmlinux",
        "reads initrd",
        "writes writable",
        "makes sockets",
        "creads the shared image",
        "writes memory",
    ];
    assert_eq!(done, expected, "{said:#?}");
    assert_eq!(owner(&me.spec.disks[0].path), (0, SHARED_GID, 0o440));
    assert_eq!(owner(&me.spec.disks[1].path), (ME, ME, 0o600));
    assert_eq!(owner(&me.spec.disks[2].path), (0, ME, 0o440));
    assert_eq!(owner(&me.run_dir), (0, ME, 0o1770));
    hand_over(&me).unwrap();
    assert_eq!(owner(&me.spec.disks[2].path), (0, ME, 0o440), "a second time changes nothing");
}

#[tokio::test]
#[ignore = "needs root: changes uids"]
async fn what_was_handed_over_comes_back_when_confinement_is_switched_off() {
    let directory = tempfile::tempdir().unwrap();
    let mut launch = launch(directory.path(), ME);
    run(&launch, "true").await;
    let needs = Needs { binary: Path::new("/bin/sh"), devices: &[], files: &[], overhead_mib: 16 };
    let null = || File::options().write(true).open("/dev/null").unwrap();
    let child = spawn(Program {
        binary: "/bin/sleep".into(),
        arguments: vec!["60".into()],
        stdout: null(),
        stderr: null(),
        inherit: Vec::new(),
        jail: Jail::prepare(&launch, &needs).unwrap(),
    });
    let child = child.unwrap();
    launch.confinement = Confinement::default();
    let running = as_running(&launch, child.process()).unwrap();
    assert_eq!(running.confinement.identity, Some(VmIdentity::of(ME)), "it is what it was started as");
    assert_eq!(running_uid(child.process()).unwrap(), Some(ME));
    child.kill().await.unwrap();
    assert_eq!(running_uid(child.process()).unwrap(), None);
    let script = format!("cd {}; echo x >> writable && cat config image >/dev/null", directory.path().display());
    assert_eq!(run(&launch, &script).await, "");
    assert_eq!(owner(&launch.spec.disks[1].path), (0, 0, 0o600));
    assert_eq!(owner(&launch.run_dir), (0, 0, 0o700));
}

#[tokio::test]
#[ignore = "needs root: changes uids"]
async fn nothing_is_handed_over_through_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    let launch = launch(directory.path(), ME);
    make(&secret, 0o600);
    let writable = &launch.spec.disks[1].path;
    for link in [
        |from: &Path, to: &Path| symlink(from, to).unwrap(),
        |from: &Path, to: &Path| std::fs::hard_link(from, to).unwrap(),
        |_: &Path, to: &Path| nix::unistd::mkfifo(to, nix::sys::stat::Mode::S_IRUSR).unwrap(),
    ] {
        std::fs::remove_file(writable).unwrap();
        link(&secret, writable);
        assert!(matches!(hand_over(&launch), Err(VmmError::Host { act: "hand over", .. })));
        assert_eq!(owner(&secret), (0, 0, 0o600));
    }
    std::fs::remove_file(writable).unwrap();
    hand_over(&launch).expect("what is missing is the VMM's to complain about");
}

#[tokio::test]
#[ignore = "needs root: changes uids"]
async fn what_a_vmm_wrote_is_taken_back_if_it_is_just_files() {
    let directory = tempfile::tempdir().unwrap();
    let launch = launch(directory.path(), ME);
    let target = directory.path().join("snapshot");
    std::fs::create_dir(&target).unwrap();
    lend(&target, &launch).unwrap();
    let path = target.display();
    run(&launch, &format!("echo state > {path}/state.json; echo memory > {path}/memory")).await;
    take_back(&target, &launch).unwrap();
    assert_eq!(owner(&target), (0, 0, 0o700));
    assert_eq!(owner(&target.join("memory")), (0, 0, 0o600));
    show_directory(&target, &launch).unwrap();
    let said = run(&launch, &format!("cat {path}/memory; rm -f {path}/memory 2>/dev/null || echo kept")).await;
    assert_eq!(said, "memory\nkept\n");
    for script in ["ln -s /etc/shadow x", "mkfifo x", "ln state.json x", "mkdir x"] {
        lend(&target, &launch).unwrap();
        let _old = std::fs::remove_file(target.join("x"));
        // Only an owner may give a file a second name.
        std::os::unix::fs::chown(target.join("state.json"), Some(ME), None).unwrap();
        run(&launch, &format!("cd {path} && {script}")).await;
        let refused = take_back(&target, &launch);
        assert!(matches!(refused, Err(VmmError::Host { act: "take back", .. })), "{script}: {refused:?}");
        assert_eq!(owner(&target), (0, 0, 0o700), "{script}");
    }
}

#[tokio::test]
#[ignore = "needs root: changes uids"]
async fn leavings_are_cleared_and_the_daemons_own_stay() {
    let directory = tempfile::tempdir().unwrap();
    let launch = launch(directory.path(), ME);
    let victim = directory.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    make(&victim.join("config.json"), 0o600);
    let path = launch.run_dir.display();
    run(&launch, &format!("ln -s {} {path}/restore; mkdir {path}/d; touch {path}/d/f", victim.display())).await;
    make_run_dir_fresh(&launch).unwrap();
    assert_eq!(std::fs::read_dir(&launch.run_dir).unwrap().count(), 0);
    assert!(victim.join("config.json").exists(), "a link is removed, not followed");
    let own = launch.run_dir.join("own");
    let script = format!("rm -f {0}/own || mv {0}/own {0}/x || echo kept", path);
    make_run_dir_fresh(&launch).unwrap();
    let jail =
        Jail::prepare(&launch, &Needs { binary: Path::new("/bin/sh"), devices: &[], files: &[], overhead_mib: 1 });
    make(&own, 0o600);
    let log = tempfile::NamedTempFile::new().unwrap();
    let child = spawn(Program {
        binary: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        stdout: append_to(log.path()).unwrap(),
        stderr: File::options().write(true).open("/dev/null").unwrap(),
        inherit: Vec::new(),
        jail: jail.unwrap(),
    });
    child.unwrap().exited().await;
    assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "kept\n");
}

/// Landlock needs no root, and shuts off even that.
#[tokio::test]
async fn landlock_leaves_only_what_the_launch_names() {
    if crate::landlock_version().is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut launch = launch(directory.path(), ME);
    let later = directory.path().join("later");
    std::fs::create_dir(&later).unwrap();
    make(&directory.path().join("secret"), 0o666);
    launch.confinement = Confinement { landlock: Some(vec![later]), ..Confinement::default() };
    let script = format!(
        "cd {}; for file in image writable config vmlinux; do head -c1 $file >/dev/null && echo reads $file; done
        for file in image writable secret vmlinux; do (echo x >> $file) && echo writes $file; done
        touch run/x && echo makes sockets; touch later/x && echo makes later ones; touch new && echo makes others
        head -c1 secret && echo reads secret; head -c1 /etc/passwd && echo reads /etc; echo x > /dev/null && echo is fine
        true",
        directory.path().display()
    );
    let said = run(&launch, &script).await;
    let done: Vec<_> = said.lines().filter(|line| !line.contains("ermission denied")).collect();
    let expected = [
        "reads image",
        "reads writable",
        "reads config",
        "reads vmlinux",
        "writes writable",
        "makes sockets",
        "makes later ones",
        "is fine",
    ];
    assert_eq!(done, expected, "{said}");
}
