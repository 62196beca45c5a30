//! Files in and out of a guest: what is sent comes back as it was, and nothing leads out of where it belongs.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use serde_json::json;
use tar::{Archive, Builder, EntryType, Header};

use crate::harness::{Host, shell_image};

async fn guest(host: &Host) {
    let image = host.import(shell_image()).await.unwrap();
    host.script("files", &image, "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done").await.unwrap();
    host.until("files", "ready", |instance| instance["ready"] == true).await.unwrap();
}

async fn put(host: &Host, path: &str, tar: Vec<u8>) -> (u16, String) {
    let request = Request::put(format!("/instances/files/files?path={path}")).header("host", "localhost");
    let request = request.header("content-type", "application/x-tar").body(Full::new(Bytes::from(tar))).unwrap();
    let answer = host.client.call(request).await.unwrap();
    eprintln!("put {path}: {} {:?}", answer.status, answer.body);
    (answer.status, if answer.status == 204 { String::new() } else { answer.code() })
}

async fn shell(host: &Host, script: &str) -> String {
    let body = json!({ "command": ["/bin/sh", "-c", script] });
    let ran = host.client.post_json("/instances/files/exec", &body).await.unwrap().json();
    assert_eq!(ran["exit_code"], 0, "{script}: {ran}");
    ran["stdout"]["text"].as_str().unwrap().to_owned()
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(1234);
    header.set_gid(77);
    header.set_mtime(1_700_000_000);
    header
}

fn file(tar: &mut Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) {
    tar.append_data(&mut header(EntryType::Regular, mode, content.len() as u64), path, content).unwrap();
}

/// Type, mode, owner, group, time, link and content of every entry, by name.
type Tree = BTreeMap<Vec<u8>, (u8, u32, u64, u64, u64, Option<Vec<u8>>, Vec<u8>)>;

fn entries(tar: &[u8]) -> Tree {
    let mut archive = Archive::new(tar);
    let mut all = Tree::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        // A file with holes is a file.
        let kind = header.entry_type();
        let kind = if kind == EntryType::GNUSparse { EntryType::Regular } else { kind }.as_byte();
        let path = entry.path_bytes().into_owned();
        let path = path.strip_suffix(b"/").unwrap_or(&path).to_vec();
        let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
        // Some writers keep the file's type among the bits of its mode.
        let mode = header.mode().unwrap() & 0o7777;
        let told = (kind, mode, header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap());
        all.insert(path, (told.0, told.1, told.2, told.3, told.4, link, content));
    }
    all
}

fn tree() -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let long = format!("tree/{}/{}", "d".repeat(120), "n".repeat(200));
    for (path, mode) in [("tree", 0o755), ("tree/private", 0o700), ("tree/sticky", 0o1777)] {
        tar.append_data(&mut header(EntryType::Directory, mode, 0), path, std::io::empty()).unwrap();
    }
    tar.append_data(&mut header(EntryType::Directory, 0o755, 0), format!("tree/{}", "d".repeat(120)), std::io::empty())
        .unwrap();
    file(&mut tar, "tree/plain", 0o640, b"content");
    file(&mut tar, "tree/empty", 0o600, b"");
    file(&mut tar, "tree/setuid", 0o4755, b"x");
    file(&mut tar, "tree/ odd \n\"name\" \u{e4}", 0o644, b"odd");
    file(&mut tar, &long, 0o644, b"long");
    file(&mut tar, "tree/private/holes", 0o644, &[vec![1; 4096], vec![0; 1 << 20], vec![2; 5]].concat());
    tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), "tree/link", "/etc/passwd").unwrap();
    tar.append_link(&mut header(EntryType::Link, 0o640, 0), "tree/same", "tree/plain").unwrap();
    tar.append_data(&mut header(EntryType::Fifo, 0o600, 0), "tree/fifo", std::io::empty()).unwrap();
    let mut null = header(EntryType::Char, 0o666, 0);
    null.set_device_major(1).unwrap();
    null.set_device_minor(3).unwrap();
    tar.append_data(&mut null, "tree/null", std::io::empty()).unwrap();
    tar.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_all_types_comes_back_as_it_was_sent() {
    let host = Host::start().unwrap();
    guest(&host).await;
    let sent = tree();
    assert_eq!(put(&host, "/tmp", sent.clone()).await, (204, String::new()));
    let got = host.client.get("/instances/files/files?path=/tmp/tree").await.unwrap();
    assert_eq!((got.status, got.header("content-type")), (200, "application/x-tar"));
    let (mut sent, mut got) = (entries(&sent), entries(&got.body));
    // Either of two names of a file may come first.
    for tree in [&mut sent, &mut got] {
        let names = [b"tree/plain".to_vec(), b"tree/same".to_vec()].map(|name| tree.remove(&name).unwrap());
        assert_eq!(names.iter().filter(|it| it.0 == EntryType::Link.as_byte()).count(), 1);
        assert!(names.iter().any(|it| it.6 == b"content" && it.1 == 0o640 && it.2 == 1234), "{names:?}");
    }
    assert_eq!(got.keys().collect::<Vec<_>>(), sent.keys().collect::<Vec<_>>());
    for (path, entry) in &sent {
        assert!(
            got[path] == *entry,
            "{}: {:?} {:?}",
            String::from_utf8_lossy(path),
            (got[path].0, got[path].1),
            (entry.0, entry.1)
        );
    }
    let blocks = shell(&host, "/bin/busybox stat -c %b /tmp/tree/private/holes; readlink /tmp/tree/link || /bin/busybox readlink /tmp/tree/link").await;
    let (blocks, link) = blocks.trim().split_once('\n').unwrap();
    assert!(blocks.parse::<u64>().unwrap() < 64, "{blocks}");
    assert_eq!(link, "/etc/passwd");

    let stat = host.client.get("/instances/files/files/stat?path=/tmp/tree&list=true").await.unwrap().json();
    assert_eq!(
        (&stat["type"], &stat["mode"], &stat["uid"], &stat["gid"]),
        (&json!("directory"), &json!(0o755), &json!(1234), &json!(77))
    );
    let listed = stat["entries"].as_array().unwrap();
    assert_eq!(listed.len(), 11, "{stat}");
    let link = listed.iter().find(|it| it["name"] == "link").unwrap();
    assert_eq!((&link["type"], &link["target"]), (&json!("symlink"), &json!("/etc/passwd")));
    assert_eq!(stat["modified_at"], "2023-11-14T22:13:20Z");

    // A single file, and one through a link where that is asked for.
    let one = entries(&host.client.get("/instances/files/files?path=/etc/group").await.unwrap().body);
    assert_eq!(one[b"group".as_slice()].6, b"root:x:0:\n");
    let link = entries(&host.client.get("/instances/files/files?path=/tmp/tree/link").await.unwrap().body);
    assert_eq!(link[b"link".as_slice()].0, EntryType::Symlink.as_byte());
    let followed =
        entries(&host.client.get("/instances/files/files?path=/tmp/tree/link&follow=true").await.unwrap().body);
    assert!(followed[b"link".as_slice()].6.starts_with(b"root:"));
    host.delete("files", 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leads_out_and_large_files_flow() {
    let host = Host::start().unwrap();
    guest(&host).await;
    shell(
        &host,
        "mkdir /tmp/in /tmp/out 2>/dev/null || /bin/busybox mkdir -p /tmp/in /tmp/out; \
        /bin/busybox ln -s /tmp/out /tmp/in/way; /bin/busybox ln -s /etc/passwd /tmp/in/target",
    )
    .await;
    for name in ["../escaped", "a/../../escaped", "way/escaped", "/escaped"] {
        let mut tar = Builder::new(Vec::new());
        let mut raw = header(EntryType::Regular, 0o644, 1);
        raw.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        raw.set_cksum();
        tar.append(&raw, b"x".as_slice()).unwrap();
        let refused = put(&host, "/tmp/in", tar.into_inner().unwrap()).await;
        assert_eq!(refused, (422, "guest_refused".to_owned()), "{name}");
    }
    let mut tar = Builder::new(Vec::new());
    file(&mut tar, "target", 0o644, b"mine");
    assert_eq!(put(&host, "/tmp/in", tar.into_inner().unwrap()).await.0, 204);
    assert_eq!(
        shell(&host, "cat /tmp/in/target; ls /tmp/out; ls / | /bin/busybox grep -c escaped || true").await,
        "mine0\n"
    );
    assert!(shell(&host, "cat /etc/passwd").await.starts_with("root:"));
    for (path, code) in [
        ("/tmp/none", "path_not_found"),
        ("/etc/passwd", "guest_refused"),
        ("/tmp/in/way", "guest_refused"),
        ("/tmp/../etc", "guest_refused"),
    ] {
        let answer = put(&host, path, tree()).await;
        assert_eq!(answer.1, code, "{path}: {}", answer.0);
    }
    assert_eq!(put(&host, "/tmp", b"no tar at all, but long enough to be one".repeat(20)).await.1, "guest_refused");
    let none = host.client.get("/instances/files/files?path=/nowhere").await.unwrap();
    assert_eq!((none.status, none.code().as_str()), (404, "path_not_found"));
    assert_eq!(host.client.get("/instances/files/files").await.unwrap().status, 400);
    assert_eq!(host.client.get("/instances/files/files/stat?path=etc").await.unwrap().status, 400);

    let begun = std::time::Instant::now();
    let large: Vec<u8> = (0..32u32 << 18).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut tar = Builder::new(Vec::new());
    file(&mut tar, "large", 0o644, &large);
    assert_eq!(put(&host, "/tmp", tar.into_inner().unwrap()).await.0, 204);
    let got = host.client.get("/instances/files/files?path=/tmp/large").await.unwrap();
    assert!(entries(&got.body)[b"large".as_slice()].6 == large);
    eprintln!("{} MiB in and out in {:?}", large.len() >> 20, begun.elapsed());
    host.delete("files", 0).await.unwrap();
}

/// GNU tar in a directory of this machine, with all attributes.
fn gnu_tar(at: &Path, options: &[&str]) {
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner"]).args(options).current_dir(at);
    let ran = tar.output().expect("GNU tar is needed");
    assert!(ran.status.success() && ran.stderr.is_empty(), "{options:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_and_holes_go_in_and_out() {
    const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const SIZE: u64 = 3 << 30;
    let host = Host::start().unwrap();
    guest(&host).await;
    let directory = tempfile::tempdir().unwrap();
    let sent = directory.path().join("sent");
    std::fs::create_dir(&sent).unwrap();
    let holes = sent.join("holes");
    let file = std::fs::File::create(&holes).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"words", 2 << 30).unwrap();
    file.set_len(SIZE).unwrap();
    std::os::unix::fs::symlink("holes", sent.join("link")).unwrap();
    let attributes: [(&str, &str, &[u8]); 4] = [
        ("holes", "security.capability", CAPABILITY),
        ("holes", "user.a=b", b"\0\n=\xff"),
        (".", "user.of.a.directory", b"d"),
        ("link", "trusted.of.a.link", b"l"),
    ];
    for (name, key, value) in attributes {
        lsetxattr(sent.join(name), key, value, XattrFlags::empty()).unwrap();
    }
    for version in ["0.0", "0.1", "1.0"] {
        let got = tempfile::tempdir_in(directory.path()).unwrap();
        let got = got.path();
        let version = format!("--sparse-version={version}");
        gnu_tar(directory.path(), &["--format=pax", "--sparse", &version, "-cf", "sent.tar", "sent"]);
        let archive = std::fs::read(directory.path().join("sent.tar")).unwrap();
        assert_eq!(put(&host, "/tmp", archive).await, (204, String::new()), "{version}");
        let blocks = shell(&host, "/bin/busybox stat -c '%b %s' /tmp/sent/holes").await;
        let (blocks, size) = blocks.trim().split_once(' ').unwrap();
        assert!(blocks.parse::<u64>().unwrap() <= 16 && size.parse::<u64>().unwrap() == SIZE, "{blocks} {size}");
        let back = host.client.get("/instances/files/files?path=/tmp/sent").await.unwrap();
        assert!(back.body.len() < 64 << 10, "{}", back.body.len());
        std::io::Write::write_all(&mut std::fs::File::create(got.join("got.tar")).unwrap(), &back.body).unwrap();
        gnu_tar(got, &["-xpf", "got.tar"]);
        for (name, key, value) in attributes {
            let mut found = [0; 100];
            let length = lgetxattr(got.join("sent").join(name), key, &mut found).unwrap();
            assert_eq!(&found[..length], value, "{version} {name} {key}");
        }
        let metadata = std::fs::metadata(got.join("sent/holes")).unwrap();
        assert!(metadata.len() == SIZE && metadata.blocks() <= 16, "{version} {}", metadata.blocks());
        let mut words = [0; 5];
        let file = std::fs::File::open(got.join("sent/holes")).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut words, 2 << 30).unwrap();
        assert_eq!(&words, b"words", "{version}");
    }

    // What the guest's file system does not take is told by name.
    let mut tar = Builder::new(Vec::new());
    tar.append_pax_extensions([("SCHILY.xattr.user.on.a.pipe", b"x".as_slice())]).unwrap();
    tar.append_data(&mut header(EntryType::Fifo, 0o600, 0), "pipe", std::io::empty()).unwrap();
    let request = Request::put("/instances/files/files?path=/tmp").header("host", "localhost");
    let request = request.header("content-type", "application/x-tar");
    let request = request.body(Full::new(Bytes::from(tar.into_inner().unwrap()))).unwrap();
    let refused = host.client.call(request).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (422, "guest_refused"));
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("write pipe: set the attribute user.on.a.pipe: "), "{message}");
    host.delete("files", 0).await.unwrap();
}
