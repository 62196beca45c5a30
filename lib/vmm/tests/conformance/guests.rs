//! Guests: what a case wants a guest to do, and how each kind of guest is told to do it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use dataplane_agent::{CONFIG_DISK_SERIAL, GuestConfig, GuestNetwork, IMAGE_DISK_SERIAL, WRITABLE_DISK_SERIAL};
use dataplane_vmm::DiskSpec;

/// What a guest's program does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Program {
    /// Ends with this code.
    Exit(u8),
    /// Prints this word and stays until it is stopped.
    Say(&'static str),
    /// Prints `count 1`, `count 2` and so on, each in a line, until it is stopped.
    Count,
    /// Resets the machine.
    Reboot,
    /// Makes the kernel panic.
    Panic,
}

/// A kind of guest, with the files that it boots from.
#[derive(Debug, Clone)]
pub(crate) enum Kit {
    /// Simulated by `fake-ch`.
    Fake,
    /// A real kernel and init, on an image that holds busybox.
    Real { kernel: PathBuf, initramfs: PathBuf },
}

impl Kit {
    /// The real one, from the build's output.
    pub(crate) fn real() -> Self {
        let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bin");
        let part = |variable: &str, name: &str| {
            let path = std::env::var_os(variable).map_or_else(|| bin.join(name), PathBuf::from);
            assert!(path.exists(), "{} is missing: build it, or set {variable}", path.display());
            path
        };
        Self::Real { kernel: part("KERNEL_PATH", "vmlinux"), initramfs: part("INITRD_PATH", "initrd.img") }
    }

    /// Kernel, initramfs and command line.
    pub(crate) fn payload(&self, directory: &Path) -> (PathBuf, PathBuf, String) {
        match self {
            Self::Fake => {
                let (kernel, initramfs) = (directory.join("vmlinux"), directory.join("initrd.img"));
                File::create(&kernel).unwrap();
                File::create(&initramfs).unwrap();
                (kernel, initramfs, "console=ttyS0".into())
            }
            Self::Real { kernel, initramfs } => (
                kernel.clone(),
                initramfs.clone(),
                "console=ttyS0 reboot=t panic=0 quiet memhp_default_state=online_movable".into(),
            ),
        }
    }

    /// The three disks of an instance that runs a program.
    pub(crate) fn disks(&self, directory: &Path, program: Program, network: Option<GuestNetwork>) -> Vec<DiskSpec> {
        let disk = |serial: &str, readonly| DiskSpec {
            serial: serial.into(),
            path: directory.join(format!("{serial}.img")),
            readonly,
        };
        let image = disk(IMAGE_DISK_SERIAL, true);
        let writable = disk(WRITABLE_DISK_SERIAL, false);
        let config = disk(CONFIG_DISK_SERIAL, true);
        put(&config.path, &self.config(program, network).to_disk().unwrap());
        match self {
            Self::Fake => {
                put(&image.path, &[0; 4096]);
                put(&writable.path, &[0; 4096]);
            }
            Self::Real { .. } => {
                fs::copy(busybox_image(), &image.path).unwrap();
                make_ext4(&writable.path, "64M", None);
            }
        }
        vec![image, writable, config]
    }

    fn config(&self, program: Program, network: Option<GuestNetwork>) -> GuestConfig {
        GuestConfig {
            instance_id: "conformance".into(),
            hostname: "conformance".into(),
            fqdn: None,
            image_filesystem: "ext4".into(),
            argv: self.argv(program),
            env: vec!["PATH=/bin".into()],
            working_dir: "/".into(),
            user: String::new(),
            stop_signal: "SIGTERM".into(),
            network,
        }
    }

    fn argv(&self, program: Program) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let shell = |script: &str| words(&["/bin/busybox", "sh", "-c", script]);
        match (self, program) {
            (Self::Fake, Program::Exit(code)) => words(&["exit", &code.to_string()]),
            (Self::Fake, Program::Say(word)) => words(&["echo", word]),
            (Self::Fake, Program::Count) => words(&["count"]),
            (Self::Fake, Program::Reboot) => words(&["reboot"]),
            (Self::Fake, Program::Panic) => words(&["panic"]),
            (Self::Real { .. }, Program::Exit(code)) => shell(&format!("exit {code}")),
            (Self::Real { .. }, Program::Say(word)) => {
                // The program is the first process that it can see: without a trap it would ignore signals.
                shell(&format!("trap 'exit 0' TERM; echo; echo {word}; while :; do sleep 1000 & wait $!; done"))
            }
            (Self::Real { .. }, Program::Count) => {
                shell("trap 'exit 0' TERM; i=0; echo; while :; do i=$((i+1)); echo count $i; sleep 0.2 & wait $!; done")
            }
            // A program cannot call reboot(2) on the whole machine, but root can still pull its levers.
            (Self::Real { .. }, Program::Reboot) => shell("echo b > /proc/sysrq-trigger"),
            (Self::Real { .. }, Program::Panic) => {
                let reported = "ls /sys/bus/pci/drivers/pvpanic-pci/0000:* > /dev/null 2>&1";
                shell(&format!("until {reported}; do sleep 0.1; done; echo c > /proc/sysrq-trigger"))
            }
        }
    }
}

/// Writes a file of a test's own directory.
pub(crate) fn put(path: &Path, bytes: &[u8]) {
    std::io::Write::write_all(&mut File::create(path).unwrap(), bytes).unwrap();
}

/// An ext4 image with a static busybox, made once.
fn busybox_image() -> &'static Path {
    static IMAGE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = IMAGE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        for name in ["bin", "proc", "sys", "dev", "etc", "run", "tmp"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("a static /bin/busybox is needed (busybox-static)");
        let image = directory.path().join("image.img");
        make_ext4(&image, "16M", Some(&root));
        (directory, image)
    });
    path
}

fn make_ext4(path: &Path, size: &str, root: Option<&Path>) {
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4"]);
    if let Some(root) = root {
        command.arg("-d").arg(root);
    }
    let made = command.arg(path).arg(size).stdout(Stdio::null()).status().expect("mke2fs is needed (e2fsprogs)");
    assert!(made.success(), "mke2fs {}: {made}", path.display());
}
