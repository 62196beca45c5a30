//! Limits: what is in the kernel, and how fast real transfers are. The guest is a namespace with a TAP of its own, which
//! the test joins to the host's like a VMM: so both ends are real TCP.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dataplane_network::NetworkError;
use dataplane_testkit::netns::{Cable, Netns, RawTap};
use dataplane_types::Link;

use crate::frames::{self, Way};
use crate::host::{Host, OWNER, STRANGER};

/// Bytes of a full frame, and of what a TCP segment in it carries.
const FRAME: u64 = 1514;
const SEGMENT: u64 = 1448;

/// How long a transfer runs before it is measured: past the burst and the slow start.
const WARM_UP: Duration = Duration::from_millis(700);
const MEASURED: Duration = Duration::from_secs(2);

pub(crate) fn a_limit_is_in_the_kernel_as_it_was_asked_for() {
    let host = Host::started();
    let link = host.link("web-1");
    let (tap, ifb) = (link.tap.to_string(), link.tap.as_str().replace("tap", "ifb"));
    host.limit("web-1", &link, None).unwrap();
    assert_eq!(host.find(&ifb), None, "no limit costs nothing");
    for (megabits, rate) in [(10, "10Mbit"), (500, "500Mbit"), (100_000, "100Gbit"), (10, "10Mbit")] {
        host.limit("web-1", &link, Some(megabits)).unwrap();
        for device in [&tap, &ifb] {
            let shown = tc(&host.ns, &format!("qdisc show dev {device} root"));
            assert!(shown.starts_with("qdisc tbf ") && shown.contains(&format!(" rate {rate} burst ")), "{shown}");
        }
        let filters = tc(&host.ns, &format!("filter show dev {tap} ingress"));
        assert!(filters.contains(&format!("Egress Redirect to device {ifb}")), "{filters}");
        assert_eq!(filters.matches("mirred").count(), 1, "{filters}");
    }
    let device = host.find(&ifb).unwrap();
    assert_eq!((device.up, device.alias, device.mac), (true, Some(format!("{OWNER}:web-1")), Some(link.host_mac())));
    let ipv6 = host.ns.command("cat", &[&format!("/proc/sys/net/ipv6/conf/{ifb}/disable_ipv6")]);
    assert_eq!(ipv6, "1\n");

    // A device that somebody took away takes what was led to it along; all of it is made anew.
    host.ns.ip(&format!("link del {ifb}"));
    host.limit("web-1", &link, Some(20)).unwrap();
    assert!(tc(&host.ns, &format!("filter show dev {tap} ingress")).contains(&ifb));

    host.limit("web-1", &link, None).unwrap();
    assert_eq!(host.find(&ifb), None);
    assert_eq!(tc(&host.ns, &format!("filter show dev {tap} ingress")), "");
    let shown = tc(&host.ns, &format!("qdisc show dev {tap}"));
    assert!(!shown.contains("tbf") && !shown.contains("ingress"), "{shown}");
    host.limit("web-1", &link, None).unwrap();
}

pub(crate) fn limits_go_with_their_tap() {
    let host = Host::started();
    let before = host.ns.ip("-o link");
    let limited = |name: &str| {
        let link = host.link(name);
        host.limit(name, &link, Some(10)).unwrap();
        (link.tap.to_string(), link)
    };
    let (_, removed) = limited("removed");
    host.remove(&removed).unwrap();
    assert_eq!(host.ns.ip("-o link").lines().count(), before.lines().count());

    let (orphan, orphaned) = limited("orphan");
    let (kept, _) = limited("kept");
    host.network.release(&crate::host::id("orphan"));
    let network = host.network.clone();
    let mut swept = host.ns.block_on(move || async move { network.sweep(&[]).await.unwrap() });
    swept.sort();
    assert_eq!(swept, [orphan.replace("tap", "ifb"), orphan]);
    assert!(host.find(&kept).is_some() && host.find(&kept.replace("tap", "ifb")).is_some());
    drop(orphaned);

    host.teardown().unwrap();
    assert_eq!(host.ns.ip("-o link").lines().count(), before.lines().count() - 1, "nor is the bridge left");
}

pub(crate) fn a_device_that_is_not_ours_is_refused_and_untouched() {
    let host = Host::started();
    let link = host.link("web-1");
    let ifb = link.tap.as_str().replace("tap", "ifb");
    host.ns.ip(&format!("link add {ifb} type ifb"));
    let found = host.find(&ifb);
    let refused = host.limit("web-1", &link, Some(10));
    assert!(matches!(refused, Err(NetworkError::ForeignInterface { .. })), "{refused:?}");
    host.limit("web-1", &link, None).unwrap();
    host.remove(&link).unwrap();
    host.teardown().unwrap();
    assert_eq!(host.find(&ifb), found);
    host.ns.ip(&format!("link del {ifb}"));

    // One that a crash left between its making and its marking has our MAC, and is ours.
    host.start().unwrap();
    host.ensure("web-1", &link, crate::host::UID).unwrap();
    host.ns.ip(&format!("link add {ifb} address {} type ifb", link.host_mac()));
    host.limit("web-1", &link, Some(10)).unwrap();
    assert_eq!(host.find(&ifb).unwrap().alias, Some(format!("{OWNER}:web-1")));
}

/// What comes back from the intermediate device is filtered as what comes from the TAP: it skips the hooks of the device
/// itself (family `netdev`) and no others.
pub(crate) fn what_a_limited_guest_sends_meets_every_rule() {
    let (host, _world) = Host::with_uplink();
    let (mut one, mut two) = (host.guest("one"), host.guest("two"));
    for (name, guest) in [("one", &one), ("two", &two)] {
        host.limit(name, &guest.link, Some(10)).unwrap();
    }
    assert_eq!(one.fence(), crate::host::GATEWAY_MAC);
    let neighbour = Way { from: one.me(), to: two.me() };
    let by_gateway = Way { from: one.me(), to: (crate::host::GATEWAY_MAC, two.link.ip) };
    let mut try_all = |one: &mut crate::host::Guest, text: &[u8]| {
        one.send(&frames::udp(neighbour, text));
        one.send(&frames::udp(by_gateway, text));
        // Behind the device all that one guest sends stays in order.
        one.fence();
        two.fence();
        two.has_seen(text)
    };
    assert!(!try_all(&mut one, b"forbidden"));
    host.drop_rules();
    assert!(try_all(&mut one, b"control"), "by the gateway, without the rules");

    let rule = format!(
        "table bridge seen {{ chain c {{ type filter hook prerouting priority -300; \
         iifname \"{}\" ether saddr != {} counter drop; }}; }}",
        one.link.tap, one.link.mac
    );
    host.ns.command("nft", &[&rule]);
    let mut forged = frames::udp(by_gateway, b"forged");
    forged[6..12].copy_from_slice(&two.link.mac.bytes());
    one.send(&forged);
    one.fence();
    let shown = host.ns.command("nft", &["list", "table", "bridge", "seen"]);
    assert!(shown.contains("counter packets 1 "), "{shown}");
}

#[expect(clippy::print_stdout, reason = "figures of this run, for whoever reads it")]
pub(crate) fn a_transfer_is_as_fast_as_the_limit_each_way() {
    let (host, world) = Host::with_uplink();
    let guest = Guest::new(&host, "web-1");
    // What this machine can do at all just now.
    let free = [Flow::Out, Flow::In].map(|way| guest.start(&world, way).rate());
    for megabits in [10, 100, 500] {
        host.limit("web-1", &guest.link, Some(megabits)).unwrap();
        for (way, free) in [Flow::Out, Flow::In].into_iter().zip(free) {
            let nominal = f64::from(megabits);
            // Beyond what the machine carries no limit shows.
            let least = (0.9 * nominal).min(0.6 * free);
            let rate = guest.start(&world, way).rate_within(least, 1.1 * nominal);
            println!("{megabits} Mbit/s {way:?}: {rate:.1} of frames, {free:.0} without a limit");
        }
    }
}

/// A bucket that was changed in place stood still: what waited in it was larger than the new burst.
pub(crate) fn a_limit_changes_under_a_transfer() {
    let (host, world) = Host::with_uplink();
    let guest = Guest::new(&host, "web-1");
    host.limit("web-1", &guest.link, Some(10)).unwrap();
    for way in [Flow::Out, Flow::In] {
        let transfer = guest.start(&world, way);
        for megabits in [40, 10, 10] {
            host.limit("web-1", &guest.link, Some(megabits)).unwrap();
            let nominal = f64::from(megabits);
            transfer.rate_within(0.9 * nominal, 1.1 * nominal);
        }
    }
}

fn tc(ns: &Netns, arguments: &str) -> String {
    ns.command("tc", &arguments.split_whitespace().collect::<Vec<_>>())
}

/// Which way data flow: from the guest, or to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Out,
    In,
}

/// A namespace behind a TAP of the host.
struct Guest {
    ns: Netns,
    link: Link,
    _cable: Cable,
    _ends: [RawTap; 2],
}

/// A connection on which one end sends all it can.
struct Transfer {
    received: Arc<AtomicU64>,
    ends: [TcpStream; 2],
    threads: Vec<JoinHandle<()>>,
}

impl Guest {
    fn new(host: &Host, name: &str) -> Self {
        let link = host.link(name);
        let outer = host.ns.tap(link.tap.as_str());
        let ns = Netns::new();
        ns.ip("tuntap add dev eth0 mode tap vnet_hdr");
        ns.ip(&format!("link set eth0 address {} up", link.mac));
        let inner = ns.tap("eth0");
        let cable = Cable::new(&outer, &inner);
        ns.ip(&format!("addr add {}/{} dev eth0", link.ip, link.prefix_len));
        ns.ip(&format!("route add default via {}", link.gateway));
        Self { ns, link, _cable: cable, _ends: [outer, inner] }
    }

    /// Connects to the world and begins to send, from there or from here.
    fn start(&self, world: &Netns, way: Flow) -> Transfer {
        let listener = world.run(|| TcpListener::bind((STRANGER, 0)).unwrap());
        let address = listener.local_addr().unwrap();
        let inside = self.ns.run(move || TcpStream::connect(address).unwrap());
        let (outside, _) = listener.accept().unwrap();
        let (from, to) = if way == Flow::Out { (inside, outside) } else { (outside, inside) };
        let received = Arc::new(AtomicU64::new(0));
        let ends = [from.try_clone().unwrap(), to.try_clone().unwrap()];
        let count = Arc::clone(&received);
        // Both end with their connection.
        let send = move || while (&from).write_all(&[0; 65_536]).is_ok() {};
        let receive = move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(length @ 1..) = (&to).read(&mut buffer) {
                count.fetch_add(length as u64, Ordering::Relaxed);
            }
        };
        Transfer { received, ends, threads: vec![std::thread::spawn(send), std::thread::spawn(receive)] }
    }
}

impl Transfer {
    /// A rate between these two. A machine that is busy elsewhere delays what it then catches up with, so one of three
    /// has to be; none would be if the limit were another.
    fn rate_within(&self, least: f64, most: f64) -> f64 {
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let rate = self.rate();
            if (least..=most).contains(&rate) {
                return rate;
            }
            seen.push(rate);
        }
        panic!("{seen:.1?} Mbit/s are none from {least:.1} to {most:.1}");
    }

    /// Megabits per second of whole frames. The time is what is measured; nothing is awaited.
    fn rate(&self) -> f64 {
        std::thread::sleep(WARM_UP);
        let (begin, before) = (Instant::now(), self.received.load(Ordering::Relaxed));
        std::thread::sleep(MEASURED);
        let bytes = self.received.load(Ordering::Relaxed) - before;
        (bytes * FRAME / SEGMENT * 8) as f64 / begin.elapsed().as_secs_f64() / 1e6
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        for end in &self.ends {
            let _ = end.shutdown(std::net::Shutdown::Both);
        }
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
