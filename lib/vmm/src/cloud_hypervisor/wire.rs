//! Cloud Hypervisor's own words: the JSON of `vm.create` and `vm.info`. Absent is absent: the VMM ignores fields that it
//! does not know, so a typo here would be silent, and only these types ever become a body.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Version;
use crate::{DiskSpec, NetSpec, VmSpec};

/// The first version that calls the VM's UUID `system_uuid`.
const SYSTEM_UUID: Version = (53, 0);
/// Every VMM has CIDs of its own, so all guests can have the first one that is free.
const GUEST_CID: u32 = 3;
/// The id of the one network device.
pub(super) const NET: &str = "net";
/// The id of the one memory zone, also where the VMM names it by itself.
pub(super) const ZONE: &str = "mem0";
/// What the VMM aligns memory to that can be plugged in.
const PLUGGABLE: u64 = 128 << 20;

#[derive(Debug, Serialize)]
pub(super) struct VmConfig<'a> {
    cpus: Cpus,
    memory: Memory<'a>,
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
struct Memory<'a> {
    /// Nothing where there is a zone.
    size: u64,
    /// A memfd: what sparse snapshots and forks need, and it cannot be changed later.
    shared: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hotplug_method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hotplug_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zones: Option<[Zone<'a>; 1]>,
}

/// Memory in a file: a snapshot leaves it where it is.
#[derive(Debug, Serialize)]
struct Zone<'a> {
    id: &'static str,
    size: u64,
    file: &'a Path,
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
    pub(super) fn new(spec: &'a VmSpec, vsock: &'a Path, version: Version) -> Self {
        let has_system_uuid = version >= SYSTEM_UUID;
        Self {
            cpus: Cpus { boot_vcpus: spec.boot.vcpus, max_vcpus: spec.max.vcpus },
            memory: Memory::new(spec),
            payload: Payload { kernel: &spec.kernel, initramfs: &spec.initramfs, cmdline: &spec.cmdline },
            disks: spec.disks.iter().map(Disk::new).collect(),
            net: spec.net.as_ref().map(|net| [Net::new(net)]),
            rng: Rng { src: "/dev/urandom" },
            // What the guest reports as free is punched out of the memory: out of a file that must not have holes, since
            // nobody knows whether the disk still has room for them.
            balloon: Balloon { size: 0, deflate_on_oom: true, free_page_reporting: spec.memory_file.is_none() },
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

impl<'a> Memory<'a> {
    fn new(spec: &'a VmSpec) -> Self {
        let size = spec.boot.memory.bytes();
        if let Some(file) = &spec.memory_file {
            let zones = Some([Zone { id: ZONE, size, file, shared: true }]);
            return Self { size: 0, shared: false, hotplug_method: None, hotplug_size: None, zones };
        }
        let growth = spec.max.memory.bytes().saturating_sub(size);
        let hotplug_size = (growth > 0).then(|| growth.next_multiple_of(PLUGGABLE));
        Self { size, shared: true, hotplug_method: hotplug_size.map(|_| "VirtioMem"), hotplug_size, zones: None }
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
        Self { id: NET, tap: net.tap.as_str(), mac: net.mac.to_string() }
    }
}

/// The answer to `vm.info`: what of it is used.
#[derive(Debug, Deserialize)]
pub(super) struct VmInfo {
    pub(super) state: State,
    config: Value,
    device_tree: Option<BTreeMap<String, IgnoredAny>>,
}

impl VmInfo {
    /// The identity that the VM was created with.
    pub(super) fn uuid(&self) -> Option<&str> {
        let platform = &self.config["platform"];
        platform["system_uuid"].as_str().or_else(|| platform["uuid"].as_str())
    }

    /// How many processors were last asked for.
    pub(super) fn vcpus(&self) -> Option<u64> {
        self.config["cpus"]["boot_vcpus"].as_u64()
    }

    /// A device that is listed but not there, or there but no longer listed: its unplugging has not ended.
    pub(super) fn device_in_between(&self) -> Option<&str> {
        let tree = self.device_tree.as_ref()?;
        let listed = listed_devices(&self.config);
        let missing = listed.iter().copied().find(|id| !tree.contains_key(*id));
        let present = tree.keys().filter_map(|name| name.strip_prefix("_virtio-pci-"));
        // The device that plugs memory is in no list either.
        let mut present = present.filter(|id| is_of_ours(id) && *id != ZONE);
        missing.or_else(|| present.find(|id| !listed.contains(id)))
    }
}

/// The ids of the devices in a configuration: of the members of its lists, and of its single devices.
pub(super) fn listed_devices(config: &Value) -> BTreeSet<&str> {
    let fields = config.as_object().into_iter().flatten().filter(|(name, _)| *name != "rate_limit_groups");
    let devices = fields.flat_map(|(_, field)| field.as_array().map_or(std::slice::from_ref(field), Vec::as_slice));
    devices.filter_map(|device| device.get("id")?.as_str()).filter(|id| is_of_ours(id)).collect()
}

/// Whether a device is one that a configuration lists, and not one that the VMM always makes.
fn is_of_ours(id: &str) -> bool {
    !id.starts_with("__")
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
    use serde_json::json;

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
        let body = serde_json::to_string(&VmConfig::new(&spec, Path::new("/v"), (53, 0))).unwrap();
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
        let old = serde_json::to_value(VmConfig::new(&spec, Path::new("/v"), (52, 1))).unwrap();
        assert_eq!(old["platform"], json!({"uuid": "00000000-0000-0000-0000-000000000001"}));
    }

    #[test]
    fn memory_can_grow_or_lie_in_a_file() {
        let sizes = |mib| Sizes { vcpus: 1, memory: Mib(mib) };
        let spec = |boot, max, memory_file: Option<&str>| VmSpec {
            uuid: Uuid::nil(),
            boot: sizes(boot),
            now: sizes(boot),
            max: sizes(max),
            memory_file: memory_file.map(PathBuf::from),
            kernel: "/k".into(),
            initramfs: "/i".into(),
            cmdline: String::new(),
            disks: Vec::new(),
            net: None,
        };
        let config = |spec| serde_json::to_value(VmConfig::new(&spec, Path::new("/v"), (53, 0))).unwrap();
        let memory = |spec| config(spec)["memory"].take();
        let growing = memory(spec(1000, 1001, None));
        let expected =
            json!({"size": 1000 << 20, "shared": true, "hotplug_method": "VirtioMem", "hotplug_size": 128 << 20});
        assert_eq!(growing, expected);
        assert_eq!(memory(spec(512, 768, None))["hotplug_size"], 256 << 20);
        let zone = json!({"id": "mem0", "size": 64 << 20, "file": "/m", "shared": true});
        assert_eq!(config(spec(64, 64, Some("/m")))["balloon"]["free_page_reporting"], false);
        assert_eq!(memory(spec(64, 64, Some("/m"))), json!({"size": 0, "shared": false, "zones": [zone]}));
    }

    #[test]
    fn a_device_between_two_states_is_found() {
        let between = |config: &str, tree: &str| {
            let text = format!(r#"{{"config":{config},"state":"Paused","device_tree":{tree}}}"#);
            let info: VmInfo = serde_json::from_str(&text).unwrap();
            info.device_in_between().map(str::to_owned)
        };
        let config = r#"{"disks":[{"id":"a"}],"net":null,"vsock":{"id":"_vsock1"},"rng":{"id":null},
            "rate_limit_groups":[{"id":"slow"}],"memory":{"zones":[{"id":"mem0"}]}}"#;
        let both =
            r#""_virtio-pci-a":{},"a":{},"_virtio-pci-_vsock1":{},"_vsock1":{},"_virtio-pci-__rng":{},"__rng":{}"#;
        let with = |more: &str| format!("{{{both},\"_virtio-pci-mem0\":{{}},\"mem0\":{{}}{more}}}");
        assert_eq!(between(config, &with("")), None);
        assert_eq!(between(config, &with(r#","_virtio-pci-b":{},"b":{}"#)), Some("b".into()));
        assert_eq!(between(config, r#"{"_virtio-pci-a":{},"a":{}}"#), Some("_vsock1".into()));
        assert_eq!(between(config, "null"), None);
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
