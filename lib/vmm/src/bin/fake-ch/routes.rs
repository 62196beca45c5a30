//! Which path does what.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde_json::json;

use crate::Happening;
use crate::config::VmConfig;
use crate::control::{Control, Fault, Order};
use crate::http::{Request, Response, Then};
use crate::machine::{Machine, Refusal};
use crate::requests::{ResizeRequest, RestoreRequest, SnapshotRequest};

const PREFIX: &str = "/api/v1/";

/// The routes that are simulated, and whether they are read by GET.
const ROUTES: [(&str, bool); 16] = [
    ("vmm.ping", true),
    ("vmm.shutdown", false),
    ("vm.info", true),
    ("vm.counters", true),
    ("vm.create", false),
    ("vm.delete", false),
    ("vm.boot", false),
    ("vm.pause", false),
    ("vm.resume", false),
    ("vm.shutdown", false),
    ("vm.reboot", false),
    ("vm.power-button", false),
    ("vm.nmi", false),
    ("vm.snapshot", false),
    ("vm.restore", false),
    ("vm.resize", false),
];

/// Those that have a body.
const WITH_BODY: [&str; 4] = ["vm.create", "vm.snapshot", "vm.restore", "vm.resize"];

/// The API over one machine.
#[derive(Debug)]
pub(crate) struct Api {
    machine: Arc<Mutex<Machine>>,
    control: Control,
    happenings: Mutex<Sender<Happening>>,
}

impl Api {
    pub(crate) fn new(machine: Arc<Mutex<Machine>>, control: Control, happenings: Sender<Happening>) -> Self {
        Self { machine, control, happenings: Mutex::new(happenings) }
    }

    /// Ends the process.
    pub(crate) fn quit(&self) {
        let happenings = self.happenings.lock().unwrap_or_else(PoisonError::into_inner);
        // The main loop has ended already: that is what was wanted.
        let _ended = happenings.send(Happening::Quit);
    }

    /// Answers a request, behind those that came before.
    pub(crate) fn handle(&self, request: &Request) -> Response {
        let call = request.path.strip_prefix(PREFIX);
        let Some((call, get)) = ROUTES.into_iter().find(|(name, _)| Some(*name) == call) else {
            return Response::json(404, &["Not Found"]);
        };
        if request.get != get || (!WITH_BODY.contains(&call) && request.body.is_some()) {
            return Response::json(400, &["Bad Request"]);
        }
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        match self.control.obey(call) {
            Order::Behave if WITH_BODY.contains(&call) => {
                let Some(body) = &request.body else { return Response::empty(400) };
                answer_body(&mut machine, call, body, self.control.fault(call))
            }
            Order::Behave => answer(&mut machine, call, self.control.fault(call)),
            Order::Refuse => Response::json(500, &["Error from API", "Refused on demand"]),
            Order::Garbage => Response { status: 200, body: Some(b"what?".to_vec()), then: Then::Serve },
        }
    }
}

fn answer(machine: &mut Machine, call: &str, fault: Option<Fault>) -> Response {
    let headline = match call {
        "vmm.ping" => return Response::json(200, &ping()),
        "vmm.shutdown" => {
            machine.quit();
            return Response { then: Then::Quit, ..Response::empty(200) };
        }
        "vm.info" => {
            let info = machine.info();
            return info.map_or_else(
                |refusal| refused("The VM info is not available", refusal),
                |info| Response::json(200, &info),
            );
        }
        "vm.counters" => {
            let running = machine.check_running();
            return running.map_or_else(
                |refusal| refused("The VM info is not available", refusal),
                |()| Response::json(200, &json!({})),
            );
        }
        "vm.boot" => "The VM could not boot",
        "vm.pause" => "The VM could not be paused",
        "vm.resume" => "The VM could not resume",
        "vm.shutdown" => "The VM could not shutdown",
        "vm.reboot" => "The VM could not reboot",
        "vm.power-button" => "Error triggering power button",
        "vm.nmi" => "Error triggering NMI",
        _ => "The VM could not be deleted",
    };
    let done = match call {
        "vm.boot" => machine.boot(),
        "vm.pause" => machine.pause(fault),
        "vm.resume" => machine.resume(),
        "vm.shutdown" => machine.shutdown(),
        "vm.reboot" => machine.reboot(),
        "vm.power-button" | "vm.nmi" => machine.check_running(),
        _ => {
            machine.delete();
            Ok(())
        }
    };
    done.map_or_else(|refusal| refused(headline, refusal), |()| Response::empty(204))
}

fn ping() -> serde_json::Value {
    json!({
        "build_version": "v53.0.0",
        "version": "53.0.0",
        "pid": std::process::id(),
        "features": ["io_uring", "kvm"],
    })
}

fn answer_body(machine: &mut Machine, call: &str, body: &[u8], fault: Option<Fault>) -> Response {
    let done = match call {
        "vm.create" => VmConfig::parse(body).map(|config| machine.create(config)),
        "vm.snapshot" => parse(body).map(|request: SnapshotRequest| machine.snapshot(&request.destination_url, fault)),
        "vm.restore" => parse(body).map(|request: RestoreRequest| machine.restore(&request, fault)),
        _ => parse(body).map(|request: ResizeRequest| machine.resize(&request)),
    };
    let headline = match call {
        "vm.create" => "The VM could not be created",
        "vm.snapshot" => "The VM could not be snapshotted",
        "vm.restore" => "The VM could not be restored",
        _ => "The VM could not be resized",
    };
    match done {
        Ok(Ok(())) => Response::empty(204),
        // The HTTP layer knows this one, and says nothing else.
        Ok(Err(refusal)) if refusal.status == 429 => Response::json(429, &refusal.chain),
        Ok(Err(refusal)) => refused(headline, refusal),
        Err(message) => Response::json(400, &["Failed to deserialize JSON", &message]),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn refused(headline: &str, refusal: Refusal) -> Response {
    let mut chain = vec!["Error from API".to_owned(), headline.to_owned()];
    chain.extend(refusal.chain);
    Response::json(refusal.status, &chain)
}
