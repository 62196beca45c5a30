//! Into standby. A memory image is true for one state of the disks alone, so it gets its name only when both are
//! durable; from then on the VM is never resumed.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use dataplane_agent::Ask;
use dataplane_types::Digest;
use dataplane_vmm::{Hypervisor, Sizes};
use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;

use crate::actor::{Actor, StepError};
use crate::plan::Leavings;
use crate::record::Booted;
use crate::{ActionError, StandbyClass};

/// The file in a snapshot that says what it can be restored on. Ours; the others are the VMM's.
const MANIFEST: &str = "manifest.json";
const MANIFEST_VERSION: u32 = 1;

/// How long a guest may take to write what it holds. What it has not written then is in its memory, which is kept.
const SYNC_PATIENCE: Duration = Duration::from_secs(30);

/// What a snapshot was taken on: it can be restored on nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Version of this format.
    pub(crate) version: u32,
    /// When it was taken.
    pub(crate) taken_at: DateTime<Utc>,
    /// The VMM.
    pub(crate) hypervisor: Hypervisor,
    /// Its version.
    pub(crate) hypervisor_version: String,
    /// The versioned machine type, where the VMM has such a thing.
    pub(crate) machine: Option<String>,
    /// The guest kernel.
    pub(crate) kernel: Digest,
    /// The initramfs.
    pub(crate) initramfs: Digest,
    /// The image whose disk it reads.
    pub(crate) image_digest: Digest,
    /// How its memory is kept.
    pub(crate) class: StandbyClass,
    /// What the VM was booted with.
    pub(crate) booted: Booted,
    /// What it had.
    pub(crate) sizes: Sizes,
}

impl Actor {
    /// Refuses what would fill the disk, before anything is begun.
    pub(crate) fn check_standby(&self) -> Result<(), ActionError> {
        let reserved = self.deps.reserved_bytes;
        let free = self.deps.store.free_bytes().unwrap_or(u64::MAX);
        if free < reserved {
            let message = format!("{free} bytes are free, {reserved} must stay free: a snapshot needs space");
            return Err(ActionError::NoSpace { id: self.record.id.clone(), message });
        }
        Ok(())
    }

    /// Has guest and host write what they can while the VM still runs, so that little is left for the pause. Never a
    /// condition: what is not written stays in the memory that is kept.
    pub(crate) async fn quiesce(&mut self) -> Result<(), StepError> {
        self.progress.quiesced = true;
        let Some(live) = &self.vmm else { return Ok(()) };
        if live.agent_connected {
            let answer = live.agent.ask(Ask::Sync, SYNC_PATIENCE);
            match self.unless_deleted_or(answer).await {
                Some(Ok(_)) | None => {}
                Some(Err(error)) => {
                    tracing::warn!(instance.id = %self.record.id, error = %error, "the guest did not sync before its standby");
                }
            }
        }
        let (store, files) = (self.deps.store.clone(), self.companions());
        block_in_place(|| files.iter().try_for_each(|file| store.sync(file)))?;
        Ok(())
    }

    /// The files that a snapshot is true together with.
    fn companions(&self) -> Vec<PathBuf> {
        let mut files = vec![self.paths.writable_disk()];
        if self.record.is_instant() {
            // The directory too: the file was made after the last commit, and its name must not be lost either.
            files.extend([self.paths.memory_file(), self.paths.vm()]);
        }
        files
    }

    pub(crate) async fn take_snapshot(&mut self) -> Result<(), StepError> {
        let (Some(handle), Some(op)) = (self.vmm.as_ref().map(|live| live.handle.clone()), &self.record.op) else {
            return Ok(());
        };
        let draft = self.paths.snapshot_draft(&op.id);
        self.leavings = Leavings::Some;
        block_in_place(|| self.deps.store.create_dir(&draft, 0o700))?;
        self.unless_deleted(&handle, handle.snapshot(&draft)).await?;
        if self.vmm.is_none() {
            return Ok(());
        }
        let manifest = self.manifest()?;
        block_in_place(|| self.deps.store.draft(&draft.join(MANIFEST), &manifest))?;
        self.leavings = Leavings::Draft;
        Ok(())
    }

    fn manifest(&self) -> Result<Manifest, StepError> {
        let driver = self.deps.driver(&self.record)?;
        let spec = &self.record.spec;
        Ok(Manifest {
            version: MANIFEST_VERSION,
            taken_at: self.deps.clock.now(),
            hypervisor: spec.hypervisor,
            hypervisor_version: spec.hypervisor_version.clone(),
            machine: driver.machine().map(str::to_owned),
            kernel: self.record.pins.kernel,
            initramfs: self.record.pins.initramfs,
            image_digest: spec.image_digest,
            class: self.record.request.standby,
            booted: self.record.booted.unwrap_or_else(|| spec.to_boot()),
            sizes: spec.sizes(),
        })
    }

    /// The commit: snapshot, disks and memory file are durable, then the one rename.
    pub(crate) async fn commit_snapshot(&mut self) -> Result<(), StepError> {
        let Some(op) = &self.record.op else { return Ok(()) };
        let (draft, snapshot) = (self.paths.snapshot_draft(&op.id), self.paths.snapshot());
        let store = self.deps.store.clone();
        let companions = self.companions();
        block_in_place(|| {
            let mut contents = store.list(&draft)?;
            contents.extend(companions);
            store.commit_new(&draft, &snapshot, &contents)
        })?;
        self.snapshot = true;
        self.leavings = Leavings::None;
        tracing::info!(instance.id = %self.record.id, "the snapshot is committed");
        self.publish();
        Ok(())
    }

    /// Removes what snapshots have left, and are not the committed one.
    pub(crate) fn sweep(&mut self) -> Result<(), StepError> {
        let leavings = self.find_leavings()?;
        block_in_place(|| leavings.iter().try_for_each(|path| self.deps.store.discard(path)))?;
        self.leavings = Leavings::None;
        Ok(())
    }

    fn find_leavings(&self) -> Result<Vec<PathBuf>, StepError> {
        let mut paths = block_in_place(|| self.deps.store.list(self.paths.root()))?;
        paths.retain(|path| self.paths.is_snapshot_leaving(path));
        Ok(paths)
    }

    /// At start: which snapshot directories there are.
    pub(crate) fn look_for_snapshots(&mut self) -> Result<(), StepError> {
        self.snapshot = self.paths.snapshot().is_dir();
        self.leavings = if self.find_leavings()?.is_empty() { Leavings::None } else { Leavings::Some };
        Ok(())
    }

    /// What the committed snapshot was taken on.
    pub(crate) fn read_manifest(&self) -> Result<Option<Manifest>, StepError> {
        Ok(block_in_place(|| self.deps.store.load(&self.paths.snapshot().join(MANIFEST)))?)
    }
}
