//! What is written, judged by other people's tools: `e2fsck` and `debugfs` (Debian: e2fsprogs).

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use dataplane_ext4::{
    EmptyDisk, Estimate, Ext4Error, ImageBuilder, ImageOptions, MIN_DISK_BYTES, Meta, Special, format_empty,
};
use uuid::Uuid;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("{program} must be installed (e2fsprogs): {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{text}", output.status);
    text
}

fn fsck(path: &Path) {
    run("e2fsck", &["-fn", path.to_str().expect("UTF-8 path")]);
}

fn debugfs(path: &Path, request: &str) -> String {
    run("debugfs", &["-R", request, path.to_str().expect("UTF-8 path")])
}

fn disk(bytes: u64) -> EmptyDisk<'static> {
    EmptyDisk { bytes, uuid: Uuid::from_u128(bytes.into()), hash_seed: [1, 2, 3, 4], label: "rw", epoch: 1_700_000_000 }
}

#[test]
fn empty_disks_are_thin_clean_and_quick() {
    let directory = tempfile::tempdir().unwrap();
    for gib in [1, 10, 100, 1024] {
        let path = directory.path().join(format!("{gib}.img"));
        let started = Instant::now();
        format_empty(&path, &disk(gib << 30)).unwrap();
        let took = started.elapsed();
        let metadata = path.metadata().unwrap();
        eprintln!("{gib} GiB: {took:?}, {} KiB on disk", metadata.blocks() / 2);
        assert_eq!(metadata.len(), gib << 30);
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(metadata.blocks() * 512 <= (gib << 30) / 2000, "a disk of {gib} GiB is not thin");
        if gib <= 10 {
            fsck(&path);
        }
    }
    let header = debugfs(&directory.path().join("10.img"), "stats");
    assert!(header.contains("Filesystem volume name:   rw"), "{header}");
    assert!(header.contains(&Uuid::from_u128(10 << 30).to_string()), "{header}");
    assert!(header.contains("Reserved block count:     0"), "{header}");
}

/// Disks of one size are made from one template: each is itself all the same, in the copies of its superblock too.
#[test]
fn disks_of_one_size_differ_in_identity_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = |number: u8| directory.path().join(format!("{number}.img"));
    for number in 1..=3 {
        let uuid = Uuid::from_u128(number.into());
        let own = EmptyDisk { uuid, hash_seed: [number.into(); 4], epoch: number.into(), ..disk(136 << 20) };
        format_empty(&path(number), &own).unwrap();
        fsck(&path(number));
        let header = debugfs(&path(number), "stats");
        for line in [format!("Filesystem UUID:          {uuid}"), "metadata_csum_seed".to_owned()] {
            assert!(header.contains(&line), "{header}");
        }
        // The copy of the superblock in the second group; its checksum is verified.
        let copy = ["-h", "-o", "superblock=32768", "-o", "blocksize=4096"];
        let copy = run("dumpe2fs", &[&copy[..], &[path(number).to_str().unwrap()]].concat());
        assert!(copy.contains(&uuid.to_string()), "{copy}");
    }
    let [one, other] = [1, 2].map(|number| std::fs::read(path(number)).unwrap());
    let differing = one.chunks(1024).zip(other.chunks(1024)).filter(|(one, other)| one != other).count();
    // In each of the two groups.
    assert_eq!(differing, 2);
}

#[test]
fn the_smallest_disk_is_clean_and_other_sizes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    for bytes in [0, 4096, MIN_DISK_BYTES - 4096, MIN_DISK_BYTES + 1, 1 << 44, u64::MAX] {
        assert!(matches!(format_empty(&path, &disk(bytes)), Err(Ext4Error::Size { .. })), "{bytes}");
        assert!(!path.exists());
    }
    for bytes in [MIN_DISK_BYTES, MIN_DISK_BYTES + 4096, (128 << 20) + 4096, (128 << 20) * 17 + (8 << 20)] {
        format_empty(&path, &disk(bytes)).unwrap();
        fsck(&path);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_failed_format_leaves_no_file_and_never_overwrites() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let long = EmptyDisk { label: "a label of more than 16 bytes", ..disk(MIN_DISK_BYTES) };
    assert!(matches!(format_empty(&path, &long), Err(Ext4Error::Format(_))));
    assert!(!path.exists());
    File::create_new(&path).unwrap().write_all(b"mine").unwrap();
    assert!(matches!(format_empty(&path, &disk(MIN_DISK_BYTES)), Err(Ext4Error::Io { act: "create", .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

const SETUID: Meta = Meta { mode: 0o4755, uid: 70_000, gid: 80_000, ..META };
const META: Meta = Meta { mode: 0o644, uid: 0, gid: 0, mtime: (1_600_000_000, 5) };

fn options() -> ImageOptions<'static> {
    ImageOptions { uuid: Uuid::from_u128(7), label: "image", epoch: 1_700_000_000 }
}

#[test]
fn a_tree_reads_back_as_declared() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    let big = 3 * (1 << 20) + 77;
    let long_target = vec![b't'; 300];
    let mut estimate = Estimate::default();
    estimate.directory(9, 60);
    estimate.directory(0, 0);
    estimate.file(big);
    estimate.file(0);
    estimate.symlink(4);
    estimate.symlink(long_target.len());
    (0..3).for_each(|_| estimate.special());
    (0..3).for_each(|_| estimate.xattrs());
    let mut builder = ImageBuilder::new(&options(), &estimate).unwrap();
    let root = builder.root();
    builder.root_meta(Meta { mode: 0o711, uid: 3, gid: 4, ..META }).unwrap();
    builder.directory(root, b"dir", Meta { mode: 0o1777, ..META }).unwrap();
    let file = builder.file(root, b"big", SETUID, big).unwrap();
    builder.hard_link(root, b"twin", file).unwrap();
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    builder
        .xattrs(file, SETUID, [(&b"security.capability"[..], &capability[..]), (b"user.note", &[b'n'; 3000])])
        .unwrap();
    let empty = builder.file(root, b"empty", META, 0).unwrap();
    builder.symlink(root, b"short", b"/dir", META).unwrap();
    builder.symlink(root, b"long", &long_target, META).unwrap();
    builder.special(root, b"null", Special::Char(1, 3), META).unwrap();
    builder.special(root, b"sda", Special::Block(8, 1000), META).unwrap();
    builder.special(root, b"pipe", Special::Fifo, META).unwrap();
    let list = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    builder.xattrs(empty, META, [(&b"system.posix_acl_access"[..], &list[..])]).unwrap();
    let sealed = builder.seal().unwrap();
    let output = File::create_new(&path).unwrap();
    let mut writer = sealed.writer(&output).unwrap();
    let content: Vec<u8> = (0..big).map(|at| (at / 4096 * 31 + at).to_le_bytes()[0]).collect();
    writer.fill(file, &content[..]).unwrap();
    writer.finish().unwrap();
    fsck(&path);

    let copy = directory.path().join("copy");
    debugfs(&path, &format!("dump /twin {}", copy.display()));
    assert!(std::fs::read(&copy).unwrap() == content);
    let stat = debugfs(&path, "stat /big");
    assert!(stat.contains("Mode:  04755") && stat.contains("User: 70000") && stat.contains("Group: 80000"), "{stat}");
    assert!(stat.contains("Links: 2"), "{stat}");
    assert!(stat.contains("security.capability") && stat.contains("user.note (3000)"), "{stat}");
    assert!(debugfs(&path, "stat /").contains("Mode:  0711"));
    assert!(debugfs(&path, "stat /short").contains("Fast link dest: \"/dir\""));
    assert!(debugfs(&path, "stat /null").contains("Device major/minor number: 01:03"));
    assert!(debugfs(&path, "stat /pipe").contains("Type: FIFO"));
    assert!(debugfs(&path, "stat /empty").contains("system.posix_acl_access"));
    assert!(output.metadata().unwrap().blocks() * 512 < 5 << 20, "the image is not sparse");
}

#[test]
fn trees_of_every_shape_fit_their_estimate() {
    let directory = tempfile::tempdir().unwrap();
    // Files, bytes of each, directories: many empty files, a wide directory, large files over several groups.
    for (files, bytes, directories) in
        [(0, 0, 1), (70_000, 0, 10), (20_000, 4097, 1), (2, 200 << 20, 1), (200_000, 0, 3)]
    {
        let path = directory.path().join("image");
        let mut estimate = Estimate::default();
        estimate.directory(directories, directories * 10);
        for _ in 0..directories {
            estimate.directory(files / directories, files / directories * 10);
        }
        (0..files).for_each(|_| estimate.file(bytes));
        let mut builder = ImageBuilder::new(&options(), &estimate).unwrap();
        let parents: Vec<_> = (0..directories)
            .map(|at| builder.directory(builder.root(), format!("d{at:09}").as_bytes(), META).unwrap())
            .collect();
        let handles: Vec<_> = (0..files / directories * directories)
            .map(|at| builder.file(parents[at % directories], format!("f{at:09}").as_bytes(), META, bytes).unwrap())
            .collect();
        let sealed = builder.seal().unwrap();
        let output = File::create_new(&path).unwrap();
        let mut writer = sealed.writer(&output).unwrap();
        if bytes > 0 {
            handles.iter().for_each(|file| writer.fill(*file, std::io::repeat(0).take(bytes)).unwrap());
        }
        writer.finish().unwrap();
        fsck(&path);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_the_format_cannot_hold_is_refused_by_name() {
    let mut builder = ImageBuilder::new(&options(), &Estimate::default()).unwrap();
    let root = builder.root();
    let error = builder.file(root, b"caf\xe9", META, 0).unwrap_err();
    assert_eq!(error.to_string(), r#"name "caf\\xe9" is not UTF-8"#);
    assert!(error.is_bad_tree());
    assert!(matches!(
        builder.symlink(root, b"link", b"\xff", META),
        Err(Ext4Error::NotUtf8 { what: "link target", .. })
    ));
    assert!(matches!(builder.directory(root, b"lost+found", META), Err(Ext4Error::LostAndFound)));
    let file = builder.file(root, b"file", META, 0).unwrap();
    let mut refuses = |name: &[u8], value: &[u8]| {
        assert!(matches!(builder.xattrs(file, META, [(name, value)]), Err(Ext4Error::Xattr { .. })), "{name:?}");
    };
    refuses(b"com.example", b"");
    refuses(b"system.posix_acl_access", b"no");
    refuses(b"user.big", &[0; 4096]);
}
