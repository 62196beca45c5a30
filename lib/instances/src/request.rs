//! What a client asks for, and what becomes of it once image, host and defaults have had their say.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dataplane_types::{EgressRule, Gib, GuestPolicy, InstanceId, Labels, Mac, Mib, PortMapping};
use dataplane_vmm::Hypervisor;
use serde::{Deserialize, Serialize};

use crate::record::merge_env;
use crate::{CreateError, HostLimits, ImageLease, ImageProgram};

/// How an instance goes into standby.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandbyClass {
    /// Its memory is written when it goes, without what was never used, and read when it comes back.
    #[default]
    Sparse,
    /// Its memory is a file all the time: nothing is copied, and the whole size is reserved on disk.
    Instant,
}

/// Whether an instance is started anew when its program or its VM has ended by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// It is not.
    #[default]
    Never,
    /// When it failed: an exit code other than 0, a panic, a VMM that ended, a host that rebooted.
    OnFailure,
    /// However it ended.
    Always,
}

/// A request to create an instance, defaults filled in. Kept in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateRequest {
    /// The wanted id; one is made when absent.
    pub id: Option<InstanceId>,
    /// A name for people.
    pub name: Option<String>,
    /// The image: id, reference or digest.
    pub image: String,
    /// Memory at boot.
    pub memory: Mib,
    /// The most memory; at least `memory`.
    pub memory_max: Option<Mib>,
    /// Virtual CPUs at boot.
    pub vcpus: u32,
    /// The most virtual CPUs; at least `vcpus`.
    pub max_vcpus: Option<u32>,
    /// Size of the writable layer.
    pub disk: Gib,
    /// Environment, on top of the image's.
    pub env: BTreeMap<String, String>,
    /// Replaces the image's entrypoint, and drops its cmd.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's cmd.
    pub cmd: Option<Vec<String>>,
    /// Replaces the image's user.
    pub user: Option<String>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// The guest's host name; the id when absent.
    pub hostname: Option<String>,
    /// The network.
    pub network: NetworkRequest,
    /// Ports of the host that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
    /// Labels.
    pub labels: Labels,
    /// Which VMM; the daemon's choice when absent.
    pub hypervisor: Option<Hypervisor>,
    /// How it goes into standby.
    #[serde(default)]
    pub standby: StandbyClass,
    /// Whether it is started anew.
    #[serde(default)]
    pub restart_policy: RestartPolicy,
}

/// What a client wants of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRequest {
    /// Whether there is any.
    pub enabled: bool,
    /// A certain address.
    pub ip: Option<Ipv4Addr>,
    /// A certain MAC.
    pub mac: Option<Mac>,
    /// The most that it sends, and the most that it receives, in megabits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_mbps: Option<u32>,
    /// Where it may go; everywhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<EgressRule>>,
}

/// The program that an instance runs: what the image says, with the client's changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) argv: Vec<String>,
    pub(crate) entrypoint_len: usize,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) user: String,
    pub(crate) stop_signal: String,
}

impl CreateRequest {
    /// The program, as container runtimes combine image and request: a new entrypoint drops the image's cmd.
    pub(crate) fn program(&self, lease: &ImageLease) -> Result<Program, CreateError> {
        let ImageProgram { entrypoint, cmd, env, working_dir, user, stop_signal } = &lease.program;
        let image_cmd = if self.entrypoint.is_some() { &Vec::new() } else { cmd };
        let entrypoint = self.entrypoint.as_ref().unwrap_or(entrypoint);
        let cmd = self.cmd.as_ref().unwrap_or(image_cmd);
        let argv: Vec<String> = entrypoint.iter().chain(cmd).cloned().collect();
        if argv.first().is_none_or(String::is_empty) {
            return Err(CreateError::NoCommand(self.image.clone()));
        }
        let or = |own: &Option<String>, image: &Option<String>, default: &str| {
            own.as_ref()
                .or(image.as_ref())
                .filter(|text| !text.is_empty())
                .map_or_else(|| default.to_owned(), Clone::clone)
        };
        Ok(Program {
            argv,
            entrypoint_len: entrypoint.len(),
            env: merge_env(env, &self.env),
            working_dir: or(&self.working_dir, working_dir, "/"),
            user: or(&self.user, user, ""),
            stop_signal: or(&None, stop_signal, "SIGTERM"),
        })
    }

    /// What the network is to do for it.
    pub(crate) fn policy(&self) -> GuestPolicy {
        GuestPolicy { port_mappings: self.port_mappings.clone(), egress: self.network.egress.clone() }
    }

    /// Refuses what this host can never give, and sizes that contradict each other.
    pub(crate) fn check(&self, limits: &HostLimits) -> Result<(), CreateError> {
        let contradicts = |field, message| Err(CreateError::Contradiction { field, message });
        let refuse = |field, message| Err(CreateError::Impossible { field, message });
        let (memory_max, max_vcpus) = (self.memory_max.unwrap_or(self.memory), self.max_vcpus.unwrap_or(self.vcpus));
        if memory_max < self.memory {
            return contradicts("memory_max_mb", format!("must be at least memory_mb, which is {}", self.memory.0));
        }
        if max_vcpus < self.vcpus {
            return contradicts("max_vcpus", format!("must be at least vcpus, which is {}", self.vcpus));
        }
        let NetworkRequest { enabled, ip, mac, egress, bandwidth_mbps } = &self.network;
        if !enabled && (ip.is_some() || mac.is_some() || egress.is_some() || bandwidth_mbps.is_some()) {
            return contradicts("network", "has an address, a list or a limit and is not enabled".to_owned());
        }
        if !enabled && !self.port_mappings.is_empty() {
            return contradicts("port_mappings", "lead nowhere: the network is not enabled".to_owned());
        }
        if max_vcpus > limits.vcpus {
            let field = if self.vcpus > limits.vcpus { "vcpus" } else { "max_vcpus" };
            return refuse(field, format!("{max_vcpus} virtual CPUs are wanted, the host has {}", limits.vcpus));
        }
        if self.memory > limits.memory {
            return refuse("memory_mb", format!("{} are wanted, the host has {}", self.memory, limits.memory));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn request(id: &str) -> CreateRequest {
        CreateRequest {
            id: Some(id.parse().unwrap()),
            name: None,
            image: "img-x".into(),
            memory: Mib(256),
            memory_max: None,
            vcpus: 1,
            max_vcpus: None,
            disk: Gib(1),
            env: BTreeMap::new(),
            entrypoint: None,
            cmd: None,
            user: None,
            working_dir: None,
            hostname: None,
            network: NetworkRequest { enabled: true, ip: None, mac: None, bandwidth_mbps: None, egress: None },
            port_mappings: Vec::new(),
            labels: Labels::new(),
            hypervisor: None,
            standby: StandbyClass::Sparse,
            restart_policy: RestartPolicy::Never,
        }
    }

    fn lease(entrypoint: &[&str], cmd: &[&str]) -> ImageLease {
        let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        ImageLease {
            id: "img-x".parse().unwrap(),
            digest: dataplane_types::Digest::from_bytes([0; 32]),
            filesystem: "ext4".into(),
            program: ImageProgram { entrypoint: strings(entrypoint), cmd: strings(cmd), ..ImageProgram::default() },
            hold: Box::new(()),
        }
    }

    #[test]
    fn a_new_entrypoint_drops_the_images_cmd() {
        let image = lease(&["/e"], &["a", "b"]);
        let mut wanted = request("x");
        assert_eq!(wanted.program(&image).unwrap().argv, ["/e", "a", "b"]);
        wanted.entrypoint = Some(vec!["/mine".into()]);
        assert_eq!(wanted.program(&image).unwrap().argv, ["/mine"]);
        wanted.cmd = Some(vec!["c".into()]);
        let program = wanted.program(&image).unwrap();
        assert_eq!((program.argv, program.entrypoint_len), (vec!["/mine".to_owned(), "c".to_owned()], 1));
    }

    #[test]
    fn an_image_without_a_program_needs_one() {
        assert!(matches!(request("x").program(&lease(&[], &[])), Err(CreateError::NoCommand(_))));
        assert!(matches!(request("x").program(&lease(&[], &[""])), Err(CreateError::NoCommand(_))));
    }

    #[test]
    fn what_the_host_cannot_give_is_refused_by_field() {
        let limits = HostLimits { vcpus: 2, memory: Mib(1024) };
        let field = |change: fn(&mut CreateRequest)| {
            let mut wanted = request("x");
            change(&mut wanted);
            match wanted.check(&limits) {
                Err(CreateError::Impossible { field, .. } | CreateError::Contradiction { field, .. }) => field,
                other => panic!("{other:?}"),
            }
        };
        assert!(request("x").check(&limits).is_ok());
        assert_eq!(field(|wanted| wanted.vcpus = 3), "vcpus");
        assert_eq!(field(|wanted| wanted.memory = Mib(2048)), "memory_mb");
        assert_eq!(field(|wanted| wanted.memory_max = Some(Mib(1))), "memory_max_mb");
        assert_eq!(field(|wanted| wanted.max_vcpus = Some(0)), "max_vcpus");
        assert_eq!(
            field(|wanted| {
                let ip = Some(Ipv4Addr::LOCALHOST);
                wanted.network = NetworkRequest { enabled: false, ip, mac: None, bandwidth_mbps: None, egress: None };
            }),
            "network"
        );
    }
}
