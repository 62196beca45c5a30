//! Misbehaviour on demand: the file `<binary>.control`, read at every call, one order a line.
//!
//! `hang CALL` (no answer until the line is gone), `crash CALL` (SIGKILL), `refuse CALL` (500), `garbage CALL` (an answer
//! that is no JSON). CALL is as in the URL: `vm.boot`. A test that wants it starts its own symlink to this binary.

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
            // Cannot return: SIGKILL is not to be caught.
            let _killed = raise(Signal::SIGKILL);
        }
        if self.says("refuse", call) {
            Order::Refuse
        } else if self.says("garbage", call) {
            Order::Garbage
        } else {
            Order::Behave
        }
    }

    fn says(&self, verb: &str, call: &str) -> bool {
        let orders = std::fs::read_to_string(&self.path).unwrap_or_default();
        orders.lines().any(|line| line.split_once(' ') == Some((verb, call)))
    }
}
