//! Cloud Hypervisor's own words: the JSON of `vm.create` and `vm.info`. Absent is absent: the VMM ignores fields that it
//! does not know, so a typo here would be silent, and only these types ever become a body.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DiskSpec, NetSpec, VmSpec};

/// Every VMM has CIDs of its own, so all guests can have the first one that is free.
const GUEST_CID: u32 = 3;

#[derive(Debug, Serialize)]
pub(super) struct VmConfig<'a> {
    cpus: Cpus,
    memory: Memory,
    payload: Payload<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    disks: Vec<Disk<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    net: Option<[Net<'a>; 1]>,
    rng: Rng,
    balloon: Balloon,
    serial: Console,
    console: Console,
    vsock: Vsock<'a>,
    platform: Platform,
    pvpanic: bool,
}

#[derive(Debug, Serialize)]
struct Cpus {
    boot_vcpus: u32,
    max_vcpus: u32,
}

#[derive(Debug, Serialize)]
struct Memory {
    size: u64,
    /// A memfd: what sparse snapshots and forks need, and it cannot be changed later.
    shared: bool,
}

#[derive(Debug, Serialize)]
struct Payload<'a> {
    kernel: &'a Path,
    initramfs: &'a Path,
    cmdline: &'a str,
}

#[derive(Debug, Serialize)]
struct Disk<'a> {
    id: &'a str,
    path: &'a Path,
    /// Never left to detection: detected raw disks have their first sector write-protected.
    image_type: &'static str,
    readonly: bool,
    serial: &'a str,
    /// Discards punch holes; on a read-only disk the VMM would only warn that it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    sparse: Option<bool>,
}

/// No MTU and no host MAC: setting either needs a capability that the VMM does not have.
#[derive(Debug, Serialize)]
struct Net<'a> {
    id: &'static str,
    tap: &'a str,
    mac: String,
}

#[derive(Debug, Serialize)]
struct Rng {
    src: &'static str,
}

/// Cannot be added later, so it is always there, empty.
#[derive(Debug, Serialize)]
struct Balloon {
    size: u64,
    deflate_on_oom: bool,
    free_page_reporting: bool,
}

#[derive(Debug, Serialize)]
struct Console {
    mode: &'static str,
}

#[derive(Debug, Serialize)]
struct Vsock<'a> {
    cid: u32,
    socket: &'a Path,
}

#[derive(Debug, Serialize)]
struct Platform {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_uuid: Option<Uuid>,
    /// The same before version 53.
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<Uuid>,
}

impl<'a> VmConfig<'a> {
    pub(super) fn new(spec: &'a VmSpec, vsock: &'a Path, has_system_uuid: bool) -> Self {
        Self {
            cpus: Cpus { boot_vcpus: spec.boot.vcpus, max_vcpus: spec.max.vcpus },
            memory: Memory { size: spec.boot.memory.bytes(), shared: true },
            payload: Payload { kernel: &spec.kernel, initramfs: &spec.initramfs, cmdline: &spec.cmdline },
            disks: spec.disks.iter().map(Disk::new).collect(),
            net: spec.net.as_ref().map(|net| [Net::new(net)]),
            rng: Rng { src: "/dev/urandom" },
            balloon: Balloon { size: 0, deflate_on_oom: true, free_page_reporting: true },
            serial: Console { mode: "Tty" },
            console: Console { mode: "Off" },
            vsock: Vsock { cid: GUEST_CID, socket: vsock },
            platform: Platform {
                system_uuid: has_system_uuid.then_some(spec.uuid),
                uuid: (!has_system_uuid).then_some(spec.uuid),
            },
            pvpanic: true,
        }
    }
}

impl<'a> Disk<'a> {
    fn new(disk: &'a DiskSpec) -> Self {
        Self {
            id: &disk.serial,
            path: &disk.path,
            image_type: "Raw",
            readonly: disk.readonly,
            serial: &disk.serial,
            sparse: disk.readonly.then_some(false),
        }
    }
}

impl<'a> Net<'a> {
    fn new(net: &'a NetSpec) -> Self {
        Self { id: "net", tap: net.tap.as_str(), mac: net.mac.to_string() }
    }
}

/// The answer to `vm.info`: what of it is used.
#[derive(Debug, Deserialize)]
pub(super) struct VmInfo {
    pub(super) state: State,
    config: InfoConfig,
}

impl VmInfo {
    /// The identity that the VM was created with.
    pub(super) fn uuid(&self) -> Option<&str> {
        self.config.platform.as_ref().and_then(|platform| platform.uuid.as_deref())
    }
}

#[derive(Debug, Deserialize)]
struct InfoConfig {
    platform: Option<InfoPlatform>,
}

#[derive(Debug, Deserialize)]
struct InfoPlatform {
    #[serde(alias = "system_uuid")]
    uuid: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum State {
    /// A configuration, and no VM: also after a shutdown.
    Created,
    Running,
    Shutdown,
    Paused,
    BreakPoint,
}

/// Where the driver's sockets are.
#[derive(Debug, Clone)]
pub(super) struct Sockets {
    pub(super) api: PathBuf,
    pub(super) vsock: PathBuf,
}

impl Sockets {
    pub(super) fn below(run_dir: &Path) -> Self {
        Self { api: run_dir.join("ch.sock"), vsock: run_dir.join("vsock.sock") }
    }
}

#[cfg(test)]
mod tests {
    use dataplane_types::{Mac, Mib, TapName};

    use super::*;
    use crate::Sizes;

    const SIZES: Sizes = Sizes { vcpus: 2, memory: Mib(64) };

    #[test]
    fn the_body_is_exactly_this() {
        let address = std::net::Ipv4Addr::new(10, 0, 0, 2);
        let spec = VmSpec {
            uuid: Uuid::from_u128(1),
            boot: SIZES,
            now: SIZES,
            max: SIZES,
            memory_file: None,
            kernel: "/k".into(),
            initramfs: "/i".into(),
            cmdline: "console=ttyS0".into(),
            disks: vec![
                DiskSpec { serial: "image".into(), path: "/d0".into(), readonly: true },
                DiskSpec { serial: "writable".into(), path: "/d1".into(), readonly: false },
            ],
            net: Some(NetSpec { tap: TapName::of(address), mac: Mac::of_guest(address) }),
        };
        let body = serde_json::to_string(&VmConfig::new(&spec, Path::new("/v"), true)).unwrap();
        let expected = concat!(
            r#"{"cpus":{"boot_vcpus":2,"max_vcpus":2},"memory":{"size":67108864,"shared":true},"#,
            r#""payload":{"kernel":"/k","initramfs":"/i","cmdline":"console=ttyS0"},"#,
            r#""disks":[{"id":"image","path":"/d0","image_type":"Raw","readonly":true,"serial":"image","sparse":false},"#,
            r#"{"id":"writable","path":"/d1","image_type":"Raw","readonly":false,"serial":"writable"}],"#,
            r#""net":[{"id":"net","tap":"tap0a000002","mac":"02:d0:0a:00:00:02"}],"rng":{"src":"/dev/urandom"},"#,
            r#""balloon":{"size":0,"deflate_on_oom":true,"free_page_reporting":true},"serial":{"mode":"Tty"},"#,
            r#""console":{"mode":"Off"},"vsock":{"cid":3,"socket":"/v"},"#,
            r#""platform":{"system_uuid":"00000000-0000-0000-0000-000000000001"},"pvpanic":true}"#,
        );
        assert_eq!(body, expected);
        let old = serde_json::to_value(VmConfig::new(&spec, Path::new("/v"), false)).unwrap();
        assert_eq!(old["platform"], serde_json::json!({"uuid": "00000000-0000-0000-0000-000000000001"}));
    }

    #[test]
    fn info_is_read_from_old_and_new_versions() {
        for platform in [r#"{"system_uuid":"u","num_pci_segments":1}"#, r#"{"uuid":"u"}"#] {
            let text = format!(r#"{{"config":{{"platform":{platform},"net":null}},"state":"Created"}}"#);
            let info: VmInfo = serde_json::from_str(&text).unwrap();
            assert_eq!((info.state, info.uuid()), (State::Created, Some("u")));
        }
        let info: VmInfo = serde_json::from_str(r#"{"config":{"platform":null},"state":"Paused"}"#).unwrap();
        assert_eq!((info.state, info.uuid()), (State::Paused, None));
    }
}
