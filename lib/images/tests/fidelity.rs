//! An image's disk, mounted by the host's kernel, against what `umoci` unpacks of the same image: every name, type,
//! owner, mode, time, attribute, link group, device number and byte.

mod support;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use dataplane_images::{FailureCode, Images, PullRequest};
use dataplane_testkit::registry::{Compression, Layout, Registry};
use serde_json::json;
use support::{LayerTar, Place, run};
use tar::EntryType;

/// A loop mount that ends with this value.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(disk: &Path, options: &str) -> Self {
        let mount = Self(tempfile::tempdir().expect("make a directory"));
        run("mount", &["-o", options, disk.to_str().expect("a path"), mount.0.path().to_str().expect("a path")]);
        mount
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &[self.0.path().to_str().expect("a path")]);
    }
}

/// Everything that matters about the nodes of a tree, by path.
fn survey(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut groups: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let name = path.strip_prefix(root).expect("below the root").to_owned();
        let metadata = path.symlink_metadata().expect("a node");
        let kind = metadata.file_type();
        let mut line = format!(
            "{:o} {}:{} {}.{:09}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        if kind.is_dir() {
            let entries = path.read_dir().expect("list").map(|entry| entry.expect("an entry").path());
            todo.extend(entries.filter(|path| path != &root.join("lost+found")));
        } else {
            line += &format!(" links {}", metadata.nlink());
            groups.entry(metadata.ino()).or_default().push(name.clone());
        }
        if kind.is_file() {
            let bytes = std::fs::read(&path).expect("read");
            line += &format!(" {} {}", bytes.len(), dataplane_oci::digest_of(&bytes));
        } else if kind.is_symlink() {
            line += &format!(" -> {:?}", path.read_link().expect("a link"));
        } else if kind.is_char_device() || kind.is_block_device() {
            line += &format!(" device {:x}", metadata.rdev());
        }
        line += &attributes(&path);
        found.insert(name, line);
    }
    for mut names in groups.into_values().filter(|names| names.len() > 1) {
        names.sort();
        for name in &names {
            found.get_mut(name).expect("found above").push_str(&format!(" same as {names:?}"));
        }
    }
    found
}

fn attributes(path: &Path) -> String {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let mut lines: Vec<String> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65_536];
            let name = std::ffi::OsStr::from_bytes(name);
            let length = rustix::fs::lgetxattr(path, name, &mut value).expect("read an attribute");
            format!(" {name:?}={}", value[..length].escape_ascii())
        })
        .collect();
    lines.sort();
    lines.concat()
}

fn lower() -> Vec<u8> {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let list = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let big: Vec<u8> = (0..3_000_001u32).map(|at| (at / 7).to_le_bytes()[0]).collect();
    let long = format!("etc/{}", "n".repeat(255));
    let deep_link = "t/".repeat(150);
    let mut layer = LayerTar::default().entry("./", EntryType::Directory, (0, 0, 0o755), ("", b""));
    for directory in ["etc", "opt", "opt/opaque", "gone", "usr", "usr/lib", "dev"] {
        layer = layer.dir(directory);
    }
    layer
        .entry("tmp", EntryType::Directory, (0, 0, 0o1777), ("", b""))
        .file("etc/plain", 0, b"plain\n")
        .file("etc/removed", 0, b"removed")
        .file("etc/empty", 0, b"")
        .file("etc/changed", 1, b"before")
        .file("gone/with/it", 0, b"x")
        .file("opt/opaque/old", 0, b"old")
        .pax(&[
            ("path", long.as_bytes()),
            ("mtime", b"1500000000.123456789"),
            ("uid", b"100000"),
            ("gid", b"2000000000"),
        ])
        .file("long", 0, b"long")
        .pax(&[
            ("mtime", b"-86400"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"a\nb=c\0d"),
        ])
        .entry("usr/lib/ping", EntryType::Regular, (0, 0, 0o755), ("", &big))
        .pax(&[("SCHILY.xattr.system.posix_acl_access", list)])
        .file("etc/shared", 5, b"acl")
        .pax(&[("mtime", b"4000000000")])
        .entry("usr/lib/su", EntryType::Regular, (0, 0, 0o4755), ("", b"setuid"))
        .entry("usr/lib/twin", EntryType::Link, (0, 0, 0o755), ("usr/lib/ping", b""))
        .entry("lib", EntryType::Symlink, (0, 0, 0o777), ("usr/lib", b""))
        .entry("etc/absolute", EntryType::Symlink, (3, 4, 0o777), ("/etc/plain", b""))
        .pax(&[("linkpath", deep_link.as_bytes())])
        .entry("etc/far", EntryType::Symlink, (0, 0, 0o777), ("", b""))
        .entry("dev/null", EntryType::Char, (0, 0, 0o666), ("", b""))
        .entry("dev/disk", EntryType::Block, (0, 6, 0o660), ("", b""))
        .entry("dev/pipe", EntryType::Fifo, (9, 9, 0o600), ("", b""))
        .finish()
}

fn upper() -> Vec<u8> {
    LayerTar::default()
        .file("etc/.wh.removed", 0, b"")
        .file(".wh.gone", 0, b"")
        .dir("opt/opaque")
        .file("opt/opaque/.wh..wh..opq", 0, b"")
        .file("opt/opaque/new", 0, b"new")
        .file("etc/changed", 2, b"after")
        .file("lib/through", 0, b"through a link")
        .entry("etc/again", EntryType::Link, (0, 0, 0o644), ("etc/plain", b""))
        .finish()
}

fn third() -> Vec<u8> {
    let many = (0..3000).fold(LayerTar::default().dir("many"), |layer, at| {
        layer.file(&format!("many/file-{at:05}-with-a-name-of-some-length"), at % 5, &at.to_le_bytes())
    });
    many.entry("etc/changed", EntryType::Symlink, (0, 0, 0o777), ("plain", b"")).finish()
}

async fn pull(images: &Images, name: String) -> dataplane_images::ImageView {
    let request = PullRequest { name, id: None, platform: None, credentials: None, labels: Default::default() };
    let id = images.create(request).await.expect("create").image.id;
    images.wait(&id).await.expect("pull")
}

fn compare(disk: &Path, layout: &Layout) {
    support::fsck(disk);
    let bundle = tempfile::tempdir().expect("make a directory");
    let target = bundle.path().join("bundle");
    let image = format!("{}:image", layout.directory().display());
    run("umoci", &["unpack", "--image", &image, target.to_str().expect("a path")]);
    let expected = survey(&target.join("rootfs"));
    let mount = Mount::new(disk, "ro,loop");
    let found = survey(mount.path());
    for (path, line) in &expected {
        assert_eq!(found.get(path), Some(line), "{path:?}");
    }
    let extra: Vec<_> = found.keys().filter(|path| !expected.contains_key(*path)).collect();
    assert!(extra.is_empty(), "{extra:?}");
}

#[tokio::test]
#[ignore = "needs root: mounts, owners, devices"]
async fn a_pulled_image_is_what_umoci_unpacks() {
    let layers = [(lower(), Compression::Gzip), (upper(), Compression::Zstd), (third(), Compression::Plain)];
    let config = json!({"Entrypoint": ["/bin/app"]});
    let layout = Layout::new(&layers, &config).unwrap();
    let registry = Registry::start(None).unwrap();
    let name = registry.push(&layout, "fidelity:1").unwrap();
    let place = Place::new();
    let images = place.open().await;
    pull(&images, name).await;
    let lease = images.lease("img-fidelity").unwrap();
    // umoci of the distribution knows no zstd: it is given the same tars in gzip.
    let layers = [(lower(), Compression::Gzip), (upper(), Compression::Gzip), (third(), Compression::Gzip)];
    compare(lease.disk(), &Layout::new(&layers, &config).unwrap());
}

#[tokio::test]
#[ignore = "needs root: mounts"]
async fn an_empty_disk_is_mounted_and_written_by_the_kernel() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    let disk = dataplane_ext4::EmptyDisk {
        bytes: 10 << 30,
        uuid: uuid::Uuid::from_u128(1),
        hash_seed: [1, 2, 3, 4],
        label: "writable",
        epoch: 1_700_000_000,
    };
    dataplane_ext4::format_empty(&path, &disk).unwrap();
    {
        let mount = Mount::new(&path, "loop");
        for at in 0..2000 {
            let file = std::fs::File::create(mount.path().join(format!("file-{at}"))).unwrap();
            std::io::Write::write_all(&mut &file, &vec![7; at * 10]).unwrap();
        }
    }
    support::fsck(&path);
    let mount = Mount::new(&path, "ro,loop");
    assert_eq!(mount.path().read_dir().unwrap().count(), 2001, "and lost+found");
}

#[tokio::test]
#[ignore = "needs root: mounts a small file system"]
async fn a_disk_that_fills_up_in_the_middle_is_left_as_it_was() {
    let place = Place::new();
    let root = place.root().to_str().unwrap().to_owned();
    run("mount", &["-t", "tmpfs", "-o", "size=12m", "tmpfs", &root]);
    let _mounted = Unmount(root);
    let images = place.open().await;
    // 8 MB that do not compress: the archive fits, the unpacked layer beside it does not.
    let noise: Vec<u8> = (0..2_000_000u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let layer = LayerTar::default().file("noise", 0, &noise).finish();
    let archive = Layout::new(&[(layer, Compression::Gzip)], &json!({})).unwrap().archive().unwrap();
    let request = dataplane_images::ImportRequest { name: Some("big:1".to_owned()), ..Default::default() };
    let error = images.import(request.clone(), &archive[..]).await.unwrap_err();
    assert_eq!(support::failure_of(&error), FailureCode::NoSpace, "{error}");
    assert!(place.files("work").is_empty() && place.files("disks").is_empty());
    let small = LayerTar::default().file("small", 0, b"x").finish();
    let archive = Layout::new(&[(small, Compression::Gzip)], &json!({})).unwrap().archive().unwrap();
    assert!(images.import(request, &archive[..]).await.is_ok(), "everything else goes on");
}

/// Ends a mount that the test made by hand.
struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        run("umount", &["-l", &self.0]);
    }
}
