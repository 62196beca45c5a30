//! Guests resolve names: their own, each other's, and through the daemon everybody else's.

use std::net::UdpSocket;

use serde_json::json;

use crate::harness::{Host, shell_image};

/// Answers every question with 9.9.9.9, as long as the test runs.
fn upstream(host: &Host) {
    let socket = host.daemon.space().run(|| UdpSocket::bind(("127.0.0.1", 53)).unwrap());
    std::thread::spawn(move || {
        let mut packet = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let mut reply = packet[..length].to_vec();
            reply[2] |= 0x80;
            // The question for an IPv6 address, which a guest asks as well, has no answer.
            if reply[length - 3] == 1 {
                reply[7] = 1;
                reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 9, 9, 9, 9]);
            }
            socket.send_to(&reply, from).unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_resolve_names_of_the_domain_and_others() {
    // There is no uplink: names of the domain need none, and this server is the host's own.
    let mut host = Host::start_with(&[("DNS_SERVER", "127.0.0.1")]).unwrap();
    upstream(&host);
    let image = host.import(shell_image()).await.unwrap();
    let first = host.script("one", &image, "sleep 1000").await.unwrap();
    assert_eq!(first["fqdn"], "one.dataplane.internal");
    let ask =
        "ask() { echo \"$1:\" $(/bin/busybox nslookup $1 2>&1 | /bin/busybox tail -n +3 | /bin/busybox tr '*' ' '); }";
    let script = format!(
        "{ask}; cat /etc/resolv.conf; ask two.dataplane.internal; ask one.dataplane.internal; ask 192.168.100.2; \
         ask none.dataplane.internal; ask www.example.com; ping -c 1 -w 5 one | /bin/busybox head -n 1; \
         while ! [ -e /tmp/again ]; do sleep 1; done; echo once more $(ask one.dataplane.internal); sleep 1000"
    );
    let second = host.script("two", &image, &script).await.unwrap();
    let [one, two] = [&first, &second].map(|instance| instance["private_ip"].as_str().unwrap().to_owned());
    host.line("two", "nameserver 192.168.100.1").await.unwrap();
    let line = host.line("two", "two.dataplane.internal:").await.unwrap();
    assert!(line.contains(&two), "{line}");
    let line = host.line("two", "one.dataplane.internal:").await.unwrap();
    assert!(line.contains(&one), "{line}");
    let line = host.line("two", "192.168.100.2:").await.unwrap();
    assert!(line.contains("one.dataplane.internal"), "{line}");
    let line = host.line("two", "none.dataplane.internal:").await.unwrap();
    assert!(line.contains("NXDOMAIN"), "{line}");
    let line = host.line("two", "www.example.com:").await.unwrap();
    assert!(line.contains("9.9.9.9"), "{line}");
    let line = host.line("two", "PING one").await.unwrap();
    assert!(line.contains(&one), "by the search domain: {line}");

    // Another daemon answers for the same names.
    host.daemon.kill().unwrap();
    host.daemon.launch().unwrap();
    let ready = host.client.get("/readyz").await.unwrap().json();
    let check = ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "dns").unwrap();
    assert_eq!((&check["ok"], &check["detail"]), (&json!(true), &json!("guests resolve names at 192.168.100.1:53")));
    let made = json!({ "command": ["/bin/sh", "-c", "echo > /tmp/again"] });
    host.until("two", "ready", |instance| instance["ready"] == true).await.unwrap();
    assert_eq!(host.client.post_json("/instances/two/exec", &made).await.unwrap().status, 200);
    let line = host.line("two", "once more one.dataplane.internal:").await.unwrap();
    assert!(line.contains(&one), "{line}");
    for id in ["one", "two"] {
        host.delete(id, 0).await.unwrap();
    }
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_is_there_already_is_told_and_stops_nothing() {
    let mut host = Host::start().unwrap();
    host.daemon.stop().unwrap();
    let other = host.daemon.space().run(|| UdpSocket::bind(("0.0.0.0", 53)).unwrap());
    host.daemon.launch().unwrap();
    let answer = host.client.get("/readyz").await.unwrap();
    assert_eq!(answer.status, 200);
    let ready = answer.json();
    let check = ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "dns").unwrap().clone();
    assert_eq!((&check["ok"], &check["required"]), (&json!(false), &json!(false)));
    assert!(check["detail"].as_str().unwrap().contains("Address already in use"), "{check}");
    assert!(check["remedy"].as_str().unwrap().contains("port 53"), "{check}");
    drop(other);
    host.assert_clean();
}
