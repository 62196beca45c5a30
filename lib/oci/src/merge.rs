//! Layers, lowest first, become one tree: whiteouts, opaque directories, hard links, replaced nodes.
//!
//! Names never reach the host's file system, so no name can escape; those that try are refused all the same. An entry
//! below a symbolic link lands where the link leads within the tree, as container runtimes do it. A whiteout hides
//! lower layers only, wherever in its layer it stands.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use dataplane_tar::{Entry, EntryKind, Shown};

use crate::entries::Entries;
use crate::spool::{Scratch, UnpackedLayer};
use crate::tree::{Content, Kind, Meta, Node, NodeId, Parents, Tree, WalkFault};
use crate::{ContentError, Limits};

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

const NO_TARGET: &str = "the target of its hard link is not in the image";

/// The largest device numbers that Linux has.
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;

/// What was left out of the tree, because it would mean something else there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Attributes that direct overlayfs (`trusted.overlay.*`).
    pub overlay_xattrs: u64,
    /// Character devices 0:0, which overlayfs takes for whiteouts.
    pub whiteout_devices: u64,
    /// Attributes of namespaces that Linux does not have.
    pub foreign_xattrs: u64,
}

/// An image's tree with the layers that hold its contents.
#[derive(Debug)]
pub struct MergedImage {
    tree: Tree,
    layers: Vec<UnpackedLayer>,
    dropped: Dropped,
}

impl MergedImage {
    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What was left out.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Reads a file's content from its layer.
    #[must_use]
    pub fn open<'a>(&'a self, content: &'a Content) -> ContentReader<'a> {
        ContentReader { file: &self.layers[usize::from(content.layer)].file, content, at: 0, region: 0 }
    }
}

/// Reads a file's bytes, holes as zeros.
#[derive(Debug)]
pub struct ContentReader<'a> {
    file: &'a std::fs::File,
    content: &'a Content,
    at: u64,
    region: usize,
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let regions = &self.content.regions;
        while regions.get(self.region).is_some_and(|region| self.at >= region.at + region.length) {
            self.region += 1;
        }
        let (end, source) = match regions.get(self.region) {
            Some(region) if self.at >= region.at => {
                (region.at + region.length, Some(region.offset + (self.at - region.at)))
            }
            Some(region) => (region.at, None),
            None => (self.content.size, None),
        };
        let length = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = match source {
            Some(offset) => self.file.read_at(&mut buffer[..length], offset)?,
            None => {
                buffer[..length].fill(0);
                length
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}

/// Merges unpacked layers, lowest first.
///
/// # Errors
/// [`ContentError`] naming the entry and what is wrong with it, or the limit it exceeds.
pub(crate) fn merge(
    layers: Vec<UnpackedLayer>,
    limits: &Limits,
    scratch: &Scratch,
) -> Result<MergedImage, ContentError> {
    let mut merge = Merge {
        tree: Tree::new(limits.depth),
        limits,
        entries: 0,
        devices: 0,
        bytes: 0,
        dropped: Dropped::default(),
        layer: 0,
        name: "",
    };
    for (layer, unpacked) in layers.iter().enumerate() {
        merge.layer =
            u16::try_from(layer).map_err(|_| ContentError::limit(&unpacked.name, "the number of layers", 65_535))?;
        merge.name = &unpacked.name;
        let mut entries = Entries::new(&unpacked.name, &unpacked.file, unpacked.bytes, limits)?;
        while let Some(entry) = entries.next_entry()? {
            scratch.check()?;
            merge.apply(entry)?;
        }
    }
    let (tree, dropped) = (merge.tree, merge.dropped);
    Ok(MergedImage { tree, layers, dropped })
}

struct Merge<'a> {
    tree: Tree,
    limits: &'a Limits,
    entries: u64,
    devices: u64,
    bytes: u64,
    dropped: Dropped,
    layer: u16,
    name: &'a str,
}

impl Merge<'_> {
    fn fault(&self, path: &[u8], reason: &'static str) -> ContentError {
        ContentError::Entry { layer: self.name.to_owned(), entry: Shown(path).to_string(), reason }
    }

    fn limit(&self, path: &[u8], limit: &'static str, allowed: u64) -> ContentError {
        ContentError::limit(format!("entry {:?} of {}", Shown(path).to_string(), self.name), limit, allowed)
    }

    fn walk_fault(&self, path: &[u8], fault: WalkFault) -> ContentError {
        match fault {
            WalkFault::Missing => self.fault(path, "what it refers to does not exist"),
            WalkFault::NotADirectory => self.fault(path, "it lies below something that is no directory"),
            WalkFault::TooManyLinks => self.fault(path, "it lies below too many symbolic links"),
            WalkFault::TooDeep => self.limit(path, "the depth of directories", self.limits.depth as u64),
        }
    }

    /// The parts of a name: none empty, none `.` or `..`, none with a NUL. A leading `/` means the image's root.
    fn parts<'p>(&self, path: &'p [u8], of: &[u8]) -> Result<Vec<&'p [u8]>, ContentError> {
        if path.len() > self.limits.path_bytes {
            return Err(self.limit(of, "the length of a path", self.limits.path_bytes as u64));
        }
        if path.contains(&0) {
            return Err(self.fault(of, "its name holds a NUL"));
        }
        let parts: Vec<_> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
        if parts.contains(&&b".."[..]) {
            return Err(self.fault(of, "its name leads out of the image ('..')"));
        }
        if parts.iter().any(|part| part.len() > 255) {
            return Err(self.limit(of, "the length of a name", 255));
        }
        if parts.len() > self.limits.depth {
            return Err(self.limit(of, "the depth of directories", self.limits.depth as u64));
        }
        Ok(parts)
    }

    fn apply(&mut self, entry: Entry) -> Result<(), ContentError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(self.limit(&entry.path, "the number of entries", self.limits.entries));
        }
        let path = entry.path.clone();
        let parts = self.parts(&path, &path)?;
        let Some((name, parents)) = parts.split_last() else { return self.apply_root(entry) };
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.apply_whiteout(&path, parents, name, hidden);
        }
        let meta = self.meta(&entry)?;
        let make = Parents::Make { layer: self.layer };
        let directory = self.tree.walk(parents, make).map_err(|fault| self.walk_fault(&path, fault))?;
        let kind = match entry.kind {
            EntryKind::Directory => {
                let existing = self.tree.child(directory, name);
                if let Some(node) = existing.filter(|node| matches!(self.tree.node(*node).kind, Kind::Directory(_))) {
                    self.tree.node_mut(node).meta = meta;
                    self.tree.link(directory, name, node, self.layer);
                    return Ok(());
                }
                Kind::Directory(std::collections::BTreeMap::new())
            }
            EntryKind::HardLink(target) => return self.apply_hard_link(&path, directory, name, &target),
            EntryKind::File { size, regions } => {
                self.bytes = self.bytes.saturating_add(size);
                if self.bytes > self.limits.unpacked_bytes {
                    return Err(self.limit(&path, "the size of all files", self.limits.unpacked_bytes));
                }
                Kind::File(Content { layer: self.layer, size, regions: regions.into() })
            }
            EntryKind::Symlink(target) => self.symlink(&path, target)?,
            EntryKind::Char(0, 0) => {
                self.dropped.whiteout_devices += 1;
                return Ok(());
            }
            EntryKind::Char(major, minor) => {
                self.device(&path, major, minor)?;
                Kind::Char(major, minor)
            }
            EntryKind::Block(major, minor) => {
                self.device(&path, major, minor)?;
                Kind::Block(major, minor)
            }
            EntryKind::Fifo => Kind::Fifo,
        };
        let node = self.tree.add(Node { kind, meta });
        self.tree.link(directory, name, node, self.layer);
        Ok(())
    }

    fn apply_root(&mut self, entry: Entry) -> Result<(), ContentError> {
        if entry.kind != EntryKind::Directory {
            return Err(self.fault(&entry.path, "the root must be a directory"));
        }
        self.tree.node_mut(NodeId::ROOT).meta = self.meta(&entry)?;
        Ok(())
    }

    fn apply_whiteout(
        &mut self,
        path: &[u8],
        parents: &[&[u8]],
        name: &[u8],
        hidden: &[u8],
    ) -> Result<(), ContentError> {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(self.fault(path, "it is a whiteout of nothing"));
        }
        let directory = match self.tree.walk(parents, Parents::Find) {
            Ok(directory) => directory,
            Err(WalkFault::Missing) => return Ok(()),
            Err(fault) => return Err(self.walk_fault(path, fault)),
        };
        if name == OPAQUE {
            self.tree.hide_below(directory, self.layer);
        } else if !name.starts_with(WHITEOUT_META) {
            self.tree.hide_name(directory, hidden, self.layer);
        }
        // What else begins so is an old storage driver's own business, and no part of the image.
        Ok(())
    }

    fn apply_hard_link(
        &mut self,
        path: &[u8],
        directory: NodeId,
        name: &[u8],
        target: &[u8],
    ) -> Result<(), ContentError> {
        let parts = self.parts(target, path).map_err(|error| {
            let escapes = matches!(error, ContentError::Entry { .. });
            if escapes { self.fault(path, "its hard link leads out of the image") } else { error }
        })?;
        let (target_name, parents) = parts.split_last().ok_or_else(|| self.fault(path, NO_TARGET))?;
        let parent = match self.tree.walk(parents, Parents::Find) {
            Ok(parent) => parent,
            Err(WalkFault::Missing) => return Err(self.fault(path, NO_TARGET)),
            Err(fault) => return Err(self.walk_fault(path, fault)),
        };
        let node = self.tree.child(parent, target_name).ok_or_else(|| self.fault(path, NO_TARGET))?;
        if matches!(self.tree.node(node).kind, Kind::Directory(_)) {
            return Err(self.fault(path, "its hard link leads to a directory"));
        }
        self.tree.link(directory, name, node, self.layer);
        Ok(())
    }

    fn symlink(&self, path: &[u8], target: Vec<u8>) -> Result<Kind, ContentError> {
        if target.is_empty() || target.contains(&0) {
            return Err(self.fault(path, "the target of its symbolic link is empty or holds a NUL"));
        }
        if target.len() > self.limits.link_bytes {
            return Err(self.limit(path, "the length of a link target", self.limits.link_bytes as u64));
        }
        Ok(Kind::Symlink(target.into()))
    }

    fn device(&mut self, path: &[u8], major: u32, minor: u32) -> Result<(), ContentError> {
        self.devices += 1;
        if self.devices > self.limits.devices {
            return Err(self.limit(path, "the number of device nodes", self.limits.devices));
        }
        if major > MAX_MAJOR || minor > MAX_MINOR {
            return Err(self.fault(path, "its device number is out of range"));
        }
        Ok(())
    }

    fn meta(&mut self, entry: &Entry) -> Result<Meta, ContentError> {
        let total: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if total > self.limits.xattr_bytes {
            return Err(self.limit(&entry.path, "the size of extended attributes", self.limits.xattr_bytes as u64));
        }
        let mut kept: HashMap<&[u8], &[u8]> = HashMap::new();
        for (name, value) in &entry.xattrs {
            if name.contains(&0) || name.len() > 255 {
                return Err(self.fault(&entry.path, "the name of an extended attribute is malformed"));
            }
            if name.starts_with(b"trusted.overlay.") {
                self.dropped.overlay_xattrs += 1;
            } else if is_linux_xattr(name) {
                kept.insert(name, value);
            } else {
                self.dropped.foreign_xattrs += 1;
            }
        }
        let mut xattrs: Vec<_> = kept.into_iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        xattrs.sort();
        let Entry { mode, uid, gid, mtime, .. } = *entry;
        Ok(Meta { mode, uid, gid, mtime, xattrs: xattrs.into() })
    }
}

fn is_linux_xattr(name: &[u8]) -> bool {
    matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default")
        || [&b"user."[..], b"trusted.", b"security."]
            .iter()
            .any(|space| name.len() > space.len() && name.starts_with(space))
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
