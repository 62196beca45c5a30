//! The part of Cloud Hypervisor's command line that drivers use.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Version,
    Run(Options),
}

/// How to run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) api_socket: PathBuf,
    pub(crate) event_monitor: Option<EventMonitor>,
    pub(crate) no_shutdown: bool,
}

/// Where events go.
#[derive(Debug)]
pub(crate) enum EventMonitor {
    Path(PathBuf),
    Descriptor(RawFd),
}

/// Reads the arguments behind the program's name.
///
/// # Errors
/// What the real binary says, more or less.
pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let (mut api_socket, mut event_monitor, mut no_shutdown) = (None, None, false);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("a value is required for '{}'", argument.display()));
        match argument.to_str() {
            Some("--version" | "-V") => return Ok(Command::Version),
            Some("--api-socket") => api_socket = Some(path(value()?)),
            Some("--event-monitor") => event_monitor = Some(event_monitor_of(value()?)?),
            Some("--no-shutdown") => no_shutdown = true,
            Some("--seccomp" | "--log-file") => drop(value()?),
            Some("-v" | "-vv") => {}
            _ => return Err(format!("unexpected argument '{}' found", argument.display())),
        }
    }
    let api_socket = api_socket.ok_or("the following required arguments were not provided: --api-socket")?;
    Ok(Command::Run(Options { api_socket, event_monitor, no_shutdown }))
}

/// `fd=N`, `path=X`, or `X`.
fn event_monitor_of(value: OsString) -> Result<EventMonitor, String> {
    match value.as_bytes().strip_prefix(b"fd=") {
        Some(number) => {
            let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
            number.map(EventMonitor::Descriptor).ok_or_else(|| "Error parsing --event-monitor".into())
        }
        None => Ok(EventMonitor::Path(path(value))),
    }
}

/// `path=X`, or `X`.
fn path(value: OsString) -> PathBuf {
    match value.as_bytes().strip_prefix(b"path=") {
        Some(path) => OsString::from_vec(path.to_vec()).into(),
        None => value.into(),
    }
}
