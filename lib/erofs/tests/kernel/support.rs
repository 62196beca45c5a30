//! Images on disk, the tools that judge them, and the kernel's own view of them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::model::{Seen, Xattrs};

/// A file without a name.
pub(crate) fn image_file() -> File {
    tempfile::tempfile().expect("create a file")
}

/// How programs that we start can open a file of ours.
pub(crate) fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
}

/// Runs a program that has to succeed, and gives its output.
pub(crate) fn run(program: &str, arguments: &[&OsStr]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

/// Lets the format's own tools judge an image, all contents read.
pub(crate) fn check(image: &File) {
    let path = path_of(image);
    // It recurses, and needs more than the usual stack for a thousand directories.
    let script = "ulimit -s unlimited; exec fsck.erofs --extract \"$1\"";
    let text = run("sh", &["-c".as_ref(), script.as_ref(), "sh".as_ref(), path.as_ref()]);
    assert_eq!(text, "", "it has nothing to say");
    let text = run("dump.erofs", &["-s".as_ref(), path.as_ref()]);
    assert!(text.contains("Filesystem UUID"), "{text}");
}

/// Runs something with the image mounted, in a mount namespace that only the thread that does so is in.
pub(crate) fn mounted<T: Send>(image: &File, look: impl FnOnce(&Path) -> T + Send) -> T {
    let path = path_of(image);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("a namespace of its own");
            run("mount", &["--make-rprivate".as_ref(), "/".as_ref()]);
            let place = tempfile::tempdir().expect("make a directory");
            let arguments = ["-t", "erofs", "-o", "ro,loop,acl,user_xattr"].map(OsStr::new);
            run("mount", &[&arguments[..], &[path.as_ref(), place.path().as_ref()]].concat());
            let seen = look(place.path());
            run("umount", &[place.path().as_ref()]);
            seen
        });
        looking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Everything below a directory, by path.
pub(crate) fn survey(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut found = BTreeMap::new();
    let mut groups: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let name = path.as_os_str().as_bytes()[root.as_os_str().len()..].to_owned();
        let metadata = path.symlink_metadata().expect("a node");
        let kind = metadata.file_type();
        if kind.is_dir() {
            todo.extend(path.read_dir().expect("list").map(|entry| entry.expect("an entry").path()));
        } else {
            groups.entry(metadata.ino()).or_default().push(name.clone());
        }
        let content = if kind.is_file() {
            std::fs::read(&path).expect("read")
        } else if kind.is_symlink() {
            path.read_link().expect("a link").as_os_str().as_bytes().to_owned()
        } else {
            Vec::new()
        };
        let device = if kind.is_char_device() || kind.is_block_device() { metadata.rdev() } else { 0 };
        let seen = Seen {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            device: (rustix::fs::major(device), rustix::fs::minor(device)),
            links: metadata.nlink(),
            xattrs: xattrs(&path),
            content,
            names: Vec::new(),
        };
        assert!(found.insert(name, seen).is_none(), "{path:?} is listed twice");
    }
    for mut names in groups.into_values() {
        names.sort();
        for name in &names {
            found.get_mut(name).expect("found above").names.clone_from(&names);
        }
    }
    found
}

fn xattrs(path: &Path) -> Xattrs {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut names).expect("list attributes");
    let mut all: Xattrs = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65_536];
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value).expect("read an attribute");
            value.truncate(length);
            (name.to_owned(), value)
        })
        .collect();
    all.sort();
    all
}

/// The two differ, and where: whole maps would be unreadable.
pub(crate) fn assert_same(expected: &BTreeMap<Vec<u8>, Seen>, found: &BTreeMap<Vec<u8>, Seen>) {
    for (path, expected) in expected {
        let name = path.escape_ascii();
        let found = found.get(path).unwrap_or_else(|| panic!("{name} is missing"));
        if expected.content != found.content {
            let at = expected.content.iter().zip(&found.content).position(|(a, b)| a != b);
            panic!("{name}: {} bytes, {} expected, differ at {at:?}", found.content.len(), expected.content.len());
        }
        assert!(expected == found, "{name}:\n{expected:?}\n{found:?}");
    }
    let more: Vec<_> = found.keys().filter(|path| !expected.contains_key(*path)).collect();
    assert!(more.is_empty(), "{more:?} should not be there");
}
