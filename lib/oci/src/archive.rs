//! Images in archives: an OCI layout in a tar, or what `docker save` writes; plain, gzip or zstd.
//!
//! The archive is spooled whole to the scratch directory, unpacked if it is compressed; its members are then hashed
//! where they lie, and blobs are found by what they hash to, never by what they are called.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::path::PathBuf;

use dataplane_tar::{EntryKind, Shown};
use dataplane_types::Digest;
use serde::Deserialize;

use crate::entries::Entries;
use crate::image::{Blob, FetchedImage};
use crate::manifest::{DOCKER_MANIFEST, Descriptor, Document, Index};
use crate::spool::{CHUNK, Hasher, Scratch, copy_hashed, decoder};
use crate::{ContentError, ImageConfig, Limits, Manifest, Platform, Reference, digest_of};

/// An index may hold an index, but not without end.
const MAX_NESTING: usize = 3;

/// Annotations that hold an image's name, the fuller one first.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// An archive in the scratch directory, its members known.
#[derive(Debug)]
pub struct Archive {
    members: BTreeMap<String, Blob>,
    digests: HashMap<Digest, Blob>,
    /// By where its bytes begin: several members may be one blob, and several blobs may hold the same.
    digest_at: HashMap<u64, Digest>,
    limits: Limits,
}

/// The image found in an archive.
#[derive(Debug)]
pub struct ArchiveImage {
    /// The image.
    pub image: FetchedImage,
    /// The name that the archive gives it, if any.
    pub name: Option<String>,
}

/// One image in the `manifest.json` of `docker save`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Archive {
    /// Reads an archive to its end. Blocks.
    ///
    /// # Errors
    /// [`ContentError::Input`] when the sender breaks off; otherwise what is wrong with the archive or the disk.
    pub fn spool(input: impl Read, limits: &Limits, scratch: &Scratch) -> Result<Self, ContentError> {
        let path = scratch.directory.join("archive.tar");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(ContentError::io("create", &path))?;
        let mut plain = decoder(input).map_err(ContentError::Input)?;
        let is_compressed = plain.is_compressed();
        let on_error = |error: std::io::Error| {
            use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
            // Those are what decoders answer to bytes that are not theirs.
            if is_compressed && matches!(error.kind(), InvalidInput | InvalidData | UnexpectedEof) {
                ContentError::corrupt("the archive", error)
            } else {
                ContentError::Input(error)
            }
        };
        let copied = copy_hashed(&mut plain, (&mut file, &path), limits.unpacked_bytes, scratch, on_error)?;
        drop(plain);
        let (bytes, _) = copied.ok_or_else(|| ContentError::limit("the archive", "its size", limits.unpacked_bytes))?;
        Self::index((file, path), bytes, limits, scratch)
    }

    fn index(
        (file, path): (File, PathBuf),
        bytes: u64,
        limits: &Limits,
        scratch: &Scratch,
    ) -> Result<Self, ContentError> {
        let (members, digests, digest_at) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        let mut archive = Self { members, digests, digest_at, limits: limits.clone() };
        let mut links = Vec::new();
        let mut entries = Entries::new("the archive", &file, bytes, limits)?;
        let mut count = 0;
        while let Some(entry) = entries.next_entry()? {
            count += 1;
            if count > limits.archive_members {
                return Err(ContentError::limit("the archive", "its number of files", limits.archive_members as u64));
            }
            let name = member_name(&entry.path);
            match entry.kind {
                EntryKind::File { size, regions } => {
                    let [region] = regions.as_slice() else {
                        if size > 0 {
                            return Err(ContentError::corrupt(name, "a file with holes is no part of an archive"));
                        }
                        continue;
                    };
                    let blob = Blob { path: path.clone(), offset: region.offset, length: size, is_whole_file: false };
                    archive.members.insert(name, blob);
                }
                EntryKind::Symlink(target) | EntryKind::HardLink(target) => links.push((name, target)),
                EntryKind::Directory | EntryKind::Char(..) | EntryKind::Block(..) | EntryKind::Fifo => {}
            }
        }
        archive.resolve_links(links);
        archive.hash_members(&file, scratch)?;
        Ok(archive)
    }

    /// `docker save` writes a layer that it has written already as a link to `../<id>/layer.tar`.
    fn resolve_links(&mut self, links: Vec<(String, Vec<u8>)>) {
        for (name, target) in links {
            let target = String::from_utf8_lossy(&target).into_owned();
            let beside = name.rsplit_once('/').map_or("", |(directory, _)| directory);
            let joined = match target.strip_prefix("../") {
                Some(rest) => match beside.rsplit_once('/') {
                    Some((above, _)) => format!("{above}/{rest}"),
                    None => rest.to_owned(),
                },
                None => target,
            };
            if let Some(blob) = self.members.get(&joined).cloned() {
                self.members.insert(name, blob);
            }
        }
    }

    fn hash_members(&mut self, file: &File, scratch: &Scratch) -> Result<(), ContentError> {
        for (name, blob) in &self.members {
            // Links are cheap to write: what they lead to is hashed once.
            let found = match self.digest_at.get(&blob.offset) {
                Some(known) => *known,
                None => hash(blob, file, scratch)?,
            };
            let declared = name.strip_prefix("blobs/sha256/").and_then(|hex| format!("sha256:{hex}").parse().ok());
            if let Some(expected) = declared.filter(|declared| *declared != found) {
                return Err(ContentError::Digest { subject: name.clone(), expected, found });
            }
            self.digest_at.insert(blob.offset, found);
            self.digests.insert(found, blob.clone());
        }
        Ok(())
    }

    /// Finds the image of a name, or the only one there is, for a platform.
    ///
    /// # Errors
    /// [`ContentError`] when there is none, more than one, or a part of it is missing.
    pub fn select(&self, name: Option<&Reference>, platform: &Platform) -> Result<ArchiveImage, ContentError> {
        if let Some(index) = self.members.get("index.json") {
            let bytes = index.read("index.json", &self.limits)?;
            let index: Index =
                serde_json::from_slice(&bytes).map_err(|error| ContentError::corrupt("index.json", error))?;
            return self.select_from_layout(&index, name, platform);
        }
        if let Some(saved) = self.members.get("manifest.json") {
            let bytes = saved.read("manifest.json", &self.limits)?;
            let saved: Vec<SavedImage> =
                serde_json::from_slice(&bytes).map_err(|error| ContentError::corrupt("manifest.json", error))?;
            return self.select_saved(&saved, name, platform);
        }
        Err(ContentError::NotAnImage {
            subject: "the archive".to_owned(),
            reason: "it holds neither index.json nor manifest.json".to_owned(),
        })
    }

    fn select_from_layout(
        &self,
        index: &Index,
        name: Option<&Reference>,
        platform: &Platform,
    ) -> Result<ArchiveImage, ContentError> {
        let mut candidates: Vec<&Descriptor> =
            index.manifests.iter().filter(|entry| name.is_some_and(|name| is_named(entry, name))).collect();
        if candidates.is_empty() {
            candidates = index.manifests.iter().collect();
        }
        candidates.dedup_by_key(|entry| entry.digest);
        let chosen = match candidates.as_slice() {
            [only] => (*only).clone(),
            [] => return Err(ContentError::Missing("an image in index.json".to_owned())),
            several if several.iter().all(|entry| entry.platform.is_some()) => {
                let index = Index { manifests: several.iter().map(|entry| (*entry).clone()).collect() };
                index.choose(platform)?.clone()
            }
            several => return Err(ambiguous(several.iter().filter_map(|entry| annotated_name(entry)))),
        };
        let name = annotated_name(&chosen).map(str::to_owned);
        let image = self.resolve(&chosen, platform)?;
        Ok(ArchiveImage { image, name })
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<&Blob, ContentError> {
        let subject = || format!("the blob {}", descriptor.digest);
        let blob = self.digests.get(&descriptor.digest).ok_or_else(|| ContentError::Missing(subject()))?;
        if blob.length != descriptor.size {
            return Err(ContentError::Size { subject: subject(), expected: descriptor.size });
        }
        Ok(blob)
    }

    fn resolve(&self, top: &Descriptor, platform: &Platform) -> Result<FetchedImage, ContentError> {
        let mut descriptor = top.clone();
        for _ in 0..MAX_NESTING {
            let subject = format!("the manifest {}", descriptor.digest);
            let bytes = self.blob(&descriptor)?.read(&subject, &self.limits)?;
            match Document::parse(&subject, &bytes, &self.limits)? {
                Document::Index(index) => descriptor = index.choose(platform)?.clone(),
                Document::Manifest(manifest) => {
                    return self.complete((top.digest, descriptor.digest), *manifest, platform);
                }
            }
        }
        Err(ContentError::limit("the archive", "the nesting of indexes", MAX_NESTING as u64))
    }

    fn complete(
        &self,
        (top, digest): (Digest, Digest),
        manifest: Manifest,
        platform: &Platform,
    ) -> Result<FetchedImage, ContentError> {
        let bytes = self.blob(&manifest.config)?.read("the configuration", &self.limits)?;
        let config = ImageConfig::parse(&bytes, &manifest, platform)?;
        let mut blobs = HashMap::new();
        for layer in &manifest.layers {
            blobs.insert(layer.digest, self.blob(layer)?.clone());
        }
        Ok(FetchedImage { top, digest, manifest, config, blobs })
    }

    fn select_saved(
        &self,
        saved: &[SavedImage],
        name: Option<&Reference>,
        platform: &Platform,
    ) -> Result<ArchiveImage, ContentError> {
        let tags = |image: &SavedImage| image.repo_tags.clone().unwrap_or_default();
        let named = |image: &&SavedImage| {
            name.is_some_and(|name| tags(image).iter().any(|tag| tag.parse().as_ref() == Ok(name)))
        };
        let image = match (saved.iter().find(named), saved) {
            (Some(image), _) | (None, [image]) => image,
            (None, []) => return Err(ContentError::Missing("an image in manifest.json".to_owned())),
            (None, several) => {
                return Err(ambiguous(several.iter().flat_map(tags).collect::<Vec<_>>().iter().map(String::as_str)));
            }
        };
        let descriptor = |path: &str, media_type: &str| -> Result<Descriptor, ContentError> {
            let blob = self.members.get(&member_name(path.as_bytes()));
            let (digest, blob) = blob
                .and_then(|blob| Some((self.digest_at.get(&blob.offset)?, blob)))
                .ok_or_else(|| ContentError::Missing(format!("the archive's file {path:?}")))?;
            let (platform, annotations) = (None, BTreeMap::new());
            Ok(Descriptor {
                media_type: media_type.to_owned(),
                digest: *digest,
                size: blob.length,
                platform,
                annotations,
            })
        };
        // The archive has no manifest; the one that its parts make is always the same, and so is its digest.
        let layer_type = "application/vnd.docker.image.rootfs.diff.tar";
        let manifest = Manifest {
            schema_version: 2,
            media_type: DOCKER_MANIFEST.to_owned(),
            config: descriptor(&image.config, "application/vnd.docker.container.image.v1+json")?,
            layers: image.layers.iter().map(|path| descriptor(path, layer_type)).collect::<Result<_, _>>()?,
        };
        let bytes = serde_json::to_vec(&manifest).map_err(|error| ContentError::corrupt("manifest.json", error))?;
        let Document::Manifest(manifest) = Document::parse("manifest.json", &bytes, &self.limits)? else {
            return Err(ContentError::corrupt("manifest.json", "it describes no image"));
        };
        let digest = digest_of(&bytes);
        let image_name = tags(image).first().cloned();
        Ok(ArchiveImage { image: self.complete((digest, digest), *manifest, platform)?, name: image_name })
    }
}

fn hash(blob: &Blob, mut file: &File, scratch: &Scratch) -> Result<Digest, ContentError> {
    let failed = |error| ContentError::Io { act: "read", path: blob.path.clone(), source: error };
    file.seek(SeekFrom::Start(blob.offset)).map_err(failed)?;
    let mut input = file.take(blob.length);
    let mut buffer = vec![0; CHUNK];
    let mut hasher = Hasher::default();
    loop {
        scratch.check()?;
        let length = input.read(&mut buffer).map_err(failed)?;
        if length == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..length]);
    }
}

fn member_name(path: &[u8]) -> String {
    let name = Shown(path).to_string();
    name.trim_start_matches("./").trim_end_matches('/').to_owned()
}

fn annotated_name(entry: &Descriptor) -> Option<&str> {
    NAME_ANNOTATIONS.iter().find_map(|key| entry.annotations.get(*key)).map(String::as_str)
}

fn is_named(entry: &Descriptor, wanted: &Reference) -> bool {
    NAME_ANNOTATIONS
        .iter()
        .filter_map(|key| entry.annotations.get(*key))
        .any(|name| name.parse().as_ref() == Ok(wanted) || wanted.tag() == Some(name.as_str()))
}

fn ambiguous<'a>(names: impl Iterator<Item = &'a str>) -> ContentError {
    let names: Vec<_> = names.take(16).collect();
    ContentError::NotAnImage {
        subject: "the archive".to_owned(),
        reason: format!("it holds several images ({}); say which by its name", names.join(", ")),
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
