//! Programs beside the image's own: what they find, what they say, how they end.

use std::time::{Duration, Instant};

use dataplane_testkit::socket::{Said, Socket};
use futures_util::future::try_join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Host, shell_image};

/// A guest that waits to be worked in; its id.
async fn guest(host: &Host) -> &'static str {
    let image = shell_image()
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234:app:/home/app:/bin/sh\n")
        .unwrap()
        .file("etc/group", 0o644, b"root:x:0:\napp:x:1234:\nextra:x:777:app\n")
        .unwrap()
        .file("etc/plain", 0o644, b"no program\n")
        .unwrap()
        .config("Env", json!(["PATH=/bin", "FROM_IMAGE=1", "CHANGED=image"]));
    let image = host.import(image).await.unwrap();
    host.script("exec", &image, "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done").await.unwrap();
    host.until("exec", "ready", |instance| instance["ready"] == true).await.unwrap();
    "exec"
}

async fn exec(host: &Host, body: Value) -> Value {
    let answer = host.client.post_json("/instances/exec/exec", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{body}: {:?}", answer.body);
    answer.json()
}

async fn shell(host: &Host, script: &str) -> String {
    let ran = exec(host, json!({ "command": ["/bin/sh", "-c", script] })).await;
    assert_eq!(ran["exit_code"], 0, "{script}: {ran}");
    ran["stdout"]["text"].as_str().unwrap().to_owned()
}

pub(crate) fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_as_the_images_own_and_its_end_is_told() {
    let host = Host::start().unwrap();
    guest(&host).await;
    let script = "echo env[$FROM_IMAGE][$CHANGED][$OWN][$HOME]; echo who[$(id -u):$(id -g):$(id -G)]; /bin/busybox pwd; \
        cat; echo trouble >&2; exit 7";
    let body = json!({ "command": ["sh", "-c", script], "env": { "CHANGED": "own", "OWN": "a b" }, "cwd": "/etc",
        "user": "app", "stdin": "from outside\n" });
    let ran = exec(&host, body).await;
    let expected = "env[1][own][a b][/home/app]\nwho[1234:1234:1234 777]\n/etc\nfrom outside\n";
    assert_eq!((&ran["stdout"]["text"], &ran["stderr"]["text"]), (&json!(expected), &json!("trouble\n")), "{ran}");
    assert_eq!((&ran["exit_code"], &ran["timed_out"]), (&json!(7), &json!(false)), "{ran}");

    // The image's program is process 1 of the same namespace.
    assert!(shell(&host, "cat /proc/1/cmdline").await.contains("trap"));
    let pid = ran["pid"].as_u64().unwrap();
    assert!(pid > 1);

    for (command, code) in [(json!(["/bin/absent"]), 127), (json!(["absent"]), 127), (json!(["/etc/plain"]), 126)] {
        let begun = Instant::now();
        let ran = exec(&host, json!({ "command": command })).await;
        assert_eq!(ran["exit_code"], code, "{ran}");
        assert!(ran["reason"].is_string() && ran["pid"].is_null(), "{ran}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let listed = host.client.get("/instances/exec/processes").await.unwrap().json();
        assert_eq!(listed["items"].as_array().unwrap().last().unwrap()["exit_code"], code, "{listed}");
    }
    let binary = exec(&host, json!({ "command": ["cat"], "stdin_base64": "AP+A" })).await;
    assert_eq!(binary["stdout"], json!({ "base64": "AP+A", "truncated": false }));
    let cut = exec(&host, json!({ "command": ["seq", "100000"], "max_output_bytes": 6 })).await;
    assert_eq!(cut["stdout"], json!({ "text": "1\n2\n3\n", "truncated": true }));
    let killed = exec(&host, json!({ "command": ["sh", "-c", "kill -USR1 $$"] })).await;
    assert_eq!((&killed["signal"], &killed["exit_code"]), (&json!(10), &Value::Null), "{killed}");
    let late = exec(&host, json!({ "command": ["sleep", "1000"], "timeout_seconds": 1 })).await;
    assert_eq!((&late["signal"], &late["timed_out"]), (&json!(9), &json!(true)), "{late}");
    // What holds its pipes does not hold its answer.
    let begun = Instant::now();
    let left = exec(&host, json!({ "command": ["sh", "-c", "sleep 1000 & echo left"] })).await;
    assert_eq!((&left["stdout"]["text"], &left["exit_code"]), (&json!("left\n"), &json!(0)));
    assert!(begun.elapsed() < Duration::from_secs(10));

    for (body, status, code) in [
        (json!({ "command": ["id"], "user": "nobody-here" }), 422, "guest_refused"),
        (json!({ "command": [] }), 400, "invalid_field"),
        (json!({ "command": ["cat"], "env": { "A": "x".repeat(70_000) } }), 413, "payload_too_large"),
    ] {
        let answer = host.client.post_json("/instances/exec/exec", &body).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{:?}", answer.body);
    }
    host.delete("exec", 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_listed_waited_for_and_signalled() {
    let host = Host::start().unwrap();
    guest(&host).await;
    let started = exec(&host, json!({ "command": ["sleep", "1000"], "detach": true })).await;
    let pid = started["pid"].as_u64().unwrap();
    assert!(started["exit_code"].is_null() && started["signal"].is_null(), "{started}");
    let list = host.client.get("/instances/exec/processes").await.unwrap().json();
    let listed = list["items"].as_array().unwrap().iter().find(|it| it["pid"] == pid).unwrap().clone();
    assert_eq!((&listed["command"], &listed["running"]), (&json!(["sleep", "1000"]), &json!(true)), "{listed}");

    let path = format!("/instances/exec/processes/{pid}");
    let now = host.client.get(&path).await.unwrap().json();
    assert_eq!(now["running"], true);
    let waits = {
        let (client, path) = (host.daemon.client(), format!("{path}?wait_seconds=60"));
        tokio::spawn(async move { client.get(&path).await.map(|answer| answer.json()) })
    };
    let sent = host.client.post_json(&format!("{path}/signal"), &json!({ "signal": "SIGTERM" })).await.unwrap();
    assert_eq!(sent.status, 204);
    let ended = waits.await.unwrap().unwrap();
    assert_eq!((&ended["running"], &ended["signal"]), (&json!(false), &json!(15)), "{ended}");
    // One that has ended may be killed again.
    assert_eq!(host.client.delete(&path).await.unwrap().status, 204);
    let none = host.client.get("/instances/exec/processes/4000000").await.unwrap();
    assert_eq!((none.status, none.code().as_str()), (404, "process_not_found"));
    let none = host.client.post_json(&format!("{path}/signal"), &json!({ "signal": "SIGNOPE" })).await.unwrap();
    assert_eq!(none.status, 400);

    let stats = host.client.get("/instances/exec/stats").await.unwrap().json();
    assert!(stats["guest"]["memory_total_bytes"].as_u64().unwrap() > 100 << 20, "{stats}");
    assert!(stats["guest"]["cpu_seconds"].as_f64().unwrap() > 0.0, "{stats}");
    assert!(stats["vmm"]["rss_bytes"].as_u64().unwrap() > 10 << 20, "{stats}");
    assert!(stats["vmm"]["cpu_seconds"].as_f64().unwrap() > 0.0 && stats["vmm"]["pss_bytes"].is_null(), "{stats}");
    let with_pss = host.client.get("/instances/exec/stats?pss=true").await.unwrap().json();
    assert!(with_pss["vmm"]["pss_bytes"].as_u64().unwrap() > 10 << 20, "{with_pss}");
    assert!(stats["disk"]["used_bytes"].as_u64().unwrap() > 0, "{stats}");
    assert!(stats["network"]["sent_packets"].is_u64(), "{stats}");
    host.delete("exec", 0).await.unwrap();
}

/// `DATAPLANE_TEST_EXECS` of them; a few hundred where it does not say.
#[tokio::test(flavor = "multi_thread")]
async fn many_short_programs_leave_nothing_behind() {
    let host = Host::start().unwrap();
    guest(&host).await;
    let census = "ls /proc/self/fd | /bin/busybox wc -l; ls -d /proc/[0-9]* | /bin/busybox wc -l; \
        /bin/busybox awk '/MemAvailable/ {print $2}' /proc/meminfo";
    let numbers = |text: String| text.lines().map(|line| line.trim().parse::<i64>().unwrap()).collect::<Vec<_>>();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", host.daemon.pid().unwrap())).unwrap().count();
    for _ in 0..20 {
        shell(&host, "true").await;
    }
    let (before, held) = (numbers(shell(&host, census).await), descriptors());
    let total = count("DATAPLANE_TEST_EXECS", 300);
    let begun = Instant::now();
    for number in 0..total {
        let ran = exec(&host, json!({ "command": ["/bin/busybox", "echo", number.to_string()] })).await;
        assert_eq!(ran["stdout"]["text"], format!("{number}\n"), "{ran}");
    }
    eprintln!("{total} programs, {:?} each", begun.elapsed() / u32::try_from(total).unwrap());
    let begun = Instant::now();
    let together = (0..100).map(|number: u32| {
        let client = host.daemon.client();
        async move {
            let script = format!("sleep 1; echo {number}; exit {number}");
            let body = json!({ "command": ["sh", "-c", script] });
            anyhow::Ok((number, client.post_json("/instances/exec/exec", &body).await?.json()))
        }
    });
    for (number, ran) in try_join_all(together).await.unwrap() {
        assert_eq!(
            (&ran["stdout"]["text"], &ran["exit_code"]),
            (&json!(format!("{number}\n")), &json!(number)),
            "{ran}"
        );
    }
    eprintln!("100 programs at once, {:?}", begun.elapsed());
    let after = numbers(shell(&host, census).await);
    // A counting shell may see one of its own more or less.
    assert!(after[0] <= before[0] && after[1] <= before[1] + 1, "something is left: {before:?}, {after:?}");
    assert!(before[2] - after[2] < 8 << 10, "KiB that are available: {before:?}, {after:?}");
    assert!(descriptors() <= held + 2, "the daemon held {held} descriptors, now {}", descriptors());
    let list = host.client.get("/instances/exec/processes").await.unwrap().json();
    assert!(list["items"].as_array().unwrap().len() <= 256 + 128, "{list}");
    host.delete("exec", 0).await.unwrap();
}

/// `DATAPLANE_TEST_STREAM_MIB` of them; 64 where it does not say.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_through_a_program_unharmed() {
    let host = Host::start().unwrap();
    guest(&host).await;
    let total = count("DATAPLANE_TEST_STREAM_MIB", 64) << 20;
    let socket = Socket::open(&host.daemon.socket(), "exec", &json!({ "command": ["cat"] })).await.unwrap();
    let (mut sink, mut stream) = socket.split();
    let begun = Instant::now();
    let send = async move {
        let (mut sent, mut hash, mut state) = (0, Sha256::new(), 1u64);
        while sent < total {
            let chunk: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33).to_le_bytes()[0]
            })
            .take(256 << 10)
            .collect();
            hash.update(&chunk);
            sent += chunk.len() as u64;
            sink.send(Message::Binary([&[0], chunk.as_slice()].concat().into())).await.unwrap();
        }
        sink.send(Message::Binary(b"\x03{\"type\":\"close_stdin\"}".to_vec().into())).await.unwrap();
        (hash.finalize(), sink)
    };
    let receive = async move {
        let (mut got, mut hash, mut last) = (0, Sha256::new(), Value::Null);
        while let Some(Ok(message)) = stream.next().await {
            let Message::Binary(bytes) = message else { continue };
            match bytes[0] {
                1 => {
                    got += bytes.len() as u64 - 1;
                    hash.update(&bytes[1..]);
                }
                3 => last = serde_json::from_slice(&bytes[1..]).unwrap(),
                other => panic!("channel {other}"),
            }
        }
        (got, hash.finalize(), last)
    };
    let ((sent, _sink), (got, received, last)) = tokio::join!(send, receive);
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("{} MiB there and back in {seconds:.1} s", total >> 20);
    assert_eq!((got, last), (total, json!({ "type": "exit", "exit_code": 0 })));
    assert_eq!(received, sent);
    host.delete("exec", 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_and_takes_signals_and_a_client_that_leaves_ends_it() {
    let host = Host::start().unwrap();
    guest(&host).await;
    let open = async |request: Value| Socket::open(&host.daemon.socket(), "exec", &request).await.unwrap();
    let script = "trap 'echo size $(/bin/busybox stty size)' WINCH; echo size $(/bin/busybox stty size); \
        while :; do read line && echo got $line; done";
    let mut tty = open(json!({ "command": ["sh", "-c", script], "tty": true, "rows": 31, "columns": 97 })).await;
    let pid = tty.started().await.unwrap();
    tty.until("size 31 97").await.unwrap();
    tty.control(&json!({ "type": "resize", "rows": 40, "columns": 101 })).await.unwrap();
    tty.input(b"word\n").await.unwrap();
    tty.until("got word").await.unwrap();
    let mut size = open(json!({ "command": ["sh", "-c", "read x; /bin/busybox stty size"], "tty": true })).await;
    size.started().await.unwrap();
    size.control(&json!({ "type": "resize", "rows": 7, "columns": 9 })).await.unwrap();
    size.input(b"\n").await.unwrap();
    size.until("7 9").await.unwrap();
    assert_eq!(size.rest().await.unwrap().2, json!({ "type": "exit", "exit_code": 0 }));
    // As somebody at a keyboard does it.
    let mut cat = open(json!({ "command": ["cat"], "tty": true })).await;
    cat.started().await.unwrap();
    cat.input(b"\x03").await.unwrap();
    assert_eq!(cat.rest().await.unwrap().2, json!({ "type": "exit", "signal": 2 }));
    let mut apart = open(json!({ "command": ["sh", "-c", "echo out; echo err >&2; sleep 1000"] })).await;
    apart.started().await.unwrap();
    let said = [apart.next().await.unwrap().unwrap(), apart.next().await.unwrap().unwrap()];
    assert!(
        said.contains(&Said::Output(b"out\n".to_vec())) && said.contains(&Said::Error(b"err\n".to_vec())),
        "{said:?}"
    );
    apart.control(&json!({ "type": "signal", "signal": "HUP" })).await.unwrap();
    assert_eq!(apart.rest().await.unwrap().2, json!({ "type": "exit", "signal": 1 }));

    drop(tty);
    let path = |pid: u64| format!("/instances/exec/processes/{pid}?wait_seconds=30");
    let ended = host.client.get(&path(pid)).await.unwrap().json();
    assert_eq!((&ended["running"], &ended["signal"]), (&json!(false), &json!(9)), "{ended}");
    // All that it has started, in sessions of their own as well, and of the other form of exec too.
    let apart = "sleep 7777 & /bin/busybox setsid sh -c 'sleep 7777 & echo > /tmp/apart; sleep 7777' & sleep 7777";
    let client = host.daemon.client();
    let body = json!({ "command": ["sh", "-c", apart] });
    let left = tokio::spawn(async move { client.post_json("/instances/exec/exec", &body).await.map(drop) });
    shell(&host, "until [ -e /tmp/apart ]; do sleep 0.1; done").await;
    left.abort();
    let looks = "for i in 1 2 3 4 5 6 7 8 9 10; do ls -d /proc/[0-9]* | while read p; do cat $p/cmdline; echo; done 2>/dev/null \
        | /bin/busybox grep -c '77[7]7' || exit 0; sleep 1; done";
    let looked = shell(&host, looks).await;
    assert!(looked.ends_with("0\n"), "{looked}");
    // Its input ends when the guest knows that its client is gone.
    let mut kept =
        open(json!({ "command": ["sh", "-c", "cat; echo > /tmp/alone; exec sleep 8888"], "detach": true })).await;
    let pid = kept.started().await.unwrap();
    drop(kept);
    shell(&host, "until [ -e /tmp/alone ]; do sleep 0.1; done").await;
    let running = host.client.get(&format!("/instances/exec/processes/{pid}")).await.unwrap().json();
    assert_eq!(running["running"], true);

    let mut last = open(json!({ "command": ["sleep", "1000"] })).await;
    last.started().await.unwrap();
    let standby = host.client.act("/instances/exec/standby").await.unwrap();
    assert_eq!(standby.status, 200, "{:?}", standby.body);
    let (_, _, lost) = last.rest().await.unwrap();
    assert_eq!((&lost["type"], &lost["state"]), (&json!("lost"), &json!("standby")), "{lost}");
    let refused = host.client.post_json("/instances/exec/exec", &json!({ "command": ["id"] })).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (409, "invalid_state"));
    assert_eq!(host.client.act("/instances/exec/restore").await.unwrap().status, 200);
    host.until("exec", "ready", |instance| instance["ready"] == true).await.unwrap();
    // A detached one goes on behind the standby, any other does not.
    let running = host.client.get(&format!("/instances/exec/processes/{pid}")).await.unwrap().json();
    assert_eq!(running["running"], true);
    assert_eq!(shell(&host, "echo back").await, "back\n");
    host.delete("exec", 0).await.unwrap();
}
