//! Control groups for programs that run for a host: whatever one of them starts stays in its group, in any session, so
//! that all of it can be killed.
//!
//! Invariant: nothing waits, and nobody is ever moved: a process is made in its group, which costs no more than making
//! one anywhere. Groups are used again once they are empty. They lie in a directory of our own in the kernel's one
//! hierarchy, which is held by a descriptor and mounted nowhere. Without that hierarchy there are no groups.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{read, write};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// The directory of ours.
const NAME: &str = "dataplane";
/// How many groups with somebody left in them are looked at before another one is made.
const LOOKS: usize = 4;

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// None where the kernel has none.
    root: Option<Arc<OwnedFd>>,
    empty: Vec<Group>,
    /// Programs have left others behind in these.
    left: VecDeque<Group>,
    made: u64,
}

/// One group, for one program at a time.
#[derive(Debug)]
pub(crate) struct Group {
    root: Arc<OwnedFd>,
    name: String,
}

impl Groups {
    /// Finds the kernel's hierarchy.
    pub(crate) fn open() -> Result<Self, Errno> {
        let of = |errno: rustix::io::Errno| Errno::from_raw(errno.raw_os_error());
        let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC).map_err(of)?;
        fsconfig_create(context.as_fd()).map_err(of)?;
        let flags = MountAttrFlags::empty();
        let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(of)?;
        Self::inside(&mount, NAME)
    }

    fn inside(hierarchy: &OwnedFd, name: &str) -> Result<Self, Errno> {
        make(hierarchy, name)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = openat(hierarchy, name, flags, Mode::empty())?;
        Ok(Self { root: Some(Arc::new(root)), ..Self::default() })
    }

    /// A group with nobody in it; none where it cannot be had.
    pub(crate) fn take(&mut self) -> Option<Group> {
        let root = self.root.as_ref()?;
        for _ in 0..LOOKS.min(self.left.len()) {
            let group = self.left.pop_front()?;
            if group.is_empty() {
                self.empty.push(group);
            } else {
                self.left.push_back(group);
            }
        }
        if let Some(group) = self.empty.pop() {
            return Some(group);
        }
        self.made += 1;
        let name = self.made.to_string();
        make(root, &name).ok()?;
        Some(Group { root: Arc::clone(root), name })
    }

    /// Takes back a group whose program has ended.
    pub(crate) fn give_back(&mut self, group: Group) {
        if group.is_empty() {
            self.empty.push(group);
        } else {
            self.left.push_back(group);
        }
    }
}

impl Group {
    /// For making a process in it.
    pub(crate) fn directory(&self) -> Option<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(self.root.as_ref(), self.name.as_str(), flags, Mode::empty()).ok()
    }

    /// Ends everybody in it. A kernel that cannot leaves them alone.
    pub(crate) fn kill(&self) {
        if let Ok(file) = self.file("cgroup.kill", OFlag::O_WRONLY) {
            let _ = write(file, b"1");
        }
    }

    fn is_empty(&self) -> bool {
        let mut text = [0; 256];
        let count = self.file("cgroup.events", OFlag::O_RDONLY).and_then(|file| read(file, &mut text)).unwrap_or(0);
        text[..count].split(|byte| *byte == b'\n').any(|line| line == b"populated 0")
    }

    fn file(&self, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        openat(self.root.as_ref(), format!("{}/{name}", self.name).as_str(), flags | OFlag::O_CLOEXEC, Mode::empty())
    }
}

fn make(directory: &OwnedFd, name: &str) -> Result<(), Errno> {
    match mkdirat(directory, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{Pid, UnlinkatFlags, pipe, setsid, unlinkat};

    use super::*;
    use crate::sys::fork_for_system_calls_only as fork;

    /// A hierarchy with a directory that goes when the test does.
    struct Place(OwnedFd, String, usize);

    impl Drop for Place {
        fn drop(&mut self) {
            let groups = (1..=self.2).map(|name| format!("{}/{name}", self.1)).chain([self.1.clone()]);
            groups.for_each(|path| unlinkat(&self.0, path.as_str(), UnlinkatFlags::RemoveDir).unwrap());
        }
    }

    fn groups(name: &str) -> (Groups, Place) {
        let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_create(context.as_fd()).unwrap();
        let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
        let name = format!("dataplane-test-{name}-{}", std::process::id());
        (Groups::inside(&mount, &name).unwrap(), Place(mount, name, 1))
    }

    /// Waits for the end of all in a group, which nothing tells.
    fn until_empty(group: &Group) {
        for _ in 0..1000 {
            if group.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("somebody stays in the group");
    }

    #[test]
    #[ignore = "needs root: makes a control group"]
    fn whoever_leaves_the_session_is_killed_all_the_same() {
        let (mut groups, _place) = groups("kill");
        let group = groups.take().unwrap();
        let (heard, said) = pipe().unwrap();
        let directory = group.directory().unwrap();
        let child = fork(Some(directory.as_fd()), || {
            // Its child is in a session of its own, and nobody's.
            let _ = fork(None, || {
                let _ = setsid();
                let _ = write(&said, b"x");
                loop {
                    nix::unistd::pause();
                }
            });
            7
        });
        let status = waitpid(Pid::from_raw(child.unwrap()), None).unwrap();
        assert!(matches!(status, WaitStatus::Exited(_, 7)), "{status:?}");
        read(&heard, &mut [0]).unwrap();
        assert!(!group.is_empty());
        groups.give_back(group);
        assert_eq!((groups.empty.len(), groups.left.len()), (0, 1));
        groups.left[0].kill();
        until_empty(&groups.left[0]);
        let again = groups.take().unwrap();
        assert_eq!((again.name.as_str(), groups.made), ("1", 1), "a group is used again");
    }

    #[test]
    #[ignore = "needs root: makes a control group"]
    fn a_thousand_programs_need_one_group() {
        let (mut groups, _place) = groups("again");
        for _ in 0..1000 {
            let group = groups.take().unwrap();
            let directory = group.directory().unwrap();
            let child = fork(Some(directory.as_fd()), || 0).unwrap();
            waitpid(Pid::from_raw(child), None).unwrap();
            until_empty(&group);
            groups.give_back(group);
        }
        assert_eq!(groups.made, 1);
        assert!(Groups::default().take().is_none());
    }
}
