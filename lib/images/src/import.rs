//! Images that come in archives. The archive is read while its sender sends; what follows no longer needs the sender.

use dataplane_oci::{Archive, ArchiveImage, FetchedImage, Reference};
use dataplane_types::ImageId;
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use crate::input;
use crate::job::{ScratchDir, Source, blocking};
use crate::manager::{Created, ImportRequest, Wanted, default_id};
use crate::{Failure, Images, ImagesError};

impl Images {
    /// Takes an image from an archive (OCI layout or `docker save`; plain, gzip or zstd). While the archive is read,
    /// a caller that goes away ends the import without a trace; afterwards it cancels nothing. The answer comes when the
    /// image is ready.
    ///
    /// # Errors
    /// [`ImagesError::Failed`] when the archive is malformed or breaks off, [`ImagesError::Reference`] for a name that
    /// is none, [`ImagesError::Conflict`] when the id stands for something else.
    pub async fn import(
        &self,
        request: ImportRequest,
        archive: impl AsyncRead + Unpin,
    ) -> Result<Created, ImagesError> {
        let named: Option<Reference> = request.name.as_deref().map(str::parse).transpose()?;
        let (sender, reader) = input::channel();
        let images = self.clone();
        let work = tokio::spawn(async move {
            let (found, directory) = images.spool(reader, named.clone(), &request).await?;
            images.take(request, named, found, directory).await
        });
        // When this future is dropped, the sender goes with it, and the reader sees a sender that broke off.
        input::feed(archive, sender, self.0.options.registry.silence).await;
        work.await.map_err(|_| ImagesError::TaskLost)?
    }

    async fn spool(
        &self,
        reader: input::ChannelReader,
        named: Option<Reference>,
        request: &ImportRequest,
    ) -> Result<(ArchiveImage, ScratchDir), Failure> {
        let images = self.clone();
        let platform = request.platform.clone().unwrap_or_default();
        blocking(move || {
            let directory = ScratchDir::make(&images.0.store)?;
            let scratch = images.scratch(&directory, &CancellationToken::new());
            scratch.check_space(0)?;
            let archive = Archive::spool(reader, &images.0.options.limits, &scratch)?;
            let found = archive.select(named.as_ref(), &platform)?;
            Ok((found, directory))
        })
        .await
    }

    async fn take(
        &self,
        request: ImportRequest,
        named: Option<Reference>,
        found: ArchiveImage,
        directory: ScratchDir,
    ) -> Result<Created, ImagesError> {
        let ArchiveImage { image, name } = found;
        let (name, reference) = match (request.name, named) {
            (Some(name), Some(reference)) => (name, reference),
            _ => name_from_archive(name, &image)?,
        };
        let (id, platform, labels) = (request.id, request.platform.unwrap_or_default(), request.labels);
        let wanted = Wanted { id, name, reference, platform, labels };
        let created = self.take_fetched(wanted, image, directory).await?;
        let image = self.wait(&created.image.id).await?;
        Ok(Created { image, ..created })
    }

    async fn take_fetched(
        &self,
        wanted: Wanted,
        image: FetchedImage,
        directory: ScratchDir,
    ) -> Result<Created, ImagesError> {
        let id = self.id_for_import(&wanted, &image)?;
        if let Some(view) = self.get(&id) {
            if view.digest == Some(image.digest) && view.error.is_none() {
                return Ok(Created { image: view, existed: true });
            }
            if wanted.id.is_some() && view.digest.is_some() {
                return Err(ImagesError::Conflict { id, reason: "it holds another image".to_owned() });
            }
        } else {
            self.reserve_new(&id, &wanted);
        }
        let source = Source::Fetched(Box::new((image, directory)));
        match self.start(&id, &wanted, source).await? {
            Some(image) => Ok(Created { image, existed: false }),
            None => Err(ImagesError::Conflict { id, reason: "other work runs on it".to_owned() }),
        }
    }

    fn id_for_import(&self, wanted: &Wanted, image: &FetchedImage) -> Result<ImageId, ImagesError> {
        let reference = wanted.reference.to_string();
        let state = self.state();
        let is_same =
            |id: &ImageId| state.slots.get(id).is_none_or(|slot| slot.record.is_for(&reference, &wanted.platform));
        if let Some(id) = &wanted.id {
            if !is_same(id) {
                let reason = "it holds another image".to_owned();
                return Err(ImagesError::Conflict { id: id.clone(), reason });
            }
            return Ok(id.clone());
        }
        if let Some(slot) = state.slots.values().find(|slot| slot.record.is_for(&reference, &wanted.platform)) {
            return Ok(slot.record.id.clone());
        }
        let id = default_id(&wanted.reference, None);
        Ok(if is_same(&id) { id } else { default_id(&wanted.reference, Some(&image.digest)) })
    }
}

/// The archive's own name for the image; a bare word there is a tag only, and then the digest has to do.
fn name_from_archive(name: Option<String>, image: &FetchedImage) -> Result<(String, Reference), ImagesError> {
    let name = match name.filter(|name| name.contains(['/', ':']) && name.parse::<Reference>().is_ok()) {
        Some(name) => name,
        None => format!("localhost/imported:{}", &image.digest.hex()[..12]),
    };
    let reference = name.parse()?;
    Ok((name, reference))
}
