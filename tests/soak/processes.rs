//! The VMMs that run, as the system sees them.

use std::collections::BTreeMap;
use std::path::Path;

/// The program that stands for a VMM.
pub(crate) const VMM: &str = "fake-ch";
/// The real one.
const REAL_VMM: &str = "cloud-hypervisor";

/// The process ids of the VMMs below a runtime directory, by the name of the instance's own directory in it, which their
/// command lines have.
pub(crate) fn vmms_below(run: &Path) -> BTreeMap<String, Vec<i32>> {
    let needle = format!("{}/", run.display());
    let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let program = line.split('\0').next().unwrap_or_default();
        if !program.ends_with(VMM) && !program.ends_with(REAL_VMM) {
            continue;
        }
        if let Some((_, below)) = line.split_once(&needle) {
            found.entry(below.split('/').next().unwrap_or_default().to_owned()).or_default().push(pid);
        }
    }
    found
}

/// Never two VMMs for one instance.
pub(crate) fn alone(run: &Path) -> Result<(), String> {
    match vmms_below(run).into_iter().find(|(_, pids)| pids.len() > 1) {
        Some((name, pids)) => Err(format!("two VMMs for {name}: {pids:?}")),
        None => Ok(()),
    }
}
