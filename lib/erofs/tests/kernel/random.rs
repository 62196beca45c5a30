//! Random trees.

use dataplane_erofs::Special;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::model::{EPOCH, Entry, Kind, Meta, Stretch, Tree, Xattrs};

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => 0x21..0x7fu8, 1 => 1..=255u8].prop_map(|byte| if byte == b'/' { b'-' } else { byte });
    let length = prop_oneof![6 => 1..12usize, 2 => 12..200usize, 1 => 250..=255usize];
    length.prop_flat_map(move |length| vec(byte.clone(), length))
}

fn xattr() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let spaces = prop_oneof![Just("user."), Just("trusted."), Just("security.")];
    let length = prop_oneof![6 => 0..40u64, 2 => 40..3000u64, 1 => 3000..=65_535u64];
    // Few values, so that some come again.
    (spaces, 0..5u32, length, 0..3u32).prop_map(|(space, name, length, seed)| {
        (format!("{space}{}", "n".repeat(name as usize * 40 + 1)).into_bytes(), crate::model::bytes(length, seed))
    })
}

fn xattrs() -> impl Strategy<Value = Xattrs> {
    let capability = (b"security.capability".to_vec(), b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec());
    let many = vec(xattr(), 1..8).prop_map(|mut all| {
        all.sort();
        all.dedup_by(|a, b| a.0 == b.0);
        all
    });
    prop_oneof![6 => Just(Vec::new()), 1 => Just(vec![capability]), 2 => many]
}

fn meta() -> impl Strategy<Value = Meta> {
    let id = || prop_oneof![3 => Just(0), 1 => 0..=65_535u32, 1 => any::<u32>()].prop_map(|id| id.min(u32::MAX - 1));
    let epoch = (i64::try_from(EPOCH.seconds).expect("a time"), EPOCH.nanoseconds);
    let mtime = prop_oneof![
        2 => Just(epoch),
        1 => Just((epoch.0, 8)),
        2 => (0..1i64 << 33, 0..1_000_000_000u32),
        1 => (-(1i64 << 33)..0, 0..9u32),
    ];
    let mode = prop_oneof![Just(0o644), 0..=0o7777u16];
    (mode, id(), id(), mtime, xattrs()).prop_map(|(mode, uid, gid, mtime, xattrs)| Meta {
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    })
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..200u64,
        3 => 200..4096u64,
        2 => (0..5u64, 0..80u64).prop_map(|(blocks, less)| (blocks * 4096 + 40).saturating_sub(less)),
        2 => 4096..100_000u64,
        1 => 250_000..600_000u64,
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    let whole = (length(), any::<u32>()).prop_map(|(length, seed)| Kind::File(vec![Stretch::Data(length, seed)]));
    let stretch = prop_oneof![
        (length(), any::<u32>()).prop_map(|(length, seed)| Stretch::Data(length, seed)),
        length().prop_map(Stretch::Hole),
        (1..40u64).prop_map(|blocks| Stretch::Hole(blocks * 4096)),
        (1..9u64, any::<u32>()).prop_map(|(blocks, seed)| Stretch::Data(blocks * 4096, seed)),
    ];
    let sparse = vec(stretch, 1..6).prop_map(Kind::File);
    let byte = (1..=255u8).boxed();
    let target = prop_oneof![5 => 1..60usize, 1 => 60..4000usize, 1 => 4000..=4095usize];
    let symlink = target.prop_flat_map(move |length| vec(byte.clone(), length)).prop_map(Kind::Symlink);
    let special = prop_oneof![
        (0..=4095u32, 0..1u32 << 20).prop_map(|(major, minor)| Special::Char(major, minor)),
        (0..=4095u32, 0..1u32 << 20).prop_map(|(major, minor)| Special::Block(major, minor)),
        Just(Special::Fifo),
        Just(Special::Socket),
    ];
    prop_oneof![4 => Just(Kind::Directory), 6 => whole, 2 => sparse, 2 => symlink, 1 => special.prop_map(Kind::Special)]
}

/// A tree in which every choice that a name or a target leaves is made by an index.
pub(crate) fn tree() -> impl Strategy<Value = Tree> {
    let link = any::<Option<Index>>().prop_map(|link| link.filter(|link| link.index(4) == 0));
    let entry = (any::<Index>(), name(), kind(), meta(), link);
    (meta(), vec(entry, 0..60), any::<bool>()).prop_map(|(root, drafts, directories_last)| {
        let mut entries: Vec<Entry> = Vec::new();
        for (place, name, kind, mut meta, link) in drafts {
            let places: Vec<Option<usize>> = std::iter::once(None)
                .chain((0..entries.len()).filter(|at| entries[*at].kind == Kind::Directory).map(Some))
                .collect();
            let parent = places[place.index(places.len())];
            let targets: Vec<usize> = (0..entries.len()).filter(|at| entries[*at].kind != Kind::Directory).collect();
            let kind = match link {
                Some(link) if !targets.is_empty() => Kind::Link(targets[link.index(targets.len())]),
                Some(_) | None => kind,
            };
            let is_taken = matches!(&name[..], b"." | b"..")
                || entries.iter().any(|entry| entry.parent == parent && entry.name == name);
            if !matches!(kind, Kind::Directory | Kind::File(_)) {
                // Linux gives these of no other node, whatever is stored.
                meta.xattrs.retain(|(name, _)| !name.starts_with(b"user."));
            }
            if !is_taken {
                entries.push(Entry { parent, name, kind, meta });
            }
        }
        // The root's attributes have less room.
        let xattrs = root.xattrs.iter().filter(|(_, value)| value.len() < 9000).cloned().collect();
        Tree { root: Meta { xattrs, ..root }, entries, directories_last }
    })
}
