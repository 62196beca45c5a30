//! Blobs on their way: written to a scratch file while they are hashed and counted, then unpacked once.
//!
//! Every file here lies in the scratch directory of one operation, which its owner removes whole.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use dataplane_types::Digest;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::image::Blob;
use crate::{ContentError, Limits};

/// How much is read and written at a time.
pub(crate) const CHUNK: usize = 256 << 10;

/// The scratch directory and how its owner calls the work off.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// An existing directory, private to one operation.
    pub directory: PathBuf,
    /// Set when the work is to end.
    pub cancel: CancellationToken,
    /// Free bytes of the file system that are not ours to take.
    pub reserved_bytes: u64,
}

/// How much is written between two looks at the free space.
const SPACE_GRAIN: u64 = 32 << 20;

impl Scratch {
    pub(crate) fn check(&self) -> Result<(), ContentError> {
        if self.cancel.is_cancelled() { Err(ContentError::Cancelled) } else { Ok(()) }
    }

    /// Refuses to go on when the disk is as full as it may become, `more` bytes from now.
    ///
    /// # Errors
    /// [`ContentError::NoSpace`].
    pub fn check_space(&self, more: u64) -> Result<(), ContentError> {
        let stat = rustix::fs::statvfs(&self.directory)
            .map_err(|errno| ContentError::io("look at the free space of", &self.directory)(errno.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < more.saturating_add(self.reserved_bytes) {
            return Err(ContentError::NoSpace { free, needed: more, reserved: self.reserved_bytes });
        }
        Ok(())
    }

    /// Where a blob of a digest lies.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("blob-{}", digest.hex()))
    }
}

/// Computes a digest as bytes go by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::from_bytes(self.0.finalize().into())
    }
}

/// The digest of bytes in memory.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

/// Copies until the end, hashing and counting, at most `max` bytes.
pub(crate) fn copy_hashed(
    from: &mut dyn Read,
    to: (&mut File, &Path),
    max: u64,
    scratch: &Scratch,
    mut on_read_error: impl FnMut(io::Error) -> ContentError,
) -> Result<Option<(u64, Digest)>, ContentError> {
    let mut buffer = vec![0; CHUNK];
    let mut hasher = Hasher::default();
    let mut count = 0u64;
    loop {
        scratch.check()?;
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(Some((count, hasher.finish()))),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(on_read_error(error)),
        };
        if count % SPACE_GRAIN < length as u64 {
            scratch.check_space(length as u64)?;
        }
        count += length as u64;
        if count > max {
            return Ok(None);
        }
        hasher.update(&buffer[..length]);
        to.0.write_all(&buffer[..length]).map_err(ContentError::io("write", to.1))?;
    }
}

/// Bytes that begin a compressed stream.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A skippable zstd frame begins with any of sixteen numbers, this the lowest byte's mask left out.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// A reader of the plain bytes behind whatever compression the first bytes tell.
pub(crate) fn decoder<'a>(mut input: impl Read + 'a) -> io::Result<Decoder<'a>> {
    let mut head = Vec::with_capacity(4);
    input.by_ref().take(4).read_to_end(&mut head)?;
    let is_gzip = head.starts_with(&GZIP_MAGIC);
    let is_zstd =
        head.starts_with(&ZSTD_MAGIC) || (head.len() == 4 && (head[0] & 0xf0) == 0x50 && head[1..] == ZSTD_SKIPPABLE);
    let whole = BufReader::with_capacity(CHUNK, io::Cursor::new(head).chain(input));
    Ok(if is_gzip {
        Decoder::Compressed(Box::new(flate2::bufread::MultiGzDecoder::new(whole)))
    } else if is_zstd {
        Decoder::Compressed(Box::new(zstd::stream::read::Decoder::with_buffer(whole)?))
    } else {
        Decoder::Plain(Box::new(whole))
    })
}

pub(crate) enum Decoder<'a> {
    Plain(Box<dyn Read + 'a>),
    Compressed(Box<dyn Read + 'a>),
}

impl Decoder<'_> {
    pub(crate) fn is_compressed(&self) -> bool {
        matches!(self, Self::Compressed(_))
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) | Self::Compressed(input) => input.read(buffer),
        }
    }
}

/// The plain tar of one layer.
#[derive(Debug)]
pub(crate) struct UnpackedLayer {
    pub(crate) diff_id: Digest,
    /// What to call it in messages.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) bytes: u64,
}

impl UnpackedLayer {
    /// The same layer, to stand in another place.
    pub(crate) fn again(&self) -> Result<Self, ContentError> {
        let file = self.file.try_clone().map_err(ContentError::io("open", &self.path))?;
        Ok(Self { diff_id: self.diff_id, name: self.name.clone(), path: self.path.clone(), file, bytes: self.bytes })
    }
}

/// Unpacks a layer's blob, checking its digest once plain and that it stays within the limits. A blob that has a file
/// of its own is removed.
///
/// `budget` is what all layers together may still unpack to, and is reduced by what this one took.
///
/// # Errors
/// [`ContentError`]: corrupt or truncated content, another digest than declared, too much of it, a full disk.
pub(crate) fn unpack_layer(
    blob: &Blob,
    diff_id: &Digest,
    budget: &mut u64,
    (scratch, limits): (&Scratch, &Limits),
) -> Result<UnpackedLayer, ContentError> {
    let name = format!("layer {diff_id}");
    let input = blob.open()?;
    let packed = blob.length;
    let path = scratch.directory.join(format!("layer-{}", diff_id.hex()));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .map_err(ContentError::io("create", &path))?;
    let corrupt = |error: io::Error| ContentError::corrupt(&name, error);
    let mut plain = decoder(input).map_err(corrupt)?;
    let by_ratio = packed.saturating_mul(limits.ratio).max(limits.ratio_free_bytes);
    let copied = copy_hashed(&mut plain, (&mut file, &path), by_ratio.min(*budget), scratch, corrupt)?;
    drop(plain);
    let Some((bytes, found)) = copied else {
        return Err(if by_ratio < *budget {
            ContentError::limit(name, "the ratio of unpacked to packed bytes", limits.ratio)
        } else {
            ContentError::limit(name, "the size of all unpacked layers", limits.unpacked_bytes)
        });
    };
    if found != *diff_id {
        return Err(ContentError::Digest { subject: name, expected: *diff_id, found });
    }
    *budget -= bytes;
    if blob.is_whole_file {
        std::fs::remove_file(&blob.path).map_err(ContentError::io("remove", &blob.path))?;
    }
    Ok(UnpackedLayer { diff_id: *diff_id, name, path, file, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(directory: &Path) -> Scratch {
        Scratch { directory: directory.to_owned(), cancel: CancellationToken::new(), reserved_bytes: 0 }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(blob: &[u8], diff_id: &Digest, limits: &Limits) -> Result<Vec<u8>, ContentError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        File::create_new(&path).unwrap().write_all(blob).unwrap();
        let mut budget = limits.unpacked_bytes;
        let blob = Blob { path: path.clone(), offset: 0, length: blob.len() as u64, is_whole_file: true };
        let layer = unpack_layer(&blob, diff_id, &mut budget, (&scratch(directory.path()), limits))?;
        assert!(!path.exists(), "the blob is not needed any more");
        assert_eq!(limits.unpacked_bytes - budget, layer.bytes);
        let mut bytes = Vec::new();
        File::open(&layer.path).unwrap().read_to_end(&mut bytes).unwrap();
        Ok(bytes)
    }

    #[test]
    fn every_compression_is_told_by_its_first_bytes() {
        let plain: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let twice = [gzip(&plain[..7]), gzip(&plain[7..])].concat();
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9][..], &zstd].concat();
        for blob in [plain.clone(), gzip(&plain), twice, zstd, skippable] {
            assert!(unpack(&blob, &digest_of(&plain), &Limits::default()).unwrap() == plain);
        }
        assert!(unpack(b"", &digest_of(b""), &Limits::default()).unwrap().is_empty());
    }

    #[test]
    fn truncated_or_damaged_streams_are_corrupt() {
        let plain = vec![b'x'; 500_000];
        for whole in [gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap()] {
            for cut in [5, whole.len() / 2, whole.len() - 1] {
                let result = unpack(&whole[..cut], &digest_of(&plain), &Limits::default());
                assert!(matches!(result, Err(ContentError::Corrupt { .. })), "{cut}: {result:?}");
            }
        }
        let mut flipped = gzip(&plain);
        let last = flipped.len() - 6;
        flipped[last] ^= 1;
        let result = unpack(&flipped, &digest_of(&plain), &Limits::default());
        assert!(matches!(result, Err(ContentError::Corrupt { .. })), "the checksum: {result:?}");
    }

    #[test]
    fn another_plain_digest_is_refused() {
        let result = unpack(&gzip(b"one"), &digest_of(b"two"), &Limits::default());
        assert!(matches!(result, Err(ContentError::Digest { .. })), "{result:?}");
    }

    #[test]
    fn bombs_end_at_the_limit() {
        let plain = vec![0; 8 << 20];
        let limits = Limits { ratio_free_bytes: 1 << 20, ratio: 10, ..Limits::default() };
        let error = unpack(&gzip(&plain), &digest_of(&plain), &limits).unwrap_err();
        assert!(
            matches!(&error, ContentError::Limit { limit, .. } if limit == "the ratio of unpacked to packed bytes"),
            "{error}"
        );
        let limits = Limits { unpacked_bytes: 4 << 20, ..Limits::default() };
        let error = unpack(&gzip(&plain), &digest_of(&plain), &limits).unwrap_err();
        assert!(
            matches!(&error, ContentError::Limit { limit, .. } if limit == "the size of all unpacked layers"),
            "{error}"
        );
    }

    #[test]
    fn a_disk_with_too_little_room_is_not_filled() {
        let directory = tempfile::tempdir().unwrap();
        let full = Scratch { reserved_bytes: u64::MAX / 2, ..scratch(directory.path()) };
        let path = directory.path().join("blob");
        let mut file = File::create_new(&path).unwrap();
        let copied = copy_hashed(&mut &b"x"[..], (&mut file, &path), 9, &full, ContentError::Input);
        assert!(matches!(copied, Err(ContentError::NoSpace { .. })), "{copied:?}");
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn work_that_is_called_off_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        File::create_new(&path).unwrap().write_all(b"x").unwrap();
        let scratch = scratch(directory.path());
        scratch.cancel.cancel();
        let blob = Blob { path, offset: 0, length: 1, is_whole_file: true };
        let result = unpack_layer(&blob, &digest_of(b"x"), &mut 10, (&scratch, &Limits::default()));
        assert!(matches!(result, Err(ContentError::Cancelled)));
    }
}
