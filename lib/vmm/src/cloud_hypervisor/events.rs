//! What Cloud Hypervisor's event records mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::VmEvent;
use crate::event_log::Fold;

/// What the event file and the calls of this daemon say together about the VM, beyond what `vm.info` tells.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The VM has been booted since it was created, in this process or before its snapshot: a VM that is "created" has then been shut down.
    booted: AtomicBool,
    /// The VMM was asked to end: the shutdown that follows is not the guest's.
    quitting: AtomicBool,
}

impl Seen {
    pub(super) fn booted(&self) -> bool {
        self.booted.load(Ordering::Acquire)
    }

    pub(super) fn set_booted(&self, booted: bool) {
        self.booted.store(booted, Ordering::Release);
    }

    pub(super) fn set_quitting(&self) {
        self.quitting.store(true, Ordering::Release);
    }
}

/// Folds the records of one generation.
#[derive(Debug)]
pub(super) struct Events {
    seen: Arc<Seen>,
    /// Between a successful boot or restore and the next shutdown. A failed boot ends in a `shutdown` record too.
    live: bool,
    /// The guest's panic was reported: the device reports it twice.
    panicked: bool,
}

impl Events {
    pub(super) fn new(seen: Arc<Seen>) -> Self {
        Self { seen, live: false, panicked: false }
    }
}

impl Fold for Events {
    fn fold(&mut self, record: &Value) -> Option<VmEvent> {
        match (record["source"].as_str()?, record["event"].as_str()?) {
            ("vm", "booting" | "restoring") => {
                self.live = false;
                self.panicked = false;
                None
            }
            ("vm", "booted" | "restored") => {
                self.live = true;
                self.seen.set_booted(true);
                None
            }
            ("vm", "rebooting") => {
                self.panicked = false;
                self.live.then_some(VmEvent::Reset)
            }
            ("vm", "shutdown") => {
                let guest_ended = std::mem::take(&mut self.live) && !self.seen.quitting.load(Ordering::Acquire);
                guest_ended.then_some(VmEvent::Shutdown)
            }
            ("vm", "deleted") => {
                self.seen.set_booted(false);
                None
            }
            ("guest", "panic") => (!std::mem::replace(&mut self.panicked, true)).then_some(VmEvent::Panicked),
            _ => None,
        }
    }

    fn begins_anew(&self, record: &Value) -> bool {
        record["source"] == "vm" && (record["event"] == "booted" || record["event"] == "restored")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fold(records: &[&str]) -> (Vec<VmEvent>, bool) {
        let seen = Arc::new(Seen::default());
        let mut events = Events::new(Arc::clone(&seen));
        let found = records.iter().filter_map(|record| {
            let (source, event) = record.split_once('/').unwrap();
            events.fold(&json!({"timestamp": {"secs": 0, "nanos": 1}, "source": source, "event": event}))
        });
        (found.collect(), seen.booted())
    }

    #[test]
    fn the_guests_end_is_told_from_the_drivers_own_doings() {
        let booted = ["vmm/starting", "vm/booting", "vm/booted"];
        let after = |rest: &[&str]| fold(&[&booted[..], rest].concat());
        assert_eq!(after(&[]), (vec![], true));
        assert_eq!(after(&["vm/shutdown"]), (vec![VmEvent::Shutdown], true));
        assert_eq!(after(&["vm/shutdown", "vm/deleted"]), (vec![VmEvent::Shutdown], false));
        assert_eq!(after(&["vm/rebooting", "vm/rebooted"]), (vec![VmEvent::Reset], true));
        let reset_later = ["guest/panic", "guest/panic", "vm/rebooting", "vm/rebooted", "guest/panic"];
        assert_eq!(after(&reset_later).0, [VmEvent::Panicked, VmEvent::Reset, VmEvent::Panicked]);
        assert_eq!(after(&["vm/shutdown", "vm/booting", "vm/shutdown", "vm/deleted"]).0, [VmEvent::Shutdown]);
        assert_eq!(fold(&["vm/booting", "vm/shutdown", "vm/deleted"]), (vec![], false));
        let restored = ["vmm/starting", "virtio-device/activated", "vm/restoring", "vm/restored"];
        assert_eq!(fold(&restored), (vec![], true));
        let ended = [&restored[..], &["vm/resuming", "vm/resumed", "vm/shutdown"]].concat();
        assert_eq!(fold(&ended), (vec![VmEvent::Shutdown], true));
        assert_eq!(fold(&["vm/restoring", "vm/deleted"]), (vec![], false));
    }
}
