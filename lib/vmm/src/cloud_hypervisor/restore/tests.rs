//! Configurations as two versions of the VMM write them, and what becomes of them.

use std::net::Ipv4Addr;

use dataplane_types::{Mac, Mib, TapName};
use serde_json::json;

use super::*;
use crate::{NetSpec, Purpose, Sizes};

const SIZES: Sizes = Sizes { vcpus: 1, memory: Mib(64) };
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn launch() -> Launch {
    let disk =
        |serial: &str, readonly| DiskSpec { serial: serial.into(), path: format!("/new/{serial}").into(), readonly };
    Launch {
        purpose: Purpose::Restore,
        spec: VmSpec {
            uuid: uuid::Uuid::nil(),
            boot: SIZES,
            now: SIZES,
            max: SIZES,
            memory_file: None,
            kernel: "/new/kernel".into(),
            initramfs: "/new/initramfs".into(),
            cmdline: "new".into(),
            disks: vec![disk("image", true), disk("writable", false)],
            net: Some(NetSpec { tap: TapName::of(ADDRESS), mac: Mac::of_guest(ADDRESS) }),
        },
        run_dir: "/new/run".into(),
        serial_log: "/new/serial".into(),
        vmm_log: "/new/vmm".into(),
        events: "/new/events".into(),
        confinement: crate::Confinement::default(),
    }
}

/// As version 53.0 wrote it, but for the paths; 52 also writes null for all that is not there.
fn config(nulls: bool) -> Value {
    let disk = |id: &str, readonly: bool| {
        json!({
            "id": id, "pci_segment": 0, "path": format!("/old/{id}"), "readonly": readonly, "direct": false,
            "num_queues": 1, "queue_size": 128, "vhost_user": false, "disable_io_uring": false, "disable_aio": false,
            "serial": id, "backing_files": false, "sparse": !readonly, "image_type": "Raw",
            "lock_granularity": "ByteRange",
        })
    };
    let mut config = json!({
        "cpus": {
            "boot_vcpus": 2, "max_vcpus": 3, "kvm_hyperv": false, "max_phys_bits": 46, "features": {"amx": false},
            "nested": true, "core_scheduling": "Vm", "profile": "Host",
        },
        "memory": {
            "size": 134217728, "mergeable": false, "hotplug_method": "VirtioMem", "hotplug_size": 134217728,
            "hotplugged_size": 67108864, "shared": true, "hugepages": false, "prefault": false, "reserve": false,
            "thp": true,
        },
        "payload": {"kernel": "/old/kernel", "cmdline": "old", "initramfs": "/old/initramfs"},
        "disks": [disk("image", true), disk("writable", false)],
        "net": [{
            "id": "net", "pci_segment": 0, "tap": "old", "mac": "02:00:00:00:00:01", "host_mac": "02:00:00:00:00:02",
            "num_queues": 2, "queue_size": 256, "vhost_user": false, "vhost_mode": "Client", "offload_tso": true,
            "offload_ufo": true, "offload_csum": true,
        }],
        "rng": {"pci_segment": 0, "src": "/dev/urandom"},
        "balloon": {"pci_segment": 0, "size": 0, "deflate_on_oom": true, "free_page_reporting": true},
        "serial": {"mode": "Tty"},
        "console": {"mode": "Off", "pci_segment": 0},
        "debug_console": {"mode": "Off", "iobase": 233},
        "vsock": {"id": "_vsock0", "pci_segment": 0, "cid": 3, "socket": "/old/run/vsock.sock"},
        "pvpanic": true,
        "iommu": false,
        "watchdog": false,
        "platform": {
            "num_pci_segments": 1, "iommu_address_width_bits": 64, "iommufd": false, "vfio_p2p_dma": true,
            "system_uuid": "00000000-0000-0000-0000-000000000001",
        },
        "landlock_enable": false,
    });
    if nulls {
        for name in ["pmem", "fs", "devices", "user_devices", "vdpa", "tpm", "numa", "rate_limit_groups"] {
            config[name] = Value::Null;
        }
        config["memory"]["zones"] = Value::Null;
        for name in ["serial", "console"] {
            config[name]["file"] = Value::Null;
            config[name]["socket"] = Value::Null;
        }
    }
    config
}

#[test]
fn only_the_names_of_host_resources_change() {
    for nulls in [false, true] {
        let mut rewritten = config(nulls);
        rewrite(&mut rewritten, &launch()).unwrap();
        let mut expected = config(nulls);
        expected["disks"][0]["path"] = "/new/image".into();
        expected["disks"][1]["path"] = "/new/writable".into();
        expected["net"][0]["tap"] = "tap0a000002".into();
        expected["net"][0].as_object_mut().unwrap().remove("host_mac");
        expected["vsock"]["socket"] = "/new/run/vsock.sock".into();
        expected["payload"] = json!({"kernel": "/new/kernel", "cmdline": "new", "initramfs": "/new/initramfs"});
        for name in ["serial", "console"] {
            expected[name].as_object_mut().unwrap().retain(|field, _| !["file", "socket"].contains(&field.as_str()));
        }
        assert_eq!(rewritten, expected, "nulls: {nulls}");
        assert!(!rewritten.to_string().contains("/old/"));
    }
}

#[test]
fn memory_in_a_file_is_found_where_the_launch_has_it() {
    let zone = json!({"id": "mem0", "size": 67108864, "file": "/old/memory", "shared": true});
    let mut file = config(false);
    file["memory"] = json!({"size": 0, "shared": false, "zones": [zone]});
    let mut launch = launch();
    launch.spec.memory_file = Some("/new/memory".into());
    rewrite(&mut file, &launch).unwrap();
    assert_eq!(file["memory"]["zones"][0]["file"], "/new/memory");
    assert_eq!(file["memory"]["zones"][0]["size"], 67108864);
    assert_eq!(ram_of(&file, 0), Ram::File);
    assert_eq!(ram_of(&config(true), 5), Ram::Shared);
    let error = rewrite(&mut config(true), &launch).unwrap_err();
    assert_eq!(error, "its memory does not lie in a file, the VM's does");
    launch.spec.memory_file = None;
    assert_eq!(rewrite(&mut file, &launch).unwrap_err(), "its memory lies in a file, the VM's does not");
}

#[test]
fn what_does_not_fit_is_named() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 10] = [
        (|config| drop(config["disks"].as_array_mut().unwrap().pop()), "it does not hold the device \"writable\""),
        (|config| config["disks"][1]["id"] = "image".into(), "two devices \"image\""),
        (|config| config["disks"][1]["id"] = "stranger".into(), "it holds the device \"stranger\""),
        (|config| config["fs"] = json!([{"id": "fs0", "socket": "/s"}]), "it holds the device \"fs0\""),
        (|config| config["disks"][0]["readonly"] = false.into(), "the disk \"image\" is read-only"),
        (|config| config["disks"] = Value::Null, "it does not hold the device \"image\""),
        (|config| config["net"] = Value::Null, "it does not hold the device \"net\""),
        (|config| config["vsock"] = Value::Null, "config.json has no vsock"),
        (|config| config["disks"][0]["path"] = 7.into(), "config.json has 7 for path"),
        (|config| config["payload"] = json!([]), "config.json has no payload"),
    ];
    for (change, words) in cases {
        let mut changed = config(false);
        change(&mut changed);
        let error = rewrite(&mut changed, &launch()).unwrap_err();
        assert!(error.contains(words), "{words:?} is not in {error:?}");
    }
    let mut alone = launch();
    alone.spec.net = None;
    let error = rewrite(&mut config(false), &alone).unwrap_err();
    assert_eq!(error, "it holds the device \"net\", which the VM does not have");
}

#[test]
fn the_mode_follows_version_and_memory() {
    const GIB: u64 = 1 << 30;
    let private = |version, bytes, can_page| mode(version, Ram::Private(bytes), can_page);
    for version in [(52, 0), (52, 1), (53, 0), (53, 2), (54, 0), (60, 0)] {
        for can_page in [false, true] {
            assert_eq!(mode(version, Ram::Shared, can_page), Mode::Copy, "{version:?}");
            assert_eq!(mode(version, Ram::File, can_page), Mode::Copy, "{version:?}");
        }
    }
    assert_eq!(private((52, 0), GIB + 1, true), Mode::OnDemand);
    assert_eq!(private((52, 0), GIB, true), Mode::Copy);
    assert_eq!(private((52, 0), GIB + 1, false), Mode::Copy);
    assert_eq!(private((53, 0), GIB + 1, true), Mode::Copy);
    assert_eq!(private((54, 0), 1, false), Mode::CopyOnWrite);
}

#[test]
fn a_copy_replaces_what_was_left_and_goes_whole() {
    let directory = tempfile::tempdir().unwrap();
    let launch = Launch { run_dir: directory.path().to_owned(), ..launch() };
    let snapshot = Snapshot { config: json!({"a": 1}), state: b"{}".to_vec(), memory_bytes: 1 };
    let first = Copy::make(&launch, Path::new("/first"), &snapshot).unwrap();
    drop(first);
    let copy = Copy::make(&launch, Path::new("/second"), &snapshot).unwrap();
    let read = |name| std::fs::read(copy.directory().join(name)).unwrap();
    assert_eq!((read(CONFIG), read(STATE)), (br#"{"a":1}"#.to_vec(), b"{}".to_vec()));
    assert_eq!(std::fs::read_link(copy.directory().join(MEMORY)).unwrap(), Path::new("/second/memory-ranges"));
    copy.remove().unwrap();
    copy.remove().unwrap();
    assert!(!copy.directory().exists());
    let without = Snapshot { memory_bytes: 0, ..snapshot };
    let copy = Copy::make(&launch, Path::new("/third"), &without).unwrap();
    assert_eq!(std::fs::read_dir(copy.directory()).unwrap().count(), 2);
}
