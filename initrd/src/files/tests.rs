//! Trees out of and into a directory of this machine, with GNU tar as the other side. As root, for owners and devices.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

use super::*;

const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const BINARY: &[u8] = b"\0\n=\xff 9 a=b\n";
const LARGE: u64 = 12 << 20;
const HOLE: u64 = 1 << 20;

fn place(path: &Path) -> Place {
    Place { path: path.to_str().unwrap().to_owned(), follow: false }
}

fn set(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 100];
    lgetxattr(path, name, &mut value).ok().map(|length| value[..length].to_vec())
}

/// A tree with holes and attributes, in a directory `tree`.
fn lay_out(at: &Path) {
    let tree = at.join("tree");
    let long = tree.join("d".repeat(120));
    fs::create_dir_all(&long).unwrap();
    for (path, holes) in [(tree.join("few"), 1), (long.join("n".repeat(200)), 40)] {
        let file = File::create(path).unwrap();
        (0..holes).for_each(|number| file.write_all_at(b"some words", number * 2 * LARGE / 100 + HOLE).unwrap());
        file.set_len(LARGE).unwrap();
    }
    File::create(tree.join("nothing")).unwrap().set_len(LARGE).unwrap();
    File::create(tree.join("full")).unwrap().write_all(&vec![7; 100_000]).unwrap();
    File::create(tree.join("empty")).unwrap();
    symlink("full", tree.join("link")).unwrap();
    fs::hard_link(tree.join("full"), tree.join("same")).unwrap();
    nix::unistd::mkfifo(&tree.join("fifo"), Mode::from_bits_truncate(0o620)).unwrap();
    set(&tree.join("full"), "security.capability", &CAPABILITY);
    set(&tree.join("full"), "user.empty", b"");
    set(&tree.join("few"), "user.a=%25b", BINARY);
    set(&tree, "user.of.a.directory", b"d");
    // More names than are looked for at first.
    (0..9).for_each(|number| set(&tree.join("few"), &format!("user.{}{number}", "n".repeat(50)), b"v"));
    set(&tree.join("link"), "trusted.of.a.link", b"l");
    set(&tree.join("fifo"), "trusted.of.a.pipe", b"p");
    fs::set_permissions(tree.join("full"), fs::Permissions::from_mode(0o4750)).unwrap();
    std::os::unix::fs::lchown(tree.join("link"), Some(12), Some(13)).unwrap();
    fs::set_permissions(&long, fs::Permissions::from_mode(0o700)).unwrap();
}

/// Everything of a node that is to be the same.
fn told(path: &Path) -> String {
    let metadata = fs::symlink_metadata(path).unwrap();
    let owner = (metadata.mode(), metadata.uid(), metadata.gid(), metadata.nlink());
    let time = (metadata.mtime(), metadata.mtime_nsec());
    let size = Some(metadata.size()).filter(|_| metadata.is_file());
    let names = ["security.capability", "user.empty", "user.a=%25b", "user.of.a.directory", "trusted.of.a.link"];
    let attributes = names.map(|name| attribute(path, name));
    let last = attribute(path, &format!("user.{}8", "n".repeat(50)));
    format!("{owner:?} {time:?} {size:?} {attributes:?} {:?} {last:?}", attribute(path, "trusted.of.a.pipe"))
}

fn names(tree: &Path) -> Vec<std::path::PathBuf> {
    let mut names = vec![tree.to_owned()];
    let mut next = 0;
    while let Some(path) = names.get(next).cloned() {
        next += 1;
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            names.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    names.sort();
    names
}

fn compare(one: &Path, other: &Path) {
    let (left, right) = (names(one), names(other));
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(&right) {
        assert_eq!(left.strip_prefix(one).unwrap(), right.strip_prefix(other).unwrap());
        assert_eq!(told(left), told(right), "{left:?}");
        let metadata = fs::symlink_metadata(left).unwrap();
        if metadata.is_file() {
            assert!(fs::read(left).unwrap() == fs::read(right).unwrap(), "{left:?}");
            let blocks = [left, right].map(|path| fs::symlink_metadata(path).unwrap().blocks());
            assert!(blocks[1] <= blocks[0] + 16, "{left:?} {blocks:?}");
        }
    }
}

fn gnu_tar(at: &Path, options: &[&str], input: Option<&[u8]>) -> Vec<u8> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner"])
        .args(options)
        .current_dir(at)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("GNU tar is needed");
    let feeder = child.stdin.take().zip(input.map(<[u8]>::to_vec));
    let feeder = feeder.map(|(mut pipe, bytes)| std::thread::spawn(move || pipe.write_all(&bytes).unwrap()));
    let output = child.wait_with_output().unwrap();
    feeder.into_iter().for_each(|feeder| feeder.join().unwrap());
    assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{options:?}");
    output.stdout
}

#[test]
#[ignore = "needs root: makes files of others"]
fn what_gnu_tar_writes_is_unpacked() {
    let from = tempfile::tempdir().unwrap();
    lay_out(from.path());
    for form in ["0.0", "0.1", "1.0", "none"] {
        let version = format!("--sparse-version={form}");
        let options: &[&str] = match form {
            "none" => &["--format=posix", "-cf", "-", "tree"],
            _ => &["--format=posix", "--sparse", &version, "-cf", "-", "tree"],
        };
        let archive = gnu_tar(from.path(), options, None);
        assert_eq!(archive.len() > 2 * usize::try_from(LARGE).unwrap(), form == "none");
        let to = tempfile::tempdir().unwrap();
        write::tree(&place(to.path()), archive.as_slice()).unwrap_or_else(|failed| panic!("{form}: {failed:?}"));
        compare(&from.path().join("tree"), &to.path().join("tree"));
    }
}

#[test]
#[ignore = "needs root: makes files of others"]
fn gnus_old_form_of_holes_is_unpacked() {
    let from = tempfile::tempdir().unwrap();
    lay_out(from.path());
    let mut child = Command::new("tar");
    child.args(["--format=gnu", "--sparse", "-cf", "-", "tree"]).current_dir(&from);
    let archive = child.output().unwrap().stdout;
    assert!(archive.len() < usize::try_from(HOLE).unwrap());
    let to = tempfile::tempdir().unwrap();
    write::tree(&place(to.path()), archive.as_slice()).unwrap();
    for name in ["few", "nothing", "full"]
        .map(|name| Path::new("tree").join(name))
        .iter()
        .chain([&Path::new("tree").join("d".repeat(120)).join("n".repeat(200))])
    {
        let (left, right) = (from.path().join(name), to.path().join(name));
        assert!(fs::read(&left).unwrap() == fs::read(&right).unwrap(), "{name:?}");
        assert!(fs::metadata(right).unwrap().blocks() <= fs::metadata(left).unwrap().blocks() + 16, "{name:?}");
    }
}

#[test]
#[ignore = "needs root: makes files of others"]
fn gnu_tar_unpacks_what_is_sent() {
    let from = tempfile::tempdir().unwrap();
    lay_out(from.path());
    let mut archive = Vec::new();
    read::tree(&place(&from.path().join("tree")), &mut archive).unwrap();
    assert!(archive.len() < usize::try_from(HOLE).unwrap(), "{}", archive.len());
    let to = tempfile::tempdir().unwrap();
    gnu_tar(to.path(), &["-xpf", "-"], Some(&archive));
    compare(&from.path().join("tree"), &to.path().join("tree"));

    // And this program what it has sent itself.
    let to = tempfile::tempdir().unwrap();
    write::tree(&place(to.path()), archive.as_slice()).unwrap();
    compare(&from.path().join("tree"), &to.path().join("tree"));
}

#[test]
#[ignore = "needs root: makes files of others"]
fn what_a_file_system_refuses_is_told() {
    let entry = |path: &str, name: &str, value: &[u8]| dataplane_tar::Entry {
        path: path.into(),
        kind: dataplane_tar::EntryKind::Fifo,
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        xattrs: vec![(name.into(), value.to_vec())],
    };
    for (name, value) in
        [("user.on.a.pipe", &b"x"[..]), ("unknown.kind", b"x"), ("user", b""), ("security.capability", b"bad")]
    {
        let to = tempfile::tempdir().unwrap();
        let mut archive = dataplane_tar::Writer::new(Vec::new());
        archive.entry(&entry("pipe", name, value)).unwrap();
        let archive = archive.finish().unwrap();
        let Failed(code, why) = write::tree(&place(to.path()), archive.as_slice()).unwrap_err();
        assert_eq!(code, 1, "{why}");
        assert!(why.starts_with(&format!("write pipe: set the attribute {name}: ")), "{why}");
    }
}

#[test]
#[ignore = "needs root: makes files of others"]
fn an_archive_that_ends_early_is_told() {
    let from = tempfile::tempdir().unwrap();
    lay_out(from.path());
    let mut archive = Vec::new();
    read::tree(&place(&from.path().join("tree")), &mut archive).unwrap();
    for length in [100, 512 * 3 + 10, archive.len() / 2 + 3] {
        let to = tempfile::tempdir().unwrap();
        let Failed(code, why) = write::tree(&place(to.path()), &archive[..length]).unwrap_err();
        assert_eq!((code, why.starts_with("read the tar stream: ")), (files_code::REFUSED, true), "{length} {why}");
    }
}

#[test]
fn a_file_that_shrinks_meanwhile_is_told() {
    /// Cuts a file once something was read of it.
    struct Cutter(File, usize);
    impl io::Write for Cutter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.set_len(1000)?;
            self.1 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&vec![1; 1 << 20]).unwrap();
    let failed = read::tree(&place(file.path()), Cutter(file.reopen().unwrap(), 0)).unwrap_err();
    assert!(failed.1.ends_with("it has become shorter while it was read"), "{failed:?}");
    let mut left = Vec::new();
    file.reopen().unwrap().read_to_end(&mut left).unwrap();
    assert_eq!(left.len(), 1000);
}
