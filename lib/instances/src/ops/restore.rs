//! Back from standby. The snapshot is loaded into a paused VM, then loses its name, durably, and only then may the VM
//! go on: from its first write on, the snapshot is stale.

use tokio::task::block_in_place;

use super::standby::Manifest;
use crate::ActionError;
use crate::actor::{Actor, CLOCK_PATIENCE, StepError, chain};
use crate::plan::Leavings;

impl Actor {
    /// Refuses a snapshot that was taken on something else than what is here, before anything is begun.
    pub(crate) fn check_restore(&self) -> Result<(), ActionError> {
        let id = self.record.id.clone();
        let mismatch = |message: String| {
            let way_out = "start it with discard_snapshot=true to boot it anew from its disk";
            Err(ActionError::Mismatch { id: id.clone(), message: format!("{message}; or {way_out}") })
        };
        let manifest = match self.read_manifest() {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return mismatch("its snapshot has no manifest; put it back".to_owned()),
            Err(error) => return mismatch(format!("its manifest cannot be read ({}); mend it", chain(&error))),
        };
        match self.difference(&manifest) {
            Some(message) => mismatch(message),
            None => Ok(()),
        }
    }

    /// The first thing that is not as the snapshot needs it.
    fn difference(&self, manifest: &Manifest) -> Option<String> {
        let hypervisor = manifest.hypervisor;
        let Ok(driver) = self.deps.driver(&self.record) else {
            return Some(format!("its snapshot needs {hypervisor}, which is not on this host; install it"));
        };
        let (had, has) = (&manifest.hypervisor_version, driver.version());
        if had != has {
            return Some(format!("its snapshot was taken with {hypervisor} {had}, here is {has}; run {had} again"));
        }
        let machine = driver.machine();
        if manifest.machine.as_deref() != machine {
            let [had, has] = [manifest.machine.as_deref(), machine].map(|machine| machine.unwrap_or("none"));
            return Some(format!("its snapshot was taken on machine {had}, here is {has}"));
        }
        let (pins, spec) = (&self.record.pins, &self.record.spec);
        let pinned = (manifest.kernel, manifest.initramfs, manifest.image_digest, manifest.hypervisor);
        if pinned != (pins.kernel, pins.initramfs, spec.image_digest, spec.hypervisor) {
            return Some("its snapshot is another instance's".to_owned());
        }
        let layout = self.deps.store.layout();
        let needed = [
            ("kernel", layout.boot_file(&pins.kernel)),
            ("initramfs", layout.boot_file(&pins.initramfs)),
            ("image disk", self.deps.disks.image_disk(&spec.image_digest)),
            ("writable disk", self.paths.writable_disk()),
        ];
        let memory = self.record.is_instant().then(|| ("memory file", self.paths.memory_file()));
        let missing = needed.into_iter().chain(memory).find(|(_, path)| !path.is_file());
        missing.map(|(what, path)| format!("its {what} is gone: put {} back", path.display()))
    }

    pub(crate) async fn restore_vm(&mut self) -> Result<(), StepError> {
        let Some(handle) = self.vmm.as_ref().map(|live| live.handle.clone()) else { return Ok(()) };
        let snapshot = self.paths.snapshot();
        self.unless_deleted(&handle, handle.restore(&snapshot)).await
    }

    /// The commit: afterwards there is no way back to the snapshot.
    pub(crate) fn spend_snapshot(&mut self) -> Result<(), StepError> {
        let Some(op) = &self.record.op else { return Ok(()) };
        let spent = self.paths.snapshot_spent(&op.id);
        block_in_place(|| self.deps.store.commit_new(&self.paths.snapshot(), &spent, &[]))?;
        self.snapshot = false;
        self.leavings = Leavings::Some;
        self.publish();
        Ok(())
    }

    /// Throws the committed snapshot away, because its client said so.
    pub(crate) fn discard_snapshot(&mut self) -> Result<(), StepError> {
        tracing::info!(instance.id = %self.record.id, "discarding the snapshot, as it was asked for");
        block_in_place(|| self.deps.store.discard(&self.paths.snapshot()))?;
        self.snapshot = false;
        self.remove_memory_file()?;
        self.publish();
        Ok(())
    }

    /// Tells a guest that has stood still what time it is, and gives it randomness that no copy of it has.
    pub(crate) fn set_clock(&self) {
        if let Some(live) = &self.vmm {
            let (id, host) = (self.record.id.clone(), self.deps.clock.clone());
            tokio::spawn(live.clock.clone().put_right(id, host, live.agent.asker(CLOCK_PATIENCE)));
        }
    }
}
