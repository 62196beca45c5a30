//! Layers and archives made in memory, honest ones and others. For this crate's own tests.

use std::io::Write as _;
use std::path::Path;

use dataplane_types::Digest;
use tar::{EntryType, Header};
use tokio_util::sync::CancellationToken;

use crate::image::Blob;
use crate::spool::{Scratch, unpack_layer};
use crate::{ContentError, Limits, MergedImage, Tree, digest_of};

/// A tar under construction. Names and link targets are written as they are given, however wrong.
#[derive(Default)]
pub(crate) struct Layer(Vec<u8>);

impl Layer {
    pub(crate) fn dir(self, path: &str) -> Self {
        self.entry(path, EntryType::Directory, "", b"")
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(path, EntryType::Regular, "", content)
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Symlink, target, b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Link, target, b"")
    }

    pub(crate) fn entry(self, path: &str, kind: EntryType, link: &str, content: &[u8]) -> Self {
        let mut header = header(path.as_bytes(), kind, content.len() as u64);
        write_field(&mut header.as_old_mut().linkname, link.as_bytes());
        header.set_cksum();
        self.raw(&header, content)
    }

    pub(crate) fn device(self, path: &str, kind: EntryType, major: u32, minor: u32) -> Self {
        let mut header = header(path.as_bytes(), kind, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        self.raw(&header, b"")
    }

    /// Extended records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length.to_string().len() + rest != length {
                length += 1;
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        let header = header(b"PaxHeader", EntryType::XHeader, data.len() as u64);
        self.raw(&header, &data)
    }

    pub(crate) fn raw(mut self, header: &Header, content: &[u8]) -> Self {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub(crate) fn header(path: &[u8], kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    write_field(&mut header.as_old_mut().name, path);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o640);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_600_000_000);
    header.set_cksum();
    header
}

fn write_field(field: &mut [u8], value: &[u8]) {
    field[..value.len()].copy_from_slice(value);
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn scratch(directory: &Path) -> Scratch {
    Scratch { directory: directory.to_owned(), cancel: CancellationToken::new(), reserved_bytes: 0 }
}

/// Unpacks and merges plain tars in a directory, lowest first.
pub(crate) fn merge_in(directory: &Path, layers: Vec<Vec<u8>>, limits: &Limits) -> Result<MergedImage, ContentError> {
    let scratch = scratch(directory);
    let mut budget = limits.unpacked_bytes;
    let mut unpacked = Vec::new();
    for (at, bytes) in layers.into_iter().enumerate() {
        let path = directory.join(format!("blob-{at}"));
        std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
        let blob = Blob { path, offset: 0, length: bytes.len() as u64, is_whole_file: true };
        unpacked.push(unpack_layer(&blob, &digest_of(&bytes), &mut budget, (&scratch, limits))?);
    }
    crate::merge::merge(unpacked, limits, &scratch)
}

/// The tree as lines: `path kind`, directories first listed then entered.
pub(crate) fn listing(tree: &Tree) -> Vec<String> {
    fn walk(tree: &Tree, directory: crate::NodeId, above: &str, lines: &mut Vec<String>) {
        for (name, node) in tree.entries(directory) {
            let path = format!("{above}{}", name.escape_ascii());
            let kind = match &tree.node(node).kind {
                crate::Kind::Directory(_) => "dir".to_owned(),
                crate::Kind::File(content) => format!("file {}", content.size()),
                crate::Kind::Symlink(target) => format!("-> {}", target.escape_ascii()),
                crate::Kind::Char(major, minor) => format!("char {major}:{minor}"),
                crate::Kind::Block(major, minor) => format!("block {major}:{minor}"),
                crate::Kind::Fifo => "fifo".to_owned(),
            };
            lines.push(format!("{path} {kind}"));
            walk(tree, node, &format!("{path}/"), lines);
        }
    }
    let mut lines = Vec::new();
    walk(tree, crate::NodeId::ROOT, "", &mut lines);
    lines
}

/// A tar of named files: an archive of images.
pub(crate) fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    members.iter().fold(Layer::default(), |archive, (name, bytes)| archive.file(name, bytes)).finish()
}

/// Configuration and manifest of an image of plain layers, and their digests.
pub(crate) fn documents(layers: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| digest_of(layer)).collect();
    let config = serde_json::json!({"os": "linux", "architecture": "amd64",
        "config": {"Cmd": ["/bin/true"], "Env": ["A=b"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = serde_json::to_vec(&config).unwrap();
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest_of(layer), "size": layer.len()})
        })
        .collect();
    let manifest = serde_json::json!({"schemaVersion": 2, "layers": layers, "config": {
        "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(&config), "size": config.len()}});
    (config, serde_json::to_vec(&manifest).unwrap())
}
