//! `/init` of every guest: makes the machine ready for the image's program, starts it, and stays as process 1.
//!
//! Invariant: process 1 never ends. Whatever goes wrong is one line on the console and an exit status for the host;
//! then the machine is switched off. Nothing that was asked for is left out in silence: a guest is either as its
//! configuration says, or off.

mod agent;
mod asks;
mod cgroups;
mod child;
mod clock;
mod console;
mod cpus;
mod disks;
mod environment;
mod error;
mod exec;
mod files;
mod identity;
mod modules;
mod net;
mod netlink;
mod power;
mod processes;
mod program;
mod root;
mod stop_signal;
mod streams;
mod supervise;
mod sys;
mod uevent;
mod usage;
mod user;
mod virtio;
mod volumes;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dataplane_agent::{ExitStatus, GuestConfig};
use nix::libc;
use nix::time::{ClockId, clock_gettime};

use crate::agent::Agent;
use crate::error::{During as _, InitError};
use crate::exec::Place;
use crate::modules::{Late, Modules};
use crate::netlink::RouteSocket;
use crate::power::Quiet;
use crate::root::Writable;
use crate::supervise::{Children, Program};
use crate::uevent::Uevents;
use crate::virtio::Devices;

/// What must outlive a failure, so that it can be told and the disks be left clean.
#[derive(Debug, Default)]
struct Guest {
    uevents: Option<Uevents>,
    children: Option<Children>,
    agent: Option<Agent>,
    writable: Option<Writable>,
    quiet: Option<Quiet>,
}

fn main() -> ExitCode {
    let begun = Instant::now();
    let mut words = std::env::args_os();
    if words.next().is_some_and(|name| name == files::NAME) {
        return files::main(words.next());
    }
    // Its end is the machine's end: nothing but a guest's kernel may start it.
    if std::process::id() != 1 || !root::is_initramfs() {
        let _ = writeln!(std::io::stderr(), "dataplane-init: this is the first program of a guest's initramfs");
        return ExitCode::FAILURE;
    }
    // The default hook would print where the panic was, in several lines, on the console of the image's program.
    std::panic::set_hook(Box::new(|panic| console::kernel_log(&panic.to_string().replace('\n', " "))));
    let mut guest = Guest::default();
    if let Err(error) = caught(|| live(&mut guest, begun)) {
        console::complain(&error.chain());
        if let Err(error) = caught(|| report_failure(&mut guest, &error)) {
            console::complain(&error.chain());
        }
    }
    if let Some(children) = &guest.children {
        supervise::end_everything(children);
    }
    let quiet = guest.quiet.take().unwrap_or_else(Quiet::prepare);
    power::off(guest.writable.as_ref(), quiet)
}

fn caught(act: impl FnOnce() -> Result<(), InitError>) -> Result<(), InitError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(InitError::Panic(text.to_owned()))
    })
}

/// From the kernel's hand-over to the program's end, told and recorded.
fn live(guest: &mut Guest, begun: Instant) -> Result<(), InitError> {
    console::make_raw(&std::io::stderr());
    root::mount_for_boot()?;
    guest.quiet = Some(Quiet::prepare());
    guest.children = Some(Children::watch()?);
    guest.uevents = Some(Uevents::open()?);
    let (config, late) = make_ready(guest)?;
    let (Some(children), Some(agent)) = (&guest.children, &mut guest.agent) else {
        return Err(InitError::Panic("the guest is ready and has no agent".to_owned()));
    };

    let stop_signal = stop_signal_of(&config);
    let proc = root::hold_proc()?;
    let pid = program::start(&config)?;
    let hold = || proc.try_clone().during("hold", "/proc");
    let (agents_proc, place) = (hold()?, Place::new(config.clone(), pid, hold()?)?);
    let program = Program { pid, stop_signal, proc, since: Instant::now() };
    let init_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    agent.started(init_ms, agents_proc, place);
    announce(&config, init_ms);
    load_late(late);

    supervise::run(&program, children, agent)?;
    supervise::report_exit(children, agent)
}

/// Disks, channel, network and root, in the order in which they can be had.
fn make_ready(guest: &mut Guest) -> Result<(GuestConfig, Late), InitError> {
    let Some(uevents) = &guest.uevents else { return Err(InitError::Panic("no uevent socket".to_owned())) };
    let modules = Modules::list()?;
    modules.load_disks()?;
    let devices = Devices::list();
    let disks = disks::find(uevents)?;
    let config = disks::read_config(&disks.config)?;
    // Drivers come up on one processor while the file systems do on another.
    let (loaded, mounted) = std::thread::scope(|scope| {
        let drivers = scope.spawn(|| modules.load_devices(&devices));
        let mounted = modules
            .load_filesystem(&config.image_filesystem)
            .and_then(|()| root::assemble(&disks, &config.image_filesystem));
        let loaded = drivers.join().unwrap_or_else(|_| Err(InitError::Panic("a driver's thread".to_owned())));
        (loaded, mounted)
    });
    loaded?;
    guest.agent = Some(Agent::open(uevents, &devices)?);
    guest.writable = Some(mounted?);
    bring_up_network(uevents, &config)?;
    let late = modules.open_late()?;
    root::switch()?;
    root::mount_api()?;
    identity::apply(&config)?;
    Ok((config, late))
}

fn bring_up_network(uevents: &Uevents, config: &GuestConfig) -> Result<(), InitError> {
    let mut routes = RouteSocket::open().during("open", "the route socket")?;
    net::loopback_up(&mut routes)?;
    match &config.network {
        Some(network) => net::configure(&mut routes, uevents, network),
        None => Ok(()),
    }
}

/// As runtimes do: a signal that nobody knows is SIGTERM.
fn stop_signal_of(config: &GuestConfig) -> i32 {
    stop_signal::parse(&config.stop_signal).unwrap_or_else(|| {
        console::kernel_log(&format!("`{}` is no signal; the program will be stopped by SIGTERM", config.stop_signal));
        libc::SIGTERM
    })
}

fn announce(config: &GuestConfig, init_ms: u64) {
    let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default().as_millis();
    let program = config.argv.first().map_or("", String::as_str);
    console::kernel_log(&format!("started {program} in {init_ms} ms, {uptime} ms after the kernel's first"));
}

fn load_late(late: Late) {
    // Without a thread they are not loaded: their devices are conveniences (balloon, power button, random numbers).
    let loader = std::thread::Builder::new().name("modules".to_owned()).spawn(move || late.load());
    if let Err(error) = loader {
        console::kernel_log(&format!("start the thread that loads modules: {error}"));
    }
}

/// Tells the host why the program does not run, opening the channel if that was still to come.
fn report_failure(guest: &mut Guest, error: &InitError) -> Result<(), InitError> {
    let (Some(uevents), Some(children)) = (&guest.uevents, &guest.children) else { return Ok(()) };
    let agent = match &mut guest.agent {
        Some(agent) => agent,
        None => {
            let devices = Devices::list();
            Modules::list()?.load_devices(&devices)?;
            guest.agent.insert(Agent::open(uevents, &devices)?)
        }
    };
    // A program that nobody watches any more does not run on.
    supervise::end_everything(children);
    // A status that is already known is not overwritten by trouble in telling it.
    if agent.facts.exited.is_none() {
        agent.facts.exited = Some((ExitStatus::Code(error.code()), Some(error.chain())));
    }
    supervise::report_exit(children, agent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_like_any_other() {
        let error = caught(|| panic!("at {}", 7)).unwrap_err();
        assert_eq!(error.chain(), "init panicked: at 7");
        assert!(caught(|| Ok(())).is_ok());
    }
}
