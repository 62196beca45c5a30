//! Who uses a disk: named for the host, so that somebody can be told what to end.
//!
//! Bounded: a guest with more processes or open files than are looked at here has its holders named in part.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc::dev_t;
use nix::sys::stat::{Mode, fstatat};

const MAX_PROCESSES: usize = 4096;
const MAX_FILES: usize = 4096;
const MAX_TEXT: u64 = 1 << 20;
const MAX_NAMED: usize = 5;

/// Processes with a file, a directory or a mapping on the device.
pub(super) fn using(proc: BorrowedFd<'_>, device: dev_t) -> String {
    name(proc, |pid| has_file(proc, pid, device) || has_mapping(proc, pid, device))
}

/// Processes that see the device mounted.
pub(super) fn mounting(proc: BorrowedFd<'_>, device: dev_t) -> String {
    name(proc, |pid| {
        let mounts = read(proc, &format!("{pid}/mountinfo")).map(|text| super::mounts::parse(&text));
        mounts.is_ok_and(|mounts| mounts.iter().any(|mount| mount.device == device))
    })
}

/// A file below `directory`, as text, up to a bound.
pub(crate) fn read(directory: BorrowedFd<'_>, path: &str) -> io::Result<String> {
    let file = File::from(openat(directory, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(MAX_TEXT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn name(proc: BorrowedFd<'_>, holds: impl Fn(&str) -> bool) -> String {
    let pids = list(proc, ".", MAX_PROCESSES).into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let mut holders = pids.filter(|pid| holds(pid));
    let mut text = String::new();
    for pid in holders.by_ref().take(MAX_NAMED) {
        let program = read(proc, &format!("{pid}/comm")).unwrap_or_default();
        let _ = write!(text, "{}{pid} ({})", if text.is_empty() { "" } else { ", " }, program.trim_end());
    }
    match (text.is_empty(), holders.count()) {
        (true, _) => "by no process that could be found".to_owned(),
        (false, 0) => format!("by {text}"),
        (false, more) => format!("by {text} and {more} more"),
    }
}

fn has_file(proc: BorrowedFd<'_>, pid: &str, device: dev_t) -> bool {
    let is_on = |path: &str| fstatat(proc, path, AtFlags::empty()).is_ok_and(|seen| seen.st_dev == device);
    ["cwd", "root", "exe"].iter().any(|link| is_on(&format!("{pid}/{link}")))
        || list(proc, &format!("{pid}/fd"), MAX_FILES).iter().any(|fd| is_on(&format!("{pid}/fd/{fd}")))
}

/// `address perms offset major:minor inode path`, the numbers of the device in hex.
fn has_mapping(proc: BorrowedFd<'_>, pid: &str, device: dev_t) -> bool {
    let number = format!("{:02x}:{:02x}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let maps = read(proc, &format!("{pid}/maps")).unwrap_or_default();
    maps.lines().any(|line| line.split(' ').nth(3) == Some(number.as_str()))
}

fn list(directory: impl AsFd, path: &str, limit: usize) -> Vec<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(mut entries) = Dir::openat(directory, path, flags, Mode::empty()) else { return Vec::new() };
    let names = entries.iter().flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    names.filter(|name| !name.starts_with('.')).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn whoever_has_a_file_open_is_named() {
        let proc = File::open("/proc").unwrap();
        let own = File::open("/proc/self/exe").unwrap().metadata().unwrap().dev();
        let pid = std::process::id().to_string();
        assert!(has_file(proc.as_fd(), &pid, own) && has_mapping(proc.as_fd(), &pid, own));
        assert!(using(proc.as_fd(), own).starts_with("by "));
        assert_eq!(using(proc.as_fd(), 0xfff_ffff), "by no process that could be found");
        let root = std::fs::metadata("/proc").unwrap().dev();
        assert!(mounting(proc.as_fd(), root).starts_with("by "));
    }
}
