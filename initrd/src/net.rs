//! The guest's network: the loopback device, and `eth0` with its address and default route.
//!
//! Invariant: the device is the one with the configured MAC, whatever its name was; every step may be repeated.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use dataplane_agent::GuestNetwork;
use nix::errno::Errno;
use nix::libc;

use crate::error::{During as _, InitError};
use crate::netlink::{Request, RouteSocket};
use crate::uevent::Uevents;

const LIMIT: Duration = Duration::from_secs(10);
const NAME: &str = "eth0";
const IPV4: u8 = 2;
const UP: u32 = 1;

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Device {
    name: String,
    index: u32,
    mac: String,
}

pub(crate) fn loopback_up(socket: &mut RouteSocket) -> Result<(), InitError> {
    let devices = devices(Path::new("/sys/class/net"));
    let index = devices.iter().find(|device| device.name == "lo").map_or(1, |device| device.index);
    socket.call(&set_up(index)).during("bring up", "lo")
}

pub(crate) fn configure(socket: &mut RouteSocket, uevents: &Uevents, network: &GuestNetwork) -> Result<(), InitError> {
    let class = Path::new("/sys/class/net");
    let device = uevents.wait(LIMIT, || Ok(with_mac(devices(class), &network.mac)))?;
    let device = device.ok_or_else(|| InitError::NoNic {
        mac: network.mac.clone(),
        seconds: LIMIT.as_secs(),
        found: describe(&devices(class)),
    })?;
    if device.name != NAME {
        let renamed = socket.call(&rename(device.index, NAME));
        renamed.during("rename to eth0 the device", &device.name)?;
    }
    socket.call(&set_up(device.index)).during("bring up", NAME)?;
    match socket.call(&add_address(device.index, network.address, network.prefix_len)) {
        Err(Errno::EEXIST) => {}
        added => added.during("give eth0 the address", network.address)?,
    }
    socket.call(&add_default_route(device.index, network)).during("add the default route by", network.gateway)
}

fn devices(class: &Path) -> Vec<Device> {
    let Ok(entries) = fs::read_dir(class) else { return Vec::new() };
    let device = |path: &Path, name: String| {
        let read = |file: &str| fs::read_to_string(path.join(file)).ok();
        let index = read("ifindex")?.trim().parse().ok()?;
        Some(Device { name, index, mac: read("address")?.trim().to_ascii_lowercase() })
    };
    let named = entries.flatten().filter_map(|entry| device(&entry.path(), entry.file_name().into_string().ok()?));
    named.collect()
}

fn with_mac(devices: Vec<Device>, mac: &str) -> Option<Device> {
    let wanted = mac.to_ascii_lowercase();
    devices.into_iter().find(|device| device.mac == wanted && device.name != "lo")
}

fn describe(devices: &[Device]) -> String {
    devices.iter().map(|device| format!("{} ({})", device.name, device.mac)).collect::<Vec<_>>().join(", ")
}

fn link_request(index: u32, flags: u32, change: u32) -> Request {
    let mut fixed = vec![0; 4];
    fixed.extend_from_slice(&index.to_ne_bytes());
    fixed.extend_from_slice(&flags.to_ne_bytes());
    fixed.extend_from_slice(&change.to_ne_bytes());
    Request::new(libc::RTM_NEWLINK, 0, &fixed)
}

fn set_up(index: u32) -> Request {
    link_request(index, UP, UP)
}

fn rename(index: u32, name: &str) -> Request {
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    link_request(index, 0, 0).attribute(libc::IFLA_IFNAME, &value)
}

fn add_address(index: u32, address: Ipv4Addr, prefix_len: u8) -> Request {
    let mut fixed = vec![IPV4, prefix_len, 0, libc::RT_SCOPE_UNIVERSE];
    fixed.extend_from_slice(&index.to_ne_bytes());
    let request = Request::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &fixed)
        .attribute(libc::IFA_LOCAL, &address.octets())
        .attribute(libc::IFA_ADDRESS, &address.octets());
    match broadcast(address, prefix_len) {
        Some(broadcast) => request.attribute(libc::IFA_BROADCAST, &broadcast.octets()),
        None => request,
    }
}

fn broadcast(address: Ipv4Addr, prefix_len: u8) -> Option<Ipv4Addr> {
    let hosts = u32::MAX.checked_shr(u32::from(prefix_len)).filter(|hosts| *hosts > 1)?;
    Some(Ipv4Addr::from(u32::from(address) | hosts))
}

fn add_default_route(index: u32, network: &GuestNetwork) -> Request {
    let hosts = u32::MAX.checked_shr(u32::from(network.prefix_len)).unwrap_or(0);
    let in_subnet = u32::from(network.address) & !hosts == u32::from(network.gateway) & !hosts;
    // A gateway outside of the subnet is still on this link.
    let flags: u32 = if in_subnet { 0 } else { 4 };
    let mut fixed =
        vec![IPV4, 0, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST];
    fixed.extend_from_slice(&flags.to_ne_bytes());
    Request::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &fixed)
        .attribute(libc::RTA_GATEWAY, &network.gateway.octets())
        .attribute(libc::RTA_OIF, &index.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn broadcast_addresses() {
        let address = Ipv4Addr::new(192, 168, 100, 7);
        assert_eq!(broadcast(address, 24), Some(Ipv4Addr::new(192, 168, 100, 255)));
        assert_eq!(broadcast(address, 0), Some(Ipv4Addr::BROADCAST));
        assert_eq!(broadcast(address, 31), None);
        assert_eq!(broadcast(address, 32), None);
    }

    #[test]
    fn a_device_is_its_mac() {
        let device = |name: &str, index, mac: &str| Device { name: name.into(), index, mac: mac.into() };
        let all = vec![device("lo", 1, "00:00:00:00:00:00"), device("enp0s3", 2, "52:54:00:aa:bb:cc")];
        assert_eq!(with_mac(all.clone(), "52:54:00:AA:bb:cc"), Some(all[1].clone()));
        assert_eq!(with_mac(all.clone(), "00:00:00:00:00:00"), None);
        assert_eq!(describe(&all), "lo (00:00:00:00:00:00), enp0s3 (52:54:00:aa:bb:cc)");
    }

    /// The kernel's own judgement, in a namespace that dies with the thread.
    #[test]
    #[ignore = "needs root: makes a network namespace"]
    fn the_kernel_takes_every_request() {
        let namespace = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let mut socket = RouteSocket::open().unwrap();
            socket.call(&set_up(1)).unwrap();
            let network = GuestNetwork {
                mac: String::new(),
                address: Ipv4Addr::new(192, 168, 100, 7),
                prefix_len: 24,
                gateway: Ipv4Addr::new(192, 168, 100, 1),
                nameservers: Vec::new(),
                search: None,
            };
            socket.call(&add_address(1, network.address, network.prefix_len)).unwrap();
            assert_eq!(socket.call(&add_address(1, network.address, network.prefix_len)), Err(Errno::EEXIST));
            let outside = GuestNetwork { gateway: Ipv4Addr::new(10, 0, 0, 1), ..network.clone() };
            for network in [&network, &network, &outside] {
                // The loopback device takes routes like any other.
                socket.call(&add_default_route(1, network)).unwrap();
            }
            assert_eq!(socket.call(&set_up(99)), Err(Errno::ENODEV));
        });
        namespace.join().unwrap();
    }
}
