//! Snapshots, restores and other sizes, with the real VMM's rules for when it takes them.

use crate::config::VmConfig;
use crate::control::{Fault, die};
use crate::disks;
use crate::guest::{Guest, Past};
use crate::machine::{Machine, Refusal, Vm, check_opens};
use crate::processors::{Busy, Processors};
use crate::requests::{ResizeRequest, RestoreRequest};
use crate::snapshot::{self, Loaded};

/// What plugged memory is counted in.
const BLOCK: u64 = 2 << 20;

impl Machine {
    /// Writes a paused VM into an existing directory.
    pub(crate) fn snapshot(&mut self, url: &str, fault: Option<Fault>) -> Result<(), Refusal> {
        let paused = self.live()?.is_paused() && !self.stalled;
        if fault == Some(Fault::Busy) {
            return Err(Refusal::new(500, "VM on-demand memory restore is still in progress"));
        }
        self.events.vm("snapshotting");
        if !paused {
            return Err(Refusal::chain(vec![
                "Cannot snapshot VM".into(),
                "Failed to snapshot migratable component".into(),
                "Trying to snapshot while VM is running".into(),
            ]));
        }
        // Before anything is written: the event says nothing about success.
        self.events.vm("snapshotted");
        let directory = snapshot::directory(url, "Cannot send VM snapshot").map_err(Refusal::chain)?;
        let mut memory = self.live()?.memory();
        let config = self.config.as_ref().ok_or_else(|| Refusal::new(404, "VM config is missing"))?;
        // Restored without processors that it still has, a guest waits for them for ever.
        memory.dead |= self.processors.present() != config.parsed.cpus.boot_vcpus;
        snapshot::write(&directory, config, &memory, fault).map_err(Refusal::chain)
    }

    /// Makes the VM of a snapshot, paused. One that fails leaves no VM.
    pub(crate) fn restore(&mut self, request: &RestoreRequest, fault: Option<Fault>) -> Result<(), Refusal> {
        if self.config.is_some() {
            return Err(Refusal::new(500, "VM is already created"));
        }
        let restored = self.try_restore(request, fault);
        if restored.is_err() {
            self.delete();
        }
        restored
    }

    fn try_restore(&mut self, request: &RestoreRequest, fault: Option<Fault>) -> Result<(), Refusal> {
        let directory = snapshot::directory(&request.source_url, "Cannot restore VM").map_err(Refusal::chain)?;
        let mut config = snapshot::read_config(&directory).map_err(Refusal::chain)?;
        let loaded = Loaded::read(directory).map_err(Refusal::chain)?;
        self.config = Some(config.clone());
        let memory = loaded.memory(&config).map_err(Refusal::chain)?;
        if let Some(initramfs) = config.parsed.payload.as_ref().and_then(|payload| payload.initramfs.as_deref()) {
            check_opens("initramfs", initramfs)?;
        }
        check_devices(&config, &loaded)?;
        let disks = disks::open(config.parsed.disks.as_deref().unwrap_or_default()).map_err(Refusal::chain)?;
        match fault {
            Some(Fault::Fail) => return Err(Refusal::new(500, "Failed on demand")),
            Some(Fault::Die) => die(),
            Some(Fault::Full | Fault::Truncate | Fault::Busy | Fault::Stall) | None => {}
        }
        config.resolve();
        let past = Past { memory, mark: loaded.mark };
        // Dropped again, and its socket with it, when its disks are another's.
        disks.lock().map_err(Refusal::chain)?;
        let report = self.next_report();
        let guest = Guest::restore(&config, disks, past, report).map_err(Refusal::chain)?;
        let vcpus = config.parsed.cpus.boot_vcpus;
        self.config = Some(config);
        self.activate();
        self.events.vm("restoring");
        self.processors = Processors::new(vcpus);
        self.vm = Vm::Live(Box::new(guest));
        self.events.vm("restored");
        if request.resume { self.resume() } else { Ok(()) }
    }

    /// Offers the guest other sizes.
    pub(crate) fn resize(&mut self, request: &ResizeRequest) -> Result<(), Refusal> {
        let config = self.config.as_mut().ok_or_else(|| Refusal::new(404, "VM is not created"))?;
        if !matches!(self.vm, Vm::Live(_)) {
            config.edit(|raw| {
                for (section, field, value) in [
                    ("cpus", "boot_vcpus", request.desired_vcpus.map(u64::from)),
                    ("memory", "size", request.desired_ram),
                ] {
                    if let Some(value) = value {
                        raw[section][field] = value.into();
                    }
                }
            });
            return Ok(());
        }
        self.events.vm("resizing");
        let Vm::Live(guest) = &self.vm else { return Ok(()) };
        if let Some(vcpus) = request.desired_vcpus {
            check_vcpus(config, vcpus)?;
            let asked = self.processors.ask_for(vcpus, guest.is_paused());
            asked.map_err(|Busy| Refusal::new(429, "Too Many Requests"))?;
            config.edit(|raw| raw["cpus"]["boot_vcpus"] = vcpus.into());
        }
        if let Some(bytes) = request.desired_ram {
            let plugged = check_memory(config, bytes)
                .map_err(|cause| Refusal::chain(["Memory manager error".into()].into_iter().chain(cause).collect()))?;
            config.edit(|raw| raw["memory"]["hotplugged_size"] = plugged.into());
        }
        guest.offer(config.offered());
        self.events.vm("resized");
        Ok(())
    }
}

/// Every device has a state, and the TAP's MAC is not to be changed: that takes a capability.
fn check_devices(config: &VmConfig, loaded: &Loaded) -> Result<(), Refusal> {
    if let Some(id) = config.device_ids().iter().find(|id| !loaded.devices.contains(id)) {
        return Err(Refusal::chain(vec![
            "Error from device manager".into(),
            format!("Missing snapshot of device {id}"),
        ]));
    }
    if config.parsed.net.iter().flatten().any(|net| net.host_mac.is_some()) {
        return Err(Refusal::chain(vec![
            "Error from device manager".into(),
            "Cannot create virtio-net device".into(),
            "Setting MAC address failed".into(),
            "Operation not permitted (os error 1)".into(),
        ]));
    }
    Ok(())
}

fn check_vcpus(config: &VmConfig, vcpus: u32) -> Result<(), Refusal> {
    let refused = |message: &str| Refusal::chain(vec!["Error from CPU manager".into(), message.into()]);
    match vcpus {
        0 => Err(refused("Requested zero vCPUs")),
        vcpus if vcpus > config.parsed.cpus.max_vcpus => Err(refused("Requested vCPUs exceed maximum")),
        _ => Ok(()),
    }
}

/// How much memory is then plugged in.
fn check_memory(config: &VmConfig, bytes: u64) -> Result<u64, Vec<String>> {
    let memory = &config.parsed.memory;
    let boot = memory.boot_size();
    if memory.zones.is_some() || memory.hotplug_method.as_deref() != Some("VirtioMem") {
        return Err(vec!["Invalid resize request: memory cannot change".into()]);
    }
    let Some(plugged) = bytes.checked_sub(boot) else {
        return Err(vec![format!("Invalid resize request: desired_size = {bytes} below boot size = {boot}")]);
    };
    let region = memory.hotplug_size.unwrap_or(0);
    let cause = if plugged == memory.hotplugged_size.unwrap_or(0) {
        format!("new size 0x{plugged:x} and requested_size are identical")
    } else if plugged > region {
        format!("new size 0x{plugged:x} is bigger than region_size 0x{region:x}")
    } else if !plugged.is_multiple_of(BLOCK) {
        format!("new size 0x{plugged:x} is not aligned on block_size 0x{BLOCK:x}")
    } else {
        return Ok(plugged);
    };
    let failed = "Failed to virtio-mem resize".into();
    Err(vec![failed, format!("Resize invalid argument: Failed to update virtio configuration: ResizeError({cause})")])
}
