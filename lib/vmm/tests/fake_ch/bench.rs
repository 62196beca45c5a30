//! A driver over a `fake-ch` that does wrong what a test wants.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dataplane_agent::{CONFIG_DISK_SERIAL, GuestConfig, WRITABLE_DISK_SERIAL};
use dataplane_types::Mib;
use dataplane_vmm::{CloudHypervisor, Confinement, DiskSpec, Launch, Purpose, Sizes, VmHandle, VmSpec, Vmm};

use crate::BINARY;

pub(crate) const SIZES: Sizes = Sizes { vcpus: 1, memory: Mib(64) };

/// A driver of a `fake-ch` that takes orders from a file of the test's own.
#[derive(Debug)]
pub(crate) struct Bench {
    directory: tempfile::TempDir,
    pub(crate) driver: CloudHypervisor,
    pub(crate) launch: Launch,
    generation: u32,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::os::unix::fs::symlink(BINARY, path("ch")).unwrap();
        std::fs::create_dir(path("run")).unwrap();
        for name in ["kernel", "initramfs"] {
            std::fs::File::create(path(name)).unwrap();
        }
        let launch = Launch {
            purpose: Purpose::Boot,
            spec: VmSpec {
                uuid: uuid::Uuid::new_v4(),
                boot: SIZES,
                now: SIZES,
                max: SIZES,
                memory_file: None,
                kernel: path("kernel"),
                initramfs: path("initramfs"),
                cmdline: String::new(),
                disks: Vec::new(),
                net: None,
            },
            run_dir: path("run"),
            serial_log: path("serial.log"),
            vmm_log: path("vmm.log"),
            events: path("events.json"),
            confinement: Confinement::default(),
        };
        let driver = CloudHypervisor::probe(path("ch")).unwrap();
        Self { directory, driver, launch, generation: 1 }
    }

    /// What its VMMs do wrong from now on.
    pub(crate) fn order(&self, orders: &str) {
        write(&self.path("ch.control"), orders.as_bytes());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Gives its guest a disk of its own and a program.
    pub(crate) fn run(&mut self, program: &[&str]) {
        let config = GuestConfig {
            instance_id: "bench".into(),
            hostname: "bench".into(),
            fqdn: None,
            image_filesystem: "ext4".into(),
            argv: program.iter().map(|&word| word.to_owned()).collect(),
            env: Vec::new(),
            working_dir: "/".into(),
            user: String::new(),
            stop_signal: "SIGTERM".into(),
            network: None,
        };
        for (serial, readonly, bytes) in
            [(WRITABLE_DISK_SERIAL, false, vec![0; 4096]), (CONFIG_DISK_SERIAL, true, config.to_disk().unwrap())]
        {
            let path = self.path(serial);
            write(&path, &bytes);
            self.launch.spec.disks.push(DiskSpec { serial: serial.into(), path, readonly });
        }
    }

    /// Starts a VMM of the next generation.
    pub(crate) async fn spawned(&mut self) -> Arc<dyn VmHandle> {
        self.generation += 1;
        self.launch.events = self.path(&format!("events.{}.json", self.generation));
        self.driver.spawn(&self.launch).await.unwrap()
    }

    pub(crate) async fn created(&self) -> Arc<dyn VmHandle> {
        let handle = self.driver.spawn(&self.launch).await.unwrap();
        handle.create().await.unwrap();
        handle
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}
