//! Lending an image's disk: while a lease lives, the disk stays.

use std::path::{Path, PathBuf};

use dataplane_oci::Reference;
use dataplane_types::Digest;

use crate::manager::Slot;
use crate::{ImageView, Images, ImagesError};

/// An image's disk, held until this is dropped. Whoever builds on it makes that known before letting go.
pub struct ImageLease {
    images: Images,
    image: ImageView,
    digest: Digest,
    disk: PathBuf,
}

impl std::fmt::Debug for ImageLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageLease").field("image", &self.image.id).field("digest", &self.digest).finish()
    }
}

impl ImageLease {
    /// The image, as it was when it was lent.
    #[must_use]
    pub fn view(&self) -> &ImageView {
        &self.image
    }

    /// The manifest's digest, by which the disk is known for ever.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What the disk holds, in the guest kernel's word.
    #[must_use]
    pub fn filesystem(&self) -> &'static str {
        "ext4"
    }

    /// The read-only disk.
    #[must_use]
    pub fn disk(&self) -> &Path {
        &self.disk
    }
}

impl Drop for ImageLease {
    fn drop(&mut self) {
        let mut state = self.images.state();
        if let Some(count) = state.leases.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                state.leases.remove(&self.digest);
            }
        }
    }
}

impl Images {
    /// Lends the image of an id, reference or digest. An image that is being fetched anew is lent as it was.
    ///
    /// # Errors
    /// [`ImagesError::NotFound`], or [`ImagesError::NotReady`] when it was never fetched.
    pub fn lease(&self, text: &str) -> Result<ImageLease, ImagesError> {
        let mut state = self.state();
        let named: Option<Reference> = text.parse().ok();
        let reference = named.as_ref().map(Reference::to_string);
        let digest: Option<Digest> = text.parse().ok().or(named.and_then(|named| named.digest()));
        let by_id = state.slots.values().filter(|slot| slot.record.id.as_str() == text);
        let by_name = state.slots.values().filter(|slot| Some(&slot.record.reference) == reference.as_ref());
        let by_digest = state.slots.values().filter(|slot| {
            slot.record
                .content
                .as_ref()
                .is_some_and(|content| Some(content.digest) == digest || Some(content.top) == digest)
        });
        let mut found = by_id.chain(by_name).chain(by_digest).filter(|slot| !slot.is_leaving);
        let mut unready = None;
        let slot = found.find(|slot| {
            let is_ready = slot.record.content.is_some();
            if !is_ready {
                unready.get_or_insert_with(|| slot.view());
            }
            is_ready
        });
        let Some((view, digest)) = slot.and_then(|slot| Some((slot.view(), slot.record.content.as_ref()?.digest)))
        else {
            return Err(match unready {
                Some(view) => ImagesError::NotReady { id: view.id, status: view.status },
                None => ImagesError::NotFound(text.chars().take(300).collect()),
            });
        };
        *state.leases.entry(digest).or_default() += 1;
        let disk = self.0.store.layout().image_disk(&digest);
        Ok(ImageLease { images: self.clone(), image: view, digest, disk })
    }

    /// The disk of a digest, for an instance that pinned it: whatever its name stands for now.
    #[must_use]
    pub fn disk_of(&self, digest: &Digest) -> Option<PathBuf> {
        let names = |slot: &Slot| slot.record.digests().any(|known| known == *digest);
        let is_known = self.state().slots.values().any(names);
        is_known.then(|| self.0.store.layout().image_disk(digest))
    }
}
