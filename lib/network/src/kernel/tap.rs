//! TAP devices: made by ioctl, configured by netlink.
//!
//! A new TAP lives only as long as our descriptor until the very last step makes it persistent. Mark, owner, bridge and
//! isolation are all in place by then: whatever fails or dies before leaves nothing behind.
#![expect(unsafe_code, reason = "TUNSETIFF and its kin are ioctls; netlink cannot make TAP devices")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::libc;
use rtnetlink::{Handle, LinkBridgePort, LinkUnspec};

use super::inventory::{self, Found, TunInfo, refused};
use super::sysctl;
use crate::backend::{BackendError, TapSpec};
use crate::config::InterfaceName;

nix::ioctl_write_int_bad!(tun_set_persist, 0x4004_54cb);
nix::ioctl_write_int_bad!(tun_set_owner, 0x4004_54cc);
nix::ioctl_write_ptr_bad!(tun_set_iff, 0x4004_54ca, libc::ifreq);

/// One queue, no packet information header, a virtio header before each frame; never adopt what exists already
/// (linux/if_tun.h: `IFF_TUN_EXCL` is 0x8000).
const FLAGS: i32 = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | 0x8000;

/// How often a new TAP is looked at until it is free: together some five seconds, usually once.
const ATTEMPTS: u64 = 120;

/// Makes or mends one, whatever is there.
pub(super) async fn ensure(netlink: &Handle, spec: &TapSpec) -> Result<(), BackendError> {
    let name = spec.name.as_str();
    if let Some(found) = inventory::find(netlink, name).await? {
        if is_as_made(&found, spec) {
            return configure(netlink, spec, found.link.index).await;
        }
        inventory::remove(netlink, found.link.index, name).await?;
    }
    if make(netlink, spec).await? {
        return Ok(());
    }
    let source = io::Error::from_raw_os_error(libc::EBUSY);
    Err(BackendError::Tap { act: "create", tap: name.to_owned(), source })
}

/// Makes a new one; `false`, and nothing is touched, when the name is taken.
pub(super) async fn make(netlink: &Handle, spec: &TapSpec) -> Result<bool, BackendError> {
    let name = spec.name.as_str();
    let refuse = |act| {
        let tap = name.to_owned();
        move |source| BackendError::Tap { act, tap, source }
    };
    let device = open().map_err(refuse("open /dev/net/tun for"))?;
    match create(&device, name) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(false),
        created => created.map_err(refuse("create"))?,
    }
    set_owner(&device, spec.owner_uid).map_err(refuse("set the owner of"))?;
    configure(netlink, spec, inventory::index_of(name)?).await?;
    persist(&device).map_err(refuse("keep"))?;
    drop(device);
    until_free(netlink, name).await?;
    Ok(true)
}

/// Waits until nobody is attached any more. A child process that another thread has just forked holds a copy of our
/// descriptor until its exec; a VMM that came in between would find the TAP busy. Only the carrier tells, and its
/// notification may come a second late, so it is looked at.
async fn until_free(netlink: &Handle, name: &str) -> Result<(), BackendError> {
    for attempt in 0..ATTEMPTS {
        match inventory::find(netlink, name).await? {
            Some(found) if found.has_carrier => {}
            Some(_) | None => return Ok(()),
        }
        tokio::time::sleep(Duration::from_millis(attempt.min(50))).await;
    }
    let source = io::Error::from_raw_os_error(libc::EBUSY);
    Err(BackendError::Tap { act: "let go of", tap: name.to_owned(), source })
}

/// Whether what only creation decides is as it shall be.
fn is_as_made(found: &Found, spec: &TapSpec) -> bool {
    let wanted = TunInfo { owner: Some(spec.owner_uid), is_tap: true, is_persistent: true, is_multi_queue: false };
    found.tun == Some(wanted)
}

/// Mark first; isolated before up, since the kernel takes a port's own settings before its flags: there is no instant at
/// which the port reaches another guest.
async fn configure(netlink: &Handle, spec: &TapSpec, index: u32) -> Result<(), BackendError> {
    let name = spec.name.as_str();
    let bridge = inventory::index_of(spec.bridge.as_str())?;
    sysctl::no_ipv6(&InterfaceName::from(&spec.name))?;
    let message = LinkUnspec::new_with_index(index)
        .alias(spec.alias.clone())
        .address(spec.mac.bytes().to_vec())
        .controller(bridge)
        .build();
    netlink.link().change(message).execute().await.map_err(refused("put onto the bridge", name))?;
    let port = LinkBridgePort::new(index).isolated(true).up().build();
    netlink.link().set_port(port).execute().await.map_err(refused("isolate and bring up", name))
}

fn open() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/net/tun")
}

fn create(device: &File, name: &str) -> io::Result<()> {
    // SAFETY: `ifreq` is plain data of integers and a union of such; all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // A `TapName` is eleven bytes; zip keeps the last of the sixteen a NUL whatever it is.
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // The flags are a short of which bit 15 (`IFF_TUN_EXCL`) is used.
    let flags = u16::try_from(FLAGS).expect("four flags below 2^16").cast_signed();
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: the descriptor is open for the whole call, and the request is a valid, initialized `ifreq` that the kernel
    // reads and writes within its size.
    unsafe { tun_set_iff(device.as_raw_fd(), &raw const request) }?;
    Ok(())
}

fn set_owner(device: &File, uid: u32) -> io::Result<()> {
    let uid = i32::try_from(uid).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: the descriptor is open for the whole call; the argument is a number, not a pointer.
    unsafe { tun_set_owner(device.as_raw_fd(), uid) }?;
    Ok(())
}

fn persist(device: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call; the argument is a number, not a pointer.
    unsafe { tun_set_persist(device.as_raw_fd(), 1) }?;
    Ok(())
}
