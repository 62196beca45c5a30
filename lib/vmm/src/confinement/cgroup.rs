//! Limits through cgroup v2: one group per VM, below one of our own at the top of the hierarchy.
//!
//! Invariant: ours lie outside the daemon's own cgroup, so neither a restart of the daemon's unit nor whatever its
//! supervisor does to the unit's processes touches a VM; and below a name of the data directory's own, so that two daemons
//! never see each other's. A group is empty before it is removed; the kernel insists.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use crate::Sizes;

const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
const TOP: &str = "dataplane";
/// More than any file of the control files that are read here.
const MAX_READ: u64 = 1 << 20;
const PERIOD_US: u64 = 100_000;
/// A VMM has a few threads per device and vCPU; what asks for more than this is none.
const MAX_TASKS: u64 = 1024;
/// How often, and how many times, a group whose last process is just going is tried again.
const REMOVE_RETRY: Duration = Duration::from_millis(20);
const REMOVE_TRIES: u32 = 25;

/// The place for the cgroups of one data directory's VMs.
#[derive(Debug, Clone)]
pub struct Cgroups {
    root: PathBuf,
}

impl Cgroups {
    /// Finds the cgroup v2 hierarchy and makes our own part of it. The mark tells data directories apart.
    ///
    /// # Errors
    /// Why there can be no limits, in one line.
    pub fn probe(mark: &str) -> Result<Self, String> {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo");
        let mountinfo = mountinfo.map_err(|error| format!("/proc/self/mountinfo cannot be read: {error}"))?;
        let mount = mount_of(&mountinfo).ok_or("no cgroup v2 hierarchy is mounted")?;
        Self::below(&mount, mark)
    }

    fn below(mount: &Path, mark: &str) -> Result<Self, String> {
        let there = read(&mount.join("cgroup.controllers")).map_err(|error| format!("{}: {error}", mount.display()))?;
        let missing: Vec<_> =
            CONTROLLERS.into_iter().filter(|name| !there.split_whitespace().any(|have| have == *name)).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(format!("cgroup v2 has no controller {missing} here: cgroup v1, or this container, keeps it"));
        }
        let mut directory = mount.to_owned();
        for name in [Some(TOP), Some(mark), None] {
            enable(&directory)
                .map_err(|error| format!("the controllers below {} cannot be enabled: {error}", directory.display()))?;
            let Some(name) = name else { break };
            directory.push(name);
            make_directory(&directory).map_err(|error| format!("{} cannot be made: {error}", directory.display()))?;
        }
        Ok(Self { root: directory })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The group of one VM, by a name that is its alone: what [`crate::Confinement::cgroup`] takes.
    #[must_use]
    pub fn of(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The names and processes of all groups that hold any; those that hold none are removed.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn sweep(&self) -> io::Result<Vec<(String, Vec<u32>)>> {
        let mut held = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() || remove_now(&entry.path()).is_ok() {
                continue;
            }
            let pids = read(&entry.path().join("cgroup.procs"))?;
            let pids = pids.lines().filter_map(|pid| pid.parse().ok()).collect();
            held.push((entry.file_name().to_string_lossy().into_owned(), pids));
        }
        Ok(held)
    }

    /// Removes our own part of the hierarchy, unless there is something in it: for a daemon that ends.
    pub fn retire(&self) {
        if remove_now(&self.root).is_ok() {
            // Another data directory may have its part there.
            let _shared = self.root.parent().map(remove_now);
        }
    }

    /// Kills all that is in a group, by its name.
    ///
    /// # Errors
    /// What the system said; a group that is not there is a success.
    pub fn kill(&self, name: &str) -> io::Result<()> {
        match write(&self.of(name).join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// What one VM's group may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    memory_bytes: u64,
    cpus: u64,
}

impl Limits {
    /// Room for the guest at its largest: its memory, what the VMM and the kernel need to have it, and one CPU more than
    /// the guest has, for the devices.
    pub(crate) fn of(most: &Sizes, overhead_mib: u64) -> Self {
        let tables = most.memory.0 / 32;
        Self { memory_bytes: (most.memory.0 + tables + overhead_mib) << 20, cpus: u64::from(most.vcpus) + 1 }
    }

    fn settings(&self) -> [(&'static str, String); 5] {
        [
            ("memory.max", self.memory_bytes.to_string()),
            // Half a VMM is of no use to anybody.
            ("memory.oom.group", "1".into()),
            ("cpu.max", format!("{} {PERIOD_US}", self.cpus * PERIOD_US)),
            ("cpu.weight", (self.cpus * 100).min(10_000).to_string()),
            ("pids.max", MAX_TASKS.to_string()),
        ]
    }
}

/// Makes the group of one VM, and opens the file by which a process enters it.
pub(crate) fn make(path: &Path, limits: &Limits) -> io::Result<File> {
    make_directory(path)?;
    for (name, value) in limits.settings() {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        write(&path.join(name), &value).map_err(named)?;
    }
    File::options().write(true).open(path.join("cgroup.procs"))
}

/// Removes a group whose VMM has ended, and ends what that has left in it.
pub(crate) async fn remove(path: &Path) {
    // A VMM may have a helper beside it that needs a moment to see that it is gone.
    let _gone = write(&path.join("cgroup.kill"), "1");
    for _ in 0..REMOVE_TRIES {
        match remove_now(path) {
            Ok(()) => return,
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                tokio::time::sleep(REMOVE_RETRY).await;
            }
            Err(error) => {
                tracing::warn!(?path, error = &error as &dyn std::error::Error, "a cgroup stays behind");
                return;
            }
        }
    }
    tracing::warn!(?path, "a cgroup stays behind: something is still in it");
}

fn remove_now(path: &Path) -> io::Result<()> {
    match rustix::fs::rmdir(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn enable(directory: &Path) -> io::Result<()> {
    let file = directory.join("cgroup.subtree_control");
    let enabled = read(&file)?;
    let missing = CONTROLLERS.into_iter().filter(|name| !enabled.split_whitespace().any(|have| have == *name));
    let orders: Vec<_> = missing.map(|name| format!("+{name}")).collect();
    if orders.is_empty() { Ok(()) } else { write(&file, &orders.join(" ")) }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_READ).read_to_string(&mut text)?;
    Ok(text)
}

/// One write: each is an order of its own to the kernel.
fn write(path: &Path, order: &str) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(order.as_bytes())
}

/// The mount point of the cgroup v2 hierarchy (proc(5)): the field behind the root, where the type is `cgroup2`.
fn mount_of(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        (kind.split(' ').next()? == "cgroup2").then_some(())?;
        let point = mount.split(' ').nth(4)?;
        // Blanks in it are written in octal: nobody mounts it there.
        (!point.contains('\\')).then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests {
    use dataplane_types::Mib;

    use super::*;

    #[test]
    fn the_hierarchy_is_found_among_all_mounts() {
        let unified = "24 30 0:22 / /sys rw - sysfs sysfs rw\n31 24 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_of(unified), Some("/sys/fs/cgroup".into()));
        let hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_of(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_of("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
    }

    #[test]
    fn controllers_that_are_elsewhere_are_named() {
        let mount = tempfile::tempdir().unwrap();
        File::create(mount.path().join("cgroup.controllers")).unwrap().write_all(b"hugetlb cpu\n").unwrap();
        let error = Cgroups::below(mount.path(), "mark").unwrap_err();
        assert!(error.contains("no controller memory, pids here"), "{error}");
    }

    #[test]
    fn limits_leave_room_for_the_vmm() {
        let limits = Limits::of(&Sizes { vcpus: 2, memory: Mib(1024) }, 128);
        assert_eq!(limits.settings()[0], ("memory.max", ((1024 + 32 + 128) << 20).to_string()));
        assert_eq!(limits.settings()[2], ("cpu.max", "300000 100000".into()));
        assert_eq!(Limits::of(&Sizes { vcpus: 255, memory: Mib(1) }, 0).settings()[3], ("cpu.weight", "10000".into()));
    }
}
