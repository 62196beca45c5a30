//! From a record to a running VM: TAP, VMM process, VM, boot.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dataplane_agent::{CONFIG_DISK_SERIAL, IMAGE_DISK_SERIAL, WRITABLE_DISK_SERIAL};
use dataplane_store::InstancePaths;
use dataplane_vmm::{DiskSpec, Launch, NetSpec, Purpose, UidError, VmHandle, VmSpec, VmState, Vmm, VmmError};

use tokio::task::block_in_place;

use crate::actor::{Actor, LiveVmm, StepError, chain};
use crate::logs::journal::{Kind, Note};
use crate::ops::raise;
use crate::plan::SeenLink;
use crate::record::{OpKind, VmmRecord};
use crate::{Deps, Record, orphans};

/// The guest kernel's command line. `panic=0`: a panicked guest stands still and is reported, it does not loop.
/// `kvm-clock` is the one clock source that a VMM can correct; a kernel without it ignores the word.
const CMDLINE: &str = "console=ttyS0 quiet panic=0 reboot=t clocksource=kvm-clock memhp_default_state=online_movable";

/// Everything that a VMM of this record is started with.
fn launch(deps: &Deps, record: &Record, paths: &InstancePaths, purpose: Purpose, generation: u64) -> Launch {
    let layout = deps.store.layout();
    let disk = |serial: &str, path, readonly| DiskSpec { serial: serial.to_owned(), path, readonly };
    let booted = record.booted.unwrap_or_else(|| record.spec.to_boot());
    let run_dir = layout.run(&record.uuid);
    Launch {
        purpose,
        confinement: deps.confiner.confine(record.uid, run_name(&run_dir), vec![paths.root().to_owned()]),
        spec: VmSpec {
            uuid: record.uuid,
            boot: booted.boot,
            now: record.spec.sizes(),
            max: booted.max,
            memory_file: record.is_instant().then(|| paths.memory_file()),
            kernel: layout.boot_file(&record.pins.kernel),
            initramfs: layout.boot_file(&record.pins.initramfs),
            cmdline: CMDLINE.to_owned(),
            disks: vec![
                disk(IMAGE_DISK_SERIAL, deps.disks.image_disk(&record.spec.image_digest), true),
                disk(WRITABLE_DISK_SERIAL, paths.writable_disk(), false),
                disk(CONFIG_DISK_SERIAL, paths.config_disk(), true),
            ],
            net: record.spec.link.as_ref().map(|link| NetSpec { tap: link.tap.clone(), mac: link.mac }),
        },
        run_dir,
        serial_log: paths.serial_log(),
        vmm_log: paths.vmm_log(),
        events: paths.events(generation),
    }
}

/// The part of a runtime directory's path that is the instance's alone.
fn run_name(run_dir: &Path) -> &str {
    run_dir.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

impl Deps {
    /// A user for a VMM, in memory: durable once a record names it.
    pub(crate) fn claim_uid(&self) -> Result<u32, UidError> {
        self.uids.lock().unwrap_or_else(PoisonError::into_inner).claim()
    }

    /// Gives back what a record named.
    pub(crate) fn release_uid(&self, uid: Option<u32>) {
        if let Some(uid) = uid {
            self.uids.lock().unwrap_or_else(PoisonError::into_inner).release(uid);
        }
    }

    /// The driver of a record's VMM.
    pub(crate) fn driver(&self, record: &Record) -> Result<&Arc<dyn Vmm>, StepError> {
        let hypervisor = record.spec.hypervisor;
        self.vmms.iter().find(|vmm| vmm.hypervisor() == hypervisor).ok_or(StepError::NoDriver(hypervisor))
    }
}

/// How long a VMM that is taken up may take to say what its VM is doing.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(2);

impl Actor {
    pub(crate) async fn ensure_link(&mut self) -> Result<(), StepError> {
        if let Some(link) = &self.record.spec.link {
            raise(&self.deps, &self.record, link).await?;
            // What led to it before does so no more: now it may be another's.
            self.deps.links.keep_ports(&self.record.id, &self.record.spec.policy.port_mappings);
        }
        self.link = SeenLink::Up;
        Ok(())
    }

    /// An instance of an earlier daemon has no user yet.
    fn claim_uid(&mut self) -> Result<(), StepError> {
        if self.record.uid.is_some() {
            return Ok(());
        }
        let uid = self.deps.claim_uid()?;
        self.update(|record| record.uid = Some(uid)).inspect_err(|_| self.deps.release_uid(Some(uid)))
    }

    /// Intent, then the process, then its identity: a crash in between leaves a process that [`orphans`] finds.
    pub(crate) async fn spawn(&mut self) -> Result<(), StepError> {
        let driver = Arc::clone(self.deps.driver(&self.record)?);
        let purpose = if self.snapshot { Purpose::Restore } else { Purpose::Boot };
        self.claim_uid()?;
        if !std::mem::take(&mut self.intended) {
            let version = driver.version().to_owned();
            self.update(|record| record.intend(purpose, &version))?;
        }
        let generation = self.record.vmm_generation;
        if purpose == Purpose::Boot {
            self.make_memory_file()?;
        }
        if generation > 1 {
            self.forget_events();
        }
        let launch = launch(&self.deps, &self.record, &self.paths, purpose, generation);
        self.deps.store.create_dir(&launch.run_dir, 0o700)?;
        let handle = driver.spawn(&launch).await?;
        let process = handle.process().clone();
        self.vmm = Some(LiveVmm::new(&self.record.id, handle));
        self.ready = false;
        self.update(|record| record.vmm = Some(VmmRecord { generation, process: Some(process) }))
    }

    /// The events of VMMs that are gone have been heard. A file that stays is in nobody's way.
    fn forget_events(&self) {
        let store = &self.deps.store;
        let files = store.list(&self.paths.logs()).unwrap_or_default();
        let of_events = |path: &&PathBuf| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"events."));
        for path in files.iter().filter(of_events) {
            if let Err(error) = store.discard_volatile(path) {
                tracing::warn!(instance.id = %self.record.id, error = %chain(&error), "remove the events of an earlier VMM");
            }
        }
    }

    pub(crate) async fn create_vm(&mut self) -> Result<(), StepError> {
        let Some(handle) = self.vmm.as_ref().map(|live| Arc::clone(&live.handle)) else { return Ok(()) };
        self.unless_deleted(&handle, handle.create()).await
    }

    pub(crate) async fn boot(&mut self) -> Result<(), StepError> {
        let Some(handle) = self.vmm.as_ref().map(|live| Arc::clone(&live.handle)) else { return Ok(()) };
        self.progress.booted = true;
        self.unless_deleted(&handle, handle.boot()).await
    }

    /// Waits for a call, which may take a minute, but not beyond a delete: a guest that has not booted has nothing to
    /// lose, and a VMM that hangs would keep every gentler call waiting.
    pub(crate) async fn unless_deleted(
        &mut self,
        handle: &Arc<dyn VmHandle>,
        call: impl Future<Output = Result<(), VmmError>>,
    ) -> Result<(), StepError> {
        if let Some(done) = self.unless_deleted_or(call).await {
            return Ok(done?);
        }
        handle.kill().await?;
        self.vmm = None;
        Ok(())
    }

    /// Waits for something, but not beyond a delete: `None` then. Whoever asks for something else meanwhile is told at
    /// once that this is in progress.
    pub(crate) async fn unless_deleted_or<T>(&mut self, call: impl Future<Output = T>) -> Option<T> {
        let mut call = std::pin::pin!(call);
        while !self.deleting() {
            // Cancel-safe: the call is pinned outside and polled again, the other branches are channel receives.
            tokio::select! {
                biased;
                done = &mut call => return Some(done),
                Some(mail) = self.deletes.recv() => self.admit_delete(mail),
                Some(mail) = self.orders.recv() => self.admit_order(mail),
            }
        }
        None
    }

    /// A new memory file for a VM that is to be booted: all of it reserved, since a hole on a full disk would kill the
    /// guest later.
    fn make_memory_file(&self) -> Result<(), StepError> {
        if !self.record.is_instant() {
            return Ok(());
        }
        self.remove_memory_file()?;
        let (needed, reserved) = (self.record.spec.memory.bytes(), self.deps.reserved_bytes);
        let free = self.deps.store.free_bytes()?;
        if free.saturating_sub(needed) < reserved {
            return Err(StepError::NoSpace { free, needed, reserved });
        }
        self.deps.store.create_dir(&self.paths.vm(), 0o700)?;
        let path = self.paths.memory_file();
        let made = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
        let reserve = |file| rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, needed);
        let made = made.and_then(|file| Ok(block_in_place(|| reserve(file))?));
        made.map_err(|source| StepError::MemoryFile { act: "reserve", source })
    }

    pub(crate) fn remove_memory_file(&self) -> Result<(), StepError> {
        Ok(self.deps.store.discard_volatile(&self.paths.memory_file())?)
    }

    /// The VM runs: the operation is over.
    pub(crate) async fn finish(&mut self) -> Result<(), StepError> {
        let now = self.deps.clock.now();
        // A short program may have ended before anybody looked.
        let has_ended = self.vmm.as_ref().is_some_and(|live| live.state == VmState::Shutdown);
        let restored = self.record.op.as_ref().is_some_and(|op| op.kind == OpKind::Restore);
        tracing::info!(instance.id = %self.record.id, restored, "the VM runs");
        self.cause = None;
        self.update(|record| {
            record.op = None;
            record.restart_from = None;
            record.stopped_at = has_ended.then_some(now);
            record.last_error = None;
            if !restored {
                record.started_at = Some(now);
                record.exit_code = None;
            }
        })
    }

    /// At start: takes up the record's VMM when it lives, and ends processes that the record cannot name.
    pub(crate) async fn adopt(&mut self) -> Result<(), StepError> {
        self.look_for_snapshots()?;
        if let Some(op) = &self.record.op {
            tracing::info!(instance.id = %self.record.id, operation = %op.kind, since = %op.since, "taking up an operation that was cut short");
            // One with a commit that it has not come to is undone: its client is gone, its guest may be paused.
            if self.can_undo() {
                let message = format!("the daemon ended during the {}: it was undone", op.kind);
                self.undo_because("interrupted", &message);
            }
        }
        let Some(vmm) = self.record.vmm.clone() else { return Ok(()) };
        let driver = Arc::clone(self.deps.driver(&self.record)?);
        let launch = launch(&self.deps, &self.record, &self.paths, Purpose::Boot, vmm.generation);
        if let Some(process) = &vmm.process
            && let Some(handle) = driver.adopt(&launch, process).await?
        {
            let mut live = LiveVmm::new(&self.record.id, handle);
            // One that hangs keeps the daemon from serving no longer than this; the actor asks again.
            let state = tokio::time::timeout(ADOPTION_PATIENCE, live.handle.state()).await;
            let state = state.ok().and_then(Result::ok);
            live.is_fresh = state.is_some();
            live.state = state.unwrap_or(VmState::Running);
            live.clock.doubt();
            self.vmm = Some(live);
            self.link = SeenLink::Up;
            // A crash may have come between the record and the link.
            self.limit_is_due = true;
            tracing::info!(instance.id = %self.record.id, vmm.pid = process.pid, "adopted a living VMM");
            self.journal.tell(&Note::new(Kind::VmmAdopted, "the VMM lives and was taken up").with_pid(process.pid));
            return Ok(());
        }
        if vmm.process.is_some() && self.record.stopped_at.is_none() && self.record.op.is_none() {
            self.trouble("vmm_exited", "the VMM was gone when the daemon started");
        }
        orphans::end_all(&launch.run_dir, &self.deps.vmm_binaries).await.map_err(StepError::Orphans)?;
        Ok(())
    }

    /// Whether the process that the record names is there and is this instance's.
    pub(crate) fn recorded_process_lives(&self) -> bool {
        let run_dir = self.deps.store.layout().run(&self.record.uuid);
        let process = self.record.vmm.as_ref().and_then(|vmm| vmm.process.as_ref());
        process.is_some_and(|process| orphans::belongs(process.pid, &run_dir))
    }
}
