//! The disk that judges others is judged first; then the store's own verbs die at every one of their steps.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{CrashDisk, Fuse, Image};
use crate::{Disk as _, Layout, Store, StoreError};

fn put(path: &Path, bytes: &[u8]) {
    File::create(path).unwrap().write_all(bytes).unwrap();
}

/// All files and directories beneath, with contents; directories end in a slash.
fn tree(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = vec![root.to_owned()];
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                found.push((name + "/", Vec::new()));
                rest.push(path);
            } else {
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn seen(disk: &CrashDisk, image: Image, scratch: &Path) -> Vec<(String, Vec<u8>)> {
    let into = scratch.join(format!("{image:?}"));
    disk.image(image, &into).unwrap();
    tree(&into)
}

fn files(expected: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    expected.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect()
}

fn new_root(directory: &Path) -> PathBuf {
    let root = directory.join("data");
    fs::create_dir(&root).unwrap();
    root
}

#[test]
fn what_was_not_synced_is_absent_from_the_durable_images() {
    let directory = tempfile::tempdir().unwrap();
    let root = new_root(directory.path());
    put(&root.join("kept"), b"old");
    let disk = CrashDisk::new(&root, Fuse::endless()).unwrap();
    // Somebody else writes over a durable file, and a new one.
    put(&root.join("kept"), b"newer");
    disk.write_temp(&root.join("fresh"), b"fresh").unwrap();
    let now = files(&[("fresh", "fresh"), ("kept", "newer")]);
    assert_eq!(seen(&disk, Image::Everything, directory.path()), now);
    assert_eq!(seen(&disk, Image::Synced, directory.path()), files(&[("kept", "old")]));
    assert_eq!(seen(&disk, Image::SyncedContents, directory.path()), files(&[("fresh", ""), ("kept", "old")]));
    assert_eq!(seen(&disk, Image::SyncedNames, directory.path()), files(&[("kept", "newer")]));
}

#[test]
fn a_synced_file_needs_its_directory_synced_to_have_a_name() {
    let directory = tempfile::tempdir().unwrap();
    let root = new_root(directory.path());
    let disk = CrashDisk::new(&root, Fuse::endless()).unwrap();
    disk.write_temp(&root.join("a"), b"a").unwrap();
    disk.sync(&root.join("a")).unwrap();
    assert_eq!(seen(&disk, Image::Synced, &directory.path().join("data/..")), files(&[]));
    disk.sync_dir(&root).unwrap();
    let again = tempfile::tempdir().unwrap();
    assert_eq!(seen(&disk, Image::Synced, again.path()), files(&[("a", "a")]));
}

#[test]
fn a_rename_may_or_may_not_have_happened_until_the_directory_is_synced() {
    let directory = tempfile::tempdir().unwrap();
    let root = new_root(directory.path());
    put(&root.join("a"), b"new");
    put(&root.join("b"), b"old");
    let disk = CrashDisk::new(&root, Fuse::endless()).unwrap();
    disk.rename(&root.join("a"), &root.join("b")).unwrap();
    let both = files(&[("a", "new"), ("b", "old")]);
    assert_eq!(seen(&disk, Image::Synced, directory.path()), both);
    // What was renamed over is gone from the directory, and still there after a cut.
    assert_eq!(seen(&disk, Image::SyncedNames, directory.path()), both);
    assert_eq!(seen(&disk, Image::SyncedContents, directory.path()), files(&[("b", "new")]));
    disk.sync_dir(&root).unwrap();
    let again = tempfile::tempdir().unwrap();
    assert_eq!(seen(&disk, Image::Synced, again.path()), files(&[("b", "new")]));
}

#[test]
fn a_directory_is_durable_entry_by_entry() {
    let directory = tempfile::tempdir().unwrap();
    let root = new_root(directory.path());
    let disk = CrashDisk::new(&root, Fuse::endless()).unwrap();
    let draft = root.join("draft");
    fs::create_dir_all(draft.join("logs")).unwrap();
    put(&draft.join("logs/log"), b"line");
    put(&draft.join("record"), b"{}");
    disk.sync(&draft.join("record")).unwrap();
    disk.sync(&draft).unwrap();
    disk.rename_new(&draft, &root.join("done")).unwrap();
    disk.sync_dir(&root).unwrap();
    let left = files(&[("done/", ""), ("done/logs/", ""), ("done/record", "{}")]);
    assert_eq!(seen(&disk, Image::Synced, directory.path()), left);
}

#[test]
fn holes_cost_nothing_and_stay_holes() {
    let directory = tempfile::tempdir().unwrap();
    let root = new_root(directory.path());
    let disk = CrashDisk::new(&root, Fuse::endless()).unwrap();
    let file = File::create(root.join("disk.img")).unwrap();
    file.set_len(64 << 30).unwrap();
    file.write_all_at(b"far", 40 << 30).unwrap();
    disk.sync(&root.join("disk.img")).unwrap();
    disk.sync_dir(&root).unwrap();
    file.write_all_at(b"off", 40 << 30).unwrap();
    let into = directory.path().join("image");
    disk.image(Image::Synced, &into).unwrap();
    let copy = File::open(into.join("disk.img")).unwrap();
    let mut bytes = [0; 3];
    copy.read_exact_at(&mut bytes, 40 << 30).unwrap();
    assert_eq!(&bytes, b"far");
    assert_eq!(copy.metadata().unwrap().len(), 64 << 30);
    assert!(copy.metadata().unwrap().blocks() < 2048, "a hole became data");
}

#[test]
fn a_blown_fuse_ends_everything_and_says_so_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = new_root(directory.path());
    let fuse = Fuse::after(1);
    let alarms = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&alarms);
    fuse.on_blow(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let disk = CrashDisk::new(&root, fuse.clone()).unwrap();
    disk.write_temp(&root.join("a"), b"a").unwrap();
    disk.read(&root.join("a"), 9).unwrap();
    disk.write_temp(&root.join("b"), b"torn").unwrap_err();
    disk.write_temp(&root.join("c"), b"c").unwrap_err();
    disk.read(&root.join("a"), 9).unwrap_err();
    disk.list(&root).unwrap_err();
    assert_eq!((fuse.steps().len(), alarms.load(Ordering::Relaxed)), (1, 1));
    // The write that the death interrupted is there by half; none after it is.
    assert_eq!(tree(&root), files(&[("a", "a"), ("b", "to")]));
}

#[test]
fn an_image_takes_the_place_of_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let root = new_root(directory.path());
    let disk = CrashDisk::new(&root, Fuse::endless()).unwrap();
    put(&root.join("unsynced"), b"");
    disk.crash(Image::Synced).unwrap();
    assert_eq!(tree(&root), files(&[]));
    assert_eq!(tree(directory.path()), files(&[("data/", "")]));
}

/// Runs something on a store that dies at each step in turn, and shows each image of each death to a judge, who is told
/// whether the call had been answered. Says how many images that were.
fn at_every_step(
    prepare: impl Fn(&Store),
    act: impl Fn(&Store) -> Result<(), StoreError>,
    judge: impl Fn(&Store, bool, &str),
) -> usize {
    let mut images = 0;
    for step in 0..100 {
        for image in Image::ALL {
            let directory = tempfile::tempdir().unwrap();
            let layout = Layout::new(directory.path().join("data"), directory.path().join("run")).unwrap();
            let store = Store::new(layout.clone());
            store.create_dir(&layout.trash(), 0o700).unwrap();
            prepare(&store);
            let fuse = Fuse::after(step);
            let disk = Arc::new(CrashDisk::new(layout.data(), fuse.clone()).unwrap());
            let answered = act(&Store::with_disk(layout, Arc::clone(&disk) as _)).is_ok();
            disk.crash(image).unwrap();
            images += 1;
            judge(&store, answered, &format!("step {step} of {:?}, {image:?}", fuse.steps()));
            if answered && image == Image::SyncedNames {
                return images;
            }
        }
    }
    panic!("it never ends");
}

#[test]
fn a_replaced_record_is_the_old_or_the_new_one() {
    let (old, new) = ("old".repeat(99), "new".repeat(99));
    let images = at_every_step(
        |store| store.replace(&store.layout().node_record(), &old).unwrap(),
        |store| store.replace(&store.layout().node_record(), &new),
        |store, answered, when| {
            let found = store.load::<String>(&store.layout().node_record()).unwrap_or_else(|e| panic!("{when}: {e}"));
            let found = found.unwrap_or_else(|| panic!("{when}: neither"));
            assert!(found == new || (found == old && !answered), "{when}: {found}");
        },
    );
    println!("replace: {images} power cuts");
}

#[test]
fn a_first_record_is_whole_or_absent() {
    at_every_step(
        |_| (),
        |store| store.replace(&store.layout().node_record(), &"new"),
        |store, answered, when| {
            let found = store.load::<String>(&store.layout().node_record()).unwrap_or_else(|e| panic!("{when}: {e}"));
            assert!(found.as_deref() == Some("new") || (found.is_none() && !answered), "{when}: {found:?}");
        },
    );
}

#[test]
fn a_committed_directory_is_complete_or_absent() {
    let images = at_every_step(
        |_| (),
        |store| {
            let [draft, thing] = ["draft", "thing"].map(|name| store.layout().data().join(name));
            store.create_dir(&draft.join("logs"), 0o700)?;
            // Written past the store, as disks are.
            put(&draft.join("disk.img"), b"disk");
            store.replace(&draft.join("record"), &1u32)?;
            store.commit_new(&draft, &thing, &[draft.join("disk.img"), draft.join("logs")])
        },
        |store, answered, when| {
            let thing = store.layout().data().join("thing");
            assert!(thing.is_dir() || !answered, "{when}: absent");
            if thing.is_dir() {
                let expected = files(&[("disk.img", "disk"), ("logs/", ""), ("record", "1")]);
                assert_eq!(tree(&thing), expected, "{when}");
            }
        },
    );
    println!("commit: {images} power cuts");
}

#[test]
fn a_discarded_directory_has_its_name_whole_or_not_at_all() {
    at_every_step(
        |store| {
            store.create_dir(&store.layout().boot(), 0o700).unwrap();
            put(&store.layout().boot().join("a"), b"a");
            put(&store.layout().boot().join("b"), b"b");
        },
        |store| store.discard(&store.layout().boot()),
        |store, answered, when| {
            let named = store.layout().boot().is_dir();
            assert!(!(named && answered), "{when}: still there");
            assert!(!named || tree(&store.layout().boot()) == files(&[("a", "a"), ("b", "b")]), "{when}: half");
            store.empty_dir(&store.layout().trash()).unwrap();
            assert!(store.list(&store.layout().trash()).unwrap().is_empty(), "{when}");
        },
    );
}
