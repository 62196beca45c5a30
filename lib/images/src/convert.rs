//! A merged tree becomes a read-only ext4 disk. Deterministic: the digest gives the file system its identity.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use dataplane_ext4::{Estimate, Ext4Error, ImageBuilder, ImageOptions, NodeHandle, Special};
use dataplane_oci::{Kind, MergedImage, Meta, NodeId, Tree};
use dataplane_types::Digest;
use tokio_util::sync::CancellationToken;

/// Readable for the owner and for the group that virtual machines share; writable for nobody.
const DISK_MODE: u32 = 0o440;

/// Why a tree became no disk.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A node of the tree cannot be stored.
    #[error("store {path:?}")]
    Node {
        /// Its path in the image.
        path: String,
        /// Why not.
        #[source]
        source: Ext4Error,
    },
    /// The disk as a whole could not be written.
    #[error("write the disk")]
    Disk(#[source] Ext4Error),
    /// The work was called off.
    #[error("called off")]
    Cancelled,
}

/// What is being converted.
pub(crate) struct Conversion<'a> {
    pub(crate) image: &'a MergedImage,
    pub(crate) digest: Digest,
    /// Seconds since the epoch.
    pub(crate) created: u32,
    pub(crate) cancel: &'a CancellationToken,
}

/// Writes the disk into a new file. Blocks.
pub(crate) fn write_disk(path: &Path, conversion: &Conversion<'_>) -> Result<(), ConvertError> {
    let tree = conversion.image.tree();
    let mut estimate = Estimate::default();
    count(tree, &mut estimate);
    let hex = conversion.digest.hex();
    let identity = u128::from_str_radix(&hex[..32], 16).unwrap_or_default();
    let uuid = uuid::Builder::from_custom_bytes(identity.to_be_bytes()).into_uuid();
    let options = ImageOptions { uuid, label: "image", epoch: conversion.created };
    let builder = ImageBuilder::new(&options, &estimate).map_err(ConvertError::Disk)?;
    let mut declaration = Declaration { tree, builder, handles: HashMap::new(), files: Vec::new() };
    declaration.root()?;
    let Declaration { builder, files, .. } = declaration;
    let sealed = builder.seal().map_err(ConvertError::Disk)?;
    let io = |act| move |source| ConvertError::Disk(Ext4Error::Io { act, path: path.to_owned(), source });
    let file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(io("create"))?;
    let mut writer = sealed.writer(&file).map_err(ConvertError::Disk)?;
    for (handle, node) in files {
        if conversion.cancel.is_cancelled() {
            return Err(ConvertError::Cancelled);
        }
        if let Kind::File(content) = &tree.node(node).kind {
            writer.fill(handle, conversion.image.open(content)).map_err(ConvertError::Disk)?;
        }
    }
    writer.finish().map_err(ConvertError::Disk)?;
    file.set_permissions(Permissions::from_mode(DISK_MODE)).map_err(io("change the mode of"))
}

/// Counts every node once, however many names it has.
fn count(tree: &Tree, estimate: &mut Estimate) {
    let mut seen = std::collections::HashSet::from([NodeId::ROOT]);
    let mut todo = vec![NodeId::ROOT];
    while let Some(id) = todo.pop() {
        let node = tree.node(id);
        if !node.meta.xattrs.is_empty() {
            estimate.xattrs();
        }
        match &node.kind {
            Kind::Directory(names) => {
                estimate.directory(names.len(), names.keys().map(|name| name.len()).sum());
                todo.extend(tree.entries(id).map(|(_, child)| child).filter(|child| seen.insert(*child)));
            }
            Kind::File(content) => estimate.file(content.size()),
            Kind::Symlink(target) => estimate.symlink(target.len()),
            Kind::Char(..) | Kind::Block(..) | Kind::Fifo => estimate.special(),
        }
    }
}

struct Declaration<'a> {
    tree: &'a Tree,
    builder: ImageBuilder,
    handles: HashMap<NodeId, NodeHandle>,
    /// Files with content, in the order in which their data lies on the disk.
    files: Vec<(NodeHandle, NodeId)>,
}

impl Declaration<'_> {
    fn root(&mut self) -> Result<(), ConvertError> {
        let root = self.builder.root();
        let meta = &self.tree.node(NodeId::ROOT).meta;
        let at_root = |source| ConvertError::Node { path: "/".to_owned(), source };
        self.builder.root_meta(format_meta(meta)).map_err(at_root)?;
        self.xattrs(root, meta).map_err(at_root)?;
        self.directory(NodeId::ROOT, root, "")
    }

    /// The tree's own depth limit bounds the recursion.
    fn directory(&mut self, id: NodeId, handle: NodeHandle, above: &str) -> Result<(), ConvertError> {
        let tree = self.tree;
        for (name, child) in tree.entries(id) {
            let is_reserved = id == NodeId::ROOT && name == b"lost+found" && tree.entries(child).next().is_none();
            if is_reserved && matches!(tree.node(child).kind, Kind::Directory(_)) {
                // Every ext4 has this directory already.
                continue;
            }
            let path = || format!("{above}/{}", name.escape_ascii());
            let made = self.node(handle, name, child);
            let made = made.map_err(|source| ConvertError::Node { path: path(), source })?;
            if matches!(tree.node(child).kind, Kind::Directory(_)) {
                self.directory(child, made, &path())?;
            }
        }
        Ok(())
    }

    fn node(&mut self, parent: NodeHandle, name: &[u8], id: NodeId) -> Result<NodeHandle, Ext4Error> {
        if let Some(first) = self.handles.get(&id) {
            return self.builder.hard_link(parent, name, *first).map(|()| *first);
        }
        let node = self.tree.node(id);
        let meta = format_meta(&node.meta);
        let builder = &mut self.builder;
        let handle = match &node.kind {
            Kind::Directory(_) => builder.directory(parent, name, meta)?,
            Kind::File(content) => builder.file(parent, name, meta, content.size())?,
            Kind::Symlink(target) => builder.symlink(parent, name, target, meta)?,
            Kind::Char(major, minor) => builder.special(parent, name, Special::Char(*major, *minor), meta)?,
            Kind::Block(major, minor) => builder.special(parent, name, Special::Block(*major, *minor), meta)?,
            Kind::Fifo => builder.special(parent, name, Special::Fifo, meta)?,
        };
        self.xattrs(handle, &node.meta)?;
        if !matches!(node.kind, Kind::Directory(_)) {
            self.handles.insert(id, handle);
        }
        if matches!(&node.kind, Kind::File(content) if content.size() > 0) {
            self.files.push((handle, id));
        }
        Ok(handle)
    }

    fn xattrs(&mut self, handle: NodeHandle, meta: &Meta) -> Result<(), Ext4Error> {
        self.builder.xattrs(handle, format_meta(meta), meta.xattrs.iter().map(|(name, value)| (&name[..], &value[..])))
    }
}

fn format_meta(meta: &Meta) -> dataplane_ext4::Meta {
    dataplane_ext4::Meta { mode: meta.mode, uid: meta.uid, gid: meta.gid, mtime: meta.mtime }
}

/// The time in an image's configuration, as far as ext4 can hold it.
pub(crate) fn created_seconds(created: Option<&str>) -> u32 {
    created
        .and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok())
        .and_then(|time| u32::try_from(time.timestamp()).ok())
        .unwrap_or(0)
}
