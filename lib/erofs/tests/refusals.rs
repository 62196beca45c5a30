//! What cannot be written is refused, with the entry and the limit.

use std::io;

use dataplane_erofs::{Attributes, Epoch, ErofsError, ImageWriter, Limit, Options, Special};

const META: Attributes<'static> = Attributes { mode: 0o644, uid: 0, gid: 0, mtime: (0, 0), xattrs: &[] };

fn image() -> ImageWriter {
    let options = Options { uuid: [0; 16], epoch: Epoch::default(), scratch: &std::env::temp_dir() };
    ImageWriter::new(tempfile::tempfile().expect("a file"), &options).expect("an image")
}

#[test]
fn names_that_no_directory_holds() {
    let mut image = image();
    let usr = image.directory(image.root(), b"usr", &META).unwrap();
    for (name, shown) in
        [(&b""[..], "/usr"), (b".", "/usr/."), (b"..", "/usr/.."), (b"a/b", "/usr/a/b"), (b"a\0b", "/usr/a\\x00b")]
    {
        let errors = [
            image.directory(usr, name, &META).unwrap_err(),
            image.file(usr, name, &META, 0).unwrap_err(),
            image.symlink(usr, name, b"x", &META).unwrap_err(),
            image.special(usr, name, Special::Fifo, &META).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(&error, ErofsError::Name { entry, .. } if entry == shown), "{name:?}: {error}");
        }
    }
    let error = image.file(usr, &[b'n'; 256], &META, 0).unwrap_err();
    assert!(matches!(error, ErofsError::Limit { limit: Limit::NameBytes, found: 256, .. }));
    assert!(error.is_bad_tree());
}

#[test]
fn a_name_that_is_there_twice() {
    let mut image = image();
    let usr = image.directory(image.root(), b"usr", &META).unwrap();
    let lib = image.directory(usr, b"lib", &META).unwrap();
    for name in [b"b", b"a", b"c", b"a"] {
        image.special(lib, name, Special::Fifo, &META).unwrap();
    }
    let error = image.finish().unwrap_err();
    assert!(matches!(&error, ErofsError::Duplicate { entry } if entry == "/usr/lib/a"), "{error}");
}

#[test]
fn contents_that_are_not_as_long_as_was_said() {
    let mut image = image();
    let root = image.root();
    let mut file = image.file(root, b"long", &META, 5).unwrap();
    file.data(b"1234").unwrap();
    let error = file.data(b"56").unwrap_err();
    assert!(matches!(&error, ErofsError::Length { entry, declared: 5, found: 6 } if entry == "/long"), "{error}");
    assert!(matches!(file.hole(u64::MAX), Err(ErofsError::Length { declared: 5, .. })));
    assert!(matches!(file.finish(), Err(ErofsError::Length { declared: 5, found: 4, .. })));
    for given in [&b"123"[..], b"12345"] {
        let file = image.file(root, b"read", &META, 4).unwrap();
        assert!(matches!(file.fill(given), Err(ErofsError::Length { declared: 4, .. })));
    }
    // What was not finished is not there, and its name is free.
    image.file(root, b"read", &META, 4).unwrap().fill(&b"1234"[..]).unwrap();
    let (_, summary) = image.finish().unwrap();
    assert_eq!((summary.nodes, summary.directories), (1, 1));
}

#[test]
fn what_a_reader_says_is_passed_on() {
    struct Failing;
    impl io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("cut"))
        }
    }
    let mut image = image();
    let root = image.root();
    let error = image.file(root, b"file", &META, 4).unwrap().fill(Failing).unwrap_err();
    assert!(matches!(&error, ErofsError::Content { entry, .. } if entry == "/file"));
    assert!(!error.is_bad_tree());
}

#[test]
fn nodes_and_directories_of_another_image() {
    let (mut one, mut other) = (image(), image());
    let node = one.special(one.root(), b"x", Special::Fifo, &META).unwrap();
    let error = other.hard_link(other.root(), b"x", node).unwrap_err();
    assert!(matches!(&error, ErofsError::Unknown { entry, .. } if entry == "/x"), "{error}");
    assert!(matches!(other.special(one.root(), b"x", Special::Fifo, &META), Err(ErofsError::Unknown { .. })));
    assert!(matches!(other.set_directory(one.root(), &META), Err(ErofsError::Unknown { .. })));
}

#[test]
fn attributes_that_mean_nothing() {
    let mut image = image();
    let root = image.root();
    for bad in [Attributes { mode: 0o10_000, ..META }, Attributes { mtime: (0, 1_000_000_000), ..META }] {
        assert!(matches!(image.directory(root, b"x", &bad), Err(ErofsError::Metadata { .. })));
        assert!(matches!(image.set_directory(root, &bad), Err(ErofsError::Metadata { .. })));
    }
    let xattrs = [(b"weird.name".to_vec(), vec![])];
    let error = image.file(root, b"f", &Attributes { xattrs: &xattrs, ..META }, 0).unwrap_err();
    let shown = "entry \"/f\": its extended attribute \"weird.name\" is in no namespace that EROFS has";
    assert_eq!(error.to_string(), shown);
    for (special, limit) in
        [(Special::Char(4096, 0), Limit::DeviceMajor), (Special::Block(0, 1 << 20), Limit::DeviceMinor)]
    {
        let error = image.special(root, b"x", special, &META).unwrap_err();
        assert!(matches!(error, ErofsError::Limit { limit: found, .. } if found == limit));
    }
    for target in [&b""[..], b"a\0b"] {
        assert!(matches!(image.symlink(root, b"x", target, &META), Err(ErofsError::Target { .. })));
    }
    let error = image.symlink(root, b"x", &[b't'; 4096], &META).unwrap_err();
    assert!(matches!(error, ErofsError::Limit { limit: Limit::TargetBytes, .. }));
}

#[test]
fn what_the_format_cannot_hold() {
    let mut image = image();
    let root = image.root();
    let error = image.file(root, b"f", &META, u64::MAX).unwrap_err();
    assert!(matches!(error, ErofsError::Limit { limit: Limit::FileBytes, .. }));
    // Its smallest chunk is half of what an image holds, and it has data in two of them.
    let mut file = image.file(root, b"f", &META, i64::MAX.unsigned_abs()).unwrap();
    file.data(b"x").unwrap();
    file.hole(i64::MAX.unsigned_abs() - 2).unwrap();
    let error = file.data(b"y").unwrap_err();
    assert!(matches!(&error, ErofsError::Limit { entry, limit: Limit::ImageBytes, .. } if entry == "/f"), "{error}");
}

#[test]
fn a_node_of_too_many_names() {
    let mut image = image();
    let root = image.root();
    let dir = image.directory(root, b"d", &META).unwrap();
    let node = image.special(dir, b"first", Special::Fifo, &META).unwrap();
    for at in 0..65_535 {
        image.hard_link(root, format!("{at}").as_bytes(), node).unwrap();
    }
    let error = image.finish().unwrap_err();
    assert!(
        matches!(&error, ErofsError::Limit { entry, limit: Limit::Links, found: 65_536 } if entry == "/0"),
        "{error}"
    );
}

#[test]
fn a_full_disk_is_told_as_such() {
    let options = Options { uuid: [0; 16], epoch: Epoch::default(), scratch: &std::env::temp_dir() };
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut image = ImageWriter::new(full, &options).unwrap();
    let root = image.root();
    let error = image.file(root, b"f", &META, 1 << 20).unwrap().fill(&vec![1; 1 << 20][..]).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert!(matches!(image.finish(), Err(ErofsError::Broken)));
}
