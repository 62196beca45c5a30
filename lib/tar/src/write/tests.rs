//! What is written is read again, by this crate and by GNU tar.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::{Entries, Limits, Piped, Region};

const LIMITS: Limits = Limits { header_bytes: 1 << 20, regions: 1000 };

fn entry(path: &[u8], kind: EntryKind) -> Entry {
    Entry { path: path.to_vec(), kind, mode: 0o640, uid: 7, gid: 3_000_000, mtime: (1_600_000_000, 0), xattrs: vec![] }
}

fn file(size: u64, pairs: &[(u64, u64)]) -> EntryKind {
    let regions = pairs.iter().map(|(at, length)| Region { at: *at, offset: 0, length: *length }).collect();
    EntryKind::File { size, regions }
}

fn length_of(kind: &EntryKind) -> usize {
    let EntryKind::File { regions, .. } = kind else { return 0 };
    regions.iter().map(|region| usize::try_from(region.length).unwrap()).sum()
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (number, entry) in entries.iter().enumerate() {
        writer.entry(entry).unwrap();
        writer.data(&vec![u8::try_from(number % 250).unwrap() + 1; length_of(&entry.kind)]).unwrap();
    }
    writer.finish().unwrap()
}

fn read(archive: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let mut entries = Entries::new(Piped(archive), LIMITS);
    let mut all = Vec::new();
    while let Some(mut entry) = entries.next_entry().unwrap() {
        let mut content = Vec::new();
        if let EntryKind::File { regions, .. } = &mut entry.kind {
            for region in regions {
                entries.content(region).unwrap().read_to_end(&mut content).unwrap();
                region.offset = 0;
            }
        }
        all.push((entry, content));
    }
    all
}

fn some_entry() -> impl Strategy<Value = Entry> {
    let name = || prop::collection::vec(1..=255u8, 1..300);
    let kind = prop_oneof![
        Just(EntryKind::Directory),
        Just(EntryKind::Fifo),
        name().prop_map(EntryKind::Symlink),
        name().prop_map(EntryKind::HardLink),
        (0..4096u32, 0..9999u32).prop_map(|(major, minor)| EntryKind::Char(major, minor)),
        prop::collection::vec((0..3000u64, 1..700u64), 0..60).prop_map(|steps| {
            let mut at = 0;
            let mut pairs: Vec<(u64, u64)> = Vec::new();
            for (hole, length) in steps {
                match pairs.last_mut().filter(|_| hole == 0) {
                    Some(last) => last.1 += length,
                    None => pairs.push((at + hole, length)),
                }
                at += hole + length;
            }
            file(at, &pairs)
        }),
    ];
    let time = (-5_000_000_000..5_000_000_000i64, prop_oneof![Just(0u32), 0..1_000_000_000u32]);
    let xattrs = prop::collection::vec((name(), prop::collection::vec(any::<u8>(), 0..600)), 0..3);
    (name(), kind, (0..0o10000u16, 0..u32::MAX, 0..u32::MAX), time, xattrs).prop_map(
        |(mut path, kind, (mode, uid, gid), mtime, xattrs)| {
            // A name of a file that ends like a directory's is one.
            path.retain(|byte| *byte != b'/');
            path.push(b'x');
            Entry { path, kind, mode, uid, gid, mtime, xattrs }
        },
    )
}

proptest! {
    #[test]
    fn any_entries_come_back(entries in prop::collection::vec(some_entry(), 0..5)) {
        let found = read(&archive(&entries));
        prop_assert_eq!(found.len(), entries.len());
        for (number, ((found, content), sent)) in found.iter().zip(&entries).enumerate() {
            prop_assert_eq!(found, sent);
            prop_assert_eq!(content, &vec![u8::try_from(number).unwrap() + 1; length_of(&sent.kind)]);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..3000), flips in 0..20usize) {
        let good = archive(&[entry(b"holes", file(9000, &[(0, 3), (4096, 100)])), entry(&[b'n'; 200], EntryKind::Fifo)]);
        let mut bent = good;
        for (at, byte) in bytes.drain(..flips.min(bytes.len())).enumerate() {
            let place = (usize::from(byte) * 131 + at * 517) % bent.len();
            bent[place] ^= byte;
        }
        for bytes in [bytes, bent] {
            let mut entries = Entries::new(Piped(bytes.as_slice()), LIMITS);
            while let Ok(Some(_)) = entries.next_entry() {}
        }
    }
}

#[test]
fn content_is_as_long_as_was_told() {
    let mut writer = Writer::new(Vec::new());
    writer.entry(&entry(b"file", file(5, &[(0, 5)]))).unwrap();
    assert!(writer.data(b"123456").is_err());
    writer.data(b"1234").unwrap();
    assert!(writer.entry(&entry(b"next", EntryKind::Fifo)).is_err());
    assert!(writer.finish().is_err());
}

#[test]
fn a_device_without_room_is_refused() {
    let mut writer = Writer::new(Vec::new());
    writer.entry(&entry(b"largest", EntryKind::Char(MAX_DEVICE, MAX_DEVICE))).unwrap();
    assert!(writer.entry(&entry(b"larger", EntryKind::Block(1, MAX_DEVICE + 1))).is_err());
}

#[test]
fn gnu_tar_reads_what_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let long = [b"d".repeat(90), b"n".repeat(200)].join(&b'/');
    let many: Vec<(u64, u64)> = (0..100).map(|number| (number * 8192, 4096)).collect();
    let mut entries = vec![
        entry(b"plain", file(3, &[(0, 3)])),
        entry(&b"d".repeat(90), EntryKind::Directory),
        entry(&long, file(4, &[(0, 4)])),
        entry(b"holes", file(10 << 20, &[(0, 4096), (1 << 20, 5)])),
        entry(b"nothing", file(5 << 20, &[])),
        entry(b"large", file(20 << 30, &[((20 << 30) - 10, 10)])),
        entry(b"many", file(900_000, &many)),
        entry(b"link", EntryKind::Symlink(b"t".repeat(150))),
        entry(b"same", EntryKind::HardLink(b"plain".to_vec())),
    ];
    entries[0].xattrs = vec![(b"user.a=%25b".to_vec(), b"\0\n=\xff".to_vec())];
    entries[3].xattrs = vec![(b"user.of.holes".to_vec(), b"value".to_vec())];
    entries[3].mtime = (1_600_000_000, 123_456_789);
    let path = directory.path().join("archive.tar");
    fs::File::create(&path).unwrap().write_all(&archive(&entries)).unwrap();
    let ran = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "-xpf", "archive.tar"])
        .current_dir(&directory)
        .output()
        .unwrap();
    assert!(ran.status.success() && ran.stderr.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr));
    let at = |name: &[u8]| {
        use std::os::unix::ffi::OsStrExt as _;
        directory.path().join(std::ffi::OsStr::from_bytes(name))
    };
    for (number, entry) in entries.iter().enumerate() {
        let EntryKind::File { size, regions } = &entry.kind else { continue };
        let metadata = fs::metadata(at(&entry.path)).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o7777), (*size, 0o640), "{number}");
        assert!(metadata.blocks() * 512 <= *size / 2 + 8192 || number < 3, "{number}");
        for region in regions {
            let mut found = vec![0; usize::try_from(region.length).unwrap()];
            let file = fs::File::open(at(&entry.path)).unwrap();
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, region.at).unwrap();
            assert_eq!(found, vec![u8::try_from(number).unwrap() + 1; found.len()], "{number} {region:?}");
        }
    }
    let metadata = fs::metadata(at(b"holes")).unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_600_000_000, 123_456_789));
    assert_eq!(fs::read_link(at(b"link")).unwrap(), at(&b"t".repeat(150)).file_name().unwrap());
    assert_eq!(fs::metadata(at(b"plain")).unwrap().nlink(), 2);
    for (name, key, value) in [("plain", "user.a=%25b", &b"\0\n=\xff"[..]), ("holes", "user.of.holes", b"value")] {
        let mut found = [0; 100];
        let length = rustix::fs::getxattr(at(name.as_bytes()), key, &mut found).unwrap();
        assert_eq!(&found[..length], value, "{name}");
    }
}
