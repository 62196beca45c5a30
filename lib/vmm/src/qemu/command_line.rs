//! QEMU's command line. Every device has an id and a place of its own on the bus, so that the machine is the same each
//! time it is built.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use dataplane_agent::AGENT_PORT_NAME;
use serde_json::{Value, json};

use super::resize::{self, MEMORY_DEVICE};
use crate::{DiskSpec, Launch, Purpose, VmSpec, VmmError};

/// Slots for devices; those that are free can be filled while the guest runs.
const ROOT_PORTS: usize = 16;
/// Serial bus, balloon, random numbers and network come first.
const FIRST_DISK: usize = 4;
/// Where memory that can grow is, behind all others: a machine without it is not changed by that.
const GROWTH_PORT: usize = ROOT_PORTS;
/// What QEMU takes of a disk's serial; the rest it would cut off in silence.
const MAX_SERIAL: usize = 20;

/// Where the driver's sockets are.
#[derive(Debug, Clone)]
pub(super) struct Sockets {
    /// The daemon's monitor.
    pub(super) qmp: PathBuf,
    /// The second monitor, for when another client sits on the first.
    pub(super) rescue: PathBuf,
    /// The guest's agent.
    pub(super) agent: PathBuf,
    /// The monitor that writes events to a file: a FIFO that it reads from.
    pub(super) events_in: PathBuf,
    /// A link to the event file.
    pub(super) events_out: PathBuf,
    events: PathBuf,
}

impl Sockets {
    pub(super) fn below(run_dir: &Path) -> Self {
        let path = |name: &str| run_dir.join(name);
        Self {
            qmp: path("qmp.sock"),
            rescue: path("rescue.sock"),
            agent: path("agent.sock"),
            events_in: path("events.in"),
            events_out: path("events.out"),
            events: path("events"),
        }
    }
}

/// How the guest's instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    Kvm,
    /// Software emulation.
    Tcg,
}

/// What it gets by descriptor, as numbered in the child.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptors {
    /// The file of the guest's console, for appending only.
    pub(super) console: RawFd,
    /// The TAP.
    pub(super) tap: Option<RawFd>,
}

/// The arguments for a launch.
///
/// # Errors
/// [`VmmError::Host`] for a disk that cannot be described: its path is no UTF-8, or its serial too long;
/// [`VmmError::Unsupported`] for memory in a file that is to grow.
pub(super) fn arguments(
    launch: &Launch,
    machine: &str,
    accelerator: Accelerator,
    descriptors: Descriptors,
) -> Result<Vec<OsString>, VmmError> {
    if launch.spec.memory_file.is_some() && launch.spec.max.memory > launch.spec.boot.memory {
        return Err(VmmError::Unsupported("grow memory that lies in a file"));
    }
    let mut line = CommandLine::default();
    line.machine(launch, machine, accelerator);
    line.monitors(&Sockets::below(&launch.run_dir), descriptors.console);
    line.payload(launch, accelerator);
    line.fixed_devices(launch);
    for (index, disk) in launch.spec.disks.iter().enumerate() {
        line.disk(disk, FIRST_DISK + index)?;
    }
    if let (Some(net), Some(tap)) = (&launch.spec.net, descriptors.tap) {
        line.add("-netdev", format!("tap,id=n0,fd={tap},vhost=off"));
        line.add("-device", format!("virtio-net-pci,id=net,netdev=n0,mac={},romfile=,bus=rp3", net.mac));
    }
    line.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    Ok(line.0)
}

#[derive(Debug, Default)]
struct CommandLine(Vec<OsString>);

impl CommandLine {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn add(&mut self, flag: &str, value: impl Into<OsString>) {
        self.flag(flag);
        self.0.push(value.into());
    }

    /// An option list that ends in a path: in those, a comma is written twice.
    fn add_path(&mut self, flag: &str, before: &str, path: &Path, after: &str) {
        let mut value = before.as_bytes().to_vec();
        for byte in path.as_os_str().as_bytes() {
            value.extend(std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 }));
        }
        value.extend(after.as_bytes());
        self.add(flag, OsString::from_vec(value));
    }

    fn machine(&mut self, launch: &Launch, machine: &str, accelerator: Accelerator) {
        let spec = &launch.spec;
        self.flag("-nodefaults");
        self.flag("-no-user-config");
        self.add("-display", "none");
        let memory = if spec.memory_file.is_some() { ",memory-backend=ram" } else { "" };
        self.add("-machine", format!("{machine},usb=off,smbus=off,vmport=off{memory}"));
        let (accelerator, cpu) = match accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            // Without a bound the cache of translated code grows far beyond what a small guest needs. Threads of their own
            // divide it among them, and QEMU aborts when a processor that is plugged in later finds no part left.
            Accelerator::Tcg if spec.max.vcpus > spec.boot.vcpus => ("tcg,tb-size=32,thread=single", "max"),
            Accelerator::Tcg => ("tcg,tb-size=32,thread=multi", "max"),
        };
        self.add("-accel", accelerator);
        self.add("-cpu", cpu);
        self.sizes(spec);
        self.add("-uuid", spec.uuid.to_string());
        // The process outlives its guest, and each way in which a guest ends leaves another trace: a poweroff and a
        // reset their reason in the event file, a panic a state of its own.
        self.add("-action", "reboot=shutdown,shutdown=pause,panic=pause");
        self.flag("-S");
        if launch.purpose == Purpose::Restore {
            self.add("-incoming", "defer");
        }
    }

    /// What the machine boots with, and room for what it may grow to. A restored machine begins with the same: what was
    /// plugged in later is in the snapshot, or is plugged in before it is loaded.
    fn sizes(&mut self, spec: &VmSpec) {
        let (vcpus, memory) = (spec.boot.vcpus, spec.boot.memory.0);
        let most = spec.max.vcpus;
        self.add(
            "-smp",
            match most > vcpus {
                true => format!("{vcpus},sockets=1,cores={most},threads=1,maxcpus={most}"),
                false => vcpus.to_string(),
            },
        );
        self.add(
            "-m",
            match resize::room(spec) {
                0 => format!("{memory}M"),
                room => format!("size={memory}M,maxmem={}M", memory + room),
            },
        );
        if let Some(file) = &spec.memory_file {
            self.add_path(
                "-object",
                &format!("memory-backend-file,id=ram,size={memory}M,share=on,mem-path="),
                file,
                "",
            );
        }
    }

    fn monitors(&mut self, sockets: &Sockets, console: RawFd) {
        for (id, path) in [("qmp", &sockets.qmp), ("rescue", &sockets.rescue)] {
            self.add_path("-chardev", &format!("socket,id={id},path="), path, ",server=on,wait=off");
            self.add("-mon", format!("chardev={id},mode=control"));
        }
        // QEMU appends `.in` and `.out` itself.
        self.add_path("-chardev", "pipe,id=events,path=", &sockets.events, "");
        self.add("-mon", "chardev=events,mode=control");
        self.add("-add-fd", format!("fd={console},set=0"));
        self.add("-chardev", "file,id=console,path=/dev/fdset/0,append=on");
        self.add("-serial", "chardev:console");
    }

    /// What the kernel is told beyond the launch's own words is about this machine, not about the VM.
    fn payload(&mut self, launch: &Launch, accelerator: Accelerator) {
        self.add("-kernel", launch.spec.kernel.as_os_str());
        self.add("-initrd", launch.spec.initramfs.as_os_str());
        let mut cmdline = launch.spec.cmdline.clone();
        if accelerator == Accelerator::Tcg {
            // On a busy host the ticks that Linux counts as it boots can come too late, and it would panic.
            cmdline.push_str(" no_timer_check");
        }
        if resize::room(&launch.spec) > 0 {
            // Memory that may come lies above 4 GiB, for which Linux would keep 64 MiB to bounce what virtio never does.
            cmdline.push_str(" swiotlb=noforce");
        }
        self.add("-append", cmdline);
    }

    fn fixed_devices(&mut self, launch: &Launch) {
        let agent = &Sockets::below(&launch.run_dir).agent;
        for port in 0..ROOT_PORTS {
            let slot = port + 1;
            self.add("-device", format!("pcie-root-port,id=rp{port},chassis={slot},slot={slot},bus=pcie.0"));
        }
        self.add_path("-chardev", "socket,id=agent,path=", agent, ",server=on,wait=off");
        self.add("-device", "virtio-serial-pci,id=serial,bus=rp0");
        let port = format!("virtserialport,id=agent-port,bus=serial.0,chardev=agent,name={AGENT_PORT_NAME}");
        self.add("-device", port);
        // A page given back would become a hole in a memory file, whose space is promised to the guest.
        let reporting = if launch.spec.memory_file.is_some() { "off" } else { "on" };
        let balloon =
            format!("virtio-balloon-pci,id=balloon,free-page-reporting={reporting},deflate-on-oom=on,bus=rp1");
        self.add("-device", balloon);
        self.add("-object", "rng-random,id=urandom,filename=/dev/urandom");
        self.add("-device", "virtio-rng-pci,id=rng,rng=urandom,bus=rp2");
        self.add("-device", "pvpanic-pci,id=pvpanic");
        self.growth(resize::room(&launch.spec));
    }

    /// Memory that is there and not the guest's before it is asked to take it.
    fn growth(&mut self, room: u64) {
        if room == 0 {
            return;
        }
        let slot = GROWTH_PORT + 1;
        self.add("-device", format!("pcie-root-port,id=rp{GROWTH_PORT},chassis={slot},slot={slot},bus=pcie.0"));
        self.add("-object", format!("memory-backend-ram,id=growth,size={room}M"));
        let block = resize::MEMORY_BLOCK;
        let of = format!("memdev=growth,block-size={block}M,requested-size=0,bus=rp{GROWTH_PORT}");
        self.add("-device", format!("virtio-mem-pci,id={MEMORY_DEVICE},{of}"));
    }

    fn disk(&mut self, disk: &DiskSpec, port: usize) -> Result<(), VmmError> {
        let DiskSpec { serial, path, readonly } = disk;
        let wrong = |message: &'static str| VmmError::Host {
            act: "describe disk",
            path: path.clone(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, message),
        };
        let name = path.to_str().ok_or_else(|| wrong("the path is not UTF-8"))?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if serial.is_empty() || serial.len() > MAX_SERIAL || !serial.bytes().all(plain) {
            return Err(wrong("its serial must be 1 to 20 letters, digits, '-', '_' or '.'"));
        }
        if port >= ROOT_PORTS {
            return Err(wrong("there are more disks than slots"));
        }
        let (file, format) = block_nodes(serial, name, *readonly);
        self.add("-blockdev", file.to_string());
        self.add("-blockdev", format.to_string());
        // An I/O error is the guest's affair: pausing the machine would only look like a hang.
        let errors = "rerror=report,werror=report";
        let device = format!("virtio-blk-pci,id=d-{serial},drive=b-{serial},serial={serial},{errors},bus=rp{port}");
        self.add("-device", device);
        Ok(())
    }
}

/// The file, locked against other writers, and the raw image in it.
fn block_nodes(serial: &str, path: &str, readonly: bool) -> (Value, Value) {
    let mut file = json!({
        "driver": "file", "node-name": format!("f-{serial}"), "filename": path, "locking": "on",
        "read-only": readonly, "auto-read-only": false,
    });
    let mut raw = json!({
        "driver": "raw", "node-name": format!("b-{serial}"), "file": format!("f-{serial}"), "read-only": readonly,
    });
    if !readonly {
        // Discarded and zeroed blocks give their space back.
        file["discard"] = json!("unmap");
        raw["discard"] = json!("unmap");
        raw["detect-zeroes"] = json!("unmap");
    }
    (file, raw)
}

/// The arguments as one readable line, for a log.
pub(super) fn shown(arguments: &[OsString]) -> String {
    let shown: Vec<_> = arguments.iter().map(|argument| OsStr::display(argument).to_string()).collect();
    shown.join(" ")
}

#[cfg(test)]
pub(super) mod tests;
