//! From a record to a running VM: TAP, VMM process, VM, boot.

use std::sync::Arc;

use dataplane_agent::{CONFIG_DISK_SERIAL, IMAGE_DISK_SERIAL, WRITABLE_DISK_SERIAL};
use dataplane_store::InstancePaths;
use dataplane_vmm::{DiskSpec, Launch, NetSpec, Purpose, Sizes, VmHandle, VmSpec, VmState, Vmm, VmmError};

use crate::actor::{Actor, LiveVmm, StepError};
use crate::plan::SeenLink;
use crate::record::VmmRecord;
use crate::{Deps, Record, orphans};

/// The guest kernel's command line. `panic=0`: a panicked guest stands still and is reported, it does not loop.
/// `kvm-clock` is the one clock source that a VMM can correct; a kernel without it ignores the word.
const CMDLINE: &str = "console=ttyS0 quiet panic=0 reboot=t clocksource=kvm-clock memhp_default_state=online_movable";

/// Everything that a VMM of this record is started with.
pub(crate) fn launch(deps: &Deps, record: &Record, paths: &InstancePaths, generation: u64) -> Launch {
    let layout = deps.store.layout();
    let disk = |serial: &str, path, readonly| DiskSpec { serial: serial.to_owned(), path, readonly };
    let sizes = Sizes { vcpus: record.spec.vcpus, memory: record.spec.memory };
    Launch {
        purpose: Purpose::Boot,
        spec: VmSpec {
            uuid: record.uuid,
            boot: sizes,
            now: sizes,
            max: Sizes { vcpus: record.spec.max_vcpus, memory: record.spec.memory_max },
            memory_file: None,
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
        run_dir: layout.run(&record.uuid),
        serial_log: paths.serial_log(),
        vmm_log: paths.vmm_log(),
        events: paths.events(generation),
        confinement: dataplane_vmm::Confinement::default(),
    }
}

impl Deps {
    /// The driver of a record's VMM.
    pub(crate) fn driver(&self, record: &Record) -> Result<&Arc<dyn Vmm>, StepError> {
        let hypervisor = record.spec.hypervisor;
        self.vmms.iter().find(|vmm| vmm.hypervisor() == hypervisor).ok_or(StepError::NoDriver(hypervisor))
    }
}

impl Actor {
    pub(crate) async fn ensure_link(&mut self) -> Result<(), StepError> {
        if let Some(link) = &self.record.spec.link {
            self.deps.links.ensure(&self.record.id, link).await?;
        }
        self.link = SeenLink::Up;
        Ok(())
    }

    /// Intent, then the process, then its identity: a crash in between leaves a process that [`orphans`] finds.
    pub(crate) async fn spawn(&mut self) -> Result<(), StepError> {
        let driver = Arc::clone(self.deps.driver(&self.record)?);
        let generation = self.record.vmm_generation + 1;
        self.update(|record| {
            record.vmm_generation = generation;
            record.vmm = Some(VmmRecord { generation, process: None });
        })?;
        let launch = launch(&self.deps, &self.record, &self.paths, generation);
        self.deps.store.create_dir(&launch.run_dir, 0o700)?;
        let handle = driver.spawn(&launch).await?;
        let process = handle.process().clone();
        self.vmm = Some(LiveVmm::new(&self.record.id, handle));
        self.ready = false;
        self.update(|record| record.vmm = Some(VmmRecord { generation, process: Some(process) }))
    }

    pub(crate) async fn create_vm(&mut self) -> Result<(), StepError> {
        let Some(handle) = self.vmm.as_ref().map(|live| Arc::clone(&live.handle)) else { return Ok(()) };
        self.unless_deleted(&handle, handle.create()).await
    }

    pub(crate) async fn boot(&mut self) -> Result<(), StepError> {
        let Some(handle) = self.vmm.as_ref().map(|live| Arc::clone(&live.handle)) else { return Ok(()) };
        self.booted = true;
        self.unless_deleted(&handle, handle.boot()).await
    }

    /// Waits for a call, which may take a minute, but not beyond a delete: a guest that has not booted has nothing to
    /// lose, and a VMM that hangs would keep every gentler call waiting.
    async fn unless_deleted(
        &mut self,
        handle: &Arc<dyn VmHandle>,
        call: impl Future<Output = Result<(), VmmError>>,
    ) -> Result<(), StepError> {
        let mut call = std::pin::pin!(call);
        while !self.deleting() {
            // Cancel-safe: the call is pinned outside and polled again, the other branch is a channel receive.
            tokio::select! {
                biased;
                done = &mut call => return Ok(done?),
                Some(mail) = self.deletes.recv() => self.admit_delete(mail),
            }
        }
        handle.kill().await?;
        self.vmm = None;
        Ok(())
    }

    /// The VM runs: the operation is over.
    pub(crate) async fn finish(&mut self) -> Result<(), StepError> {
        let now = self.deps.clock.now();
        // A short program may have ended before anybody looked.
        let has_ended = self.vmm.as_ref().is_some_and(|live| live.state == VmState::Shutdown);
        tracing::info!(instance.id = %self.record.id, "the VM runs");
        self.update(|record| {
            record.op = None;
            record.restart_from = None;
            record.started_at = Some(now);
            record.stopped_at = has_ended.then_some(now);
            record.exit_code = None;
            record.last_error = None;
        })
    }

    /// At start: takes up the record's VMM when it lives, and ends processes that the record cannot name.
    pub(crate) async fn adopt(&mut self) -> Result<(), StepError> {
        let Some(vmm) = self.record.vmm.clone() else { return Ok(()) };
        let driver = Arc::clone(self.deps.driver(&self.record)?);
        let launch = launch(&self.deps, &self.record, &self.paths, vmm.generation);
        if let Some(process) = &vmm.process
            && let Some(handle) = driver.adopt(&launch, process).await?
        {
            let mut live = LiveVmm::new(&self.record.id, handle);
            live.state = VmState::Running;
            self.vmm = Some(live);
            self.link = SeenLink::Up;
            tracing::info!(instance.id = %self.record.id, vmm.pid = process.pid, "adopted a living VMM");
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
