//! Images as the kernel mounts them, entry by entry against what was said; `fsck.erofs` and `dump.erofs` judge, too.
//!
//! `EROFS_CASES` says how many random trees, `EROFS_LONG` that files of gigabytes are written.

mod model;
mod random;
mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use dataplane_erofs::{ImageWriter, Options, Special};
use model::{EPOCH, Entry, Kind, Meta, Stretch, Tree, UUID};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use support::{assert_same, check, image_file, mounted, survey};

fn entry(parent: Option<usize>, name: &[u8], kind: Kind, meta: Meta) -> Entry {
    Entry { parent, name: name.to_vec(), kind, meta }
}

fn prove(tree: &Tree) -> dataplane_erofs::Summary {
    let (image, summary) = tree.write().expect("a tree that can be written");
    check(&image);
    assert_same(&tree.expected(), &mounted(&image, survey));
    assert_eq!(image.metadata().expect("a file").len(), summary.bytes);
    summary
}

#[test]
#[ignore = "needs root: mounts"]
fn every_kind_of_node_comes_through() {
    let list = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let lists = vec![
        (b"system.posix_acl_access".to_vec(), list.to_vec()),
        (b"system.posix_acl_default".to_vec(), list.to_vec()),
    ];
    let exact = Meta { uid: 70_000, gid: u32::MAX - 1, mtime: (-86_400, 999_999_999), ..Meta::plain(0o4755) };
    let sparse = vec![Stretch::Data(5000, 1), Stretch::Hole(1 << 20), Stretch::Data(1, 2), Stretch::Hole(70_000)];
    let large: Vec<_> = (0..9u8).map(|at| ([&b"user."[..], &[b'a' + at; 9]].concat(), vec![at; 65_535])).collect();
    let mut many: Vec<_> = (0..300).map(|at| (format!("trusted.{at:03}").into_bytes(), vec![b'x'; 500])).collect();
    many.push((b"security.selinux".to_vec(), b"label\0".to_vec()));
    let tree = Tree {
        root: Meta { mode: 0o1777, xattrs: vec![(b"user.root".to_vec(), vec![9; 5000])], ..exact.clone() },
        directories_last: false,
        entries: vec![
            entry(None, b"etc", Kind::Directory, Meta { xattrs: lists.clone(), ..Meta::plain(0o750) }),
            entry(Some(0), b"empty", Kind::File(vec![]), Meta::plain(0o600)),
            entry(
                Some(0),
                b"acl",
                Kind::File(vec![Stretch::Data(9, 1)]),
                Meta { xattrs: lists[..1].to_vec(), ..Meta::plain(0o640) },
            ),
            entry(Some(0), &[0xff; 255], Kind::File(vec![Stretch::Data(4096, 3)]), exact.clone()),
            entry(Some(0), b"-", Kind::File(vec![Stretch::Data(4097, 3)]), exact.clone()),
            entry(None, b"sparse", Kind::File(sparse), exact.clone()),
            entry(None, b"hole", Kind::File(vec![Stretch::Hole(9_999_999)]), exact.clone()),
            entry(None, b"zeros", Kind::File(vec![Stretch::Hole(4000)]), exact.clone()),
            entry(None, b"large", Kind::File(vec![Stretch::Data(700_001, 5)]), Meta { xattrs: large, ..exact.clone() }),
            entry(None, b"many", Kind::Symlink(b"x".to_vec()), Meta { xattrs: many, ..Meta::plain(0o777) }),
            entry(None, b"far", Kind::Symlink(vec![b'/'; 4095]), Meta::plain(0o777)),
            entry(None, b"null", Kind::Special(Special::Char(1, 3)), Meta::plain(0o666)),
            entry(None, b"disk", Kind::Special(Special::Block(4095, (1 << 20) - 1)), exact.clone()),
            entry(None, b"fifo", Kind::Special(Special::Fifo), exact.clone()),
            entry(None, b"socket", Kind::Special(Special::Socket), Meta::plain(0o600)),
            entry(Some(0), b"twin", Kind::Link(5), Meta::plain(0)),
            entry(Some(0), b"other", Kind::Link(11), Meta::plain(0)),
            entry(Some(0), b"third", Kind::Link(15), Meta::plain(0)),
        ],
    };
    assert_eq!(prove(&tree).kernel, (5, 15));
    prove(&Tree { directories_last: true, ..tree });
    let empty = Tree { root: Meta::plain(0o755), entries: vec![], directories_last: false };
    let summary = prove(&empty);
    assert_eq!((summary.bytes, summary.kernel), (4096, (5, 4)));
}

#[test]
#[ignore = "needs root: mounts"]
fn random_trees_come_through() {
    let cases = std::env::var("EROFS_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60);
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, max_shrink_time: 60_000, ..Config::default() });
    let ran = std::cell::Cell::new((0, 0));
    let result = runner.run(&random::tree(), |tree| {
        let outcome = std::panic::catch_unwind(|| prove(&tree));
        ran.set((ran.get().0 + 1, ran.get().1 + tree.entries.len()));
        outcome.map(|_| ()).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            TestCaseError::fail(text.chars().take(1000).collect::<String>())
        })
    });
    if let Err(TestError::Fail(reason, tree)) = result {
        panic!("{reason}\n{} entries: {:.4000}", tree.entries.len(), format!("{tree:?}"));
    }
    println!("{} random trees with {} entries compared", ran.get().0, ran.get().1);
}

#[test]
#[ignore = "needs root: mounts"]
fn a_directory_of_a_hundred_thousand_names_is_searched_rightly() {
    // Every name is looked up: `survey` asks for each by its path.
    let name = |at: u32| format!("{:x}{}", at.wrapping_mul(2_654_435_761), "n".repeat((at % 90) as usize)).into_bytes();
    let file =
        |at: u32| entry(Some(0), &name(at), Kind::File(vec![Stretch::Data(u64::from(at % 3), at)]), Meta::plain(0o644));
    let mut entries = vec![entry(None, b"d", Kind::Directory, Meta::plain(0o755))];
    entries.extend((0..100_000).map(file));
    let tree = Tree { root: Meta::plain(0o755), entries, directories_last: true };
    prove(&tree);
}

#[test]
#[ignore = "needs root: mounts"]
fn a_deep_tree_and_a_node_of_many_names_come_through() {
    let mut entries: Vec<Entry> =
        (0..1000usize).map(|at| entry(at.checked_sub(1), b"d", Kind::Directory, Meta::plain(0o755))).collect();
    entries.push(entry(Some(999), b"bottom", Kind::File(vec![Stretch::Data(10, 1)]), Meta::plain(0o644)));
    entries.extend((0..1000).map(|at| entry(None, format!("link{at}").as_bytes(), Kind::Link(1000), Meta::plain(0))));
    let tree = Tree { root: Meta::plain(0o755), entries, directories_last: false };
    prove(&tree);
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    let mut entries = vec![entry(None, b"d", Kind::Directory, Meta::plain(0o755))];
    for at in 0..300u32 {
        let xattrs = vec![(b"user.x".to_vec(), vec![b'v'; 20 + (at % 7) as usize * 300])];
        let kind = Kind::File(vec![Stretch::Data(u64::from(at) * 37, at)]);
        entries.push(entry(Some(0), format!("f{at}").as_bytes(), kind, Meta { xattrs, ..Meta::plain(0o644) }));
    }
    let tree = Tree { root: Meta::plain(0o755), entries, directories_last: true };
    let image = || {
        let (file, summary) = tree.write().expect("a tree that can be written");
        let mut bytes = vec![0; usize::try_from(summary.bytes).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    assert!(image() == image());
}

/// Where a file has data, as the kernel tells it.
fn data_bytes(file: &File) -> u64 {
    use rustix::fs::{SeekFrom, seek};
    let (mut at, mut sum) = (0, 0);
    while let Ok(start) = seek(file, SeekFrom::Data(at)) {
        at = seek(file, SeekFrom::Hole(start)).expect("a hole, if only the end");
        sum += at - start;
    }
    sum
}

#[test]
#[ignore = "needs root: mounts; EROFS_LONG=1, and room for 5 GiB"]
fn files_of_gigabytes_come_through() {
    if std::env::var_os("EROFS_LONG").is_none() {
        println!("skipped: files of gigabytes: EROFS_LONG is not set");
        return;
    }
    const PIECE: usize = 1 << 20;
    const PIECES: u64 = 4200;
    let scratch = std::env::temp_dir();
    let options = Options { uuid: UUID, epoch: EPOCH, scratch: &scratch };
    let mut image = ImageWriter::new(image_file(), &options).unwrap();
    let (root, meta) = (image.root(), Meta::plain(0o644));
    // Each piece has its number in every block.
    let random = model::bytes(PIECE as u64, 7);
    let piece = |at: u64| {
        let mut piece = random.clone();
        piece.chunks_exact_mut(4096).for_each(|block| block[..8].copy_from_slice(&at.to_le_bytes()));
        piece
    };
    let mut full = image.file(root, b"full", &meta.attributes(), PIECES * PIECE as u64 + 5).unwrap();
    (0..PIECES).for_each(|at| full.data(&piece(at)).unwrap());
    full.data(b"tail!").unwrap();
    full.finish().unwrap();
    let mut sparse = image.file(root, b"sparse", &meta.attributes(), 5 << 30).unwrap();
    sparse.hole((3 << 30) + 5).unwrap();
    sparse.data(b"middle").unwrap();
    sparse.hole((2 << 30) - 11 - 3).unwrap();
    sparse.data(b"end").unwrap();
    sparse.finish().unwrap();
    // As a log by user number is, of whoever has the largest.
    let mut log = image.file(root, b"lastlog", &meta.attributes(), 292 * (1 << 32)).unwrap();
    log.data(b"first").unwrap();
    log.hole(292 * (1 << 32) - 9).unwrap();
    log.data(b"last").unwrap();
    log.finish().unwrap();
    let (file, summary) = image.finish().unwrap();
    println!("{summary:?}");
    assert!(summary.bytes < PIECES * PIECE as u64 + (16 << 20), "holes take little room");
    let seen = mounted(&file, |place| {
        let mut full = File::open(place.join("full")).unwrap();
        assert_eq!(full.metadata().unwrap().len(), PIECES * PIECE as u64 + 5);
        let mut buffer = vec![0; PIECE];
        for at in 0..PIECES {
            full.read_exact(&mut buffer).unwrap();
            assert!(buffer == piece(at), "piece {at}");
        }
        let mut tail = Vec::new();
        full.read_to_end(&mut tail).unwrap();
        assert_eq!(tail, b"tail!");
        let sparse = File::open(place.join("sparse")).unwrap();
        let mut around = [1; 16];
        sparse.read_exact_at(&mut around, (3 << 30) + 2).unwrap();
        assert_eq!(&around, b"\0\0\0middle\0\0\0\0\0\0\0");
        sparse.read_exact_at(&mut around[..6], (5 << 30) - 6).unwrap();
        assert_eq!(&around[..6], b"\0\0\0end");
        let log = File::open(place.join("lastlog")).unwrap();
        log.read_exact_at(&mut around[..8], 292 * (1 << 32) - 8).unwrap();
        assert_eq!(&around[..8], b"\0\0\0\0last");
        let sizes = [&sparse, &log].map(|file| (file.metadata().unwrap().size(), data_bytes(file)));
        BTreeMap::from([("sparse", sizes[0]), ("lastlog", sizes[1])])
    });
    println!("size and data by the kernel: {seen:?}");
    assert_eq!(seen["sparse"].0, 5 << 30);
    assert!(seen["sparse"].1 <= 64 << 10);
    assert_eq!(seen["lastlog"].0, 292 << 32);
    assert!(seen["lastlog"].1 <= 8 << 20);
}
