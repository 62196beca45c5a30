//! The format's numbers, and how its structures are laid out. All of them are little-endian.
//!
//! Nothing here knows where anything lies or why.

use crate::{Attributes, Epoch};

/// The block size: the page size of every machine that old kernels could mount on.
pub(crate) const BLOCK: usize = 4096;
/// Blocks are numbered in 32 bits, the last number stands for a hole.
pub(crate) const MAX_BLOCKS: u64 = u32::MAX as u64;
/// What stands for a chunk that is a hole.
pub(crate) const HOLE: u32 = u32::MAX;
/// Nodes are numbered in units of this many bytes from the image's start.
pub(crate) const SLOT: usize = 32;

/// Where the superblock lies, and its length.
const SUPER_AT: usize = 1024;
const SUPER_LENGTH: usize = 128;
const MAGIC: u32 = 0xe0f5_e1e2;
/// The superblock carries a checksum; times are modification times.
const COMPATIBLE: u32 = 0x1 | 0x2;
/// Some files are based on chunks.
const CHUNKED: u32 = 0x4;

/// The root's inode follows the superblock: its number has only 16 bits.
pub(crate) const ROOT_AT: usize = SUPER_AT + SUPER_LENGTH;
/// What the root's inode leaves of the first block for its attributes.
pub(crate) const ROOT_ROOM: usize = BLOCK - ROOT_AT - EXTENDED;

/// The sizes of the two forms of an inode.
pub(crate) const COMPACT: usize = 32;
pub(crate) const EXTENDED: usize = 64;
/// Where the number of links lies in each.
pub(crate) const COMPACT_LINKS_AT: u64 = 6;
pub(crate) const EXTENDED_LINKS_AT: u64 = 44;

/// The size of a directory's entry without its name.
pub(crate) const DIRENT: usize = 12;

/// How an inode's data lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In blocks, one after the other.
    Plain,
    /// The same, but what does not fill a block lies behind the inode.
    Inline,
    /// In chunks, of which some may be holes; a map of them lies behind the inode.
    Chunked,
}

impl Layout {
    fn number(self) -> u16 {
        match self {
            Self::Plain => 0,
            Self::Inline => 2,
            Self::Chunked => 4,
        }
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileType {
    Regular,
    Directory,
    Char,
    Block,
    Fifo,
    Socket,
    Symlink,
}

impl FileType {
    /// What stands in a directory.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Regular => 1,
            Self::Directory => 2,
            Self::Char => 3,
            Self::Block => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }

    fn mode(self) -> u16 {
        match self {
            Self::Regular => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Char => 0o020_000,
            Self::Block => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::Symlink => 0o120_000,
        }
    }
}

/// Owner, permissions and time of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
}

impl From<&Attributes<'_>> for Owner {
    fn from(from: &Attributes<'_>) -> Self {
        let Attributes { mode, uid, gid, mtime, .. } = *from;
        Self { mode, uid, gid, mtime }
    }
}

/// An inode, but for what lies behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inode {
    pub(crate) kind: FileType,
    pub(crate) owner: Owner,
    pub(crate) layout: Layout,
    pub(crate) size: u64,
    pub(crate) links: u32,
    /// The first block, the device number or the form of the chunks.
    pub(crate) place: u32,
    /// Its ordinal number, which nothing but a 32-bit `stat` sees.
    pub(crate) ordinal: u32,
    pub(crate) xattr_bytes: usize,
}

impl Inode {
    /// The short form has 16 bits for owners and links, 32 for the size, and no time but the image's own.
    pub(crate) fn is_compact(&self, epoch: Epoch) -> bool {
        let Owner { uid, gid, mtime, .. } = self.owner;
        u16::try_from(uid).is_ok()
            && u16::try_from(gid).is_ok()
            && u32::try_from(self.size).is_ok()
            && u16::try_from(self.links).is_ok()
            && i64::try_from(epoch.seconds) == Ok(mtime.0)
            && epoch.nanoseconds == mtime.1
    }

    /// Appends the inode in its short or long form.
    pub(crate) fn encode(&self, epoch: Epoch, out: &mut Vec<u8>) {
        let compact = self.is_compact(epoch);
        let units = if self.xattr_bytes == 0 { 0 } else { (self.xattr_bytes - 12) / 4 + 1 };
        put(out, 2, (self.layout.number() << 1 | u16::from(!compact)).into());
        put(out, 2, units as u64);
        put(out, 2, (self.kind.mode() | self.owner.mode).into());
        if compact {
            put(out, 2, self.links.into());
            put(out, 4, self.size);
            put(out, 4, 0);
        } else {
            put(out, 2, 0);
            put(out, 8, self.size);
        }
        put(out, 4, self.place.into());
        put(out, 4, self.ordinal.into());
        if compact {
            put(out, 2, self.owner.uid.into());
            put(out, 2, self.owner.gid.into());
            put(out, 4, 0);
        } else {
            put(out, 4, self.owner.uid.into());
            put(out, 4, self.owner.gid.into());
            out.extend_from_slice(&self.owner.mtime.0.to_le_bytes());
            put(out, 4, self.owner.mtime.1.into());
            put(out, 4, self.links.into());
            out.resize(out.len() + 16, 0);
        }
    }
}

/// Appends the lowest bytes of a number that is known to fit them.
pub(crate) fn put(out: &mut Vec<u8>, bytes: usize, value: u64) {
    debug_assert!(bytes == 8 || value >> (8 * bytes) == 0, "{value} in {bytes} bytes");
    out.extend_from_slice(&value.to_le_bytes()[..bytes]);
}

/// A device number as Linux writes it.
pub(crate) fn device(major: u32, minor: u32) -> u32 {
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// What the superblock says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Superblock {
    pub(crate) uuid: [u8; 16],
    pub(crate) epoch: Epoch,
    pub(crate) inodes: u64,
    pub(crate) blocks: u64,
    /// Where the shared attributes begin.
    pub(crate) shared_at: u64,
    pub(crate) chunked: bool,
}

impl Superblock {
    /// The whole first block, around the root's inode and what lies behind that.
    pub(crate) fn first_block(&self, root: &[u8]) -> Vec<u8> {
        let mut block = vec![0; SUPER_AT];
        put(&mut block, 4, MAGIC.into());
        put(&mut block, 4, 0);
        put(&mut block, 4, COMPATIBLE.into());
        put(&mut block, 2, u64::from(BLOCK.trailing_zeros()));
        put(&mut block, 2, (ROOT_AT / SLOT) as u64);
        put(&mut block, 8, self.inodes);
        put(&mut block, 8, self.epoch.seconds);
        put(&mut block, 4, self.epoch.nanoseconds.into());
        put(&mut block, 4, self.blocks);
        // Nodes are counted from the image's start.
        put(&mut block, 4, 0);
        put(&mut block, 4, self.shared_at);
        block.extend_from_slice(&self.uuid);
        block.resize(block.len() + 16, 0);
        put(&mut block, 4, if self.chunked { CHUNKED.into() } else { 0 });
        block.resize(ROOT_AT, 0);
        block.extend_from_slice(root);
        block.resize(BLOCK, 0);
        // The kernel leaves out the last inversion.
        let checksum = !crc32c::crc32c(&block[SUPER_AT..]);
        block[SUPER_AT + 4..SUPER_AT + 8].copy_from_slice(&checksum.to_le_bytes());
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch { seconds: 9, nanoseconds: 5 };

    fn inode() -> Inode {
        Inode {
            kind: FileType::Regular,
            owner: Owner { mode: 0o644, uid: 65_535, gid: 0, mtime: (9, 5) },
            layout: Layout::Plain,
            size: 4_294_967_295,
            links: 65_535,
            place: 7,
            ordinal: 3,
            xattr_bytes: 0,
        }
    }

    #[test]
    fn the_short_form_is_used_exactly_where_it_holds_all() {
        assert!(inode().is_compact(EPOCH));
        let owner = inode().owner;
        for other in [
            Inode { owner: Owner { uid: 65_536, ..owner }, ..inode() },
            Inode { owner: Owner { gid: 65_536, ..owner }, ..inode() },
            Inode { owner: Owner { mtime: (9, 6), ..owner }, ..inode() },
            Inode { owner: Owner { mtime: (-9, 5), ..owner }, ..inode() },
            Inode { size: 1 << 32, ..inode() },
            Inode { links: 65_536, ..inode() },
        ] {
            assert!(!other.is_compact(EPOCH), "{other:?}");
            let mut bytes = Vec::new();
            other.encode(EPOCH, &mut bytes);
            assert_eq!((bytes.len(), bytes[0]), (EXTENDED, 1));
        }
        let mut bytes = Vec::new();
        inode().encode(EPOCH, &mut bytes);
        assert_eq!((bytes.len(), bytes[0]), (COMPACT, 0));
    }

    #[test]
    fn device_numbers_are_split() {
        assert_eq!(device(8, 1), 0x801);
        assert_eq!(device(4095, (1 << 20) - 1), u32::MAX);
        assert_eq!(device(259, 0x12345), 0x1231_0345);
    }
}
