//! Creating instances of a cached image: what the daemon adds to one, and how many it makes a second.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Node;
use crate::raw::Prepared;
use crate::table::{Table, Times};

/// How many are made one after the other, and how many of the first are not counted.
const ROUNDS: usize = 200;
const WARM_UP: usize = 20;

/// How many are made in a stream, and how many clients ask at once.
const STREAM: usize = 400;
const CLIENTS: [usize; 3] = [2, 8, 32];

pub(crate) fn latency(table: &mut Table) {
    let node = Node::start();
    let config = node.sample(128, &json!({}));
    let (mut daemon, mut raw, mut delete) = (Times::default(), Times::default(), Times::default());
    for round in 0..WARM_UP + ROUNDS {
        let prepared = Prepared::like(&config);
        let (vmm, raw_time) = prepared.start();
        drop(vmm);
        let (_, time) = node.create("one");
        let delete_time = node.delete("one");
        if round >= WARM_UP {
            raw.push(raw_time);
            daemon.push(time);
            delete.push(delete_time);
        }
    }
    table.section("create", &format!("one after the other, {ROUNDS} times, each beside the same on the raw socket"));
    table.line("raw: spawn, vm.create, vm.boot", &raw.show());
    table.line("POST /instances", &daemon.show());
    let [p50, p99] = [0.5, 0.99].map(|part| daemon.quantile(part) - raw.quantile(part));
    table.aim("added by the daemon, p50", &format!("{p50:.2} ms"), ("<= 3 ms", p50 <= 3.0));
    table.aim("added by the daemon, p99", &format!("{p99:.2} ms"), ("<= 10 ms", p99 <= 10.0));
    table.line("DELETE /instances/{id}?grace_seconds=0", &delete.show());
}

pub(crate) fn sustained(table: &mut Table) {
    table.section("sustained", &format!("{STREAM} instances with real TAPs; raw: the same without them"));
    let node = Node::start();
    let config = node.sample(128, &json!({}));
    for clients in CLIENTS {
        let raw = per_second(STREAM, raw_stream(&config, clients));
        let created = per_second(STREAM, node.create_many(STREAM, clients));
        let taps = node.daemon.taps().len();
        assert_eq!(taps, STREAM, "each instance has a TAP");
        let deleted = per_second(STREAM, node.delete_many(STREAM, clients));
        let value = format!("{created:.0}/s (raw {raw:.0}/s)");
        table.aim(&format!("creates, {clients} clients"), &value, (">= 200/s", created >= 200.0));
        table.line(&format!("deletes, {clients} clients"), &format!("{deleted:.0}/s"));
        node.daemon.until_no_tap().unwrap();
    }
}

fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// The VMMs alone, by so many threads; all live until the last one runs.
fn raw_stream(config: &Value, threads: usize) -> Duration {
    let prepared: Vec<Prepared> = (0..STREAM).map(|_| Prepared::like(config)).collect();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let shares = prepared.chunks(STREAM.div_ceil(threads));
        let shares = shares.map(|share| scope.spawn(|| share.iter().map(|one| one.start().0).collect::<Vec<_>>()));
        let shares: Vec<_> = shares.collect();
        let vmms: Vec<_> = shares.into_iter().map(|share| share.join().unwrap()).collect();
        let time = begin.elapsed();
        drop(vmms);
        time
    })
}
