//! Taking images away: the record first, then the disks that no other record names.

use dataplane_types::{Digest, ImageId};

use crate::job::blocking;
use crate::manager::own_task;
use crate::{Failure, Images, ImagesError};

impl Images {
    /// Deletes an image, ending the work that runs on it. `in_use` tells who needs the disk of a digest.
    ///
    /// # Errors
    /// [`ImagesError::NotFound`]; [`ImagesError::InUse`] while an instance needs a disk that only this image keeps, or
    /// is being made from it; [`ImagesError::Store`].
    pub async fn delete(&self, id: &ImageId, in_use: impl Fn(&Digest) -> Option<String>) -> Result<(), ImagesError> {
        let digests = self.begin_leaving(id)?;
        let holder =
            digests.iter().find_map(|digest| if self.kept_by_another(id, digest) { None } else { in_use(digest) });
        if let Some(holder) = holder {
            self.stay(id);
            return Err(ImagesError::InUse { id: id.clone(), holder });
        }
        let (images, id) = (self.clone(), id.clone());
        own_task(async move { images.leave(id, digests).await }).await
    }

    /// Marks an image as leaving: it is lent no more, and no work begins on it.
    fn begin_leaving(&self, id: &ImageId) -> Result<Vec<Digest>, ImagesError> {
        let mut state = self.state();
        let not_found = || ImagesError::NotFound(id.to_string());
        let slot = state.slots.get(id).filter(|slot| !slot.is_leaving).ok_or_else(not_found)?;
        let digests: Vec<Digest> = slot.record.digests().collect();
        if digests.iter().any(|digest| state.leases.contains_key(digest)) {
            let holder = "an instance that is being made from it".to_owned();
            return Err(ImagesError::InUse { id: id.clone(), holder });
        }
        if let Some(slot) = state.slots.get_mut(id) {
            slot.is_leaving = true;
        }
        Ok(digests)
    }

    fn stay(&self, id: &ImageId) {
        if let Some(slot) = self.state().slots.get_mut(id) {
            slot.is_leaving = false;
        }
    }

    fn kept_by_another(&self, id: &ImageId, digest: &Digest) -> bool {
        self.state()
            .slots
            .iter()
            .any(|(other, slot)| other != id && !slot.is_leaving && slot.record.digests().any(|known| known == *digest))
    }

    async fn leave(self, id: ImageId, mut digests: Vec<Digest>) -> Result<(), ImagesError> {
        let job = self.state().slots.get(&id).and_then(|slot| slot.job.clone());
        if let Some(job) = job {
            job.cancel.cancel();
            job.ended().await;
            // It may have been too late to call it off.
            digests = self.state().slots.get(&id).map(|slot| slot.record.digests().collect()).unwrap_or(digests);
        }
        let (store, record) = (self.0.store.clone(), self.0.store.layout().image_record(&id));
        if let Err(failure) = blocking(move || store.discard(&record).map_err(Failure::from)).await {
            self.stay(&id);
            return Err(failure.into());
        }
        self.state().slots.remove(&id);
        tracing::info!(image.id = %id, "image deleted");
        for digest in digests {
            self.remove_disk_unless_named(digest).await?;
        }
        Ok(())
    }

    /// Removes the disk of a digest that no record names. Work on the same digest waits meanwhile.
    async fn remove_disk_unless_named(&self, digest: Digest) -> Result<(), Failure> {
        let _gate = self.0.gate.enter(digest).await;
        let is_kept = {
            let state = self.state();
            let names = state.slots.values().any(|slot| slot.record.digests().any(|known| known == digest));
            names || state.leases.contains_key(&digest)
        };
        if is_kept {
            return Ok(());
        }
        let store = self.0.store.clone();
        blocking(move || Ok(store.discard(&store.layout().image_disk(&digest))?)).await
    }

    /// Removes disks that names have moved away from and that nobody needs any more; tells how many.
    ///
    /// # Errors
    /// [`ImagesError::Store`], [`ImagesError::Failed`].
    pub async fn collect(&self, in_use: impl Fn(&Digest) -> bool) -> Result<usize, ImagesError> {
        let mut count = 0;
        let idle = |images: &Self| -> Vec<(ImageId, Digest)> {
            let state = images.state();
            let slots = state.slots.values().filter(|slot| slot.job.is_none() && !slot.is_leaving);
            let superseded =
                slots.flat_map(|slot| slot.record.superseded.iter().map(|digest| (slot.record.id.clone(), *digest)));
            superseded.filter(|(_, digest)| !state.leases.contains_key(digest)).collect()
        };
        for (id, digest) in idle(self) {
            if in_use(&digest) {
                continue;
            }
            let Some(mut record) = self.state().slots.get(&id).map(|slot| slot.record.clone()) else { continue };
            record.superseded.retain(|known| *known != digest);
            record.generation += 1;
            let record = self.persist(record).await?;
            if let Some(slot) = self.state().slots.get_mut(&id).filter(|slot| slot.record.uuid == record.uuid) {
                slot.record = record;
            }
            self.remove_disk_unless_named(digest).await?;
            count += 1;
        }
        Ok(count)
    }
}
