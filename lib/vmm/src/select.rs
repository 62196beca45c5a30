//! Which VMM runs guests on this host.
//!
//! Invariant: the choice is made once, from facts, and says why in one line. An explicit choice is never overruled, and
//! what cannot work is an error that says what to install or set.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::{CloudHypervisor, HostFacts, Hypervisor, Qemu, Vmm, VmmError};

const CH_VARIABLE: &str = "CLOUD_HYPERVISOR_BIN";
const QEMU_VARIABLE: &str = "QEMU_BIN";

/// What the operator asks for: `HYPERVISOR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HypervisorChoice {
    /// Cloud Hypervisor where its binary and hardware KVM are there, else QEMU.
    #[default]
    Auto,
    /// Cloud Hypervisor, whatever this host is.
    CloudHypervisor,
    /// QEMU, whatever this host is.
    Qemu,
}

/// A word that is no choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no hypervisor: auto, cloud-hypervisor or qemu would be right")]
pub struct UnknownHypervisor(String);

impl FromStr for HypervisorChoice {
    type Err = UnknownHypervisor;
    fn from_str(text: &str) -> Result<Self, UnknownHypervisor> {
        match text {
            "auto" => Ok(Self::Auto),
            "cloud-hypervisor" => Ok(Self::CloudHypervisor),
            "qemu" => Ok(Self::Qemu),
            _ => Err(UnknownHypervisor(text.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for HypervisorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::CloudHypervisor => Hypervisor::CloudHypervisor.fmt(f),
            Self::Qemu => Hypervisor::Qemu.fmt(f),
        }
    }
}

/// The VMM that runs guests that name none.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Its driver.
    pub driver: Arc<dyn Vmm>,
    /// What was chosen and why: one readable line.
    pub reason: String,
}

/// Why no VMM can be chosen.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The VMM that was asked for is not there.
    #[error("HYPERVISOR={choice}, but its binary was not found on PATH: install it, or set {variable}")]
    Missing {
        /// What was asked for.
        choice: HypervisorChoice,
        /// The variable that names the binary.
        variable: &'static str,
    },
    /// The VMM's binary cannot be used.
    #[error("the binary of {hypervisor} (set by {variable}, or found on PATH) cannot be used")]
    Unusable {
        /// Which VMM.
        hypervisor: Hypervisor,
        /// The variable that names the binary.
        variable: &'static str,
        /// What is wrong with it.
        #[source]
        source: VmmError,
    },
    /// There is no VMM at all.
    #[error(
        "no VMM was found on PATH: install QEMU (Debian: qemu-system-x86), or cloud-hypervisor where there is \
             hardware KVM; {0}"
    )]
    Nothing(String),
}

/// Chooses. `ch_bin` and `qemu_bin` are what was configured, or found on PATH. Blocks while binaries tell their version.
///
/// # Errors
/// [`SelectError`].
pub fn choose(
    choice: HypervisorChoice,
    ch_bin: Option<PathBuf>,
    qemu_bin: Option<PathBuf>,
    host: &HostFacts,
) -> Result<Chosen, SelectError> {
    let missing = |variable| SelectError::Missing { choice, variable };
    let facts = host.describe();
    match (choice, ch_bin, qemu_bin) {
        (HypervisorChoice::CloudHypervisor, None, _) => Err(missing(CH_VARIABLE)),
        (HypervisorChoice::Qemu, _, None) => Err(missing(QEMU_VARIABLE)),
        (HypervisorChoice::CloudHypervisor, Some(binary), _) => {
            let warning = if host.hardware_kvm() { "" } else { "; guests may not boot" };
            chosen(cloud_hypervisor(binary, host)?, &format!("asked for; {facts}{warning}"))
        }
        (HypervisorChoice::Qemu, _, Some(binary)) => chosen(qemu(binary, host)?, &format!("asked for; {facts}")),
        (HypervisorChoice::Auto, Some(binary), _) if host.hardware_kvm() => {
            chosen(cloud_hypervisor(binary, host)?, &facts)
        }
        (HypervisorChoice::Auto, ch_bin, Some(binary)) => {
            let why = if ch_bin.is_none() { "cloud-hypervisor was not found; " } else { "" };
            chosen(qemu(binary, host)?, &format!("{why}{facts}"))
        }
        (HypervisorChoice::Auto, _, None) => Err(SelectError::Nothing(facts)),
    }
}

/// Every VMM whose binary is there and good, for requests that name one. What is not good is logged and left out.
/// Blocks while binaries tell their version.
#[must_use]
pub fn available(ch_bin: Option<PathBuf>, qemu_bin: Option<PathBuf>, host: &HostFacts) -> Vec<Arc<dyn Vmm>> {
    let drivers = [ch_bin.map(|binary| cloud_hypervisor(binary, host)), qemu_bin.map(|binary| qemu(binary, host))];
    let usable = drivers.into_iter().flatten().filter_map(|driver| {
        driver.inspect_err(|error| tracing::warn!(error = error as &dyn std::error::Error, "a VMM is left out")).ok()
    });
    usable.collect()
}

fn cloud_hypervisor(binary: PathBuf, host: &HostFacts) -> Result<Arc<dyn Vmm>, SelectError> {
    let unusable =
        |source| SelectError::Unusable { hypervisor: Hypervisor::CloudHypervisor, variable: CH_VARIABLE, source };
    Ok(Arc::new(CloudHypervisor::probe_on(binary, host).map_err(unusable)?))
}

fn qemu(binary: PathBuf, host: &HostFacts) -> Result<Arc<dyn Vmm>, SelectError> {
    let unusable = |source| SelectError::Unusable { hypervisor: Hypervisor::Qemu, variable: QEMU_VARIABLE, source };
    Ok(Arc::new(Qemu::probe_on(binary, host).map_err(unusable)?))
}

fn chosen(driver: Arc<dyn Vmm>, why: &str) -> Result<Chosen, SelectError> {
    let how = match (driver.hypervisor(), driver.capabilities().hardware_virtualization) {
        (Hypervisor::Qemu, false) => " in software emulation",
        (Hypervisor::Qemu, true) | (Hypervisor::CloudHypervisor, _) => "",
    };
    let reason = format!("guests run on {} {}{how}: {why}", driver.hypervisor(), driver.version());
    Ok(Chosen { driver, reason })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HARDWARE: HostFacts = HostFacts { cpu_flag: Some("vmx"), kvm_module: Some("kvm_intel"), kvm_device: Ok(()) };
    const SOFTWARE: HostFacts = HostFacts { cpu_flag: None, kvm_module: None, kvm_device: Ok(()) };

    /// Binaries that answer `--version` as the real ones do.
    struct Binaries(tempfile::TempDir);

    impl Binaries {
        fn new() -> Self {
            let binaries = Self(tempfile::tempdir().unwrap());
            binaries.add("ch", "echo cloud-hypervisor v53.0.0");
            binaries.add("old-ch", "echo cloud-hypervisor v51.2.0");
            let machine = "echo 'q35  Standard PC (alias of pc-q35-7.2)'";
            binaries.add("qemu", &format!("[ $1 = --version ] && echo QEMU emulator version 7.2.22 || {machine}"));
            binaries
        }

        fn add(&self, name: &str, script: &str) {
            let path = self.0.path().join(name);
            let mut file = std::fs::File::create(&path).unwrap();
            std::io::Write::write_all(&mut file, format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn choose(&self, choice: &str, ch: &str, qemu: &str, host: &HostFacts) -> Result<String, SelectError> {
            let path = |name: &str| (!name.is_empty()).then(|| self.0.path().join(name));
            choose(choice.parse().unwrap(), path(ch), path(qemu), host).map(|chosen| chosen.reason)
        }
    }

    #[test]
    fn the_choice_follows_the_facts_and_says_so() {
        let binaries = Binaries::new();
        for (choice, ch, qemu, host, expected) in [
            ("auto", "ch", "qemu", &HARDWARE, "guests run on cloud-hypervisor 53.0.0: hardware KVM is there"),
            ("auto", "ch", "qemu", &SOFTWARE, "guests run on qemu 7.2.22 in software emulation: no hardware KVM: "),
            ("auto", "", "qemu", &SOFTWARE, "in software emulation: cloud-hypervisor was not found; no hardware KVM"),
            ("auto", "", "qemu", &HARDWARE, "cloud-hypervisor was not found; hardware KVM is there (vmx, kvm_intel)"),
            ("cloud-hypervisor", "ch", "", &SOFTWARE, "53.0.0: asked for; no hardware KVM: "),
            ("cloud-hypervisor", "ch", "", &SOFTWARE, "; guests may not boot"),
            ("qemu", "ch", "qemu", &HARDWARE, "guests run on qemu 7.2.22"),
        ] {
            let reason = binaries.choose(choice, ch, qemu, host).unwrap();
            assert!(reason.contains(expected), "{expected:?} is not in {reason:?}");
        }
    }

    #[test]
    fn what_cannot_work_says_what_to_do() {
        let binaries = Binaries::new();
        for (choice, ch, qemu, host, expected) in [
            ("auto", "ch", "", &SOFTWARE, "install QEMU (Debian: qemu-system-x86)"),
            ("auto", "", "", &HARDWARE, "no VMM was found"),
            ("cloud-hypervisor", "", "qemu", &HARDWARE, "set CLOUD_HYPERVISOR_BIN"),
            ("qemu", "ch", "", &HARDWARE, "set QEMU_BIN"),
            ("cloud-hypervisor", "old-ch", "", &HARDWARE, "version 52.0 or later is needed"),
            ("qemu", "", "ch", &HARDWARE, "its version is not understood"),
            ("auto", "nowhere", "qemu", &HARDWARE, "nowhere"),
        ] {
            let error = binaries.choose(choice, ch, qemu, host).unwrap_err();
            let said = format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
            assert!(said.contains(expected), "{expected:?} is not in {said:?}");
        }
        assert!("QEMU".parse::<HypervisorChoice>().is_err());
        let usable = available(Some(binaries.0.path().join("old-ch")), Some(binaries.0.path().join("qemu")), &HARDWARE);
        assert_eq!(usable.iter().map(|vmm| vmm.hypervisor()).collect::<Vec<_>>(), [Hypervisor::Qemu]);
    }
}
