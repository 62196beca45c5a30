//! What an instance uses: as its guest says, as the host's kernel counts its VMM, its disk and its network device.
//!
//! Cheap: one question to the guest and a handful of small files of the host's kernel; but for the proportional share of
//! memory, for which the kernel walks all of it. What cannot be had is absent.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use dataplane_agent::{Answer, Ask, GuestUsage};
use dataplane_types::InstanceId;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::Instances;

/// How long the guest may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// `USER_HZ`, which is the same on every Linux that this runs on.
const TICKS_PER_SECOND: u64 = 100;
const SECTOR: u64 = 512;

/// What an instance uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// As the guest's kernel counts.
    pub guest: Option<GuestUsage>,
    /// Its VMM.
    pub vmm: Option<VmmUse>,
    /// Its writable layer.
    pub disk: Option<DiskUse>,
    /// Its network device.
    pub network: Option<TapUse>,
}

/// A VMM process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VmmUse {
    /// The process.
    pub pid: u32,
    /// CPU time of all of its threads, in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Proportional share of it, in bytes, where it was asked for and the kernel tells.
    pub pss: Option<u64>,
    /// Threads.
    pub threads: u64,
}

/// A writable layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// What it takes on the host's disk, in bytes.
    pub used: u64,
    /// What the VMM has read from the host's disks, in bytes.
    pub read: Option<u64>,
    /// What it has written.
    pub written: Option<u64>,
}

/// A network device, as the guest sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TapUse {
    /// Bytes that came to the guest.
    pub received_bytes: u64,
    /// Packets of them.
    pub received_packets: u64,
    /// Bytes that it sent.
    pub sent_bytes: u64,
    /// Packets of them.
    pub sent_packets: u64,
}

impl Instances {
    /// What an instance uses now, the proportional share of memory only `with_pss`; `None` when there is no such instance.
    pub async fn stats(&self, id: &InstanceId, with_pss: bool) -> Option<Stats> {
        let view = self.get(id)?;
        let guest = match timeout(PATIENCE, self.ask(id, Ask::ReadUsage)).await {
            Ok(Ok(Answer::Usage(usage))) => Some(usage),
            Ok(_) | Err(_) => None,
        };
        let record = &view.record;
        let pid = record.vmm.as_ref().filter(|_| view.door.is_some()).and_then(|vmm| vmm.process.as_ref());
        let mut vmm = pid.and_then(|process| read_vmm(&Path::new("/proc").join(process.pid.to_string()), process.pid));
        if let Some(vmm) = vmm.as_mut().filter(|_| with_pss) {
            let rollup = Path::new("/proc").join(vmm.pid.to_string()).join("smaps_rollup");
            vmm.pss = spawn_blocking(move || read_pss(&rollup)).await.ok().flatten();
        }
        let io = vmm.and_then(|vmm| read_io(&Path::new("/proc").join(vmm.pid.to_string())));
        let disk = fs::metadata(self.writable_disk(id)).ok().map(|metadata| DiskUse {
            used: metadata.blocks().saturating_mul(SECTOR),
            read: io.map(|(read, _)| read),
            written: io.map(|(_, written)| written),
        });
        // Of the daemon's own network namespace, where the TAPs are.
        let devices = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        let network = record.spec.link.as_ref().and_then(|link| parse_tap(&devices, link.tap.as_str()));
        Some(Stats { guest, vmm, disk, network })
    }
}

fn read_vmm(process: &Path, pid: u32) -> Option<VmmUse> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    parse_vmm(&stat, &status, pid)
}

fn read_pss(rollup: &Path) -> Option<u64> {
    kib(&fs::read_to_string(rollup).ok()?, "Pss")
}

fn parse_vmm(stat: &str, status: &str, pid: u32) -> Option<VmmUse> {
    // Behind the name, which may hold anything: state is the first, utime the 12th, stime the 13th, threads the 18th.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let cpu_ms = (number(11).saturating_add(number(12))).saturating_mul(1000 / TICKS_PER_SECOND);
    let rss = kib(status, "VmRSS").unwrap_or(0);
    Some(VmmUse { pid, cpu_ms, rss, pss: None, threads: number(17) })
}

/// The bytes of a line `Name:   123 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024))
}

fn read_io(process: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(process.join("io")).ok()?;
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some((value("read_bytes:")?, value("write_bytes:")?))
}

/// What the host receives of a TAP the guest has sent (proc_pid_net(5)).
fn parse_tap(devices: &str, name: &str) -> Option<TapUse> {
    let line = devices.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    let fields: Vec<u64> = line.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    let field = |place: usize| fields.get(place).copied();
    Some(TapUse {
        received_bytes: field(8)?,
        received_packets: field(9)?,
        sent_bytes: field(0)?,
        sent_packets: field(1)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_understood() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 1000 5 6";
        let used = parse_vmm(stat, "Name:\tx\nVmRSS:\t  200 kB\n", 7);
        let expected = VmmUse { pid: 7, cpu_ms: 3000, rss: 204_800, pss: None, threads: 9 };
        assert_eq!(used, Some(expected));
        assert_eq!(parse_vmm("", "", 7), None);
    }

    #[test]
    fn a_guest_receives_what_its_tap_sends() {
        let devices = "Inter-|   Receive | Transmit\n face |bytes\n   lo: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n\
            dp2: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\n";
        let used = TapUse { received_bytes: 20, received_packets: 2, sent_bytes: 10, sent_packets: 1 };
        assert_eq!(parse_tap(devices, "dp2"), Some(used));
        assert_eq!(parse_tap(devices, "dp"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let used = read_vmm(Path::new("/proc/self"), 1).unwrap();
        assert!(used.rss > 0 && used.threads > 0);
        let pss = read_pss(Path::new("/proc/self/smaps_rollup")).unwrap();
        assert!(pss > 0 && pss <= 2 * used.rss, "{pss} of {}", used.rss);
        assert_eq!(kib("Rss: 200 kB\nPss:  150 kB\nPss_Dirty: 7 kB\n", "Pss"), Some(153_600));
    }
}
