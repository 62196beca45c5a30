//! The shell script that shows what the daemon does: it must do the same.

use dataplane_testkit::netns::Netns;

use crate::host::{Host, uplinked};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/setup-host-network.sh");

fn state(ns: &Netns) -> String {
    let settings = ns.command(
        "sh",
        &[
            "-c",
            "cd /proc/sys/net && grep -H . ipv4/conf/*/forwarding ipv4/conf/*/accept_redirects ipv6/conf/*/disable_ipv6 ipv4/ip_forward",
        ],
    );
    let bridge = ns.ip("-o link show vmbr0");
    let mac = bridge.split("link/ether").nth(1).map(str::to_owned).unwrap_or_default();
    let mac = mac.split_whitespace().next().unwrap_or_default().to_owned();
    let delay = ns.ip("-d link show vmbr0").contains("forward_delay 0 ");
    let address = ns.ip("-br -4 addr show vmbr0");
    format!("{mac} {delay}\n{address}\n{settings}\n{}", ns.command("nft", &["list", "ruleset"]))
}

pub(crate) fn the_script_does_what_the_daemon_does() {
    for is_uplinked in [true, false] {
        let make = || if is_uplinked { uplinked() } else { (Netns::new(), Netns::new()) };
        let ((by_script, _w1), (by_daemon, _w2)) = (make(), make());
        let before =
            by_script.command("sh", &["-c", "ip -br link; nft list ruleset; cat /proc/sys/net/ipv4/conf/*/forwarding"]);
        by_script.command(SCRIPT, &["up"]);
        by_script.command(SCRIPT, &["up"]);
        let host = Host::new(by_daemon);
        host.start().unwrap();
        assert_eq!(state(&by_script), state(&host.ns));
        assert!(by_script.command(SCRIPT, &["show"]).contains("dataplane_vmbr0"));

        by_script.command(SCRIPT, &["down"]);
        by_script.command(SCRIPT, &["down"]);
        let after =
            by_script.command("sh", &["-c", "ip -br link; nft list ruleset; cat /proc/sys/net/ipv4/conf/*/forwarding"]);
        assert_eq!(after, before);
    }
}

pub(crate) fn the_script_hands_its_bridge_to_the_daemon() {
    let (ns, _world) = uplinked();
    ns.command(SCRIPT, &["up"]);
    let host = Host::new(ns);
    assert!(!host.start().unwrap().bridge_created);
    assert_eq!(host.complaints(), Vec::<String>::new());
    let refused = host.ns.run(|| std::process::Command::new(SCRIPT).arg("down").output().unwrap());
    assert!(!refused.status.success(), "a daemon's bridge is not the script's to remove");
    assert!(host.find("vmbr0").is_some());
    host.teardown().unwrap();
    assert_eq!(host.find("vmbr0"), None);
    assert_eq!(host.forwarding("eth0"), "0", "what the script had switched on is remembered by the bridge");
}
