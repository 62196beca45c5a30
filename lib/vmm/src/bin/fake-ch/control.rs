//! Misbehaviour on demand: the file `<binary>.control`, read at every call, one order a line.
//!
//! `hang CALL` (no answer until the line is gone), `crash CALL` (SIGKILL), `refuse CALL` (500), `garbage CALL` (an answer
//! that is no JSON). CALL is as in the URL: `vm.boot`. A test that wants it starts its own symlink to this binary.
//!
//! In the middle of `vm.snapshot` and `vm.restore`: `fail CALL` (an error), `die CALL` (SIGKILL). Of `vm.snapshot` only:
//! `full CALL` (the disk is full: what is written is cut short, and the real VMM notices that for the memory alone),
//! `truncate CALL` (the memory is cut short, unnoticed), `busy CALL` (memory is still being filled in). Of `vm.pause`:
//! `stall CALL` (it gives up half way: the guest stands, and is said to run; asked again, it succeeds).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, raise};

const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where orders are read from.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
}

/// What is left for the caller to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Behave,
    Refuse,
    Garbage,
}

/// What goes wrong in the middle of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Fail,
    Die,
    Full,
    Truncate,
    Busy,
    Stall,
}

const FAULTS: [(&str, Fault); 6] = [
    ("fail", Fault::Fail),
    ("die", Fault::Die),
    ("full", Fault::Full),
    ("truncate", Fault::Truncate),
    ("busy", Fault::Busy),
    ("stall", Fault::Stall),
];

/// Ends this process as a crash would.
pub(crate) fn die() {
    // Cannot return: SIGKILL is not to be caught.
    let _killed = raise(Signal::SIGKILL);
}

impl Control {
    pub(crate) fn beside(program: &Path) -> Self {
        let mut path = OsString::from(program);
        path.push(".control");
        Self { path: path.into() }
    }

    /// Obeys the orders for a call.
    pub(crate) fn obey(&self, call: &str) -> Order {
        while self.says("hang", call) {
            std::thread::sleep(LOOK_AGAIN);
        }
        if self.says("crash", call) {
            die();
        }
        if self.says("refuse", call) {
            Order::Refuse
        } else if self.says("garbage", call) {
            Order::Garbage
        } else {
            Order::Behave
        }
    }

    /// What is to go wrong in the middle of a call.
    pub(crate) fn fault(&self, call: &str) -> Option<Fault> {
        FAULTS.into_iter().find(|(verb, _)| self.says(verb, call)).map(|(_, fault)| fault)
    }

    fn says(&self, verb: &str, call: &str) -> bool {
        let orders = std::fs::read_to_string(&self.path).unwrap_or_default();
        orders.lines().any(|line| line.split_once(' ') == Some((verb, call)))
    }
}
