//! A read-only disk that holds a whole tree: declare every name and size, seal, then stream the contents.

use std::fs::File;
use std::io::Read;

use mkext4::{FsBuilder, InodeCount, InodeHandle, Layout, Options, SpecialKind};
use uuid::Uuid;

use crate::sink::SparseSink;
use crate::{Estimate, Ext4Error, acl, estimate};

/// Bytes for the attributes of one inode: a block without its header and end mark.
const XATTR_ROOM: usize = 4096 - 32 - 4;

/// Owner, permission bits and modification time of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since the epoch and nanoseconds. Clamped to what ext4 holds (1901 to 2446).
    pub mtime: (i64, u32),
}

impl Meta {
    fn to_format(self) -> mkext4::Meta {
        const FIRST: i64 = -(1 << 31);
        const LAST: i64 = (1 << 34) - (1 << 31) - 1;
        let seconds = self.mtime.0.clamp(FIRST, LAST);
        mkext4::Meta::new(self.mode & 0o7777, self.uid, self.gid, (seconds, self.mtime.1.min(999_999_999)))
    }
}

/// A node that is neither file, directory nor link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A character device: major, minor.
    Char(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// What makes the disk what it is, beside its tree.
#[derive(Debug, Clone)]
pub struct ImageOptions<'a> {
    /// The file system's identity.
    pub uuid: Uuid,
    /// Its label, at most 16 bytes.
    pub label: &'a str,
    /// When it was made, in seconds since the epoch.
    pub epoch: u32,
}

/// A declared inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeHandle(InodeHandle);

/// Takes the declarations.
#[derive(Debug)]
pub struct ImageBuilder {
    format: FsBuilder,
}

impl ImageBuilder {
    /// Starts a disk that is large enough for what was counted.
    ///
    /// # Errors
    /// [`Ext4Error::Size`] when the tree exceeds the format.
    pub fn new(options: &ImageOptions<'_>, estimate: &Estimate) -> Result<Self, Ext4Error> {
        let bytes = estimate.disk_bytes();
        let inodes = u32::try_from(estimate.inodes()).map_err(|_| Ext4Error::Size { bytes })?;
        if bytes >= 1 << 44 {
            return Err(Ext4Error::Size { bytes });
        }
        let mut format = Options::new(bytes, options.uuid.into_bytes(), i64::from(options.epoch));
        format.label = Some(options.label.to_owned());
        format.reserved_percent = 0;
        format.journal_blocks = Some(estimate::JOURNAL_BLOCKS);
        format.inodes = InodeCount::Exact(inodes);
        Ok(Self { format: FsBuilder::new(format).map_err(Ext4Error::Format)? })
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> NodeHandle {
        NodeHandle(mkext4::ROOT)
    }

    /// Sets owner, mode and time of the root directory.
    ///
    /// # Errors
    /// [`Ext4Error::Format`].
    pub fn root_meta(&mut self, meta: Meta) -> Result<(), Ext4Error> {
        self.format.set_meta(mkext4::ROOT, meta.to_format()).map_err(Ext4Error::Format)
    }

    /// Declares a directory.
    ///
    /// # Errors
    /// [`Ext4Error::NotUtf8`], [`Ext4Error::LostAndFound`], [`Ext4Error::Format`].
    pub fn directory(&mut self, parent: NodeHandle, name: &[u8], meta: Meta) -> Result<NodeHandle, Ext4Error> {
        let name = checked_name(parent, name)?;
        self.format.mkdir(parent.0, name, meta.to_format()).map(NodeHandle).map_err(Ext4Error::Format)
    }

    /// Declares a regular file whose content follows after sealing.
    ///
    /// # Errors
    /// [`Ext4Error::NotUtf8`], [`Ext4Error::LostAndFound`], [`Ext4Error::Format`].
    pub fn file(&mut self, parent: NodeHandle, name: &[u8], meta: Meta, bytes: u64) -> Result<NodeHandle, Ext4Error> {
        let name = checked_name(parent, name)?;
        self.format.file(parent.0, name, meta.to_format(), bytes).map(NodeHandle).map_err(Ext4Error::Format)
    }

    /// Declares a symbolic link.
    ///
    /// # Errors
    /// [`Ext4Error::NotUtf8`], [`Ext4Error::LostAndFound`], [`Ext4Error::Format`].
    pub fn symlink(
        &mut self,
        parent: NodeHandle,
        name: &[u8],
        target: &[u8],
        meta: Meta,
    ) -> Result<NodeHandle, Ext4Error> {
        let name = checked_name(parent, name)?;
        let target = text("link target", target)?;
        self.format.symlink(parent.0, name, target, meta.to_format()).map(NodeHandle).map_err(Ext4Error::Format)
    }

    /// Declares a device or fifo.
    ///
    /// # Errors
    /// [`Ext4Error::NotUtf8`], [`Ext4Error::LostAndFound`], [`Ext4Error::Format`].
    pub fn special(
        &mut self,
        parent: NodeHandle,
        name: &[u8],
        kind: Special,
        meta: Meta,
    ) -> Result<NodeHandle, Ext4Error> {
        let name = checked_name(parent, name)?;
        let kind = match kind {
            Special::Char(major, minor) => SpecialKind::Char { major, minor },
            Special::Block(major, minor) => SpecialKind::Block { major, minor },
            Special::Fifo => SpecialKind::Fifo,
        };
        self.format.mknod(parent.0, name, meta.to_format(), kind).map(NodeHandle).map_err(Ext4Error::Format)
    }

    /// Declares another name of an inode that is no directory.
    ///
    /// # Errors
    /// [`Ext4Error::NotUtf8`], [`Ext4Error::LostAndFound`], [`Ext4Error::Format`].
    pub fn hard_link(&mut self, parent: NodeHandle, name: &[u8], node: NodeHandle) -> Result<(), Ext4Error> {
        let name = checked_name(parent, name)?;
        self.format.hardlink(parent.0, name, node.0).map_err(Ext4Error::Format)
    }

    /// Declares all extended attributes of a node that was declared with `meta`. Access lists are given as programs
    /// see them; one that governs access also sets the permission bits, as it would on a mounted disk.
    ///
    /// # Errors
    /// [`Ext4Error::Xattr`] when one cannot be stored, [`Ext4Error::NotUtf8`].
    pub fn xattrs<'x>(
        &mut self,
        node: NodeHandle,
        meta: Meta,
        attributes: impl IntoIterator<Item = (&'x [u8], &'x [u8])>,
    ) -> Result<(), Ext4Error> {
        let mut room = XATTR_ROOM;
        for (name, value) in attributes {
            let name = text("attribute name", name)?;
            let refuse = |reason| Ext4Error::Xattr { name: name.to_owned(), bytes: value.len(), reason };
            let takes = 16 + name.len().next_multiple_of(4) + value.len().next_multiple_of(4);
            room = room.checked_sub(takes).ok_or_else(|| refuse("all attributes of a node must fit one block"))?;
            let list = match name {
                "system.posix_acl_access" | "system.posix_acl_default" => {
                    Some(acl::to_disk(value).ok_or_else(|| refuse("it is no valid access list"))?)
                }
                _ => None,
            };
            if name == "system.posix_acl_access" {
                let meta = Meta { mode: meta.mode & !0o777 | acl::permissions(value), ..meta };
                self.format.set_meta(node.0, meta.to_format()).map_err(Ext4Error::Format)?;
            }
            let stored = list.as_deref().unwrap_or(value);
            self.format.set_xattr(node.0, name, stored).map_err(|_| refuse("ext4 has no such attribute namespace"))?;
        }
        Ok(())
    }

    /// Decides where every byte lies.
    ///
    /// # Errors
    /// [`Ext4Error::Format`].
    pub fn seal(self) -> Result<SealedImage, Ext4Error> {
        self.format.seal().map(SealedImage).map_err(Ext4Error::Format)
    }
}

/// A disk whose metadata is final.
#[derive(Debug)]
pub struct SealedImage(Layout);

impl SealedImage {
    /// The disk's size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.image_len()
    }

    /// Writes all metadata into an empty file, which gets its full length, and readies it for the contents.
    ///
    /// # Errors
    /// [`Ext4Error::Format`] with what the system said.
    pub fn writer<'a>(&'a self, file: &'a File) -> Result<ImageWriter<'a>, Ext4Error> {
        file.set_len(self.bytes()).map_err(|source| Ext4Error::Format(source.into()))?;
        self.0.writer(SparseSink { file }).map(ImageWriter).map_err(Ext4Error::Format)
    }
}

/// Takes the contents.
pub struct ImageWriter<'a>(mkext4::build::ImageWriter<'a, SparseSink<'a>>);

impl std::fmt::Debug for ImageWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageWriter").finish_non_exhaustive()
    }
}

impl ImageWriter<'_> {
    /// Copies one file's content: exactly as many bytes as were declared. Files of no bytes need no content.
    ///
    /// # Errors
    /// [`Ext4Error::Format`] with what the reader or the disk said; the writer is then of no further use.
    pub fn fill(&mut self, node: NodeHandle, mut content: impl Read) -> Result<(), Ext4Error> {
        self.0.fill(node.0, &mut content).map_err(Ext4Error::Format)
    }

    /// Checks that nothing is missing.
    ///
    /// # Errors
    /// [`Ext4Error::Format`] when a declared file got no content.
    pub fn finish(self) -> Result<(), Ext4Error> {
        self.0.finish().map(|_| ()).map_err(Ext4Error::Format)
    }
}

fn checked_name(parent: NodeHandle, name: &[u8]) -> Result<&str, Ext4Error> {
    if parent.0 == mkext4::ROOT && name == b"lost+found" {
        return Err(Ext4Error::LostAndFound);
    }
    text("name", name)
}

fn text<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a str, Ext4Error> {
    std::str::from_utf8(bytes).map_err(|_| Ext4Error::NotUtf8 { what, name: bytes.escape_ascii().to_string() })
}
