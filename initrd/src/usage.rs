//! What the guest uses, as its kernel counts it. What the kernel does not tell is 0.

use std::os::fd::BorrowedFd;

use dataplane_agent::{Answer, GuestUsage};
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use nix::sys::statvfs::statvfs;

use crate::volumes;

/// The kernel counts time for programs in hundredths of a second, whatever its own clock ticks at.
const MS_PER_TICK: u64 = 10;

/// x86-64 has one size of page that the kernel counts in.
const KIB_PER_PAGE: u64 = 4;

/// `proc` is init's own /proc.
pub(crate) fn read(proc: BorrowedFd<'_>) -> Result<Answer, String> {
    let text = |path| volumes::read(proc, path).map_err(|error| format!("read /proc/{path}: {error}"));
    let mut usage = parse(&text("stat")?, &text("meminfo")?, &text("loadavg")?, &text("uptime")?);
    let root = statvfs("/").map_err(|errno| format!("look at the root: {}", errno.desc()))?;
    usage.disk_total_bytes = root.blocks().saturating_mul(root.fragment_size());
    usage.disk_available_bytes = root.blocks_available().saturating_mul(root.fragment_size());
    usage.agent_rss_kib = agent_rss_kib(proc);
    Ok(Answer::Usage(usage))
}

/// Of init, and of those of its children that are init's own program: its work on files.
fn agent_rss_kib(proc: BorrowedFd<'_>) -> u64 {
    let program = |pid: &str| {
        fstatat(proc, format!("{pid}/exe").as_str(), AtFlags::empty()).ok().map(|stat| (stat.st_dev, stat.st_ino))
    };
    let own = program("1");
    let children = volumes::read(proc, "1/task/1/children").unwrap_or_default();
    let workers = children.split_whitespace().filter(|pid| own.is_some() && program(pid) == own);
    std::iter::once("1").chain(workers).map(|pid| rss_kib(proc, pid)).fold(0, u64::saturating_add)
}

fn rss_kib(proc: BorrowedFd<'_>, pid: &str) -> u64 {
    let statm = volumes::read(proc, &format!("{pid}/statm")).unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages.saturating_mul(KIB_PER_PAGE)
}

fn parse(stat: &str, meminfo: &str, loadavg: &str, uptime: &str) -> GuestUsage {
    let cpu = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = cpu.split_whitespace().map(|count| count.parse().unwrap_or(0)).collect();
    let time = |places: &[usize]| {
        let ticks = places.iter().map(|place| ticks.get(*place).copied().unwrap_or(0));
        ticks.fold(0, u64::saturating_add).saturating_mul(MS_PER_TICK)
    };
    let memory = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let mut load = loadavg.split_whitespace();
    let load_1m_milli = load.next().and_then(thousandths).unwrap_or(0);
    let tasks = load.nth(2).and_then(|tasks| tasks.split_once('/')?.1.parse().ok()).unwrap_or(0);
    let uptime_ms = uptime.split_whitespace().next().and_then(thousandths).unwrap_or(0);
    GuestUsage {
        // user, nice; system, irq, softirq; idle, iowait; steal (proc(5)).
        user_ms: time(&[0, 1]),
        system_ms: time(&[2, 5, 6]),
        idle_ms: time(&[3, 4]),
        steal_ms: time(&[7]),
        uptime_ms,
        memory_total_kib: memory("MemTotal"),
        memory_free_kib: memory("MemFree"),
        memory_available_kib: memory("MemAvailable"),
        memory_cached_kib: memory("Cached"),
        disk_total_bytes: 0,
        disk_available_bytes: 0,
        tasks,
        load_1m_milli,
        agent_rss_kib: 0,
    }
}

/// `1.25` as 1250: the kernel writes two digits.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, hundredths) = text.split_once('.')?;
    Some(whole.parse::<u64>().ok()?.saturating_mul(1000) + hundredths.parse::<u64>().ok()?.min(99) * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_understood() {
        let usage = parse(
            "cpu  100 5 20 1000 50 1 2 7 0 0\ncpu0 1 1 1 1\n",
            "MemTotal:         245000 kB\nMemFree:  100 kB\nMemAvailable: 200 kB\nCached: 50 kB\nSwapCached: 9 kB\n",
            "0.52 0.10 0.03 2/77 1234\n",
            "61.50 50.00\n",
        );
        assert_eq!((usage.user_ms, usage.system_ms, usage.idle_ms, usage.steal_ms), (1050, 230, 10_500, 70));
        assert_eq!((usage.memory_total_kib, usage.memory_available_kib, usage.memory_cached_kib), (245_000, 200, 50));
        assert_eq!((usage.tasks, usage.load_1m_milli, usage.uptime_ms), (77, 520, 61_500));
        assert_eq!(parse("", "x", "1", "."), GuestUsage::default());
    }
}
