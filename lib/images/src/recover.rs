//! The start: what a daemon that ended at any instant left behind is put in order, by the records.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use dataplane_oci::{Limits, RegistryOptions};
use dataplane_store::{Store, StoreError};
use dataplane_types::WallClock;

use crate::record::{Record, VERSION};
use crate::{Failure, FailureCode, Images, ImagesError};

/// How the manager works.
#[derive(Clone)]
pub struct ImageOptions {
    /// What an image may cost.
    pub limits: Limits,
    /// How registries are talked to; its `silence` also bounds the senders of archives.
    pub registry: RegistryOptions,
    /// Registries (host, or host and port) that are spoken to without TLS, as loopback addresses always are.
    pub plain_http: Vec<String>,
    /// Free bytes of the disk that images never take.
    pub reserved_bytes: u64,
    /// For the times in records.
    pub clock: Arc<dyn WallClock>,
}

impl std::fmt::Debug for ImageOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageOptions")
            .field("registry", &self.registry)
            .field("reserved_bytes", &self.reserved_bytes)
            .finish_non_exhaustive()
    }
}

impl ImageOptions {
    /// The usual limits, TLS everywhere but on loopback, nothing reserved.
    #[must_use]
    pub fn new(clock: Arc<dyn WallClock>) -> Self {
        Self {
            limits: Limits::default(),
            registry: RegistryOptions::default(),
            plain_http: Vec::new(),
            reserved_bytes: 0,
            clock,
        }
    }
}

impl Images {
    /// Loads the records, empties the scratch space, removes disks that no record names, and marks work that was cut
    /// short as failed, to be asked for again.
    ///
    /// # Errors
    /// [`ImagesError::Store`] when the data directory cannot be read or changed.
    pub async fn open(store: Store, options: ImageOptions) -> Result<Self, ImagesError> {
        let now = options.clock.now();
        let recovered = tokio::task::spawn_blocking(move || recover(&store, now).map(|records| (store, records)));
        let (store, records) = recovered.await.map_err(|_| ImagesError::TaskLost)??;
        Ok(Self::assemble(store, options, records))
    }
}

fn recover(store: &Store, now: DateTime<Utc>) -> Result<Vec<Record>, StoreError> {
    let layout = store.layout();
    // The virtual machines' own user opens disks by path: the way there may be walked, not listed.
    for (path, mode) in [
        (layout.images(), 0o711),
        (layout.image_disks(), 0o711),
        (layout.image_records(), 0o700),
        (layout.image_work(), 0o700),
        (layout.trash(), 0o700),
    ] {
        store.create_dir(&path, mode)?;
    }
    let leftovers = store.empty_dir(&layout.image_work())?;
    if leftovers > 0 {
        tracing::info!(leftovers, "scratch space of interrupted image work was removed");
    }
    let (mut records, all_readable) = load(store)?;
    for record in &mut records {
        settle(store, record, now)?;
    }
    if all_readable {
        sweep_disks(store, &records)?;
    } else {
        tracing::warn!("no image disk is removed while a record cannot be read: it may name any of them");
    }
    Ok(records)
}

/// All records that can be read, and whether that is all there are.
fn load(store: &Store) -> Result<(Vec<Record>, bool), StoreError> {
    let mut records = Vec::new();
    let mut all_readable = true;
    store.sweep_temporaries(&store.layout().image_records())?;
    for path in store.list(&store.layout().image_records())? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match store.load::<Record>(&path) {
            Ok(Some(record)) if record.version == VERSION && format!("{}.json", record.id) == name => {
                records.push(record)
            }
            Ok(None) => {}
            Ok(Some(record)) => {
                tracing::error!(path = %path.display(), version = record.version, "an image record is of no known version or has another's name");
                all_readable = false;
            }
            Err(error) => {
                tracing::error!(path = %path.display(), error = &error as &dyn std::error::Error, "an image record cannot be read");
                all_readable = false;
            }
        }
    }
    Ok((records, all_readable))
}

/// Brings one record together with what is on disk.
fn settle(store: &Store, record: &mut Record, now: DateTime<Utc>) -> Result<(), StoreError> {
    let before = record.clone();
    let layout = store.layout();
    record.superseded.retain(|digest| layout.image_disk(digest).exists());
    let lost = record.content.take_if(|content| !layout.image_disk(&content.digest).exists());
    if lost.is_some() {
        record.failure = Some(Failure::new(FailureCode::Internal, "its disk is missing").at(now));
    } else if record.content.is_none() && record.failure.is_none() {
        let message = "the daemon ended while the image was fetched";
        record.failure = Some(Failure::new(FailureCode::Unavailable, message).at(now));
    }
    if *record != before {
        record.generation += 1;
        tracing::info!(image.id = %record.id, failure = ?record.failure, "an image record was put in order");
        store.replace(&layout.image_record(&record.id), record)?;
    }
    Ok(())
}

fn sweep_disks(store: &Store, records: &[Record]) -> Result<(), StoreError> {
    let layout = store.layout();
    let named: HashSet<_> = records.iter().flat_map(Record::digests).map(|digest| layout.image_disk(&digest)).collect();
    for path in store.list(&layout.image_disks())? {
        if !named.contains(&path) {
            tracing::info!(path = %path.display(), "an image disk that no record names is removed");
            store.discard(&path)?;
        }
    }
    Ok(())
}
