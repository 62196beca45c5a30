//! `fake-ch`: Cloud Hypervisor's command line, API socket, event file and files, with a simulated guest that speaks the
//! agent protocol and does what the first word of its program says. It exists so that the real process and client code
//! runs in tests on any machine; the same conformance suite runs against the real thing and says whether this is true.
//!
//! Invariant: calls are executed strictly one after the other, as the real VMM does. A file `<this binary>.control`
//! makes it misbehave on demand: see `control`.

mod agent;
mod cli;
mod config;
mod control;
mod disks;
mod events;
mod exec;
mod guest;
mod http;
mod machine;
mod memory;
mod processors;
mod program;
mod requests;
mod routes;
mod snapshot;
mod standby;
mod vsock;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::cli::{Command, Options};
use crate::events::Events;
use crate::guest::Outcome;
use crate::machine::Machine;

/// What the main loop is told.
#[derive(Debug)]
enum Happening {
    /// SIGTERM or SIGINT.
    Terminated,
    /// `vmm.shutdown` was answered.
    Quit,
    /// The guest of this generation ended or reset itself.
    Guest(u64, Outcome),
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().map(PathBuf::from).unwrap_or_default();
    match cli::parse(arguments) {
        Ok(Command::Version) => say(&mut std::io::stdout(), "cloud-hypervisor v53.0.0"),
        Ok(Command::Run(options)) => match run(&program, options) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(chain) => {
                let lines = chain.iter().enumerate().map(|(depth, error)| format!("\n  {depth}: {error}"));
                let lines: String = lines.collect();
                let headline = "Error: Cloud Hypervisor exited with the following chain of errors:";
                say(&mut std::io::stderr(), &format!("{headline}{lines}"));
                return ExitCode::from(1);
            }
        },
        Err(message) => {
            let usage = "Usage: cloud-hypervisor [OPTIONS]\n\nFor more information, try '--help'.";
            say(&mut std::io::stderr(), &format!("error: {message}\n\n{usage}"));
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// That nobody reads it is no reason to fail.
fn say(to: &mut dyn Write, line: &str) {
    let _unread = writeln!(to, "{line}");
}

fn run(program: &Path, options: Options) -> Result<(), Vec<String>> {
    let (sender, happenings) = channel();
    watch_signals(sender.clone()).map_err(|error| vec!["Failed to create the signal thread".into(), error])?;
    let events = Events::create(options.event_monitor).map_err(|error| vec![error.to_string()])?;
    let listener = http::Listener::bind(&options.api_socket)?;
    events.record("vmm", "starting", None);
    let machine = Arc::new(Mutex::new(Machine::new(options.no_shutdown, events, sender.clone())));
    let control = control::Control::beside(program);
    thread::spawn({
        let machine = Arc::clone(&machine);
        move || http::serve(&listener, &Arc::new(routes::Api::new(machine, control, sender)))
    });
    serve_happenings(&machine, &happenings);
    http::Listener::unlink(&options.api_socket);
    Ok(())
}

/// Returns when the process is to end.
fn serve_happenings(machine: &Mutex<Machine>, happenings: &Receiver<Happening>) {
    while let Ok(happening) = happenings.recv() {
        // Behind the call that runs, as in the real VMM.
        let mut machine = machine.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = match happening {
            Happening::Terminated => {
                machine.quit();
                true
            }
            Happening::Quit => true,
            Happening::Guest(generation, outcome) => machine.guest_did(generation, outcome),
        };
        if ends {
            return;
        }
    }
}

/// SIGTERM and SIGINT end the VMM in order.
fn watch_signals(sender: Sender<Happening>) -> Result<(), String> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().map_err(|error| error.to_string())?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            if sender.send(Happening::Terminated).is_err() {
                return;
            }
        }
    });
    Ok(())
}
