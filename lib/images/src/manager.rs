//! The handle to all images: what there is, and how something new is asked for.
//!
//! A lookup never waits for work. Each image has at most one job at a time; a second request for the same joins it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dataplane_oci::{Credentials, Platform, Reference, Registries, Repository, Resolved};
use dataplane_store::Store;
use dataplane_types::{Digest, ImageId, Labels};

use crate::gate::Gate;
use crate::job::{FromRegistry, Job, Source};
use crate::record::Record;
use crate::{Failure, ImageOptions, ImageView, ImagesError};

/// How often a create looks again when another one was quicker.
const MAX_RACES: usize = 8;

/// An image to be had from a registry.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// A reference in any of the usual forms.
    pub name: String,
    /// The id to give it; by default made from the name.
    pub id: Option<ImageId>,
    /// What it is to run on; by default linux/amd64.
    pub platform: Option<Platform>,
    /// Used for this request and forgotten.
    pub credentials: Option<Credentials>,
    /// Its creator's labels.
    pub labels: Labels,
}

/// An image that comes in an archive.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// What to call it; by default what the archive says.
    pub name: Option<String>,
    /// The id to give it; by default made from the name.
    pub id: Option<ImageId>,
    /// What it is to run on; by default linux/amd64.
    pub platform: Option<Platform>,
    /// Its creator's labels.
    pub labels: Labels,
}

/// The answer to a create or an import: the image is known, its work runs.
#[derive(Debug, Clone)]
pub struct Created {
    /// The image as it is now.
    pub image: ImageView,
    /// Whether it was there already, ready and unmoved. There is then nothing to wait for.
    pub existed: bool,
}

/// All images. Cheap to clone.
#[derive(Clone)]
pub struct Images(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) options: ImageOptions,
    pub(crate) registries: Registries,
    pub(crate) gate: Gate,
    state: Mutex<State>,
}

/// Everything known, at one instant. Held for moments only, never over I/O.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) slots: BTreeMap<ImageId, Slot>,
    /// How often the disk of a digest is lent out.
    pub(crate) leases: HashMap<Digest, usize>,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) record: Record,
    pub(crate) job: Option<Job>,
    pub(crate) is_leaving: bool,
}

impl Slot {
    pub(crate) fn view(&self) -> ImageView {
        ImageView::of(&self.record, self.job.as_ref().map(Job::progress))
    }
}

/// What there is for a request.
enum Found {
    Running(Box<ImageView>),
    Ready(Box<Record>),
    Idle(ImageId),
    Nothing,
}

/// What a request asks for, the source left open.
pub(crate) struct Wanted {
    pub(crate) id: Option<ImageId>,
    pub(crate) name: String,
    pub(crate) reference: Reference,
    pub(crate) platform: Platform,
    pub(crate) labels: Labels,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").field("count", &self.state().slots.len()).finish_non_exhaustive()
    }
}

impl Images {
    pub(crate) fn assemble(store: Store, options: ImageOptions, records: Vec<Record>) -> Self {
        let registries = Registries::new(options.registry.clone(), options.plain_http.clone());
        let slot = |record: Record| (record.id.clone(), Slot { record, job: None, is_leaving: false });
        let state = State { slots: records.into_iter().map(slot).collect(), leases: HashMap::new() };
        Self(Arc::new(Inner { store, options, registries, gate: Gate::default(), state: Mutex::new(state) }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if it did, the maps would still be whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All images, by id.
    #[must_use]
    pub fn list(&self) -> Vec<ImageView> {
        self.state().slots.values().map(Slot::view).collect()
    }

    /// One image.
    #[must_use]
    pub fn get(&self, id: &ImageId) -> Option<ImageView> {
        self.state().slots.get(id).map(Slot::view)
    }

    /// Asks for an image of a registry. The answer comes as soon as the image is known; [`Images::wait`] waits for
    /// the rest. A caller that goes away cancels nothing.
    ///
    /// # Errors
    /// [`ImagesError::Reference`], [`ImagesError::Conflict`], [`ImagesError::Store`]; [`ImagesError::Failed`] when the
    /// registry must be asked first and does not answer well.
    pub async fn create(&self, request: PullRequest) -> Result<Created, ImagesError> {
        let images = self.clone();
        own_task(async move { images.create_now(request).await }).await
    }

    async fn create_now(self, request: PullRequest) -> Result<Created, ImagesError> {
        let PullRequest { name, id, platform, credentials, labels } = request;
        let reference: Reference = name.parse()?;
        let repository = || self.0.registries.open(&reference, credentials.clone()).map_err(Failure::from);
        let wanted = Wanted { id, name, reference: reference.clone(), platform: platform.unwrap_or_default(), labels };
        let registry = |repository, resolved| {
            let platform = wanted.platform.clone();
            Source::Registry(Box::new(FromRegistry { repository, platform, resolved }))
        };
        for _ in 0..MAX_RACES {
            let (id, source) = match self.find(&wanted)? {
                Found::Running(image) => return Ok(Created { image: *image, existed: false }),
                Found::Idle(id) => (id, registry(repository()?, None)),
                Found::Ready(record) => {
                    let repository = repository()?;
                    if self.is_current(&record, &repository).await? {
                        let image = self.clear_failure(*record).await?;
                        return Ok(Created { image, existed: true });
                    }
                    (record.id, registry(repository, None))
                }
                Found::Nothing => {
                    let repository = repository()?;
                    let (id, resolved) = self.new_id(&wanted, &repository).await?;
                    self.reserve_new(&id, &wanted);
                    (id, registry(repository, resolved))
                }
            };
            if let Some(image) = self.start(&id, &wanted, source).await? {
                return Ok(Created { image, existed: false });
            }
        }
        Err(ImagesError::TaskLost)
    }

    /// What there is for a request, by its id or else by name and platform.
    fn find(&self, wanted: &Wanted) -> Result<Found, ImagesError> {
        let reference = wanted.reference.to_string();
        let state = self.state();
        let slot = match &wanted.id {
            Some(id) => state.slots.get(id),
            None => state.slots.values().find(|slot| slot.record.is_for(&reference, &wanted.platform)),
        };
        let Some(slot) = slot else { return Ok(Found::Nothing) };
        let record = &slot.record;
        let conflict = |reason: String| Err(ImagesError::Conflict { id: record.id.clone(), reason });
        if !record.is_for(&reference, &wanted.platform) {
            return conflict(format!("it is {} for {}", record.reference, record.platform));
        }
        if slot.is_leaving {
            return conflict("it is being deleted".to_owned());
        }
        Ok(match (&slot.job, &record.content) {
            (Some(_), _) => Found::Running(Box::new(slot.view())),
            (None, Some(_)) => Found::Ready(Box::new(record.clone())),
            (None, None) => Found::Idle(record.id.clone()),
        })
    }

    /// Whether the registry still means the same by the name.
    async fn is_current(&self, record: &Record, repository: &Repository) -> Result<bool, Failure> {
        let Some(content) = &record.content else { return Ok(false) };
        let top = repository.top_digest(&self.0.options.limits).await?;
        Ok(top == content.top || top == content.digest)
    }

    /// A ready image whose last refresh failed, and that turned out to be current, has no failure any more.
    async fn clear_failure(&self, record: Record) -> Result<ImageView, ImagesError> {
        let view = ImageView::of(&record, None);
        if record.failure.is_none() {
            return Ok(view);
        }
        let cleared = self.persist(record.with_failure(None)).await?;
        let mut state = self.state();
        match state.slots.get_mut(&cleared.id).filter(|slot| slot.job.is_none() && slot.record.uuid == cleared.uuid) {
            Some(slot) => {
                slot.record = cleared;
                Ok(slot.view())
            }
            None => Ok(view),
        }
    }

    /// The id of a new image: the one asked for, else made from the name, else with 8 digits of the digest.
    async fn new_id(
        &self,
        wanted: &Wanted,
        repository: &Repository,
    ) -> Result<(ImageId, Option<Resolved>), ImagesError> {
        let id = wanted.id.clone().unwrap_or_else(|| default_id(&wanted.reference, None));
        if !self.state().slots.contains_key(&id) {
            return Ok((id, None));
        }
        let resolved = repository.resolve(&wanted.platform, &self.0.options.limits).await.map_err(Failure::from)?;
        Ok((default_id(&wanted.reference, Some(&resolved.digest)), Some(resolved)))
    }

    /// Enters a new image without work, unless its id is taken meanwhile.
    pub(crate) fn reserve_new(&self, id: &ImageId, wanted: &Wanted) {
        self.state().slots.entry(id.clone()).or_insert_with(|| {
            let (name, labels) = (wanted.name.clone(), wanted.labels.clone());
            let now = self.0.options.clock.now();
            let of = (wanted.platform.clone(), labels);
            let record = Record::new((id.clone(), name), &wanted.reference, of, now);
            Slot { record, job: None, is_leaving: false }
        });
    }

    /// Starts the work on an image that is known and idle; `None` when another request was quicker, to look again.
    pub(crate) async fn start(
        &self,
        id: &ImageId,
        wanted: &Wanted,
        source: Source,
    ) -> Result<Option<ImageView>, ImagesError> {
        let (job, runner) = Job::new(&source);
        let (record, view) = {
            let mut state = self.state();
            let Some(slot) = state.slots.get_mut(id) else { return Ok(None) };
            if !slot.record.is_for(&wanted.reference.to_string(), &wanted.platform) {
                let reason = format!("it is {} for {}", slot.record.reference, slot.record.platform);
                return Err(ImagesError::Conflict { id: id.clone(), reason });
            }
            if slot.job.is_some() || slot.is_leaving {
                return Ok(None);
            }
            if slot.record.failure.is_some() {
                slot.record = slot.record.clone().with_failure(None);
            }
            slot.job = Some(job);
            (slot.record.clone(), slot.view())
        };
        // The record is on disk before any work: a daemon that dies now still knows what was asked for.
        if let Err(error) = self.persist(record).await {
            let mut state = self.state();
            if let Some(slot) = state.slots.get_mut(id) {
                slot.job = None;
                if slot.record.content.is_none() {
                    state.slots.remove(id);
                }
            }
            return Err(error);
        }
        tracing::info!(image.id = %id, image.reference = %wanted.reference, "image work begins");
        tokio::spawn(self.clone().run(id.clone(), source, runner));
        Ok(Some(view))
    }

    /// Waits until no work runs on an image.
    ///
    /// # Errors
    /// [`ImagesError::Failed`] when the last work failed, [`ImagesError::NotFound`] when the image is gone.
    pub async fn wait(&self, id: &ImageId) -> Result<ImageView, ImagesError> {
        loop {
            let job = match self.state().slots.get(id) {
                None => return Err(ImagesError::NotFound(id.to_string())),
                Some(slot) => match (&slot.job, &slot.record.failure) {
                    (Some(job), _) => job.clone(),
                    (None, Some(failure)) => return Err(Failure::from(failure.clone()).into()),
                    (None, None) => return Ok(slot.view()),
                },
            };
            job.ended().await;
        }
    }

    /// Writes a record; afterwards it is on disk.
    pub(crate) async fn persist(&self, record: Record) -> Result<Record, ImagesError> {
        let store = self.0.store.clone();
        let written = tokio::task::spawn_blocking(move || {
            store.replace(&store.layout().image_record(&record.id), &record).map(|()| record)
        });
        Ok(written.await.map_err(|_| ImagesError::TaskLost)??)
    }
}

/// Runs a future to its end, whatever becomes of the caller.
pub(crate) async fn own_task<T: Send + 'static>(
    work: impl Future<Output = Result<T, ImagesError>> + Send + 'static,
) -> Result<T, ImagesError> {
    tokio::spawn(work).await.map_err(|_| ImagesError::TaskLost)?
}

/// `img-nginx`, or `img-nginx-0a1b2c3d` where that is taken.
pub(crate) fn default_id(reference: &Reference, digest: Option<&Digest>) -> ImageId {
    const LONGEST: usize = 100;
    let part = reference.last_part();
    let part = part[..part.len().min(LONGEST)].trim_end_matches(['.', '_', '-']);
    let suffix = digest.map(|digest| format!("-{}", &digest.hex()[..8])).unwrap_or_default();
    let id = format!("img-{part}{suffix}");
    id.parse().expect("a repository's name holds only what an image id may hold, and was cut")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_ids_come_from_the_name() {
        let digest = Digest::from_bytes([0xab; 32]);
        let long = "x".repeat(120);
        for (name, plain) in [
            ("nginx", "img-nginx"),
            ("ghcr.io/a/b-c_d.e:1", "img-b-c_d.e"),
            (&long, &format!("img-{}", "x".repeat(100))),
            (&format!("{}-{}", "x".repeat(99), "y"), &format!("img-{}", "x".repeat(99))),
        ] {
            let reference: Reference = name.parse().unwrap();
            assert_eq!(default_id(&reference, None).as_str(), plain);
            assert_eq!(default_id(&reference, Some(&digest)).as_str(), format!("{plain}-abababab"));
        }
    }
}
