//! What this host can do for a VMM: read from `/proc`, `/sys` and `/dev`, never guessed.
//!
//! Invariant: `/dev/kvm` alone proves nothing: software implementations of it exist on which no stock kernel boots.

use std::fs::File;
use std::path::Path;

/// Facts about hardware virtualization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The CPU flag that says so: `vmx` or `svm`.
    pub cpu_flag: Option<&'static str>,
    /// The KVM module that drives it: `kvm_intel` or `kvm_amd`.
    pub kvm_module: Option<&'static str>,
    /// Whether `/dev/kvm` can be opened for reading and writing, or why not.
    pub kvm_device: Result<(), String>,
}

impl HostFacts {
    /// Reads them from the running system.
    #[must_use]
    pub fn read() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        let cpuinfo = std::fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
        let module = |name: &&str| root.join("sys/module").join(name).is_dir();
        let device = File::options().read(true).write(true).open(root.join("dev/kvm"));
        Self {
            cpu_flag: cpu_flag(&cpuinfo),
            kvm_module: ["kvm_intel", "kvm_amd"].into_iter().find(module),
            kvm_device: device.map(drop).map_err(|error| error.to_string()),
        }
    }

    /// Whether guests can run on hardware virtualization: CPU, module and device all say so.
    #[must_use]
    pub fn hardware_kvm(&self) -> bool {
        self.cpu_flag.is_some() && self.kvm_module.is_some() && self.kvm_device.is_ok()
    }

    /// The same as a clause of one line: what is there, or what is missing.
    #[must_use]
    pub fn describe(&self) -> String {
        match (self.cpu_flag, self.kvm_module, &self.kvm_device) {
            (Some(flag), Some(module), Ok(())) => format!("hardware KVM is there ({flag}, {module})"),
            (None, _, Ok(())) => "no hardware KVM: /dev/kvm is there, but the CPU has neither vmx nor svm".into(),
            (None, _, Err(_)) => "no hardware KVM: the CPU has neither vmx nor svm".into(),
            (Some(flag), None, _) => {
                format!("no hardware KVM: the CPU has {flag}, but kvm_intel or kvm_amd is not loaded")
            }
            (Some(_), Some(module), Err(error)) => {
                format!("no hardware KVM: {module} is loaded, but /dev/kvm cannot be opened: {error}")
            }
        }
    }
}

fn cpu_flag(cpuinfo: &str) -> Option<&'static str> {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':').map(|(_, flags)| flags))?;
    ["vmx", "svm"].into_iter().find(|flag| flags.split_ascii_whitespace().any(|word| word == *flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[&str], cpuinfo: &str) -> HostFacts {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(path).unwrap();
        }
        let proc = root.path().join("proc");
        std::fs::create_dir_all(&proc).unwrap();
        std::io::Write::write_all(&mut File::create(proc.join("cpuinfo")).unwrap(), cpuinfo.as_bytes()).unwrap();
        HostFacts::below(root.path())
    }

    const AMD: &str = "processor : 0\nflags\t\t: fpu svm npt\n\nflags : fpu\n";

    #[test]
    fn only_cpu_module_and_device_together_are_hardware_kvm() {
        let module = "sys/module/kvm_amd/refcnt";
        assert!(host(&["dev/kvm", module], AMD).hardware_kvm());
        for (files, cpuinfo, why) in [
            (&["dev/kvm", "sys/module/kvm_pvm/refcnt"][..], AMD, "kvm_intel or kvm_amd is not loaded"),
            (&["dev/kvm", module], "flags : fpu svm_lock\n", "neither vmx nor svm"),
            (&[module], AMD, "/dev/kvm cannot be opened"),
            (&[], "", "neither vmx nor svm"),
        ] {
            let facts = host(files, cpuinfo);
            assert!(!facts.hardware_kvm(), "{facts:?}");
            assert!(facts.describe().contains(why), "{}", facts.describe());
        }
    }
}
