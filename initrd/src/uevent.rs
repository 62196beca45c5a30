//! Waiting for devices: the kernel's own announcements, never a sleep.
//!
//! Invariant: the socket is open before the first driver is loaded, so nothing that appears is missed; every wait has
//! a deadline.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};

use crate::error::{During as _, InitError};

/// The multicast group on which the kernel itself speaks.
const KERNEL_GROUP: u32 = 1;

#[derive(Debug)]
pub(crate) struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    pub(crate) fn open() -> Result<Self, InitError> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkKObjectUEvent;
        let socket =
            socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol).during("open", "the uevent socket")?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP)).during("bind", "the uevent socket")?;
        Ok(Self { socket })
    }

    /// Asks `ready` now and after every announcement, until it has an answer or the time is over.
    pub(crate) fn wait<T>(
        &self,
        limit: Duration,
        mut ready: impl FnMut() -> Result<Option<T>, InitError>,
    ) -> Result<Option<T>, InitError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = ready()? {
                return Ok(Some(found));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(_) | Err(Errno::EINTR) => self.drain(),
                Err(error) => return Err(error).during("wait for", "devices"),
            }
        }
    }

    /// What the announcements say does not matter: /sys is looked at again. An overrun is an announcement too.
    fn drain(&self) {
        let mut message = [0; 8192];
        while recv(self.socket.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT).is_ok() {}
    }
}
