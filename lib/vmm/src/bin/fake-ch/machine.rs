//! The VMM's state machine, with the real one's oddities: a configuration and a VM object come and go separately, a
//! shutdown leaves only the configuration, a boot that fails late leaves half a VM, creating validates nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use serde_json::{Value, json};

use crate::Happening;
use crate::config::VmConfig;
use crate::control::Fault;
use crate::disks;
use crate::events::Events;
use crate::guest::{Guest, Outcome, Report};
use crate::processors::Processors;

/// What the machine will not do: an HTTP status and the chain of messages behind the call's own.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) chain: Vec<String>,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: &str) -> Self {
        Self { status, chain: vec![message.to_owned()] }
    }

    pub(crate) fn chain(chain: Vec<String>) -> Self {
        Self { status: 500, chain }
    }
}

fn not_running() -> Refusal {
    Refusal::new(500, "VM is not running")
}

/// The VM object.
#[derive(Debug)]
pub(crate) enum Vm {
    None,
    /// Built, and never started: a failed boot leaves it, and only a delete removes it.
    Half,
    Live(Box<Guest>),
}

/// One VMM.
#[derive(Debug)]
pub(crate) struct Machine {
    no_shutdown: bool,
    pub(crate) events: Events,
    happenings: Sender<Happening>,
    pub(crate) config: Option<VmConfig>,
    pub(crate) vm: Vm,
    pub(crate) processors: Processors,
    /// A pause gave up half way: the guest stands, and the VM is said to run.
    pub(crate) stalled: bool,
    /// Counts guests, so that the last words of one are not taken for the next one's.
    generation: u64,
}

impl Machine {
    pub(crate) fn new(no_shutdown: bool, events: Events, happenings: Sender<Happening>) -> Self {
        Self {
            no_shutdown,
            events,
            happenings,
            config: None,
            vm: Vm::None,
            processors: Processors::default(),
            stalled: false,
            generation: 0,
        }
    }

    pub(crate) fn create(&mut self, config: VmConfig) -> Result<(), Refusal> {
        if self.config.is_some() {
            return Err(Refusal::new(500, "VM is already created"));
        }
        self.config = Some(config);
        Ok(())
    }

    pub(crate) fn info(&self) -> Result<Value, Refusal> {
        let config = self.config.as_ref().ok_or_else(|| Refusal::new(404, "VM is not created"))?;
        let (state, built) = match &self.vm {
            Vm::None => ("Created", false),
            Vm::Half => ("Created", true),
            Vm::Live(guest) if guest.is_paused() && !self.stalled => ("Paused", true),
            Vm::Live(_) => ("Running", true),
        };
        Ok(config.info(state, built))
    }

    pub(crate) fn boot(&mut self) -> Result<(), Refusal> {
        if !matches!(self.vm, Vm::None) {
            return Err(Refusal::new(500, "VM is already created"));
        }
        self.events.vm("booting");
        self.start("VM config is missing")?;
        self.events.vm("booted");
        self.activate();
        Ok(())
    }

    pub(crate) fn activate(&self) {
        let Some(config) = &self.config else { return };
        for id in config.device_ids() {
            self.events.record("virtio-device", "activated", Some(json!({"id": id})));
        }
    }

    /// Disks and an initramfs that are missing stop the boot before there is a VM, all the rest leaves half of one.
    fn start(&mut self, missing: &str) -> Result<(), Refusal> {
        let config = self.config.as_mut().ok_or_else(|| Refusal::new(404, missing))?;
        let payload = config.parsed.payload.as_ref();
        let kernel = payload.and_then(|payload| payload.kernel.as_deref()).ok_or_else(|| {
            Refusal::chain(vec![
                "Failed to validate config".into(),
                "Payload configuration is not bootable".into(),
                "No bootitem provided: neither firmware nor kernel".into(),
            ])
        })?;
        check_memory(config)?;
        let disks = disks::open(config.parsed.disks.as_deref().unwrap_or_default()).map_err(Refusal::chain)?;
        disks.lock().map_err(Refusal::chain)?;
        if let Some(initramfs) = payload.and_then(|payload| payload.initramfs.as_deref()) {
            check_opens("initramfs", initramfs)?;
        }
        self.vm = Vm::Half;
        check_opens("kernel", kernel)?;
        config.resolve();
        let config = config.clone();
        let guest = Guest::boot(&config, disks, self.next_report()).map_err(Refusal::chain)?;
        self.processors = Processors::new(config.parsed.cpus.boot_vcpus);
        self.vm = Vm::Live(Box::new(guest));
        Ok(())
    }

    /// How the next guest tells what it does to its VMM.
    pub(crate) fn next_report(&mut self) -> Report {
        self.stalled = false;
        self.generation += 1;
        let (generation, happenings) = (self.generation, self.happenings.clone());
        Arc::new(move |outcome| {
            // The main loop has ended: so has this process, soon.
            let _ended = happenings.send(Happening::Guest(generation, outcome));
        })
    }

    pub(crate) fn live(&mut self) -> Result<&mut Guest, Refusal> {
        match &mut self.vm {
            Vm::Live(guest) => Ok(guest),
            Vm::None | Vm::Half => Err(not_running()),
        }
    }

    pub(crate) fn check_running(&mut self) -> Result<(), Refusal> {
        self.live().map(drop)
    }

    pub(crate) fn pause(&mut self, fault: Option<Fault>) -> Result<(), Refusal> {
        let paused = self.live()?.is_paused();
        self.events.vm("pausing");
        if paused && !self.stalled {
            return Err(invalid_transition("pause", "Paused"));
        }
        self.live()?.pause();
        self.processors.pause();
        self.stalled = fault == Some(Fault::Stall) && !self.stalled;
        if self.stalled {
            return Err(Refusal::chain(vec![
                "Cannot pause VM".into(),
                "Failed to pause migratable component".into(),
                "Error signalling vCPUs: Timeout when waiting for signal to be acknowledged".into(),
            ]));
        }
        self.events.vm("paused");
        Ok(())
    }

    pub(crate) fn resume(&mut self) -> Result<(), Refusal> {
        let paused = self.live()?.is_paused();
        self.events.vm("resuming");
        if !paused || self.stalled {
            return Err(invalid_transition("resume", "Running"));
        }
        self.live()?.resume();
        self.processors.resume();
        self.events.vm("resumed");
        Ok(())
    }

    pub(crate) fn shutdown(&mut self) -> Result<(), Refusal> {
        self.live()?;
        self.vm = Vm::None;
        self.events.vm("shutdown");
        Ok(())
    }

    pub(crate) fn reboot(&mut self) -> Result<(), Refusal> {
        self.events.vm("rebooting");
        if !matches!(self.vm, Vm::Live(_)) {
            return Err(Refusal::new(404, "VM is not created"));
        }
        // The old guest goes first: its disks are locked and its socket is bound.
        self.vm = Vm::None;
        self.start("VM is not created")?;
        self.events.vm("rebooted");
        self.activate();
        Ok(())
    }

    pub(crate) fn delete(&mut self) {
        if !matches!(std::mem::replace(&mut self.vm, Vm::None), Vm::None) {
            self.events.vm("shutdown");
        }
        if self.config.take().is_some() {
            self.events.vm("deleted");
        }
    }

    /// Everything goes; the guest is not asked.
    pub(crate) fn quit(&mut self) {
        self.delete();
        self.events.record("vmm", "shutdown", None);
    }

    /// Whether the process ends with what the guest did.
    pub(crate) fn guest_did(&mut self, generation: u64, outcome: Outcome) -> bool {
        if generation != self.generation || !matches!(self.vm, Vm::Live(_)) {
            return false;
        }
        match outcome {
            Outcome::Panic => {
                // The real device reports it twice.
                for _ in 0..2 {
                    self.events.record("guest", "panic", Some(json!({"event": "panic"})));
                }
                false
            }
            Outcome::Reset => self.reboot().is_err(),
            Outcome::PowerOff if self.no_shutdown => {
                self.vm = Vm::None;
                self.events.vm("shutdown");
                false
            }
            Outcome::PowerOff => {
                self.quit();
                true
            }
        }
    }
}

/// Memory is either of a size or made of zones, which have to be there.
fn check_memory(config: &VmConfig) -> Result<(), Refusal> {
    let memory = &config.parsed.memory;
    let zones = memory.zones.as_deref().unwrap_or_default();
    if (memory.size == 0) == zones.is_empty() {
        let message = "User defined memory regions can't be provided if the memory size is not 0".into();
        return Err(Refusal::chain(vec!["Memory manager error".into(), message]));
    }
    config.open_memory_file().map(drop).map_err(Refusal::chain)
}

pub(crate) fn check_opens(what: &str, path: &Path) -> Result<(), Refusal> {
    let opened = std::fs::File::open(path).map(drop);
    opened.map_err(|error| Refusal::chain(vec![format!("Cannot open {what} file"), error.to_string()]))
}

fn invalid_transition(verb: &str, state: &str) -> Refusal {
    Refusal::chain(vec![
        format!("Cannot {verb} VM"),
        format!("Failed to {verb} migratable component"),
        format!("Invalid transition: InvalidStateTransition({state}, {state})"),
    ])
}
