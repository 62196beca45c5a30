//! What of the confinement this host and its operator allow, decided once at start and told plainly.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

use super::cgroup::Cgroups;
use super::landlock::landlock_version;
use super::{Confinement, VM_UIDS, VmIdentity};

/// What the operator wants: everything, but for debugging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfinementSwitches {
    /// A uid per VM.
    pub uids: bool,
    /// Limits on memory, processors and processes.
    pub limits: bool,
    /// Landlock.
    pub landlock: bool,
}

impl Default for ConfinementSwitches {
    fn default() -> Self {
        Self { uids: true, limits: true, landlock: true }
    }
}

/// Confines VMs as far as this host can.
#[derive(Debug, Clone)]
pub struct Confiner {
    uids: Result<(), String>,
    limits: Result<Cgroups, String>,
    landlock: Result<u32, String>,
}

impl Confiner {
    /// Nothing is confined beyond what every VMM is.
    #[must_use]
    pub fn none() -> Self {
        let off = || "not asked for".to_owned();
        Self { uids: Err(off()), limits: Err(off()), landlock: Err(off()) }
    }

    /// Looks at the host. `mark` tells this data directory's cgroups from others'; VMs must reach all `paths`, each an
    /// existing directory or file, and open all `devices`.
    #[must_use]
    pub fn probe(switches: ConfinementSwitches, mark: &str, paths: &[&Path], devices: &[&Path]) -> Self {
        let wanted = |wanted: bool| if wanted { Ok(()) } else { Err("switched off".to_owned()) };
        let landlock = || landlock_version().ok_or_else(|| "this kernel has no Landlock".to_owned());
        Self {
            uids: wanted(switches.uids).and_then(|()| check_uids(paths, devices)),
            limits: wanted(switches.limits).and_then(|()| Cgroups::probe(mark)),
            landlock: wanted(switches.landlock).and_then(|()| landlock()),
        }
    }

    /// Each part by name: what it does, or why it does not.
    pub fn report(&self) -> [(&'static str, Result<String, String>); 3] {
        let uids = self.uids.clone().map(|()| format!("one uid per VM, {} to {}", VM_UIDS.start(), VM_UIDS.end()));
        let limits = self.limits.as_ref().map(|groups| format!("cgroup v2 below {}", groups.root().display()));
        let landlock = self.landlock.as_ref().map(|version| format!("Landlock version {version}"));
        [("uids", uids), ("limits", limits.map_err(Clone::clone)), ("landlock", landlock.map_err(Clone::clone))]
    }

    /// The confinement of one VM: by its uid, a name that is its alone, and the directories below which it may be told to
    /// open files while it runs.
    #[must_use]
    pub fn confine(&self, uid: Option<u32>, name: &str, reach: Vec<PathBuf>) -> Confinement {
        Confinement {
            identity: uid.filter(|_| self.uids.is_ok()).map(VmIdentity::of),
            cgroup: self.limits.as_ref().ok().map(|cgroups| cgroups.of(name)),
            landlock: self.landlock.is_ok().then_some(reach),
        }
    }

    /// Whose the TAP of a VM has to be.
    #[must_use]
    pub fn owner(&self, uid: Option<u32>) -> u32 {
        uid.filter(|_| self.uids.is_ok()).unwrap_or_else(|| geteuid().as_raw())
    }

    /// The cgroups of VMs, where there are any.
    #[must_use]
    pub fn cgroups(&self) -> Option<&Cgroups> {
        self.limits.as_ref().ok()
    }
}

/// What a daemon needs to give files and processes away, and to handle them afterwards.
const NEEDED: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID);

fn check_uids(paths: &[&Path], devices: &[&Path]) -> Result<(), String> {
    let have = capabilities(None).map_err(|error| format!("the daemon's capabilities cannot be read: {error}"))?;
    if !have.effective.contains(NEEDED) {
        return Err(
            "the daemon is not root, or lacks one of CAP_CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETPCAP, SETUID"
                .into(),
        );
    }
    for path in paths {
        if let Some(closed) = closed_above(path) {
            return Err(format!("VMs cannot reach {} through {}: chmod o+x it", path.display(), closed.display()));
        }
    }
    devices.iter().try_for_each(|device| check_device(device))
}

/// The first directory on the way to a path that others may not pass.
fn closed_above(path: &Path) -> Option<PathBuf> {
    const OTHERS_PASS: u32 = 0o001;
    let path = std::path::absolute(path).ok()?;
    let ways = path.ancestors().collect::<Vec<_>>();
    let closed = |way: &&&Path| std::fs::metadata(way).is_ok_and(|it| it.is_dir() && it.mode() & OTHERS_PASS == 0);
    ways.iter().rev().find(closed).map(|way| way.to_path_buf())
}

fn check_device(device: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(device).map_err(|error| format!("{}: {error}", device.display()))?;
    let (everybody, group) = (metadata.mode() & 0o006 == 0o006, metadata.mode() & 0o060 == 0o060);
    if everybody || (group && metadata.gid() != 0) {
        return Ok(());
    }
    let device = device.display();
    Err(format!("{device} is root's alone: give it to a group (chgrp kvm {device}; chmod 660 {device})"))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_off_confines_nothing_and_says_so() {
        let off = ConfinementSwitches { uids: false, limits: false, landlock: false };
        let confiner = Confiner::probe(off, "mark", &[], &[]);
        for (name, part) in confiner.report() {
            assert_eq!(part, Err("switched off".into()), "{name}");
        }
        assert_eq!(confiner.confine(Some(*VM_UIDS.start()), "vm", Vec::new()), Confinement::default());
        assert_eq!(confiner.owner(Some(*VM_UIDS.start())), geteuid().as_raw());
        assert!(confiner.cgroups().is_none());
    }

    #[test]
    fn what_is_on_confines() {
        let confiner =
            Confiner { uids: Ok(()), limits: Err("no cgroup v2 hierarchy is mounted".into()), landlock: Ok(7) };
        let confined = confiner.confine(Some(1_900_000_007), "vm", vec!["/data".into()]);
        assert_eq!(confined.identity, Some(VmIdentity { uid: 1_900_000_007, gid: 1_900_000_007 }));
        assert_eq!((confined.cgroup, confined.landlock), (None, Some(vec!["/data".into()])));
        assert_eq!(confiner.owner(Some(1_900_000_007)), 1_900_000_007);
        assert_eq!(confiner.confine(None, "vm", Vec::new()).identity, None);
    }

    #[test]
    fn closed_directories_and_devices_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::set_permissions(&inner, Permissions::from_mode(0o711)).unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).unwrap();
        assert_eq!(closed_above(&inner), None);
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(closed_above(&inner).as_deref(), Some(directory.path()));
        let device = inner.join("device");
        std::fs::File::create(&device).unwrap();
        std::fs::set_permissions(&device, Permissions::from_mode(0o600)).unwrap();
        assert!(check_device(&device).unwrap_err().contains("chgrp kvm"));
        std::fs::set_permissions(&device, Permissions::from_mode(0o666)).unwrap();
        assert_eq!(check_device(&device), Ok(()));
    }
}
