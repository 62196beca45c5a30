//! Bytes from a client into a guest's reader of tar archives.
//!
//! Held against it: nothing panics, what is read of an entry is what it tells of, and an entry that was understood is
//! the same when it is written and read again.
#![no_main]

use std::io::{self, Read as _};

use dataplane_tar::{Entries, Entry, EntryKind, Limits, Piped, Region, Writer};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { header_bytes: 8192, regions: 64 };

fuzz_target!(|input: &[u8]| {
    // Headers that were bent are no archive by their sums: those are made right.
    let mut archive = input.to_vec();
    for block in archive.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    let mut entries = Entries::new(Piped(archive.as_slice()), LIMITS);
    while let Ok(Some(entry)) = entries.next_entry() {
        if let EntryKind::File { size, regions } = &entry.kind {
            let mut end = 0;
            for region in regions {
                assert!(region.at >= end && region.length > 0 && regions.len() <= LIMITS.regions);
                end = region.at.checked_add(region.length).filter(|end| end <= size).expect("within the file");
                let Ok(mut content) = entries.content(region) else { return };
                let count = io::copy(&mut content.by_ref(), &mut io::sink()).unwrap();
                assert!(count <= region.length);
            }
        }
        again(entry);
    }
});

/// Writes what of an entry does not depend on its place, and reads it.
fn again(mut entry: Entry) {
    let mut data = 0;
    if let EntryKind::File { size, regions } = &mut entry.kind {
        // Content would only cost time.
        let pairs = regions.iter().filter(|region| region.length < 4096).take(20);
        *regions = pairs.map(|region| Region { offset: 0, ..*region }).collect();
        data = regions.iter().map(|region| region.length).sum();
        if data == *size && regions.len() > 1 {
            return;
        }
    }
    // A file's name that ends like a directory's is a directory's, and an empty text is none.
    let texts = match &entry.kind {
        EntryKind::Symlink(text) | EntryKind::HardLink(text) => vec![text, &entry.path],
        EntryKind::Directory
        | EntryKind::File { .. }
        | EntryKind::Char(..)
        | EntryKind::Block(..)
        | EntryKind::Fifo => vec![&entry.path],
    };
    if texts.iter().any(|text| text.is_empty() || text.contains(&0) || text.ends_with(b"/")) {
        return;
    }
    let mut writer = Writer::new(Vec::new());
    // Device numbers have no more room than theirs.
    let Ok(()) = writer.entry(&entry) else { return };
    writer.data(&vec![1; usize::try_from(data).unwrap()]).unwrap();
    let archive = writer.finish().unwrap();
    let limits = Limits { header_bytes: 1 << 20, regions: 64 };
    let mut found = Entries::new(Piped(archive.as_slice()), limits).next_entry().unwrap().unwrap();
    if let EntryKind::File { regions, .. } = &mut found.kind {
        regions.iter_mut().for_each(|region| region.offset = 0);
    }
    assert_eq!(found, entry);
}
