//! Kernel settings: one file each below `/proc/sys/net`, which shows the namespace of the thread that opens it. Only
//! settings of single interfaces are written, never `all` or `default`.

use std::fs::{self, File};
use std::io::{self, Write as _};

use crate::backend::{BackendError, Setting};
use crate::config::InterfaceName;

/// The file of a switch.
pub(super) fn path_of(setting: &Setting) -> String {
    match setting {
        Setting::HostForwarding => "/proc/sys/net/ipv4/ip_forward".to_owned(),
        Setting::Forwarding(interface) => format!("/proc/sys/net/ipv4/conf/{interface}/forwarding"),
        Setting::RouteLocalnet(interface) => format!("/proc/sys/net/ipv4/conf/{interface}/route_localnet"),
    }
}

pub(super) fn read(path: &str) -> Result<bool, BackendError> {
    let wrong = |source| BackendError::Setting { act: "read", path: path.to_owned(), source };
    Ok(fs::read_to_string(path).map_err(wrong)?.trim() != "0")
}

/// Writes only what differs: an unprivileged or read-only `/proc/sys` that already says the right thing is fine.
pub(super) fn write(path: &str, on: bool) -> Result<(), BackendError> {
    if read(path)? == on {
        return Ok(());
    }
    let wrong = |source| BackendError::Setting { act: "write", path: path.to_owned(), source };
    let mut file = File::options().write(true).open(path).map_err(wrong)?;
    file.write_all(if on { b"1" } else { b"0" }).map_err(wrong)
}

/// Switches IPv6 off on one interface; a kernel without IPv6 has nothing to switch.
pub(super) fn no_ipv6(interface: &InterfaceName) -> Result<(), BackendError> {
    match write(&format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), true) {
        Err(BackendError::Setting { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Guests cannot change the host's routes by ICMP redirects.
pub(super) fn no_redirects(interface: &InterfaceName) -> Result<(), BackendError> {
    write(&format!("/proc/sys/net/ipv4/conf/{interface}/accept_redirects"), false)
}
