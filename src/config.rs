//! Every variable of the daemon, parsed and checked once. What leaves this module is right; one wrong value stops the
//! start with the variable, the value and what would be right.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use dataplane_network::InterfaceName;
use dataplane_types::{AddressPlan, Mib};
use dataplane_vmm::{ConfinementSwitches, HypervisorChoice};
use ipnet::Ipv4Net;

/// The most that is kept of a log: 1 TiB.
const MAX_LOG_LIMIT_MB: u64 = 1 << 20;

/// The variables as they come: flags first, then the environment, then defaults.
#[derive(Debug, Clone, Args)]
pub struct RawConfig {
    /// TCP port of the API
    #[arg(long, env = "PORT", default_value = "8080")]
    port: String,
    /// Address of the API; other than loopback needs a JWT secret
    #[arg(long, env = "LISTEN_ADDRESS", default_value = "127.0.0.1")]
    listen_address: String,
    #[command(flatten)]
    network: RawNetwork,
    /// `host`, or `none`: no bridge, no TAPs, no rules, and no need of root
    #[arg(long = "network", env = "NETWORK", default_value = "host")]
    network_backend: String,
    /// The API's Unix socket; by default api.sock in the runtime directory
    #[arg(long, env = "SOCKET_PATH")]
    socket_path: Option<PathBuf>,
    /// Secret of the API's tokens (HS256), at least 32 bytes; better given by file
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    jwt_secret: Option<String>,
    /// File that holds the secret; a line end at its end is not part of it
    #[arg(long, env = "JWT_SECRET_FILE", conflicts_with = "jwt_secret")]
    jwt_secret_file: Option<PathBuf>,
    /// The audience that tokens must name
    #[arg(long, env = "JWT_AUDIENCE")]
    jwt_audience: Option<String>,
    /// The domain below which instances are named
    #[arg(long, env = "DNS_DOMAIN", default_value = "dataplane.internal")]
    dns_domain: String,
    /// Registries (host or host:port, comma-separated) reached by plain HTTP besides loopback
    #[arg(long, env = "REGISTRY_PLAIN_HTTP", default_value = "")]
    registry_plain_http: String,
    /// Bytes that must stay free on the disk of the data directory
    #[arg(long, env = "RESERVED_BYTES", default_value = "1073741824")]
    reserved_bytes: String,
    /// How much of each log of an instance is kept, in MiB; older output is freed
    #[arg(long, env = "LOG_LIMIT_MB", default_value = "64")]
    log_limit_mb: String,
    /// auto, cloud-hypervisor or qemu
    #[arg(long, env = "HYPERVISOR", default_value = "auto")]
    hypervisor: String,
    /// The cloud-hypervisor binary; by default found on PATH
    #[arg(long, env = "CLOUD_HYPERVISOR_BIN")]
    cloud_hypervisor_bin: Option<PathBuf>,
    /// Whether each VM runs as a user of its own: on or off
    #[arg(long, env = "CONFINEMENT_UIDS", default_value = "on")]
    confinement_uids: String,
    /// Whether each VM has limits of memory, processors and processes (cgroup v2): on or off
    #[arg(long, env = "CONFINEMENT_LIMITS", default_value = "on")]
    confinement_limits: String,
    /// Whether each VMM can only open its own files (Landlock): on or off
    #[arg(long, env = "CONFINEMENT_LANDLOCK", default_value = "on")]
    confinement_landlock: String,
    /// The QEMU binary; by default found on PATH
    #[arg(long, env = "QEMU_BIN")]
    qemu_bin: Option<PathBuf>,
    /// The guest kernel; by default `vmlinux` beside the daemon's binary
    #[arg(long, env = "KERNEL_PATH")]
    kernel_path: Option<PathBuf>,
    /// The guest's initramfs; by default `initrd.img` beside the daemon's binary
    #[arg(long, env = "INITRD_PATH")]
    initrd_path: Option<PathBuf>,
    /// text or json; by default text on a terminal, json otherwise
    #[arg(long, env = "LOG_FORMAT")]
    log_format: Option<String>,
}

/// The variables that the host's network depends on.
#[derive(Debug, Clone, Args)]
pub struct RawNetwork {
    /// Where everything lies that must survive
    #[arg(long, env = "DATA_DIR", default_value = "/var/lib/cloud-hypervisor-dataplane")]
    data_dir: PathBuf,
    /// Where sockets lie
    #[arg(long, env = "RUNTIME_DIR", default_value = "/run/dataplane")]
    runtime_dir: PathBuf,
    /// The bridge that guests are on; made when missing
    #[arg(long, env = "BRIDGE_NAME", default_value = "vmbr0")]
    bridge_name: String,
    /// The guests' subnet
    #[arg(long, env = "SUBNET_CIDR", default_value = "192.168.100.0/24")]
    subnet_cidr: String,
    /// The host's own address in it
    #[arg(long, env = "SUBNET_GATEWAY", default_value = "192.168.100.1")]
    subnet_gateway: String,
    /// Where guests leave the host; by default the interface of the default route
    #[arg(long, env = "UPLINK_INTERFACE")]
    uplink_interface: Option<String>,
    /// The name server that guests use
    #[arg(long, env = "DNS_SERVER", default_value = "1.1.1.1")]
    dns_server: String,
}

/// What the host's network depends on.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Data directory.
    pub data_dir: PathBuf,
    /// Runtime directory.
    pub runtime_dir: PathBuf,
    /// The bridge.
    pub bridge: InterfaceName,
    /// Subnet and gateway.
    pub plan: AddressPlan,
    /// The uplink; the default route's when absent.
    pub uplink: Option<InterfaceName>,
    /// The guests' name server.
    pub dns_server: Ipv4Addr,
}

/// A wrong value.
#[derive(Debug, thiserror::Error)]
#[error("{variable}={value:?} is not valid: {expected}")]
pub struct ConfigError {
    /// The variable.
    pub variable: &'static str,
    /// What it was set to; never a secret.
    pub value: String,
    /// What would be right.
    pub expected: String,
}

impl ConfigError {
    fn new(variable: &'static str, value: impl fmt::Display, expected: impl fmt::Display) -> Self {
        Self { variable, value: value.to_string(), expected: expected.to_string() }
    }
}

/// A secret that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret of these bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The secret's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The daemon's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// TCP port of the API; 0 lets the system choose.
    pub port: u16,
    /// TCP address of the API.
    pub listen_address: IpAddr,
    /// The API's Unix socket.
    pub socket_path: PathBuf,
    /// Data directory.
    pub data_dir: PathBuf,
    /// Runtime directory.
    pub runtime_dir: PathBuf,
    /// The bridge.
    pub bridge: InterfaceName,
    /// Subnet and gateway.
    pub plan: AddressPlan,
    /// The uplink; the default route's when absent.
    pub uplink: Option<InterfaceName>,
    /// Secret of the tokens; without one only loopback and the Unix socket are served.
    pub jwt_secret: Option<Secret>,
    /// Audience of the tokens.
    pub jwt_audience: Option<String>,
    /// Domain of the instances' names.
    pub dns_domain: String,
    /// The guests' name server.
    pub dns_server: Ipv4Addr,
    /// Registries reached by plain HTTP besides loopback.
    pub registry_plain_http: Vec<String>,
    /// Bytes that must stay free.
    pub reserved_bytes: u64,
    /// How much of each log is kept.
    pub log_limit: Mib,
    /// Which VMM.
    pub hypervisor: HypervisorChoice,
    /// The cloud-hypervisor binary, when there is one.
    pub cloud_hypervisor_bin: Option<PathBuf>,
    /// Whether the host's network is used at all.
    pub host_network: bool,
    /// The QEMU binary, when there is one.
    pub qemu_bin: Option<PathBuf>,
    /// How VMMs are confined, as far as the host can.
    pub confinement: ConfinementSwitches,
    /// The guest kernel.
    pub kernel_path: PathBuf,
    /// The initramfs.
    pub initrd_path: PathBuf,
}

impl RawConfig {
    /// The log format, which is needed before anything can be logged.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn log_format(&self, terminal: bool) -> Result<LogFormat, ConfigError> {
        match self.log_format.as_deref() {
            None if terminal => Ok(LogFormat::Text),
            None | Some("json") => Ok(LogFormat::Json),
            Some("text") => Ok(LogFormat::Text),
            Some(other) => Err(ConfigError::new("LOG_FORMAT", other, "text or json")),
        }
    }

    /// Checks everything.
    ///
    /// # Errors
    /// [`ConfigError`] for the first wrong value.
    pub fn check(self) -> Result<Config, ConfigError> {
        let jwt_secret = secret(self.jwt_secret, self.jwt_secret_file.as_deref())?;
        let listen_address: IpAddr = parse("LISTEN_ADDRESS", &self.listen_address, "an IP address")?;
        if jwt_secret.is_none() && !listen_address.is_loopback() {
            let expected = "a loopback address, or set JWT_SECRET or JWT_SECRET_FILE";
            return Err(ConfigError::new("LISTEN_ADDRESS", listen_address, expected));
        }
        let NetworkOptions { data_dir, runtime_dir, bridge, plan, uplink, dns_server } = self.network.check()?;
        Ok(Config {
            port: parse("PORT", &self.port, "a port from 0 (any free one) to 65535")?,
            listen_address,
            socket_path: absolute("SOCKET_PATH", self.socket_path.unwrap_or_else(|| runtime_dir.join("api.sock")))?,
            data_dir,
            runtime_dir,
            bridge,
            plan,
            uplink,
            host_network: match self.network_backend.as_str() {
                "host" => true,
                "none" => false,
                other => return Err(ConfigError::new("NETWORK", other, "host or none")),
            },
            jwt_secret,
            jwt_audience: self.jwt_audience,
            dns_domain: domain(&self.dns_domain)?,
            dns_server,
            registry_plain_http: registries(&self.registry_plain_http)?,
            reserved_bytes: parse("RESERVED_BYTES", &self.reserved_bytes, "a number of bytes")?,
            log_limit: log_limit(&self.log_limit_mb)?,
            hypervisor: parse("HYPERVISOR", &self.hypervisor, "auto, cloud-hypervisor or qemu")?,
            cloud_hypervisor_bin: binary("CLOUD_HYPERVISOR_BIN", self.cloud_hypervisor_bin, "cloud-hypervisor")?,
            qemu_bin: binary("QEMU_BIN", self.qemu_bin, "qemu-system-x86_64")?,
            confinement: ConfinementSwitches {
                uids: switch("CONFINEMENT_UIDS", &self.confinement_uids)?,
                limits: switch("CONFINEMENT_LIMITS", &self.confinement_limits)?,
                landlock: switch("CONFINEMENT_LANDLOCK", &self.confinement_landlock)?,
            },
            kernel_path: artefact("KERNEL_PATH", self.kernel_path, "vmlinux")?,
            initrd_path: artefact("INITRD_PATH", self.initrd_path, "initrd.img")?,
        })
    }
}

impl RawNetwork {
    /// Checks everything.
    ///
    /// # Errors
    /// [`ConfigError`] for the first wrong value.
    pub fn check(self) -> Result<NetworkOptions, ConfigError> {
        let subnet: Ipv4Net = parse("SUBNET_CIDR", &self.subnet_cidr, "a network such as 192.168.100.0/24")?;
        let gateway: Ipv4Addr = parse("SUBNET_GATEWAY", &self.subnet_gateway, "an IPv4 address")?;
        let plan = AddressPlan::new(subnet, gateway).map_err(|error| {
            let variable = match error {
                dataplane_types::AddressPlanError::Gateway(..) => "SUBNET_GATEWAY",
                dataplane_types::AddressPlanError::PrefixLength(_)
                | dataplane_types::AddressPlanError::HostBits(..) => "SUBNET_CIDR",
            };
            ConfigError::new(
                variable,
                if variable == "SUBNET_CIDR" { subnet.to_string() } else { gateway.to_string() },
                error,
            )
        })?;
        Ok(NetworkOptions {
            data_dir: absolute("DATA_DIR", self.data_dir)?,
            runtime_dir: absolute("RUNTIME_DIR", self.runtime_dir)?,
            bridge: interface("BRIDGE_NAME", &self.bridge_name)?,
            plan,
            uplink: self.uplink_interface.map(|name| interface("UPLINK_INTERFACE", &name)).transpose()?,
            dns_server: parse("DNS_SERVER", &self.dns_server, "an IPv4 address")?,
        })
    }
}

fn parse<T: FromStr>(variable: &'static str, value: &str, expected: &str) -> Result<T, ConfigError> {
    value.parse().map_err(|_| ConfigError::new(variable, value, expected))
}

fn switch(variable: &'static str, value: &str) -> Result<bool, ConfigError> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(ConfigError::new(variable, value, "on or off")),
    }
}

fn log_limit(value: &str) -> Result<Mib, ConfigError> {
    let limit = value.parse().ok().filter(|limit| (1..=MAX_LOG_LIMIT_MB).contains(limit));
    let expected = || format!("a number of MiB from 1 to {MAX_LOG_LIMIT_MB}");
    limit.map(Mib).ok_or_else(|| ConfigError::new("LOG_LIMIT_MB", value, expected()))
}

fn absolute(variable: &'static str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    if path.is_absolute() { Ok(path) } else { Err(ConfigError::new(variable, path.display(), "an absolute path")) }
}

fn interface(variable: &'static str, name: &str) -> Result<InterfaceName, ConfigError> {
    name.parse().map_err(|error| ConfigError::new(variable, name, error))
}

fn domain(name: &str) -> Result<String, ConfigError> {
    let label = |label: &str| label.parse::<dataplane_types::InstanceId>().is_ok();
    if name.len() <= 189 && name.split('.').all(label) {
        Ok(name.to_owned())
    } else {
        Err(ConfigError::new("DNS_DOMAIN", name, "a lower-case domain name of at most 189 characters"))
    }
}

/// Registries as they are named in references: a host, perhaps with a port. Anything else would never match one.
fn registries(text: &str) -> Result<Vec<String>, ConfigError> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let is_registry = |entry: &str| {
        let authority = entry.parse::<axum::http::uri::Authority>();
        authority.is_ok_and(|authority| authority.as_str() == entry && !entry.contains(['@', '*']))
    };
    entries
        .map(|entry| {
            let expected = "hosts, perhaps with ports, separated by commas: registry.internal:5000";
            if is_registry(entry) {
                Ok(entry.to_owned())
            } else {
                Err(ConfigError::new("REGISTRY_PLAIN_HTTP", entry, expected))
            }
        })
        .collect()
}

/// The shortest secret that is accepted: as long as the hash of HS256 (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// The largest file that can be a secret.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Reads a file that may be a device without an end.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SECRET_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

fn secret(value: Option<String>, file: Option<&Path>) -> Result<Option<Secret>, ConfigError> {
    let (variable, bytes) = match (value, file) {
        (Some(value), _) => ("JWT_SECRET", value.into_bytes()),
        (None, Some(path)) => {
            let mut bytes = read_bounded(path).map_err(|error| {
                ConfigError::new("JWT_SECRET_FILE", path.display(), format!("a readable file ({error})"))
            })?;
            while matches!(bytes.last(), Some(b'\n' | b'\r')) {
                bytes.pop();
            }
            ("JWT_SECRET_FILE", bytes)
        }
        (None, None) => return Ok(None),
    };
    if bytes.len() < MIN_SECRET_BYTES {
        let value = format!("[{} bytes]", bytes.len());
        return Err(ConfigError::new(variable, value, format!("a secret of at least {MIN_SECRET_BYTES} bytes")));
    }
    Ok(Some(Secret(bytes)))
}

/// A binary: the one that is named, which must exist, or the first of that name on PATH.
fn binary(variable: &'static str, named: Option<PathBuf>, name: &str) -> Result<Option<PathBuf>, ConfigError> {
    match named {
        Some(path) if path.is_file() => Ok(Some(path)),
        Some(path) => Err(ConfigError::new(variable, path.display(), "an existing program")),
        None => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            Ok(std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file()))
        }
    }
}

/// A file that `make build` puts beside the daemon's binary, and `make install` into the library directory.
fn artefact(variable: &'static str, named: Option<PathBuf>, name: &str) -> Result<PathBuf, ConfigError> {
    if let Some(path) = named {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(ConfigError::new(variable, path.display(), "an existing file"))
        };
    }
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(|directory| directory.join(name)));
    let installed = Some(Path::new("/usr/local/lib/dataplane").join(name));
    [beside.clone(), installed].into_iter().flatten().find(|path| path.is_file()).ok_or_else(|| {
        ConfigError::new(variable, beside.unwrap_or_default().display(), "an existing file; `make build` makes it")
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        raw: RawConfig,
    }

    fn check(flags: &[&str]) -> Result<Config, ConfigError> {
        let given = tempfile::NamedTempFile::new().unwrap();
        let file = given.path().to_str().unwrap();
        let base = ["dataplane", "--kernel-path", file, "--initrd-path", file];
        Command::try_parse_from(base.iter().chain(flags)).unwrap_or_else(|error| panic!("{error}")).raw.check()
    }

    #[test]
    fn the_defaults_are_right() {
        let config = check(&[]).unwrap();
        assert_eq!((config.port, config.listen_address.is_loopback()), (8080, true));
        assert_eq!(config.socket_path, Path::new("/run/dataplane/api.sock"));
        assert_eq!((config.reserved_bytes, config.log_limit.bytes()), (1 << 30, 64 << 20));
    }

    #[test]
    fn one_wrong_value_names_the_variable_and_the_value() {
        let long = "x".repeat(31);
        let cases: [(&[&str], &str); 21] = [
            (&["--network", "bridge"], "NETWORK"),
            (&["--log-limit-mb", "0"], "LOG_LIMIT_MB"),
            (&["--socket-path", "api.sock"], "SOCKET_PATH"),
            (&["--registry-plain-http", "ok:5000,http://registry"], "REGISTRY_PLAIN_HTTP"),
            (&["--registry-plain-http", "*"], "REGISTRY_PLAIN_HTTP"),
            (&["--jwt-secret-file", "/dev/zero"], "JWT_SECRET_FILE"),
            (&["--port", "80800"], "PORT"),
            (&["--listen-address", "here"], "LISTEN_ADDRESS"),
            (&["--listen-address", "0.0.0.0"], "LISTEN_ADDRESS"),
            (&["--data-dir", "data"], "DATA_DIR"),
            (&["--bridge-name", "a/b"], "BRIDGE_NAME"),
            (&["--subnet-cidr", "10.0.0.0"], "SUBNET_CIDR"),
            (&["--subnet-cidr", "10.0.0.1/24"], "SUBNET_CIDR"),
            (&["--subnet-gateway", "10.0.0.1"], "SUBNET_GATEWAY"),
            (&["--jwt-secret", &long], "JWT_SECRET"),
            (&["--dns-domain", "Upper.case"], "DNS_DOMAIN"),
            (&["--dns-server", "ns"], "DNS_SERVER"),
            (&["--hypervisor", "xen"], "HYPERVISOR"),
            (&["--qemu-bin", "/nowhere/qemu"], "QEMU_BIN"),
            (&["--confinement-limits", "yes"], "CONFINEMENT_LIMITS"),
            (&["--reserved-bytes", "1G"], "RESERVED_BYTES"),
        ];
        for (flags, variable) in cases {
            let error = check(flags).unwrap_err();
            assert_eq!(error.variable, variable, "{flags:?}: {error}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let weak = check(&["--jwt-secret", "hunter2"]).unwrap_err();
        assert!(!weak.to_string().contains("hunter2"));
        let secret = "s3cr3t-".repeat(5);
        let config = check(&["--jwt-secret", &secret, "--listen-address", "0.0.0.0"]).unwrap();
        assert!(!format!("{config:?}").contains("s3cr3t"));
    }
}
