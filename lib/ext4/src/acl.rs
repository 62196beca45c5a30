//! POSIX access lists: the attribute's form as programs see it, turned into ext4's own form on disk.
//!
//! The kernel's `posix_acl_xattr` (version 2) holds eight bytes for each entry; ext4 (version 1) drops the id where
//! the tag implies it. An attribute copied unchanged would make every access to the file fail with an I/O error.

const XATTR_VERSION: u32 = 2;
const EXT4_VERSION: u32 = 1;

/// Tags whose entries name a user or group.
const TAG_USER: u16 = 0x02;
const TAG_GROUP: u16 = 0x08;
/// The owner, the owning group, the mask, everybody else: no entry of theirs names an id.
const TAG_OWNER: u16 = 0x01;
const TAG_OWNING_GROUP: u16 = 0x04;
const TAG_MASK: u16 = 0x10;
const TAG_OTHER: u16 = 0x20;
const TAGS_WITHOUT_ID: [u16; 4] = [TAG_OWNER, TAG_OWNING_GROUP, TAG_MASK, TAG_OTHER];

/// The value to store on disk; `None` when the input is no valid list.
pub(crate) fn to_disk(value: &[u8]) -> Option<Vec<u8>> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != XATTR_VERSION || entries.len() % 8 != 0 {
        return None;
    }
    let mut disk = EXT4_VERSION.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        if tag == TAG_USER || tag == TAG_GROUP {
            disk.extend_from_slice(entry);
        } else if TAGS_WITHOUT_ID.contains(&tag) {
            disk.extend_from_slice(&entry[..4]);
        } else {
            return None;
        }
    }
    Some(disk)
}

/// The permission bits that a valid list stands for: the owner's, the mask's or else the group's, everybody else's.
/// The kernel keeps both in step when a list is set, so a disk must, too.
pub(crate) fn permissions(value: &[u8]) -> u16 {
    let bits = |wanted: u16| {
        let entries = value.get(4..).unwrap_or_default().chunks_exact(8);
        let mut entries =
            entries.map(|entry| (u16::from_le_bytes([entry[0], entry[1]]), u16::from_le_bytes([entry[2], entry[3]])));
        entries.find(|(tag, _)| *tag == wanted).map(|(_, bits)| bits & 7)
    };
    let group = bits(TAG_MASK).or(bits(TAG_OWNING_GROUP)).unwrap_or(0);
    bits(TAG_OWNER).unwrap_or(0) << 6 | group << 3 | bits(TAG_OTHER).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_only_where_the_tag_needs_them() {
        let wire = [
            &[2, 0, 0, 0][..],
            &[1, 0, 6, 0, 255, 255, 255, 255],
            &[2, 0, 4, 0, 0xe8, 3, 0, 0],
            &[32, 0, 0, 0, 255, 255, 255, 255],
        ]
        .concat();
        let disk = [&[1, 0, 0, 0][..], &[1, 0, 6, 0], &[2, 0, 4, 0, 0xe8, 3, 0, 0], &[32, 0, 0, 0]].concat();
        assert_eq!(to_disk(&wire), Some(disk));
        assert_eq!(permissions(&wire), 0o600);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [&[][..], &[1, 0, 0, 0], &[2, 0, 0, 0, 1], &[2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(to_disk(bad), None, "{bad:?}");
        }
    }
}
