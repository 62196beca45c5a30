//! Virtual CPUs that are plugged in while the guest runs: its kernel finds them and leaves them offline.

use std::fs;
use std::path::Path;

use dataplane_agent::Answer;
use nix::sys::sysinfo::sysinfo;

const CPUS: &str = "/sys/devices/system/cpu";

/// Takes all that are offline into use, and says what there is. One that does not come up does not hold the others back.
pub(crate) fn online_all() -> Result<Answer, String> {
    let refused = online_in(Path::new(CPUS)).map_err(|error| format!("list the CPUs: {error}"))?;
    if !refused.is_empty() {
        return Err(format!("take CPUs into use: {}", refused.join(", ")));
    }
    let text =
        fs::read_to_string(Path::new(CPUS).join("online")).map_err(|error| format!("count the CPUs: {error}"))?;
    let vcpus = count(&text).ok_or_else(|| format!("count the CPUs in `{}`", text.trim()))?;
    let memory = sysinfo().map_err(|errno| format!("ask for the memory's size: {}", errno.desc()))?.ram_total();
    Ok(Answer::Sizes { vcpus, memory_kib: memory >> 10 })
}

/// Which did not come up, and why.
#[expect(clippy::disallowed_methods, reason = "a switch of the kernel, not a record of the host")]
fn online_in(cpus: &Path) -> std::io::Result<Vec<String>> {
    let mut refused = Vec::new();
    for entry in fs::read_dir(cpus)?.flatten() {
        let switch = entry.path().join("online");
        // The first CPU may have no switch: it cannot go.
        if fs::read_to_string(&switch).is_ok_and(|state| state.trim() == "0")
            && let Err(error) = fs::write(&switch, "1")
        {
            refused.push(format!("{}: {error}", entry.file_name().display()));
        }
    }
    Ok(refused)
}

/// How many a list such as `0-3,5` names.
fn count(list: &str) -> Option<u32> {
    list.trim().split(',').try_fold(0u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests lay out a directory, no record")]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_is_counted() {
        for (list, number) in
            [("0\n", Some(1)), ("0-3", Some(4)), ("0-1,4,6-7\n", Some(5)), ("", None), ("3-1", None), ("0-x", None)]
        {
            assert_eq!(count(list), number, "{list}");
        }
    }

    #[test]
    fn only_what_is_offline_is_switched_on() {
        let cpus = tempfile::tempdir().unwrap();
        for (cpu, state) in [("cpu0", None), ("cpu1", Some("1\n")), ("cpu2", Some("0\n")), ("cpufreq", None)] {
            fs::create_dir(cpus.path().join(cpu)).unwrap();
            if let Some(state) = state {
                fs::write(cpus.path().join(cpu).join("online"), state).unwrap();
            }
        }
        fs::write(cpus.path().join("online"), "0-1\n").unwrap();
        assert!(online_in(cpus.path()).unwrap().is_empty());
        let state = |cpu: &str| fs::read_to_string(cpus.path().join(cpu).join("online")).unwrap();
        assert_eq!((state("cpu1").as_str(), state("cpu2").as_str()), ("1\n", "1"));
        assert!(online_in(&cpus.path().join("none")).is_err());
    }
}
