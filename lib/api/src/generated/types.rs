//! The wire types. Generated from `openapi.yaml` by `make generate`: do not edit.

#![allow(clippy::all, clippy::too_many_lines, clippy::unwrap_used, unused_qualifications)]

///`CreateImageRequest`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CreateImageRequest {
    ///A name as container tools write it, with a tag or digest or neither.
    pub name: ::std::string::String,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub id: ::std::option::Option<dataplane_types::ImageId>,
    #[serde(default = "defaults::create_image_request_source")]
    pub source: ImageSource,
    ///Operating system, architecture and variant; default is linux/amd64.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub platform: ::std::option::Option<::std::string::String>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub credentials: ::std::option::Option<RegistryCredentials>,
    ///Free pairs for the caller's own order.
    #[serde(
        default,
        skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
    )]
    pub labels: ::std::collections::BTreeMap<
        ::std::string::String,
        ::std::string::String,
    >,
}
///`CreateInstanceRequest`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CreateInstanceRequest {
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub id: ::std::option::Option<dataplane_types::InstanceId>,
    ///Any text of one line; blanks and capitals are fine.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub name: ::std::option::Option<::std::string::String>,
    ///The id, reference or digest of an image that is ready.
    pub image: ::std::string::String,
    #[serde(default = "defaults::default_u64::<u64, 1024>")]
    pub memory_mb: u64,
    ///Up to where a PATCH may take `memory_mb`; at least `memory_mb`, which is the default.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub memory_max_mb: ::std::option::Option<u64>,
    #[serde(default = "defaults::default_u64::<u32, 2>")]
    pub vcpus: u32,
    ///Up to where a PATCH may take `vcpus`; at least `vcpus`, which is the default.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub max_vcpus: ::std::option::Option<u32>,
    ///The size of the writable layer. It is thin, it takes only what is written.
    #[serde(default = "defaults::default_u64::<u64, 10>")]
    pub disk_gb: u64,
    ///Environment variables of the program.
    #[serde(
        default,
        skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
    )]
    pub env: ::std::collections::BTreeMap<::std::string::String, ::std::string::String>,
    ///In place of the image's; the image's `cmd` is then dropped. An empty list means none.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub entrypoint: ::std::option::Option<::std::vec::Vec<::std::string::String>>,
    ///In place of the image's.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub cmd: ::std::option::Option<::std::vec::Vec<::std::string::String>>,
    ///A user, by name or number, and after a colon a group.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub user: ::std::option::Option<::std::string::String>,
    ///An absolute path in the guest.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub working_dir: ::std::option::Option<::std::string::String>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub hostname: ::std::option::Option<::std::string::String>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub network: ::std::option::Option<NetworkConfig>,
    /**Ports of the host that lead to ports of the guest: on every address of the host, from other hosts and from the
host itself, its loopback included; not from guests of the same host. A host port that an instance or a program
of the host has is 409 `port_in_use`. An instance has its ports as long as it exists; while it is stopped or in
standby, nobody answers there.
*/
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub port_mappings: ::std::option::Option<::std::vec::Vec<PortMapping>>,
    ///Free pairs for the caller's own order.
    #[serde(
        default,
        skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
    )]
    pub labels: ::std::collections::BTreeMap<
        ::std::string::String,
        ::std::string::String,
    >,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub hypervisor: ::std::option::Option<Hypervisor>,
    #[serde(default = "defaults::create_instance_request_standby")]
    pub standby: StandbyClass,
    #[serde(default = "defaults::create_instance_request_restart_policy")]
    pub restart_policy: RestartPolicy,
}
///The writable layer on the host, and what the VMM has read and written since it was started.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DiskStats {
    ///What it takes on the host's disk.
    pub used_bytes: u64,
    ///From the host's disks.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub read_bytes: ::std::option::Option<u64>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub written_bytes: ::std::option::Option<u64>,
}
///`EgressProtocol`
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum EgressProtocol {
    #[serde(rename = "tcp")]
    Tcp,
    #[serde(rename = "udp")]
    Udp,
    #[serde(rename = "icmp")]
    Icmp,
}
impl ::std::fmt::Display for EgressProtocol {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Icmp => f.write_str("icmp"),
        }
    }
}
impl ::std::str::FromStr for EgressProtocol {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "icmp" => Ok(Self::Icmp),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for EgressProtocol {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for EgressProtocol {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
///`EgressRule`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct EgressRule {
    ///A network, without bits set behind its prefix.
    pub cidr: ::std::string::String,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub protocol: ::std::option::Option<EgressProtocol>,
    ///TCP or UDP ports; all of them when absent. Without `protocol` they are both. The ranges of all rules together may come to 256 that do not overlap.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub ports: ::std::option::Option<::std::vec::Vec<::std::string::String>>,
}
///What was said; `text` where it is UTF-8, otherwise `base64`.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ExecOutput {
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub text: ::std::option::Option<::std::string::String>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub base64: ::std::option::Option<::std::string::String>,
    ///Whether there was more.
    #[serde(default)]
    pub truncated: bool,
}
///`ExecRequest`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    ///The program and its arguments. All strings of the request together must be under 60 KiB.
    pub command: ::std::vec::Vec<::std::string::String>,
    ///Environment variables of the program.
    #[serde(
        default,
        skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
    )]
    pub env: ::std::collections::BTreeMap<::std::string::String, ::std::string::String>,
    ///An absolute path in the guest.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub cwd: ::std::option::Option<::std::string::String>,
    ///A user, by name or number, and after a colon a group.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub user: ::std::option::Option<::std::string::String>,
    ///Whether the program gets a terminal; all that it shows is then `stdout`.
    #[serde(default)]
    pub tty: bool,
    ///Lines of the terminal.
    #[serde(default = "defaults::default_u64::<u32, 24>")]
    pub rows: u32,
    ///Characters on its lines.
    #[serde(default = "defaults::default_u64::<u32, 80>")]
    pub columns: u32,
    ///The standard input; empty without it.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub stdin: ::std::option::Option<::std::string::String>,
    ///The same, for any bytes.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub stdin_base64: ::std::option::Option<::std::string::String>,
    ///The program and all that it has started are killed after so long, and `timed_out` is then true.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub timeout_seconds: ::std::option::Option<u32>,
    ///How much of each output the answer holds; what is over is read and dropped.
    #[serde(default = "defaults::default_u64::<u32, 1048576>")]
    pub max_output_bytes: u32,
    ///Whether the program goes on without whoever started it.
    #[serde(default)]
    pub detach: bool,
}
///How a program ended. Without `exit_code` and `signal` it was detached, and may still run.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ExecResult {
    ///Absent when it was not started.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub pid: ::std::option::Option<u32>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub exit_code: ::std::option::Option<u32>,
    ///The signal that ended it.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub signal: ::std::option::Option<u32>,
    ///Why it could not be started.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub reason: ::std::option::Option<::std::string::String>,
    #[serde(default)]
    pub timed_out: bool,
    pub stdout: ExecOutput,
    pub stderr: ExecOutput,
    ///From the request to the end, as the host saw it.
    pub duration_ms: u64,
}
///Trouble that something had, and when.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub code: ::std::string::String,
    pub message: ::std::string::String,
    pub at: ::chrono::DateTime<::chrono::offset::Utc>,
}
///`FileEntry`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    ///The last name; what is no UTF-8 in it is replaced.
    pub name: ::std::string::String,
    #[serde(rename = "type")]
    pub type_: FileType,
    pub size_bytes: u64,
    ///Permissions, with set-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified_at: ::chrono::DateTime<::chrono::offset::Utc>,
    ///Where a link points.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub target: ::std::option::Option<::std::string::String>,
}
///`FileInfo`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct FileInfo {
    ///The last name; what is no UTF-8 in it is replaced.
    pub name: ::std::string::String,
    #[serde(rename = "type")]
    pub type_: FileType,
    pub size_bytes: u64,
    ///Permissions, with set-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified_at: ::chrono::DateTime<::chrono::offset::Utc>,
    ///Where a link points.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub target: ::std::option::Option<::std::string::String>,
    ///What the directory holds, where that was asked for.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub entries: ::std::option::Option<::std::vec::Vec<FileEntry>>,
    ///Whether the directory holds more.
    #[serde(default)]
    pub truncated: bool,
}
///`FileType`
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum FileType {
    #[serde(rename = "file")]
    File,
    #[serde(rename = "directory")]
    Directory,
    #[serde(rename = "symlink")]
    Symlink,
    #[serde(rename = "fifo")]
    Fifo,
    #[serde(rename = "socket")]
    Socket,
    #[serde(rename = "char_device")]
    CharDevice,
    #[serde(rename = "block_device")]
    BlockDevice,
}
impl ::std::fmt::Display for FileType {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::File => f.write_str("file"),
            Self::Directory => f.write_str("directory"),
            Self::Symlink => f.write_str("symlink"),
            Self::Fifo => f.write_str("fifo"),
            Self::Socket => f.write_str("socket"),
            Self::CharDevice => f.write_str("char_device"),
            Self::BlockDevice => f.write_str("block_device"),
        }
    }
}
impl ::std::str::FromStr for FileType {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "file" => Ok(Self::File),
            "directory" => Ok(Self::Directory),
            "symlink" => Ok(Self::Symlink),
            "fifo" => Ok(Self::Fifo),
            "socket" => Ok(Self::Socket),
            "char_device" => Ok(Self::CharDevice),
            "block_device" => Ok(Self::BlockDevice),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for FileType {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for FileType {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
///`GraceRequest`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct GraceRequest {
    ///How long the guest's program may take to end after its stop signal; 0 ends it at once.
    #[serde(default = "defaults::default_u64::<u32, 10>")]
    pub grace_seconds: u32,
}
impl ::std::default::Default for GraceRequest {
    fn default() -> Self {
        Self {
            grace_seconds: defaults::default_u64::<u32, 10>(),
        }
    }
}
///As the guest's kernel counts; it can say what it likes.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct GuestStats {
    ///Time in programs and in the kernel, of all CPUs together.
    pub cpu_seconds: f64,
    pub cpu_user_seconds: f64,
    pub cpu_system_seconds: f64,
    ///Time that the host gave to others.
    pub cpu_steal_seconds: f64,
    pub uptime_seconds: f64,
    pub memory_total_bytes: u64,
    pub memory_available_bytes: u64,
    pub memory_cached_bytes: u64,
    ///Of the writable layer.
    pub disk_total_bytes: u64,
    pub disk_available_bytes: u64,
    pub tasks: u64,
    pub load_1m: f64,
    ///Memory of the agent itself, with its work on files that is under way.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub agent_rss_bytes: ::std::option::Option<u64>,
}
///`Health`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Health {
    pub status: HealthStatus,
}
///`HealthStatus`
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum HealthStatus {
    #[serde(rename = "ok")]
    Ok,
}
impl ::std::fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::Ok => f.write_str("ok"),
        }
    }
}
impl ::std::str::FromStr for HealthStatus {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "ok" => Ok(Self::Ok),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for HealthStatus {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for HealthStatus {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
///`Hypervisor`
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum Hypervisor {
    #[serde(rename = "cloud-hypervisor")]
    CloudHypervisor,
    #[serde(rename = "qemu")]
    Qemu,
}
impl ::std::fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::CloudHypervisor => f.write_str("cloud-hypervisor"),
            Self::Qemu => f.write_str("qemu"),
        }
    }
}
impl ::std::str::FromStr for Hypervisor {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "cloud-hypervisor" => Ok(Self::CloudHypervisor),
            "qemu" => Ok(Self::Qemu),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for Hypervisor {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for Hypervisor {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
///`Image`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Image {
    pub id: dataplane_types::ImageId,
    ///A name as container tools write it, with a tag or digest or neither.
    pub name: ::std::string::String,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub digest: ::std::option::Option<dataplane_types::Digest>,
    ///The tag.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub version: ::std::option::Option<::std::string::String>,
    pub status: ImageStatus,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub progress: ::std::option::Option<Progress>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub error: ::std::option::Option<Fault>,
    ///What it takes on disk.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub size_bytes: ::std::option::Option<u64>,
    ///Size of the disk image.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub virtual_size_bytes: ::std::option::Option<u64>,
    ///Operating system, architecture and variant; default is linux/amd64.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub platform: ::std::option::Option<::std::string::String>,
    pub entrypoint: ::std::vec::Vec<::std::string::String>,
    pub cmd: ::std::vec::Vec<::std::string::String>,
    ///Environment variables of the program.
    pub env: ::std::collections::BTreeMap<::std::string::String, ::std::string::String>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub working_dir: ::std::option::Option<::std::string::String>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub user: ::std::option::Option<::std::string::String>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub stop_signal: ::std::option::Option<::std::string::String>,
    pub exposed_ports: ::std::vec::Vec<::std::string::String>,
    ///Free pairs for the caller's own order.
    pub labels: ::std::collections::BTreeMap<
        ::std::string::String,
        ::std::string::String,
    >,
    pub created_at: ::chrono::DateTime<::chrono::offset::Utc>,
}
///`ImageList`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ImageList {
    pub items: ::std::vec::Vec<Image>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub next_cursor: ::std::option::Option<crate::Cursor>,
}
///Where the image comes from.
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum ImageSource {
    #[serde(rename = "registry")]
    Registry,
}
impl ::std::fmt::Display for ImageSource {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::Registry => f.write_str("registry"),
        }
    }
}
impl ::std::str::FromStr for ImageSource {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "registry" => Ok(Self::Registry),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for ImageSource {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for ImageSource {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::default::Default for ImageSource {
    fn default() -> Self {
        ImageSource::Registry
    }
}
///`ImageStatus`
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum ImageStatus {
    #[serde(rename = "pending")]
    Pending,
    #[serde(rename = "pulling")]
    Pulling,
    #[serde(rename = "converting")]
    Converting,
    #[serde(rename = "ready")]
    Ready,
    #[serde(rename = "failed")]
    Failed,
}
impl ::std::fmt::Display for ImageStatus {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::Pending => f.write_str("pending"),
            Self::Pulling => f.write_str("pulling"),
            Self::Converting => f.write_str("converting"),
            Self::Ready => f.write_str("ready"),
            Self::Failed => f.write_str("failed"),
        }
    }
}
impl ::std::str::FromStr for ImageStatus {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "pending" => Ok(Self::Pending),
            "pulling" => Ok(Self::Pulling),
            "converting" => Ok(Self::Converting),
            "ready" => Ok(Self::Ready),
            "failed" => Ok(Self::Failed),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for ImageStatus {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for ImageStatus {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
///What another party said, for example a registry or the VMM.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct InnerError {
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub code: ::std::option::Option<::std::string::String>,
    pub message: ::std::string::String,
}
///`Instance`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    pub id: dataplane_types::InstanceId,
    ///Its own for ever; an instance made again under the same id has another.
    pub uuid: ::uuid::Uuid,
    ///Any text of one line; blanks and capitals are fine.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub name: ::std::option::Option<::std::string::String>,
    pub image: dataplane_types::ImageId,
    pub image_digest: dataplane_types::Digest,
    pub memory_mb: u64,
    pub memory_max_mb: u64,
    pub vcpus: u32,
    pub max_vcpus: u32,
    pub disk_gb: u64,
    ///Environment variables of the program.
    pub env: ::std::collections::BTreeMap<::std::string::String, ::std::string::String>,
    pub entrypoint: ::std::vec::Vec<::std::string::String>,
    pub cmd: ::std::vec::Vec<::std::string::String>,
    ///`0` where neither request nor image names one.
    pub user: ::std::string::String,
    pub working_dir: ::std::string::String,
    pub hostname: ::std::string::String,
    pub network: NetworkConfig,
    /**Ports of the host that lead to ports of the guest: on every address of the host, from other hosts and from the
host itself, its loopback included; not from guests of the same host. A host port that an instance or a program
of the host has is 409 `port_in_use`. An instance has its ports as long as it exists; while it is stopped or in
standby, nobody answers there.
*/
    pub port_mappings: ::std::vec::Vec<PortMapping>,
    ///Free pairs for the caller's own order.
    pub labels: ::std::collections::BTreeMap<
        ::std::string::String,
        ::std::string::String,
    >,
    pub hypervisor: Hypervisor,
    pub hypervisor_version: ::std::string::String,
    pub standby: StandbyClass,
    pub restart_policy: RestartPolicy,
    pub state: InstanceState,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub operation: ::std::option::Option<InstanceOperation>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub last_error: ::std::option::Option<Fault>,
    ///Whether the guest's agent has said that its program runs.
    pub ready: bool,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub private_ip: ::std::option::Option<::std::net::Ipv4Addr>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub mac: ::std::option::Option<dataplane_types::Mac>,
    ///Its name, which guests of this host resolve to `private_ip`.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub fqdn: ::std::option::Option<::std::string::String>,
    ///What the program ended with; 128 and the signal's number when a signal ended it.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub exit_code: ::std::option::Option<i32>,
    ///Whether there is a snapshot that `restore` would go on from.
    pub has_snapshot: bool,
    pub created_at: ::chrono::DateTime<::chrono::offset::Utc>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub started_at: ::std::option::Option<::chrono::DateTime<::chrono::offset::Utc>>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub stopped_at: ::std::option::Option<::chrono::DateTime<::chrono::offset::Utc>>,
    ///Grows with every change of the record.
    pub generation: u64,
}
///`InstanceList`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct InstanceList {
    pub items: ::std::vec::Vec<Instance>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub next_cursor: ::std::option::Option<crate::Cursor>,
}
///Work in progress.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct InstanceOperation {
    pub kind: OperationKind,
    pub id: ::std::string::String,
    pub since: ::chrono::DateTime<::chrono::offset::Utc>,
}
/**- `Created`: the VMM exists, the VM is not booted
- `Running`: the VM runs
- `Paused`: the VM is paused, its memory held
- `Shutdown`: the guest has shut down, the VMM still exists
- `Stopped`: no VMM, no snapshot
- `Standby`: no VMM, a committed snapshot exists; `restore` goes on from it
*/
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum InstanceState {
    Created,
    Running,
    Paused,
    Shutdown,
    Stopped,
    Standby,
}
impl ::std::fmt::Display for InstanceState {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::Created => f.write_str("Created"),
            Self::Running => f.write_str("Running"),
            Self::Paused => f.write_str("Paused"),
            Self::Shutdown => f.write_str("Shutdown"),
            Self::Stopped => f.write_str("Stopped"),
            Self::Standby => f.write_str("Standby"),
        }
    }
}
impl ::std::str::FromStr for InstanceState {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "Created" => Ok(Self::Created),
            "Running" => Ok(Self::Running),
            "Paused" => Ok(Self::Paused),
            "Shutdown" => Ok(Self::Shutdown),
            "Stopped" => Ok(Self::Stopped),
            "Standby" => Ok(Self::Standby),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for InstanceState {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for InstanceState {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
///`InstanceStats`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct InstanceStats {
    pub at: ::chrono::DateTime<::chrono::offset::Utc>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub guest: ::std::option::Option<GuestStats>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub vmm: ::std::option::Option<VmmStats>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub disk: ::std::option::Option<DiskStats>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub network: ::std::option::Option<NetworkStats>,
}
/**One line of the log, without its end: `text`, or `base64` where its bytes are not UTF-8. A line longer than
64 KiB comes in pieces, all but the last with `partial`.
*/
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LogData {
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub text: ::std::option::Option<::std::string::String>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub base64: ::std::option::Option<::std::string::String>,
    ///Absent means false.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub partial: ::std::option::Option<bool>,
}
///One line of the log `dataplane`.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LogEntry {
    pub at: ::chrono::DateTime<::chrono::offset::Utc>,
    pub event: LogEntryKind,
    ///For people.
    pub message: ::std::string::String,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub operation: ::std::option::Option<OperationKind>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub operation_id: ::std::option::Option<::std::string::String>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub state: ::std::option::Option<InstanceState>,
    ///The `code` of `last_error`.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub code: ::std::option::Option<::std::string::String>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub exit_code: ::std::option::Option<i32>,
    ///The VMM's process.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub pid: ::std::option::Option<u32>,
}
/**`operation_begun` and `operation_ended` (with `code` where it failed or was undone), `state` (a new one),
`ready`, `exited` (the program), `vmm_spawned`, `vmm_adopted` (by a daemon that was started), `vmm_exited`,
`trouble` (a `last_error` that is no operation's end), `created`, `resumed` (a daemon was started and looks
after the instance again), `lost` (lines that could not be written).
*/
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum LogEntryKind {
    #[serde(rename = "created")]
    Created,
    #[serde(rename = "resumed")]
    Resumed,
    #[serde(rename = "operation_begun")]
    OperationBegun,
    #[serde(rename = "operation_ended")]
    OperationEnded,
    #[serde(rename = "state")]
    State,
    #[serde(rename = "ready")]
    Ready,
    #[serde(rename = "exited")]
    Exited,
    #[serde(rename = "vmm_spawned")]
    VmmSpawned,
    #[serde(rename = "vmm_adopted")]
    VmmAdopted,
    #[serde(rename = "vmm_exited")]
    VmmExited,
    #[serde(rename = "trouble")]
    Trouble,
    #[serde(rename = "lost")]
    Lost,
}
impl ::std::fmt::Display for LogEntryKind {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::Created => f.write_str("created"),
            Self::Resumed => f.write_str("resumed"),
            Self::OperationBegun => f.write_str("operation_begun"),
            Self::OperationEnded => f.write_str("operation_ended"),
            Self::State => f.write_str("state"),
            Self::Ready => f.write_str("ready"),
            Self::Exited => f.write_str("exited"),
            Self::VmmSpawned => f.write_str("vmm_spawned"),
            Self::VmmAdopted => f.write_str("vmm_adopted"),
            Self::VmmExited => f.write_str("vmm_exited"),
            Self::Trouble => f.write_str("trouble"),
            Self::Lost => f.write_str("lost"),
        }
    }
}
impl ::std::str::FromStr for LogEntryKind {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "created" => Ok(Self::Created),
            "resumed" => Ok(Self::Resumed),
            "operation_begun" => Ok(Self::OperationBegun),
            "operation_ended" => Ok(Self::OperationEnded),
            "state" => Ok(Self::State),
            "ready" => Ok(Self::Ready),
            "exited" => Ok(Self::Exited),
            "vmm_spawned" => Ok(Self::VmmSpawned),
            "vmm_adopted" => Ok(Self::VmmAdopted),
            "vmm_exited" => Ok(Self::VmmExited),
            "trouble" => Ok(Self::Trouble),
            "lost" => Ok(Self::Lost),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for LogEntryKind {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for LogEntryKind {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
/**What was asked for from `from` on is gone: freed, since the log outgrew its limit. The stream goes on at `to`,
which is smaller than `from` where the log ends before that (an offset of another instance, or a host that lost
power before the log was on disk).
*/
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LogGap {
    pub from: u64,
    pub to: u64,
}
/**`app`: the guest's console. `vmm`: what the VMM's processes said. `dataplane`: what the daemon did to this
instance, each line a `LogEntry` in JSON.
*/
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum LogSource {
    #[serde(rename = "app")]
    App,
    #[serde(rename = "vmm")]
    Vmm,
    #[serde(rename = "dataplane")]
    Dataplane,
}
impl ::std::fmt::Display for LogSource {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::App => f.write_str("app"),
            Self::Vmm => f.write_str("vmm"),
            Self::Dataplane => f.write_str("dataplane"),
        }
    }
}
impl ::std::str::FromStr for LogSource {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "app" => Ok(Self::App),
            "vmm" => Ok(Self::Vmm),
            "dataplane" => Ok(Self::Dataplane),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for LogSource {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for LogSource {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
///`NetworkConfig`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    #[serde(default = "defaults::default_bool::<true>")]
    pub enabled: bool,
    ///A free address of the subnet.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub ip: ::std::option::Option<::std::net::Ipv4Addr>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub mac: ::std::option::Option<dataplane_types::Mac>,
    /**The most that the guest sends, and the most that it receives, each in millions of bits per second, counted
in whole Ethernet frames. Absent means no limit.
*/
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub bandwidth_mbps: ::std::option::Option<u32>,
    /**Where the guest may go by the host's uplink: whatever one of these lets through, and nothing else. Absent
means everywhere, an empty list nowhere. Independent of it are answers to whoever reached the guest, and
the name server that guests are given. Guests of one host never reach each other, nor the host but for
names and ICMP echo at the gateway.
*/
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub egress: ::std::option::Option<::std::vec::Vec<EgressRule>>,
}
impl ::std::default::Default for NetworkConfig {
    fn default() -> Self {
        Self {
            bandwidth_mbps: Default::default(),
            egress: Default::default(),
            enabled: defaults::default_bool::<true>(),
            ip: Default::default(),
            mac: Default::default(),
        }
    }
}
///What is to change of the network; an absent field stays as it is.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct NetworkPatch {
    ///The limit from now on, also of an instance that runs; `null` takes it away.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    #[serde(default, deserialize_with = "crate::json::present")]
    pub bandwidth_mbps: ::std::option::Option<::std::option::Option<u32>>,
}
///As the guest sees it.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct NetworkStats {
    pub received_bytes: u64,
    pub received_packets: u64,
    pub sent_bytes: u64,
    pub sent_packets: u64,
}
///`OperationKind`
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum OperationKind {
    #[serde(rename = "create")]
    Create,
    #[serde(rename = "start")]
    Start,
    #[serde(rename = "stop")]
    Stop,
    #[serde(rename = "reboot")]
    Reboot,
    #[serde(rename = "restart")]
    Restart,
    #[serde(rename = "pause")]
    Pause,
    #[serde(rename = "resume")]
    Resume,
    #[serde(rename = "standby")]
    Standby,
    #[serde(rename = "restore")]
    Restore,
    #[serde(rename = "resize")]
    Resize,
    #[serde(rename = "delete")]
    Delete,
}
impl ::std::fmt::Display for OperationKind {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::Create => f.write_str("create"),
            Self::Start => f.write_str("start"),
            Self::Stop => f.write_str("stop"),
            Self::Reboot => f.write_str("reboot"),
            Self::Restart => f.write_str("restart"),
            Self::Pause => f.write_str("pause"),
            Self::Resume => f.write_str("resume"),
            Self::Standby => f.write_str("standby"),
            Self::Restore => f.write_str("restore"),
            Self::Resize => f.write_str("resize"),
            Self::Delete => f.write_str("delete"),
        }
    }
}
impl ::std::str::FromStr for OperationKind {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "create" => Ok(Self::Create),
            "start" => Ok(Self::Start),
            "stop" => Ok(Self::Stop),
            "reboot" => Ok(Self::Reboot),
            "restart" => Ok(Self::Restart),
            "pause" => Ok(Self::Pause),
            "resume" => Ok(Self::Resume),
            "standby" => Ok(Self::Standby),
            "restore" => Ok(Self::Restore),
            "resize" => Ok(Self::Resize),
            "delete" => Ok(Self::Delete),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for OperationKind {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for OperationKind {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
///What is to change; an absent field stays as it is.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PatchInstanceRequest {
    ///Another name for people; `null` takes it away.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    #[serde(default, deserialize_with = "crate::json::present")]
    pub name: ::std::option::Option<::std::option::Option<::std::string::String>>,
    ///Labels to set, and with `null` those to take away. Others stay. All together there may be 32.
    #[serde(
        default,
        skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
    )]
    pub labels: ::std::collections::BTreeMap<
        ::std::string::String,
        ::std::option::Option<::std::string::String>,
    >,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub memory_mb: ::std::option::Option<u64>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub vcpus: ::std::option::Option<u32>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub network: ::std::option::Option<NetworkPatch>,
    ///All of them, in place of those that there are; an empty list takes them all away. At once, also of an instance that runs.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub port_mappings: ::std::option::Option<::std::vec::Vec<PortMapping>>,
}
///`PortMapping`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PortMapping {
    pub host_port: u16,
    pub guest_port: u16,
    #[serde(default = "defaults::port_mapping_protocol")]
    pub protocol: Transport,
}
///RFC 9457, with members of our own.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    #[serde(rename = "type")]
    pub type_: ::std::string::String,
    pub title: ::std::string::String,
    pub status: u32,
    ///The same text as `message`.
    pub detail: ::std::string::String,
    pub code: ProblemCode,
    pub message: ::std::string::String,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub details: ::std::option::Option<::std::vec::Vec<ProblemDetail>>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub inner_error: ::std::option::Option<InnerError>,
    pub request_id: ::std::string::String,
    ///Whether the same request may succeed later without a change.
    pub retryable: bool,
}
///The closed list of what can go wrong. `x-problems` says what each means and its status.
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum ProblemCode {
    #[serde(rename = "bad_request")]
    BadRequest,
    #[serde(rename = "invalid_field")]
    InvalidField,
    #[serde(rename = "unknown_field")]
    UnknownField,
    #[serde(rename = "unauthorized")]
    Unauthorized,
    #[serde(rename = "forbidden")]
    Forbidden,
    #[serde(rename = "insufficient_scope")]
    InsufficientScope,
    #[serde(rename = "route_not_found")]
    RouteNotFound,
    #[serde(rename = "image_not_found")]
    ImageNotFound,
    #[serde(rename = "instance_not_found")]
    InstanceNotFound,
    #[serde(rename = "process_not_found")]
    ProcessNotFound,
    #[serde(rename = "path_not_found")]
    PathNotFound,
    #[serde(rename = "method_not_allowed")]
    MethodNotAllowed,
    #[serde(rename = "not_acceptable")]
    NotAcceptable,
    #[serde(rename = "request_timeout")]
    RequestTimeout,
    #[serde(rename = "already_exists")]
    AlreadyExists,
    #[serde(rename = "busy")]
    Busy,
    #[serde(rename = "invalid_state")]
    InvalidState,
    #[serde(rename = "has_snapshot")]
    HasSnapshot,
    #[serde(rename = "no_snapshot")]
    NoSnapshot,
    #[serde(rename = "hypervisor_mismatch")]
    HypervisorMismatch,
    #[serde(rename = "image_in_use")]
    ImageInUse,
    #[serde(rename = "image_not_ready")]
    ImageNotReady,
    #[serde(rename = "address_in_use")]
    AddressInUse,
    #[serde(rename = "port_in_use")]
    PortInUse,
    #[serde(rename = "network_full")]
    NetworkFull,
    #[serde(rename = "interrupted")]
    Interrupted,
    #[serde(rename = "precondition_failed")]
    PreconditionFailed,
    #[serde(rename = "payload_too_large")]
    PayloadTooLarge,
    #[serde(rename = "unsupported_media_type")]
    UnsupportedMediaType,
    #[serde(rename = "upgrade_required")]
    UpgradeRequired,
    #[serde(rename = "insufficient_host")]
    InsufficientHost,
    #[serde(rename = "address_out_of_range")]
    AddressOutOfRange,
    #[serde(rename = "not_supported")]
    NotSupported,
    #[serde(rename = "image_invalid")]
    ImageInvalid,
    #[serde(rename = "image_unsupported")]
    ImageUnsupported,
    #[serde(rename = "image_pull_failed")]
    ImagePullFailed,
    #[serde(rename = "registry_unauthorized")]
    RegistryUnauthorized,
    #[serde(rename = "registry_not_found")]
    RegistryNotFound,
    #[serde(rename = "guest_refused")]
    GuestRefused,
    #[serde(rename = "too_many_requests")]
    TooManyRequests,
    #[serde(rename = "internal")]
    Internal,
    #[serde(rename = "unavailable")]
    Unavailable,
    #[serde(rename = "vmm_failed")]
    VmmFailed,
    #[serde(rename = "guest_unreachable")]
    GuestUnreachable,
    #[serde(rename = "network_failed")]
    NetworkFailed,
    #[serde(rename = "registry_unavailable")]
    RegistryUnavailable,
    #[serde(rename = "registry_rate_limited")]
    RegistryRateLimited,
    #[serde(rename = "no_space")]
    NoSpace,
}
impl ::std::fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::BadRequest => f.write_str("bad_request"),
            Self::InvalidField => f.write_str("invalid_field"),
            Self::UnknownField => f.write_str("unknown_field"),
            Self::Unauthorized => f.write_str("unauthorized"),
            Self::Forbidden => f.write_str("forbidden"),
            Self::InsufficientScope => f.write_str("insufficient_scope"),
            Self::RouteNotFound => f.write_str("route_not_found"),
            Self::ImageNotFound => f.write_str("image_not_found"),
            Self::InstanceNotFound => f.write_str("instance_not_found"),
            Self::ProcessNotFound => f.write_str("process_not_found"),
            Self::PathNotFound => f.write_str("path_not_found"),
            Self::MethodNotAllowed => f.write_str("method_not_allowed"),
            Self::NotAcceptable => f.write_str("not_acceptable"),
            Self::RequestTimeout => f.write_str("request_timeout"),
            Self::AlreadyExists => f.write_str("already_exists"),
            Self::Busy => f.write_str("busy"),
            Self::InvalidState => f.write_str("invalid_state"),
            Self::HasSnapshot => f.write_str("has_snapshot"),
            Self::NoSnapshot => f.write_str("no_snapshot"),
            Self::HypervisorMismatch => f.write_str("hypervisor_mismatch"),
            Self::ImageInUse => f.write_str("image_in_use"),
            Self::ImageNotReady => f.write_str("image_not_ready"),
            Self::AddressInUse => f.write_str("address_in_use"),
            Self::PortInUse => f.write_str("port_in_use"),
            Self::NetworkFull => f.write_str("network_full"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::PreconditionFailed => f.write_str("precondition_failed"),
            Self::PayloadTooLarge => f.write_str("payload_too_large"),
            Self::UnsupportedMediaType => f.write_str("unsupported_media_type"),
            Self::UpgradeRequired => f.write_str("upgrade_required"),
            Self::InsufficientHost => f.write_str("insufficient_host"),
            Self::AddressOutOfRange => f.write_str("address_out_of_range"),
            Self::NotSupported => f.write_str("not_supported"),
            Self::ImageInvalid => f.write_str("image_invalid"),
            Self::ImageUnsupported => f.write_str("image_unsupported"),
            Self::ImagePullFailed => f.write_str("image_pull_failed"),
            Self::RegistryUnauthorized => f.write_str("registry_unauthorized"),
            Self::RegistryNotFound => f.write_str("registry_not_found"),
            Self::GuestRefused => f.write_str("guest_refused"),
            Self::TooManyRequests => f.write_str("too_many_requests"),
            Self::Internal => f.write_str("internal"),
            Self::Unavailable => f.write_str("unavailable"),
            Self::VmmFailed => f.write_str("vmm_failed"),
            Self::GuestUnreachable => f.write_str("guest_unreachable"),
            Self::NetworkFailed => f.write_str("network_failed"),
            Self::RegistryUnavailable => f.write_str("registry_unavailable"),
            Self::RegistryRateLimited => f.write_str("registry_rate_limited"),
            Self::NoSpace => f.write_str("no_space"),
        }
    }
}
impl ::std::str::FromStr for ProblemCode {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "bad_request" => Ok(Self::BadRequest),
            "invalid_field" => Ok(Self::InvalidField),
            "unknown_field" => Ok(Self::UnknownField),
            "unauthorized" => Ok(Self::Unauthorized),
            "forbidden" => Ok(Self::Forbidden),
            "insufficient_scope" => Ok(Self::InsufficientScope),
            "route_not_found" => Ok(Self::RouteNotFound),
            "image_not_found" => Ok(Self::ImageNotFound),
            "instance_not_found" => Ok(Self::InstanceNotFound),
            "process_not_found" => Ok(Self::ProcessNotFound),
            "path_not_found" => Ok(Self::PathNotFound),
            "method_not_allowed" => Ok(Self::MethodNotAllowed),
            "not_acceptable" => Ok(Self::NotAcceptable),
            "request_timeout" => Ok(Self::RequestTimeout),
            "already_exists" => Ok(Self::AlreadyExists),
            "busy" => Ok(Self::Busy),
            "invalid_state" => Ok(Self::InvalidState),
            "has_snapshot" => Ok(Self::HasSnapshot),
            "no_snapshot" => Ok(Self::NoSnapshot),
            "hypervisor_mismatch" => Ok(Self::HypervisorMismatch),
            "image_in_use" => Ok(Self::ImageInUse),
            "image_not_ready" => Ok(Self::ImageNotReady),
            "address_in_use" => Ok(Self::AddressInUse),
            "port_in_use" => Ok(Self::PortInUse),
            "network_full" => Ok(Self::NetworkFull),
            "interrupted" => Ok(Self::Interrupted),
            "precondition_failed" => Ok(Self::PreconditionFailed),
            "payload_too_large" => Ok(Self::PayloadTooLarge),
            "unsupported_media_type" => Ok(Self::UnsupportedMediaType),
            "upgrade_required" => Ok(Self::UpgradeRequired),
            "insufficient_host" => Ok(Self::InsufficientHost),
            "address_out_of_range" => Ok(Self::AddressOutOfRange),
            "not_supported" => Ok(Self::NotSupported),
            "image_invalid" => Ok(Self::ImageInvalid),
            "image_unsupported" => Ok(Self::ImageUnsupported),
            "image_pull_failed" => Ok(Self::ImagePullFailed),
            "registry_unauthorized" => Ok(Self::RegistryUnauthorized),
            "registry_not_found" => Ok(Self::RegistryNotFound),
            "guest_refused" => Ok(Self::GuestRefused),
            "too_many_requests" => Ok(Self::TooManyRequests),
            "internal" => Ok(Self::Internal),
            "unavailable" => Ok(Self::Unavailable),
            "vmm_failed" => Ok(Self::VmmFailed),
            "guest_unreachable" => Ok(Self::GuestUnreachable),
            "network_failed" => Ok(Self::NetworkFailed),
            "registry_unavailable" => Ok(Self::RegistryUnavailable),
            "registry_rate_limited" => Ok(Self::RegistryRateLimited),
            "no_space" => Ok(Self::NoSpace),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for ProblemCode {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for ProblemCode {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
///One thing that is wrong with the request.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ProblemDetail {
    #[serde(rename = "in")]
    pub in_: ProblemPlace,
    pub field: ::std::string::String,
    pub message: ::std::string::String,
}
///`ProblemPlace`
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum ProblemPlace {
    #[serde(rename = "body")]
    Body,
    #[serde(rename = "path")]
    Path,
    #[serde(rename = "query")]
    Query,
    #[serde(rename = "header")]
    Header,
}
impl ::std::fmt::Display for ProblemPlace {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::Body => f.write_str("body"),
            Self::Path => f.write_str("path"),
            Self::Query => f.write_str("query"),
            Self::Header => f.write_str("header"),
        }
    }
}
impl ::std::str::FromStr for ProblemPlace {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "body" => Ok(Self::Body),
            "path" => Ok(Self::Path),
            "query" => Ok(Self::Query),
            "header" => Ok(Self::Header),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for ProblemPlace {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for ProblemPlace {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
///`Process`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Process {
    ///As programs of the guest number it.
    pub pid: u32,
    ///As far as it fits into 512 bytes.
    pub command: ::std::vec::Vec<::std::string::String>,
    pub tty: bool,
    pub detached: bool,
    pub running: bool,
    ///By the guest's clock.
    pub started_at: ::chrono::DateTime<::chrono::offset::Utc>,
    ///By the guest's clock.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub ended_at: ::std::option::Option<::chrono::DateTime<::chrono::offset::Utc>>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub exit_code: ::std::option::Option<u32>,
    ///The signal that ended it.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub signal: ::std::option::Option<u32>,
}
///`ProcessList`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ProcessList {
    pub items: ::std::vec::Vec<Process>,
}
///`Progress`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    pub done_bytes: u64,
    pub total_bytes: u64,
}
///`Readiness`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Readiness {
    ///Whether every required check passes.
    pub ready: bool,
    pub checks: ::std::vec::Vec<ReadinessCheck>,
}
///`ReadinessCheck`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ReadinessCheck {
    pub name: ::std::string::String,
    pub ok: bool,
    ///Whether instances cannot run without it.
    pub required: bool,
    ///What was found, for example a version.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub detail: ::std::option::Option<::std::string::String>,
    ///What to do about it.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub remedy: ::std::option::Option<::std::string::String>,
}
///Either a user name and password, or a token.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RegistryCredentials {
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub username: ::std::option::Option<::std::string::String>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub password: ::std::option::Option<crate::Secret>,
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub registry_token: ::std::option::Option<crate::Secret>,
}
/**Whether an instance is started anew when it ended by itself; what a client has stopped stays stopped.
- `never`: it is not
- `on_failure`: when it failed: an exit code other than 0, a panic, a VMM that ended, a host that rebooted
- `always`: however it ended
*/
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum RestartPolicy {
    #[serde(rename = "never")]
    Never,
    #[serde(rename = "on_failure")]
    OnFailure,
    #[serde(rename = "always")]
    Always,
}
impl ::std::fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::Never => f.write_str("never"),
            Self::OnFailure => f.write_str("on_failure"),
            Self::Always => f.write_str("always"),
        }
    }
}
impl ::std::str::FromStr for RestartPolicy {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "never" => Ok(Self::Never),
            "on_failure" => Ok(Self::OnFailure),
            "always" => Ok(Self::Always),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for RestartPolicy {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for RestartPolicy {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::default::Default for RestartPolicy {
    fn default() -> Self {
        RestartPolicy::Never
    }
}
///`SignalRequest`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    ///A name, with or without `SIG`, or a number from 1 to 64.
    pub signal: ::std::string::String,
    ///Whether to the whole process group; SIGKILL then to all that it has started.
    #[serde(default)]
    pub group: bool,
}
/**What a standby costs, and when. It is chosen when an instance is made.
- `sparse`: the memory that the guest has used is written at standby and read at restore, so both take time with
  its amount. Nothing is reserved or written before; the disk must have room when the standby comes (507).
- `instant`: the memory is a file of the data directory from boot on. A standby writes only what has changed since
  the host last wrote it back, a restore copies nothing. The price: the whole of the memory is reserved on disk
  before the VM boots (507 `no_space` where that much is not free) and for as long as the instance runs or
  stands by; changed memory is written to that disk while the VM runs; and memory cannot grow, so
  `memory_max_mb` must equal `memory_mb` (422 `not_supported`).
*/
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum StandbyClass {
    #[serde(rename = "sparse")]
    Sparse,
    #[serde(rename = "instant")]
    Instant,
}
impl ::std::fmt::Display for StandbyClass {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::Sparse => f.write_str("sparse"),
            Self::Instant => f.write_str("instant"),
        }
    }
}
impl ::std::str::FromStr for StandbyClass {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "sparse" => Ok(Self::Sparse),
            "instant" => Ok(Self::Instant),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for StandbyClass {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for StandbyClass {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::default::Default for StandbyClass {
    fn default() -> Self {
        StandbyClass::Sparse
    }
}
///`Transport`
#[derive(
    ::serde::Deserialize,
    ::serde::Serialize,
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd
)]
pub enum Transport {
    #[serde(rename = "tcp")]
    Tcp,
    #[serde(rename = "udp")]
    Udp,
}
impl ::std::fmt::Display for Transport {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        match *self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
        }
    }
}
impl ::std::str::FromStr for Transport {
    type Err = self::error::ConversionError;
    fn from_str(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        match value {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err("invalid value".into()),
        }
    }
}
impl ::std::convert::TryFrom<&str> for Transport {
    type Error = self::error::ConversionError;
    fn try_from(
        value: &str,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::convert::TryFrom<::std::string::String> for Transport {
    type Error = self::error::ConversionError;
    fn try_from(
        value: ::std::string::String,
    ) -> ::std::result::Result<Self, self::error::ConversionError> {
        value.parse()
    }
}
impl ::std::default::Default for Transport {
    fn default() -> Self {
        Transport::Tcp
    }
}
///The VMM process, as the host's kernel counts.
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct VmmStats {
    pub pid: u32,
    pub cpu_seconds: f64,
    pub rss_bytes: u64,
    ///With `pss=true`: what is shared is divided by its users.
    #[serde(skip_serializing_if = "::std::option::Option::is_none")]
    pub pss_bytes: ::std::option::Option<u64>,
    pub threads: u64,
}
///`WaitResult`
#[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct WaitResult {
    pub instance: Instance,
    ///Whether the time was over before it came true.
    pub timed_out: bool,
}
/// Generation of default values for serde.
pub mod defaults {
    pub(super) fn default_bool<const V: bool>() -> bool {
        V
    }
    pub(super) fn default_u64<T, const V: u64>() -> T
    where
        T: ::std::convert::TryFrom<u64>,
        <T as ::std::convert::TryFrom<u64>>::Error: ::std::fmt::Debug,
    {
        T::try_from(V).unwrap()
    }
    pub(super) fn create_image_request_source() -> super::ImageSource {
        super::ImageSource::Registry
    }
    pub(super) fn create_instance_request_restart_policy() -> super::RestartPolicy {
        super::RestartPolicy::Never
    }
    pub(super) fn create_instance_request_standby() -> super::StandbyClass {
        super::StandbyClass::Sparse
    }
    pub(super) fn port_mapping_protocol() -> super::Transport {
        super::Transport::Tcp
    }
}
/// Error types.
pub mod error {
    /// Error from a `TryFrom` or `FromStr` implementation.
    pub struct ConversionError(::std::borrow::Cow<'static, str>);
    impl ::std::error::Error for ConversionError {}
    impl ::std::fmt::Display for ConversionError {
        fn fmt(
            &self,
            f: &mut ::std::fmt::Formatter<'_>,
        ) -> Result<(), ::std::fmt::Error> {
            ::std::fmt::Display::fmt(&self.0, f)
        }
    }
    impl ::std::fmt::Debug for ConversionError {
        fn fmt(
            &self,
            f: &mut ::std::fmt::Formatter<'_>,
        ) -> Result<(), ::std::fmt::Error> {
            ::std::fmt::Debug::fmt(&self.0, f)
        }
    }
    impl From<&'static str> for ConversionError {
        fn from(value: &'static str) -> Self {
            Self(value.into())
        }
    }
    impl From<String> for ConversionError {
        fn from(value: String) -> Self {
            Self(value.into())
        }
    }
}
