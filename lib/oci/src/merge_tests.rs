use std::io::Read as _;

use tar::EntryType;

use super::*;
use crate::test_support::{Layer, header, listing, merge_in};

fn merged(layers: Vec<Layer>) -> Result<(tempfile::TempDir, MergedImage), ContentError> {
    merged_within(layers, &Limits::default())
}

fn merged_within(layers: Vec<Layer>, limits: &Limits) -> Result<(tempfile::TempDir, MergedImage), ContentError> {
    let directory = tempfile::tempdir().unwrap();
    let layers = layers.into_iter().map(Layer::finish).collect();
    merge_in(directory.path(), layers, limits).map(|image| (directory, image))
}

fn lines(layers: Vec<Layer>) -> Vec<String> {
    listing(merged(layers).unwrap().1.tree())
}

fn read(image: &MergedImage, path: &[&[u8]]) -> Vec<u8> {
    let mut node = NodeId::ROOT;
    for part in path {
        node = image.tree().child(node, part).unwrap();
    }
    let Kind::File(content) = &image.tree().node(node).kind else { panic!("no file") };
    let mut bytes = Vec::new();
    image.open(content).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, content.size());
    bytes
}

fn base() -> Layer {
    Layer::default().dir("etc/").file("etc/a", b"one").file("etc/b", b"two").dir("etc/d").file("etc/d/x", b"x")
}

#[test]
fn whiteouts_hide_lower_names_only() {
    let upper = Layer::default().file("etc/.wh.a", b"").file("etc/.wh.d", b"").file("etc/.wh.missing", b"");
    assert_eq!(lines(vec![base(), upper]), ["etc dir", "etc/b file 3"]);
    // A whiteout beside an entry of the same name, in either order, hides what is below and keeps what is here.
    for upper in [
        Layer::default().file("etc/a", b"new!").file("etc/.wh.a", b"").file("etc/d/y", b"").file("etc/.wh.d", b""),
        Layer::default().file("etc/.wh.a", b"").file("etc/a", b"new!").file("etc/.wh.d", b"").file("etc/d/y", b""),
    ] {
        assert_eq!(
            lines(vec![base(), upper]),
            ["etc dir", "etc/a file 4", "etc/b file 3", "etc/d dir", "etc/d/y file 0"]
        );
    }
    assert_eq!(lines(vec![base(), Layer::default().file("no/where/.wh.x", b"")]).len(), 5);
}

#[test]
fn opaque_directories_hide_lower_layers_wherever_the_mark_stands() {
    let expected = ["etc dir", "etc/d dir", "etc/d/new file 1", "etc/z file 0"];
    let entries = |layer: Layer| layer.dir("etc/d").file("etc/d/new", b"n").file("etc/z", b"");
    let first = entries(Layer::default().dir("etc").file("etc/.wh..wh..opq", b""));
    let last = entries(Layer::default().dir("etc")).file("etc/.wh..wh..opq", b"");
    assert_eq!(lines(vec![base(), first]), expected);
    assert_eq!(lines(vec![base(), last]), expected);
}

#[test]
fn nodes_replace_each_other_as_runtimes_do() {
    let upper = Layer::default().file("etc/d", b"file now").dir("etc/a").symlink("etc/b", "/etc/a");
    assert_eq!(lines(vec![base(), upper]), ["etc dir", "etc/a dir", "etc/b -> /etc/a", "etc/d file 8"]);
    let upper = Layer::default().dir("etc/d").file("etc/d/y", b"");
    assert_eq!(lines(vec![base(), upper])[3..], ["etc/d dir", "etc/d/x file 1", "etc/d/y file 0"]);
}

#[test]
fn entries_below_a_link_land_where_it_leads_within_the_tree() {
    let lower =
        Layer::default().dir("usr/lib").symlink("lib", "usr/lib").symlink("out", "../../../usr").symlink("abs", "/usr");
    let upper =
        Layer::default().file("lib/a", b"").file("out/b", b"").file("abs/lib/c", b"").file("lib/.wh.nothing", b"");
    assert_eq!(
        lines(vec![lower, upper]),
        [
            "abs -> /usr",
            "lib -> usr/lib",
            "out -> ../../../usr",
            "usr dir",
            "usr/b file 0",
            "usr/lib dir",
            "usr/lib/a file 0",
            "usr/lib/c file 0"
        ]
    );
    let looped = Layer::default().symlink("a", "b").symlink("b", "a").file("a/x", b"");
    assert!(merged(vec![looped]).unwrap_err().to_string().contains("too many symbolic links"));
}

#[test]
fn hard_links_share_a_node_across_layers() {
    let upper = Layer::default().hard_link("twin", "etc/a").hard_link("abs", "/etc/b").file("etc/a", b"changed");
    let (_directory, image) = merged(vec![base(), upper]).unwrap();
    assert_eq!(read(&image, &[b"twin"]), b"one", "the link keeps the node that it was made to");
    assert_eq!(read(&image, &[b"etc", b"a"]), b"changed");
    let tree = image.tree();
    let etc = tree.child(NodeId::ROOT, b"etc").unwrap();
    assert_eq!(tree.child(NodeId::ROOT, b"abs"), tree.child(etc, b"b"));
}

#[test]
fn owners_modes_times_and_attributes_arrive() {
    let long = "n".repeat(200);
    let capability = b"\x01\x00\n\x02=\n";
    let layer = Layer::default()
        .pax(&[
            ("path", format!("dir/{long}").as_bytes()),
            ("uid", b"100000"),
            ("gid", b"4000000000"),
            ("mtime", b"-1.5"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.empty", b""),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.com.apple.x", b"y"),
        ])
        .file("short", b"content")
        .device("null", EntryType::Char, 1, 3)
        .device("hidden", EntryType::Char, 0, 0)
        .device("disk", EntryType::Block, 8, 1)
        .entry("pipe", EntryType::Fifo, "", b"");
    let (_directory, image) = merged(vec![layer]).unwrap();
    assert_eq!(
        listing(image.tree()),
        ["dir dir", &format!("dir/{long} file 7"), "disk block 8:1", "null char 1:3", "pipe fifo"]
    );
    let dropped = Dropped { overlay_xattrs: 1, whiteout_devices: 1, foreign_xattrs: 1 };
    assert_eq!(image.dropped(), dropped);
    let tree = image.tree();
    let dir = tree.child(NodeId::ROOT, b"dir").unwrap();
    let meta = &tree.node(tree.child(dir, long.as_bytes()).unwrap()).meta;
    assert_eq!((meta.mode, meta.uid, meta.gid, meta.mtime), (0o640, 100_000, 4_000_000_000, (-2, 500_000_000)));
    let names: Vec<_> = meta.xattrs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    assert_eq!(names, [(&b"security.capability"[..], &capability[..]), (b"user.empty", b"")]);
    let null = &tree.node(tree.child(NodeId::ROOT, b"null").unwrap()).meta;
    assert_eq!((null.uid, null.mtime), (7, (1_600_000_000, 0)), "extended headers are for one entry only");
}

#[test]
fn the_root_may_be_described() {
    let (_directory, image) = merged(vec![Layer::default().dir("./")]).unwrap();
    assert_eq!(image.tree().node(NodeId::ROOT).meta.uid, 7);
    assert!(merged(vec![Layer::default().symlink("/", "x")]).is_err());
}

#[test]
fn files_with_holes_read_as_zeros() {
    let map = {
        let mut map = b"2\n0\n3\n5000\n2\n".to_vec();
        map.resize(512, 0);
        map
    };
    let v1_0: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"f"),
        ("GNU.sparse.realsize", b"6000"),
    ];
    let v0_1: [(&str, &[u8]); 3] =
        [("GNU.sparse.size", b"6000"), ("GNU.sparse.numblocks", b"2"), ("GNU.sparse.map", b"0,3,5000,2")];
    let mut gnu = header(b"f", EntryType::GNUSparse, 5);
    {
        let fields = gnu.as_gnu_mut().unwrap();
        fields.set_real_size(6000);
        fields.sparse[0].set_offset(0);
        fields.sparse[0].set_length(3);
        fields.sparse[1].set_offset(5000);
        fields.sparse[1].set_length(2);
    }
    gnu.set_cksum();
    let mut expected = vec![0; 6000];
    expected[..3].copy_from_slice(b"abc");
    expected[5000..5002].copy_from_slice(b"de");
    for layer in [
        Layer::default().pax(&v1_0).file("GNUSparseFile.0/f", &[&map[..], b"abcde"].concat()),
        Layer::default().pax(&v0_1).file("f", b"abcde"),
        Layer::default().raw(&gnu, b"abcde"),
    ] {
        let (_directory, image) = merged(vec![layer.file("after", b"")]).unwrap();
        assert!(read(&image, &[b"f"]) == expected);
        assert_eq!(listing(image.tree()), ["after file 0", "f file 6000"]);
    }
}

/// Each of these must be refused, by a message that names the entry or the limit.
#[test]
fn hostile_entries_are_refused_by_name() {
    let long_link = "l".repeat(5000);
    let deep = "d/".repeat(300);
    let pax_file = |records: &[(&str, &[u8])]| Layer::default().pax(records).file("evil", b"");
    let corpus: Vec<(&str, Layer)> = vec![
        ("leads out of the image", Layer::default().file("../evil", b"")),
        ("leads out of the image", Layer::default().dir("evil/../../x")),
        ("leads out of the image", Layer::default().file("evil/..", b"")),
        ("leads out of the image", Layer::default().hard_link("evil", "../../etc/shadow")),
        ("not in the image", Layer::default().hard_link("evil", "/etc/shadow")),
        ("not in the image", Layer::default().symlink("s", "/").hard_link("evil", "s/etc/passwd")),
        ("not in the image", Layer::default().hard_link("evil", "")),
        ("leads to a directory", Layer::default().dir("d").hard_link("evil", "d")),
        ("no directory", Layer::default().file("f", b"").file("f/evil", b"")),
        ("no directory", Layer::default().file("f", b"").symlink("s", "f").file("s/evil", b"")),
        ("holds a NUL", pax_file(&[("path", b"evil\0x")])),
        ("holds a NUL", Layer::default().pax(&[("linkpath", b"x\0y")]).symlink("evil", "")),
        ("is empty", Layer::default().symlink("evil", "")),
        ("length of a link target", Layer::default().pax(&[("linkpath", long_link.as_bytes())]).symlink("evil", "")),
        ("length of a path", pax_file(&[("path", &[b'p'; 5000])])),
        ("length of a name", pax_file(&[("path", &[b'p'; 256])])),
        ("depth of directories", pax_file(&[("path", deep.as_bytes())])),
        ("extended attributes", pax_file(&[("SCHILY.xattr.user.big", &[b'x'; 70_000])])),
        ("extended attribute is malformed", pax_file(&[("SCHILY.xattr.user.a\0b", b"")])),
        ("extended header", pax_file(&[("comment", &[b'x'; 2 << 20])])),
        ("owner is out of range", pax_file(&[("uid", b"4294967296")])),
        ("malformed", pax_file(&[("uid", b"-1")])),
        ("device number is out of range", Layer::default().device("evil", EntryType::Char, 5000, 0)),
        ("type is unknown", Layer::default().entry("evil", EntryType::new(b'Z'), "", b"")),
        ("whiteout of nothing", Layer::default().file(".wh.", b"")),
        ("whiteout of nothing", Layer::default().file("a/.wh...", b"")),
        (
            "size of all files",
            Layer::default()
                .pax(&[("GNU.sparse.size", b"1099511627776"), ("GNU.sparse.map", b"0,0")])
                .file("evil", b""),
        ),
        (
            "map of holes",
            Layer::default()
                .pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"5,10")])
                .file("evil", b"xxxxxxxxxx"),
        ),
        ("root must be a directory", Layer::default().file(".", b"")),
    ];
    for (expected, layer) in corpus {
        let error = merged(vec![layer]).map(|(_, image)| listing(image.tree())).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}

#[test]
fn limits_on_numbers_hold() {
    let limits = Limits { entries: 3, devices: 1, unpacked_bytes: 100_000, ..Limits::default() };
    let files = |count: usize| (0..count).fold(Layer::default(), |layer, at| layer.file(&format!("f{at}"), b""));
    assert!(merged_within(vec![files(3)], &limits).is_ok());
    let error = merged_within(vec![files(2), files(2)], &limits).unwrap_err();
    assert!(matches!(&error, ContentError::Limit { limit, .. } if limit == "the number of entries"), "{error}");
    let devices = Layer::default().device("a", EntryType::Char, 1, 1).device("b", EntryType::Block, 1, 1);
    let error = merged_within(vec![devices], &limits).unwrap_err();
    assert!(matches!(&error, ContentError::Limit { limit, .. } if limit == "the number of device nodes"), "{error}");
    // Each link in turn leads deeper than any single name may.
    let limits = Limits { depth: 8, ..Limits::default() };
    let deep =
        Layer::default().dir("a/b/c/d/e").symlink("s", "a/b/c/d/e").dir("s/f/g/h").symlink("t", "s/f/g/h").dir("t/i/j");
    let error = merged_within(vec![deep], &limits).unwrap_err();
    assert!(matches!(&error, ContentError::Limit { limit, .. } if limit == "the depth of directories"), "{error}");
}

#[test]
fn broken_archives_are_corrupt_not_short() {
    let whole = base().finish();
    let directory = tempfile::tempdir().unwrap();
    for cut in [100, 700, 1536 + 300, 2 * 512 + 1] {
        let result = merge_in(directory.path(), vec![whole[..cut].to_vec()], &Limits::default());
        assert!(matches!(result, Err(ContentError::Corrupt { .. })), "cut at {cut}");
    }
    let mut damaged = whole;
    damaged[3] ^= 1;
    let result = merge_in(directory.path(), vec![damaged], &Limits::default());
    assert!(result.unwrap_err().to_string().contains("wrong checksum"));
    let result = merge_in(directory.path(), vec![b"no tar at all".to_vec()], &Limits::default());
    assert!(matches!(result, Err(ContentError::Corrupt { .. })));
}

/// A header that claims more than there is must not be believed, nor reserve memory for it.
#[test]
fn a_size_beyond_the_archive_is_truncation() {
    for kind in [EntryType::Regular, EntryType::GNUSparse, EntryType::Directory] {
        let mut lying = header(b"evil", kind, 1 << 40);
        lying.set_cksum();
        let error = merged(vec![Layer::default().raw(&lying, b"")]).map(|_| ()).unwrap_err();
        assert!(matches!(error, ContentError::Corrupt { .. } | ContentError::Entry { .. }), "{error}");
    }
    let mut long_name = header(b"././@LongLink", EntryType::GNULongName, 1 << 40);
    long_name.set_cksum();
    let error = merged(vec![Layer::default().raw(&long_name, b"")]).map(|_| ()).unwrap_err();
    assert!(matches!(error, ContentError::Limit { .. }), "{error}");
}
