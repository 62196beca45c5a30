//! Guests on the bridge: to the gateway, from the host, and not to each other.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Host, PATIENCE, shell_image};

#[tokio::test(flavor = "multi_thread")]
async fn guests_reach_the_gateway_and_are_reached_but_not_each_other() {
    let host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    let server = "echo page > /var/index.html; /bin/busybox httpd -f -h /var -p 80";
    let first = host.script("server", &image, server).await.unwrap();
    let address = first["private_ip"].as_str().unwrap().to_owned();
    let script = format!(
        "ping -c 1 -w 20 192.168.100.1 >/dev/null && echo gateway answers; \
         ping -c 1 -w 2 {address} >/dev/null || echo neighbour is silent; \
         cat /etc/resolv.conf; sleep 1000"
    );
    host.script("client", &image, &script).await.unwrap();
    for line in ["gateway answers", "neighbour is silent", "nameserver 192.168.100.1", "nameserver 1.1.1.1"] {
        host.line("client", line).await.unwrap();
    }
    host.until("server", "ready", |instance| instance["ready"] == true).await.unwrap();
    let page = host.daemon.space().run(move || fetch(&address));
    assert!(page.ends_with("\r\n\r\npage\n"), "{page}");
    for id in ["server", "client"] {
        host.delete(id, 0).await.unwrap();
    }
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wanted_address_is_given_once_and_no_network_means_none() {
    let host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    let wish = |id: &str, network: serde_json::Value| {
        json!({ "id": id, "image": image, "memory_mb": 256, "vcpus": 1, "disk_gb": 1, "network": network,
            "cmd": ["/bin/sh", "-c", "/bin/busybox ip -o addr; echo end; sleep 1000"] })
    };
    let one = host.create(wish("one", json!({ "ip": "192.168.100.77", "mac": "02:00:00:00:00:77" }))).await.unwrap();
    assert_eq!(one["private_ip"], "192.168.100.77");
    host.line("one", "inet 192.168.100.77/24").await.unwrap();
    let taken = host.client.post_json("/instances", &wish("two", json!({ "ip": "192.168.100.77" }))).await.unwrap();
    assert_eq!((taken.status, taken.code().as_str()), (409, "address_in_use"));
    let outside = host.client.post_json("/instances", &wish("two", json!({ "ip": "10.0.0.1" }))).await.unwrap();
    assert_eq!((outside.status, outside.code().as_str()), (422, "address_out_of_range"));
    let none = host.create(wish("none", json!({ "enabled": false }))).await.unwrap();
    assert_eq!(none["private_ip"], serde_json::Value::Null);
    host.line("none", "end").await.unwrap();
    assert_eq!(host.daemon.taps().len(), 1);
    for id in ["one", "none"] {
        host.delete(id, 0).await.unwrap();
    }
    host.assert_clean();
}

/// The answer of a guest's web server; its program has started, but it may not listen yet.
fn fetch(address: &str) -> String {
    fetch_at(address, 80)
}

fn fetch_at(address: &str, port: u16) -> String {
    let begin = Instant::now();
    let mut stream = loop {
        match TcpStream::connect((address, port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "connect to {address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A guest that pretends to be somebody else reaches nobody; as itself it does, before and after.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_pretends_reaches_nobody() {
    let host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    let victim = host.script("victim", &image, "sleep 1000").await.unwrap();
    let victim_ip = victim["private_ip"].as_str().unwrap().to_owned();
    let script = format!(
        "B=/bin/busybox; G=192.168.100.1; \
         try() {{ ping -c 1 -w $1 $2 $G >/dev/null && echo \"$3: yes\" || echo \"$3: no\"; }}; \
         MAC=$($B cat /sys/class/net/eth0/address); \
         try 20 '' honest; \
         $B ip link set eth0 address 02:00:00:00:00:99; try 2 '' 'another MAC'; \
         $B ip link set eth0 address $MAC; try 20 '' 'own MAC again'; \
         $B ip addr add {victim_ip}/24 dev eth0; try 2 '-I {victim_ip}' 'another address'; \
         $B arping -U -c 2 -w 2 -I eth0 -s {victim_ip} {victim_ip} >/dev/null 2>&1; \
         $B arping -c 1 -w 2 -I eth0 -s {victim_ip} $G >/dev/null && echo 'ARP as another: yes' || echo 'ARP as another: no'; \
         $B ip addr del {victim_ip}/24 dev eth0; \
         $B arping -c 1 -w 20 -I eth0 $G >/dev/null && echo 'ARP as itself: yes' || echo 'ARP as itself: no'; \
         $B nc -w 2 $G 7000 </dev/null >/dev/null 2>&1 && echo 'a service: yes' || echo 'a service: no'; \
         try 20 '' 'honest again'; sleep 1000"
    );
    let service = host.daemon.space().run(|| std::net::TcpListener::bind("0.0.0.0:7000").unwrap());
    host.script("liar", &image, &script).await.unwrap();
    for line in [
        "honest: yes",
        "another MAC: no",
        "own MAC again: yes",
        "another address: no",
        "ARP as another: no",
        "ARP as itself: yes",
        "a service: no",
        "honest again: yes",
    ] {
        host.line("liar", line).await.unwrap();
    }
    let known = host.daemon.space().ip(&format!("neigh show {victim_ip}"));
    let liar = host.get("liar").await.unwrap();
    assert!(!known.contains(liar["mac"].as_str().unwrap()), "{known}");
    drop(service);
    for id in ["victim", "liar"] {
        host.delete(id, 0).await.unwrap();
    }
    host.assert_clean();
}

/// From the host, its loopback and another host, over a standby and a daemon that dies.
#[tokio::test(flavor = "multi_thread")]
async fn a_published_port_leads_to_a_real_guest() {
    let mut host = Host::start().unwrap();
    let world = dataplane_testkit::netns::Netns::new();
    host.daemon.space().connect("eth7", &world, "w0");
    host.daemon.space().ip("addr add 10.77.0.1/24 dev eth7");
    // The network was started without an uplink: whoever wants to be a router says so itself.
    host.daemon.space().command("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    world.ip("addr add 10.77.0.2/24 dev w0");
    let image = host.import(shell_image()).await.unwrap();
    let body = json!({ "id": "web", "image": image, "memory_mb": 256, "vcpus": 1, "disk_gb": 1,
        "port_mappings": [{ "host_port": 8080, "guest_port": 80 }],
        "cmd": ["/bin/sh", "-c", "echo page > /var/index.html; /bin/busybox httpd -f -h /var -p 80"] });
    host.create(body).await.unwrap();
    host.until("web", "ready", |instance| instance["ready"] == true).await.unwrap();
    let page = |space: &dataplane_testkit::netns::Netns, to: &str| {
        let to = to.to_owned();
        let page = space.run(move || fetch_at(&to, 8080));
        assert!(page.ends_with("\r\n\r\npage\n"), "{page}");
    };
    let reached = |host: &Host| {
        page(host.daemon.space(), "127.0.0.1");
        page(host.daemon.space(), "10.77.0.1");
        page(&world, "10.77.0.1");
    };
    reached(&host);
    host.daemon.kill().unwrap();
    reached(&host);
    host.daemon.launch().unwrap();
    for action in ["standby", "restore"] {
        let answer = host.client.act(&format!("/instances/web/{action}")).await.unwrap();
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }
    reached(&host);
    host.delete("web", 0).await.unwrap();
    host.assert_clean();
}
