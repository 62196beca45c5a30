//! An image whose blobs are all here: from an archive or from a registry, the rest is the same.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use dataplane_types::Digest;

use crate::merge::{MergedImage, merge};
use crate::spool::{Scratch, UnpackedLayer, unpack_layer};
use crate::{ContentError, ImageConfig, Limits, Manifest};

/// Where a blob lies: a file, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Whether the file holds nothing else and may go once it is unpacked.
    pub(crate) is_whole_file: bool,
}

impl Blob {
    /// Reads a small blob into memory.
    pub(crate) fn read(&self, subject: &str, limits: &Limits) -> Result<Vec<u8>, ContentError> {
        if self.length > limits.document_bytes {
            return Err(ContentError::limit(subject, "the size of a document", limits.document_bytes));
        }
        let mut bytes = vec![0; usize::try_from(self.length).unwrap_or(0)];
        File::open(&self.path)
            .and_then(|file| file.read_exact_at(&mut bytes, self.offset))
            .map_err(ContentError::io("read", &self.path))?;
        Ok(bytes)
    }

    pub(crate) fn open(&self) -> Result<impl std::io::Read + use<>, ContentError> {
        use std::io::Seek as _;
        let mut file = File::open(&self.path).map_err(ContentError::io("open", &self.path))?;
        file.seek(std::io::SeekFrom::Start(self.offset)).map_err(ContentError::io("read", &self.path))?;
        Ok(file.take(self.length))
    }
}

/// An image with all its blobs, checked against their digests.
#[derive(Debug)]
pub struct FetchedImage {
    /// The digest that was asked for or found first: of the index where there is one.
    pub top: Digest,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
    /// The layers' blobs.
    pub(crate) blobs: HashMap<Digest, Blob>,
}

impl FetchedImage {
    /// Unpacks and merges the layers. Blocks; every layer is read once, and its blob removed.
    ///
    /// # Errors
    /// [`ContentError`], naming layer and entry.
    pub fn merge(&self, limits: &Limits, scratch: &Scratch) -> Result<MergedImage, ContentError> {
        let mut budget = limits.unpacked_bytes;
        let mut layers: Vec<UnpackedLayer> = Vec::with_capacity(self.manifest.layers.len());
        for (descriptor, diff_id) in self.manifest.layers.iter().zip(self.config.diff_ids()) {
            // The same layer may stand in an image twice, empty ones do.
            let layer = match layers.iter().find(|layer| layer.diff_id == *diff_id) {
                Some(same) => same.again()?,
                None => {
                    let blob = self
                        .blobs
                        .get(&descriptor.digest)
                        .ok_or_else(|| ContentError::Missing(format!("layer {}", descriptor.digest)))?;
                    unpack_layer(blob, diff_id, &mut budget, (scratch, limits))?
                }
            };
            layers.push(layer);
        }
        merge(layers, limits, scratch)
    }
}
