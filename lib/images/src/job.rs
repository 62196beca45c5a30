//! The work on one image: fetch, convert, publish, record. It ends with a record that says how it went.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use dataplane_oci::{FetchedImage, Platform, Repository, Resolved, Scratch, Transfer};
use dataplane_store::{Store, StoreError};
use dataplane_types::{Digest, ImageId, OperationId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::convert::{Conversion, created_seconds, write_disk};
use crate::gate::GateGuard;
use crate::record::Content;
use crate::view::Progress;
use crate::{Failure, FailureCode, ImageStatus, Images};

/// Where an image comes from.
pub(crate) enum Source {
    /// A registry, perhaps asked already.
    Registry(Box<FromRegistry>),
    /// Blobs that are here, in a scratch directory of their own.
    Fetched(Box<(FetchedImage, ScratchDir)>),
}

/// What is needed to ask a registry.
pub(crate) struct FromRegistry {
    pub(crate) repository: Repository,
    pub(crate) platform: Platform,
    /// What it said, if it was asked already.
    pub(crate) resolved: Option<Resolved>,
}

/// Work that runs, seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) cancel: CancellationToken,
    shared: Arc<Shared>,
    ended: watch::Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    stage: Mutex<ImageStatus>,
    transfer: Transfer,
}

/// The same work, seen from inside. Dropping it is the end of the work.
pub(crate) struct Runner {
    cancel: CancellationToken,
    shared: Arc<Shared>,
    _ended: watch::Sender<()>,
}

impl Job {
    pub(crate) fn new(source: &Source) -> (Self, Runner) {
        let stage = match source {
            Source::Registry(_) => ImageStatus::Pending,
            Source::Fetched(_) => ImageStatus::Converting,
        };
        let shared = Arc::new(Shared { stage: Mutex::new(stage), transfer: Transfer::default() });
        let (sender, ended) = watch::channel(());
        let cancel = CancellationToken::new();
        let runner = Runner { cancel: cancel.clone(), shared: shared.clone(), _ended: sender };
        (Self { cancel, shared, ended }, runner)
    }

    pub(crate) fn progress(&self) -> (ImageStatus, Progress) {
        let (done_bytes, total_bytes) = self.shared.transfer.now();
        (*self.shared.stage.lock().unwrap_or_else(PoisonError::into_inner), Progress { done_bytes, total_bytes })
    }

    /// Waits for the end of the work; its outcome is in the record.
    pub(crate) async fn ended(mut self) {
        // Nothing is ever sent: the channel closes when the runner is dropped.
        while self.ended.changed().await.is_ok() {}
    }
}

impl Runner {
    fn enter(&self, stage: ImageStatus) {
        *self.shared.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }
}

/// A scratch directory that goes when its owner does.
#[derive(Debug)]
pub(crate) struct ScratchDir {
    store: Store,
    path: Option<PathBuf>,
}

impl ScratchDir {
    /// Makes a new one. Blocks.
    pub(crate) fn make(store: &Store) -> Result<Self, StoreError> {
        let path = store.layout().image_operation(&OperationId::generate());
        store.create_dir(&path, 0o700)?;
        Ok(Self { store: store.clone(), path: Some(path) })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone().unwrap_or_default()
    }

    /// Removes it and everything in it. Blocks.
    pub(crate) fn remove(mut self) {
        discard(&self.store, self.path.take());
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let Some(path) = self.path.take() else { return };
        let store = self.store.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || discard(&store, Some(path)))),
            Err(_) => discard(&store, Some(path)),
        }
    }
}

fn discard(store: &Store, path: Option<PathBuf>) {
    let Some(path) = path else { return };
    if let Err(error) = store.discard(&path) {
        // The next start empties the scratch space.
        tracing::warn!(path = %path.display(), error = &error as &dyn std::error::Error, "scratch space was not removed");
    }
}

impl Images {
    pub(crate) fn scratch(&self, directory: &ScratchDir, cancel: &CancellationToken) -> Scratch {
        Scratch { directory: directory.path(), cancel: cancel.clone(), reserved_bytes: self.0.options.reserved_bytes }
    }

    /// Does the work and records how it went.
    pub(crate) async fn run(self, id: ImageId, source: Source, runner: Runner) {
        // The gate stays shut until the record names the disk: nobody may take it for a leftover in between.
        let (content, gate) = match self.work(source, &runner).await {
            Ok((content, gate)) => (Ok(content), Some(gate)),
            Err(failure) => (Err(failure), None),
        };
        match &content {
            Ok(content) => {
                tracing::info!(image.id = %id, image.digest = %content.digest, image.size_bytes = content.size_bytes, "image ready");
            }
            Err(failure) => {
                tracing::warn!(image.id = %id, image.failure = ?failure.code, "image failed: {}", failure.message);
            }
        }
        self.settle(&id, content).await;
        drop(gate);
        drop(runner);
    }

    async fn settle(&self, id: &ImageId, content: Result<Content, Failure>) {
        let Some(before) = self.state().slots.get(id).map(|slot| slot.record.clone()) else { return };
        let after = match content {
            Ok(content) => before.with_content(content),
            Err(failure) => before.with_failure(Some(failure.at(self.0.options.clock.now()))),
        };
        let written = self.persist(after.clone()).await;
        let mut state = self.state();
        let Some(slot) = state.slots.get_mut(id) else { return };
        slot.job = None;
        match written {
            Ok(record) => slot.record = record,
            Err(error) => {
                tracing::error!(image.id = %id, error = &error as &dyn std::error::Error, "the record of an image was not written");
                // What the disk does not say must not be promised: the failure is shown until the next attempt.
                let failure = Failure::new(FailureCode::Internal, "its record could not be written");
                slot.record = slot.record.clone().with_failure(Some(failure.at(self.0.options.clock.now())));
            }
        }
    }

    async fn work(&self, source: Source, runner: &Runner) -> Result<(Content, GateGuard), Failure> {
        let (image, directory) = match source {
            Source::Fetched(parts) => *parts,
            Source::Registry(parts) => {
                runner.enter(ImageStatus::Pulling);
                // Dropping the transfer leaves files in the scratch directory only.
                tokio::select! {
                    biased;
                    () = runner.cancel.cancelled() => return Err(called_off()),
                    fetched = self.fetch(*parts, runner) => fetched?,
                }
            }
        };
        runner.enter(ImageStatus::Converting);
        let digest = image.digest;
        let gate = self.0.gate.enter(digest).await;
        let scratch = self.scratch(&directory, &runner.cancel);
        let images = self.clone();
        let content = blocking(move || {
            let content = images.convert(&image, &scratch);
            directory.remove();
            content
        });
        Ok((content.await?, gate))
    }

    async fn fetch(
        &self,
        FromRegistry { repository, platform, resolved }: FromRegistry,
        runner: &Runner,
    ) -> Result<(FetchedImage, ScratchDir), Failure> {
        let limits = &self.0.options.limits;
        let resolved = match resolved {
            Some(resolved) => resolved,
            None => repository.resolve(&platform, limits).await?,
        };
        let store = self.0.store.clone();
        let directory = blocking(move || ScratchDir::make(&store).map_err(Failure::from)).await?;
        let scratch = self.scratch(&directory, &runner.cancel);
        if !self.has_disk(&resolved.digest) {
            scratch.check_space(resolved.manifest.layer_bytes())?;
        }
        let image = repository.fetch(resolved, &scratch, &runner.shared.transfer).await?;
        Ok((image, directory))
    }

    fn has_disk(&self, digest: &Digest) -> bool {
        self.0.store.layout().image_disk(digest).exists()
    }

    /// Makes the disk, unless it is there already. Blocks; the caller holds the digest's gate.
    fn convert(&self, image: &FetchedImage, scratch: &Scratch) -> Result<Content, Failure> {
        let store = &self.0.store;
        let disk = store.layout().image_disk(&image.digest);
        if !disk.exists() {
            let draft = scratch.directory.join("disk.img");
            let merged = image.merge(&self.0.options.limits, scratch)?;
            let dropped = merged.dropped();
            if dropped != dataplane_oci::Dropped::default() {
                tracing::warn!(image.digest = %image.digest, ?dropped, "parts of the image mean nothing here and were left out");
            }
            let created = created_seconds(image.config.created());
            let cancel = &scratch.cancel;
            write_disk(&draft, &Conversion { image: &merged, digest: image.digest, created, cancel })?;
            match store.commit_new(&draft, &disk, &[]) {
                // Only one task at a time gets here for a digest, but the file may be a leftover of an older daemon's.
                Ok(()) | Err(StoreError::Exists(_)) => {}
                Err(error @ (StoreError::Io { .. } | StoreError::Parse { .. } | StoreError::Stopped)) => {
                    return Err(error.into());
                }
            }
        }
        let (size_bytes, virtual_size_bytes) = disk_size(&disk)?;
        let program = (&image.config.config).into();
        Ok(Content { digest: image.digest, top: image.top, size_bytes, virtual_size_bytes, program })
    }
}

fn disk_size(path: &std::path::Path) -> Result<(u64, u64), Failure> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).map_err(|error: io::Error| {
        Failure::new(FailureCode::Internal, format!("look at the disk {}: {error}", path.display()))
    })?;
    Ok((metadata.blocks().saturating_mul(512), metadata.len()))
}

pub(crate) fn called_off() -> Failure {
    Failure::new(FailureCode::Unavailable, "the image was deleted while it was fetched")
}

/// Runs blocking work on the threads meant for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let lost = |_| Failure::new(FailureCode::Internal, "a task of the image manager ended without an answer");
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}
