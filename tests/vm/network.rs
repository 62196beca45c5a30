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
    let begin = Instant::now();
    let mut stream = loop {
        match TcpStream::connect((address, 80)) {
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
