//! What QMP events mean.

use serde_json::Value;

use crate::VmEvent;
use crate::event_log::Fold;

/// Folds the events of one generation.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The guest's end was reported; a machine that is being stopped can ask for it more than once.
    ended: bool,
    firmware: Firmware,
}

/// Where a machine that boots again is with the reset that its firmware then asks for (see `boot_again`).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Firmware {
    /// It will ask for none.
    #[default]
    Fresh,
    /// The machine was reset; the firmware's request is still to come.
    Used,
    /// It has asked: the reset that follows is the one that it wanted.
    Asked,
}

impl Fold for Events {
    fn fold(&mut self, document: &Value) -> Option<VmEvent> {
        let reason = document["data"]["reason"].as_str().unwrap_or_default();
        match (document["event"].as_str()?, reason) {
            ("SHUTDOWN", "guest-shutdown") => self.end(VmEvent::Shutdown),
            ("SHUTDOWN", "guest-reset") if self.firmware != Firmware::Fresh => {
                self.firmware = Firmware::Asked;
                None
            }
            // A reset is made a shutdown by the command line: what comes next is the daemon's to decide.
            ("SHUTDOWN", "guest-reset") => self.end(VmEvent::Reset),
            ("GUEST_PANICKED", _) => self.end(VmEvent::Panicked),
            ("RESET", "host-qmp-system-reset") => {
                self.firmware = if self.firmware == Firmware::Asked { Firmware::Fresh } else { Firmware::Used };
                None
            }
            ("VSERPORT_CHANGE", _) if document["data"]["open"] == true => {
                self.firmware = Firmware::Fresh;
                None
            }
            ("RESUME", _) => {
                self.ended = false;
                None
            }
            // Ours (`host-…`), or told already (`guest-panic`).
            _ => None,
        }
    }

    fn begins_anew(&self, document: &Value) -> bool {
        document["event"] == "RESET" && document["data"]["reason"] == "host-qmp-system-reset"
    }
}

impl Events {
    fn end(&mut self, event: VmEvent) -> Option<VmEvent> {
        (!std::mem::replace(&mut self.ended, true)).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(name: &str) -> Value {
        match name.split_once(' ') {
            Some(("port", open)) => json!({"event": "VSERPORT_CHANGE", "data": {"open": open == "open", "id": "p"}}),
            Some((event, reason)) => json!({"event": event, "data": {"guest": true, "reason": reason}}),
            None if name.starts_with('{') => serde_json::from_str(name).unwrap(),
            None => json!({"event": name, "data": {"action": "pause"}}),
        }
    }

    fn fold(documents: &[&str]) -> Vec<VmEvent> {
        let mut events = Events::default();
        documents.iter().filter_map(|name| events.fold(&document(name))).collect()
    }

    #[test]
    fn only_the_guests_own_doings_are_events_and_each_once() {
        for (documents, expected) in [
            (&[r#"{"QMP":{}}"#, r#"{"return":{}}"#, "RESUME", "port open"][..], &[][..]),
            (&["RESUME", "SHUTDOWN guest-shutdown", "STOP"], &[VmEvent::Shutdown]),
            (&["RESUME", "SHUTDOWN guest-reset", "STOP", "SHUTDOWN guest-reset"], &[VmEvent::Reset]),
            (&["RESUME", "GUEST_PANICKED", "STOP", "GUEST_PANICKED", "SHUTDOWN guest-panic"], &[VmEvent::Panicked]),
            (&["RESUME", "SHUTDOWN host-qmp-quit"], &[]),
            (&["RESUME", "SHUTDOWN host-signal"], &[]),
        ] {
            assert_eq!(fold(documents), expected, "{documents:?}");
        }
    }

    #[test]
    fn the_firmwares_reset_on_a_second_boot_is_not_the_guests() {
        let first = ["RESUME", "port open", "port closed", "SHUTDOWN guest-shutdown", "STOP"];
        let again = [
            "RESET host-qmp-system-reset",
            "RESUME",
            "SHUTDOWN guest-reset",
            "STOP",
            "SHUTDOWN guest-reset",
            "RESET host-qmp-system-reset",
            "RESUME",
        ];
        let second = |rest: &[&str]| fold(&[&first[..], &again[..], rest].concat());
        assert_eq!(second(&["port open", "SHUTDOWN guest-shutdown"]), [VmEvent::Shutdown, VmEvent::Shutdown]);
        assert_eq!(second(&["SHUTDOWN guest-reset"]), [VmEvent::Shutdown, VmEvent::Reset]);
        // Firmware that does without.
        let plain = ["RESET host-qmp-system-reset", "RESUME", "port open", "SHUTDOWN guest-reset"];
        assert_eq!(fold(&[&first[..], &plain[..]].concat()), [VmEvent::Shutdown, VmEvent::Reset]);
    }
}
