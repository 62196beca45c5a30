//! What a child needs to be confined, made ready before the fork.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};

use crate::confinement::{cgroup, landlock};
use crate::process::hand_over;
use crate::{Launch, SHARED_GID, VmmError};

/// What a VMM needs of the host beyond its VM's files.
#[derive(Debug)]
pub(crate) struct Needs<'a> {
    /// The binary.
    pub(crate) binary: &'a Path,
    /// Devices that it opens by name.
    pub(crate) devices: &'a [&'a str],
    /// Files that it opens again by descriptor.
    pub(crate) files: &'a [&'a Path],
    /// Memory of its own, in MiB, beside the guest's.
    pub(crate) overhead_mib: u64,
}

/// The confinement of one child. The default confines nothing.
#[derive(Debug, Default)]
pub(crate) struct Jail {
    pub(super) credentials: Option<Credentials>,
    /// The open `cgroup.procs`, and the cgroup's directory.
    pub(super) cgroup: Option<(File, PathBuf)>,
    pub(super) ruleset: Option<OwnedFd>,
}

/// Whose process the child becomes.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
}

impl Jail {
    /// Hands over the files of a launch, and makes its cgroup and its ruleset.
    ///
    /// # Errors
    /// [`VmmError::Host`].
    pub(crate) fn prepare(launch: &Launch, needs: &Needs<'_>) -> Result<Self, VmmError> {
        hand_over(launch)?;
        let credentials = launch.confinement.identity.map(|identity| {
            let devices = needs.devices.iter().filter_map(|device| group_of(Path::new(device)));
            let groups = std::iter::once(Gid::from_raw(SHARED_GID)).chain(devices).collect();
            Credentials { uid: Uid::from_raw(identity.uid), gid: Gid::from_raw(identity.gid), groups }
        });
        let cgroup = launch.confinement.cgroup.as_deref().map(|path| {
            let made = cgroup::make(path, &cgroup::Limits::of(&launch.spec.max, needs.overhead_mib));
            let made = made.map_err(|source| VmmError::Host { act: "make the cgroup", path: path.to_owned(), source });
            made.map(|procs| (procs, path.to_owned()))
        });
        let ruleset = launch.confinement.landlock.as_deref().map(|reach| {
            let made = landlock::ruleset(&rules(launch, needs, reach));
            made.map_err(|source| VmmError::Host { act: "restrict the VMM to", path: launch.run_dir.clone(), source })
        });
        Ok(Self { credentials, cgroup: cgroup.transpose()?, ruleset: ruleset.transpose()? })
    }
}

fn rules<'a>(launch: &'a Launch, needs: &Needs<'a>, reach: &'a [PathBuf]) -> Vec<landlock::Rule<'a>> {
    use landlock::Access::{Read, Run, Write};
    let spec = &launch.spec;
    let mut rules: Vec<_> = landlock::SYSTEM.iter().map(|(path, access)| (Path::new(*path), *access)).collect();
    rules.push((needs.binary, Run));
    rules.extend(needs.devices.iter().map(|device| (Path::new(*device), Write)));
    rules.extend(needs.files.iter().map(|file| (*file, Write)));
    rules.extend([spec.kernel.as_path(), &spec.initramfs].map(|path| (path, Read)));
    rules.extend(spec.disks.iter().map(|disk| (disk.path.as_path(), if disk.readonly { Read } else { Write })));
    rules.extend(spec.memory_file.iter().map(|file| (file.as_path(), Write)));
    rules.push((&launch.run_dir, Write));
    rules.extend(reach.iter().map(|path| (path.as_path(), Write)));
    rules
}

/// The group through which a device can be used; `None` when everybody may, or nobody but root.
fn group_of(device: &Path) -> Option<Gid> {
    const EVERYBODY: u32 = 0o006;
    const GROUP: u32 = 0o060;
    let metadata = std::fs::metadata(device).ok()?;
    let (mode, gid) = (metadata.mode(), metadata.gid());
    let through_group = mode & EVERYBODY != EVERYBODY && mode & GROUP == GROUP && gid != 0;
    through_group.then(|| Gid::from_raw(gid))
}
