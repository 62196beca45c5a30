//! Where the numbers come from.

use std::fs;
use std::path::Path;

/// The machine, its kernel, the file system, and how busy it is already.
pub(crate) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let memory = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let kernel = read("/proc/sys/kernel/osrelease");
    let directory = std::env::temp_dir();
    let load = read("/proc/loadavg");
    let mut text =
        format!("machine: {cpus} CPUs ({model}), {} GiB, Linux {}", memory.unwrap_or(0) >> 20, kernel.trim());
    text += &format!("\ndata:    {} on {}, page cache warm", directory.display(), file_system(&directory));
    text += &format!("\nload:    {} before the run", load.split(' ').next().unwrap_or_default());
    text
}

/// The file system that holds a directory: the longest mount point above it.
fn file_system(directory: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(point, _)| directory.starts_with(point))
        .max_by_key(|(point, _)| point.len());
    mount.map_or_else(|| "?".to_owned(), |(_, kind)| kind.to_owned())
}
