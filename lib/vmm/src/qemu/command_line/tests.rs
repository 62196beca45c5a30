use dataplane_types::{Mac, Mib, TapName};
use uuid::Uuid;

use super::*;
use crate::{NetSpec, Purpose, Sizes, VmSpec};

const SIZES: Sizes = Sizes { vcpus: 2, memory: Mib(64) };
const DESCRIPTORS: Descriptors = Descriptors { console: 8, tap: Some(9) };

pub(in crate::qemu) fn launch() -> Launch {
    let address = std::net::Ipv4Addr::new(10, 0, 0, 2);
    let disk = |serial: &str, readonly| DiskSpec { serial: serial.into(), path: "/d,1".into(), readonly };
    Launch {
        purpose: Purpose::Boot,
        spec: VmSpec {
            uuid: Uuid::from_u128(1),
            boot: SIZES,
            now: SIZES,
            max: SIZES,
            memory_file: None,
            kernel: "/k".into(),
            initramfs: "/i".into(),
            cmdline: "console=ttyS0 a,b".into(),
            disks: vec![disk("image", true), disk("writable", false)],
            net: Some(NetSpec { tap: TapName::of(address), mac: Mac::of_guest(address) }),
        },
        run_dir: "/run/a,b".into(),
        serial_log: "/logs/serial.log".into(),
        vmm_log: "/logs/vmm.log".into(),
        events: "/logs/events.1.json".into(),
        confinement: crate::Confinement::default(),
    }
}

#[test]
fn the_command_line_is_exactly_this() {
    let arguments = arguments(&launch(), "pc-q35-7.2", Accelerator::Tcg, DESCRIPTORS).unwrap();
    let ports = (0..16).map(|port| {
        format!("-device pcie-root-port,id=rp{port},chassis={slot},slot={slot},bus=pcie.0 ", slot = port + 1)
    });
    let expected = [
        "-nodefaults -no-user-config -display none -machine pc-q35-7.2,usb=off,smbus=off,vmport=off ",
        "-accel tcg,tb-size=32,thread=multi -cpu max -smp 2 -m 64M -uuid 00000000-0000-0000-0000-000000000001 ",
        "-action reboot=shutdown,shutdown=pause,panic=pause -S ",
        "-chardev socket,id=qmp,path=/run/a,,b/qmp.sock,server=on,wait=off -mon chardev=qmp,mode=control ",
        "-chardev socket,id=rescue,path=/run/a,,b/rescue.sock,server=on,wait=off -mon chardev=rescue,mode=control ",
        "-chardev pipe,id=events,path=/run/a,,b/events -mon chardev=events,mode=control ",
        "-add-fd fd=8,set=0 -chardev file,id=console,path=/dev/fdset/0,append=on -serial chardev:console ",
        "-kernel /k -initrd /i -append console=ttyS0 a,b no_timer_check ",
        &ports.collect::<String>(),
        "-chardev socket,id=agent,path=/run/a,,b/agent.sock,server=on,wait=off ",
        "-device virtio-serial-pci,id=serial,bus=rp0 ",
        "-device virtserialport,id=agent-port,bus=serial.0,chardev=agent,name=org.dataplane.agent.0 ",
        "-device virtio-balloon-pci,id=balloon,free-page-reporting=on,deflate-on-oom=on,bus=rp1 ",
        "-object rng-random,id=urandom,filename=/dev/urandom -device virtio-rng-pci,id=rng,rng=urandom,bus=rp2 ",
        "-device pvpanic-pci,id=pvpanic ",
        r#"-blockdev {"driver":"file","node-name":"f-image","filename":"/d,1","locking":"on","#,
        r#""read-only":true,"auto-read-only":false} "#,
        r#"-blockdev {"driver":"raw","node-name":"b-image","file":"f-image","read-only":true} "#,
        "-device virtio-blk-pci,id=d-image,drive=b-image,serial=image,rerror=report,werror=report,bus=rp4 ",
        r#"-blockdev {"driver":"file","node-name":"f-writable","filename":"/d,1","locking":"on","#,
        r#""read-only":false,"auto-read-only":false,"discard":"unmap"} "#,
        r#"-blockdev {"driver":"raw","node-name":"b-writable","file":"f-writable","read-only":false,"#,
        r#""discard":"unmap","detect-zeroes":"unmap"} "#,
        "-device virtio-blk-pci,id=d-writable,drive=b-writable,serial=writable,rerror=report,werror=report,bus=rp5 ",
        "-netdev tap,id=n0,fd=9,vhost=off ",
        "-device virtio-net-pci,id=net,netdev=n0,mac=02:d0:0a:00:00:02,romfile=,bus=rp3 ",
        "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ];
    assert_eq!(shown(&arguments), expected.concat());
    let kvm =
        super::arguments(&launch(), "pc-q35-9.0", Accelerator::Kvm, Descriptors { tap: None, ..DESCRIPTORS }).unwrap();
    assert!(shown(&kvm).contains("-accel kvm -cpu host"), "{}", shown(&kvm));
}

/// What is on a launch's command line and not on the plain one's, and the other way round.
fn differences(changed: &Launch) -> (Vec<String>, Vec<String>) {
    let parts = |launch: &Launch| {
        let arguments = arguments(launch, "q35", Accelerator::Tcg, DESCRIPTORS).unwrap();
        shown(&arguments).split(" -").map(str::to_owned).collect::<Vec<_>>()
    };
    let (plain, other) = (parts(&launch()), parts(changed));
    let beyond = |these: &[String], those: &[String]| {
        these.iter().filter(|part| !those.contains(part)).cloned().collect::<Vec<_>>()
    };
    (beyond(&other, &plain), beyond(&plain, &other))
}

#[test]
fn a_restore_waits_for_a_snapshot_and_is_the_same_otherwise() {
    let restored = Launch { purpose: Purpose::Restore, ..launch() };
    assert_eq!(differences(&restored), (vec!["incoming defer".into()], vec![]));
}

#[test]
fn memory_in_a_file_keeps_its_pages() {
    let mut launch = launch();
    launch.spec.memory_file = Some("/m,1".into());
    let (more, less) = differences(&launch);
    let expected = [
        "machine q35,usb=off,smbus=off,vmport=off,memory-backend=ram",
        "object memory-backend-file,id=ram,size=64M,share=on,mem-path=/m,,1",
        "device virtio-balloon-pci,id=balloon,free-page-reporting=off,deflate-on-oom=on,bus=rp1",
    ];
    assert_eq!(more, expected);
    assert_eq!(less.len(), 2);
    launch.spec.max.memory = Mib(65);
    let refused = arguments(&launch, "q35", Accelerator::Tcg, DESCRIPTORS);
    assert!(matches!(refused, Err(VmmError::Unsupported(_))), "{refused:?}");
}

#[test]
fn a_machine_that_may_grow_has_room_behind_all_else() {
    let mut launch = launch();
    launch.spec.max = Sizes { vcpus: 4, memory: Mib(200) };
    launch.spec.now = Sizes { vcpus: 3, memory: Mib(100) };
    let (more, less) = differences(&launch);
    let expected = [
        "accel tcg,tb-size=32,thread=single",
        "smp 2,sockets=1,cores=4,threads=1,maxcpus=4",
        "m size=64M,maxmem=320M",
        "append console=ttyS0 a,b no_timer_check swiotlb=noforce",
        "device pcie-root-port,id=rp16,chassis=17,slot=17,bus=pcie.0",
        "object memory-backend-ram,id=growth,size=256M",
        "device virtio-mem-pci,id=memory,memdev=growth,block-size=4M,requested-size=0,bus=rp16",
    ];
    assert_eq!(
        (more, less),
        (
            expected.map(str::to_owned).to_vec(),
            vec![
                "accel tcg,tb-size=32,thread=multi".into(),
                "smp 2".into(),
                "m 64M".into(),
                "append console=ttyS0 a,b no_timer_check".into()
            ]
        )
    );
}

#[test]
fn disks_that_cannot_be_described_are_refused() {
    for serial in ["", "a b", "a,b", "123456789012345678901"] {
        let mut launch = launch();
        launch.spec.disks[0].serial = serial.into();
        let refused = arguments(&launch, "q35", Accelerator::Tcg, DESCRIPTORS);
        assert!(matches!(refused, Err(VmmError::Host { .. })), "{serial:?}");
    }
    let mut launch = launch();
    launch.spec.disks = vec![launch.spec.disks[0].clone(); 13];
    assert!(arguments(&launch, "q35", Accelerator::Tcg, DESCRIPTORS).is_err());
}
