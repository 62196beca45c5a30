//! Opening a TAP for a QEMU that may not open one itself. The device exists: whoever made it owns its life.
#![expect(unsafe_code, reason = "TUNSETIFF is an ioctl")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use dataplane_types::TapName;
use nix::libc;

use crate::VmmError;

const DEVICE: &str = "/dev/net/tun";

/// A descriptor of a TAP by name: frames with virtio headers, no packet information.
///
/// # Errors
/// [`VmmError::Host`] when the device cannot be opened or another process holds the TAP.
pub(super) fn open(name: &TapName) -> Result<OwnedFd, VmmError> {
    let device = File::options().read(true).write(true).open(DEVICE);
    let device = device.map_err(|source| VmmError::Host { act: "open", path: DEVICE.into(), source })?;
    attach(&device, name.as_str()).map_err(|source| VmmError::Host {
        act: "attach to",
        path: PathBuf::from("/sys/class/net").join(name.as_str()),
        source,
    })?;
    Ok(device.into())
}

fn attach(device: &File, name: &str) -> io::Result<()> {
    // TUNSETIFF makes what is not there: a TAP that nobody put on a bridge would be a silent loss.
    nix::net::if_::if_nametoindex(name)?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes one ifreq, which lives until it returns.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
