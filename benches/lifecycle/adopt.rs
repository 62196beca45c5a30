//! A daemon that comes back to a thousand instances.

use std::time::{Duration, Instant};

use crate::Node;
use crate::table::{Table, Times};

const INSTANCES: usize = 1000;

/// How often the daemon is started anew, and the list asked for.
const STARTS: usize = 3;
const LISTS: usize = 50;

/// Over which time the idle daemon is watched.
const IDLE: Duration = Duration::from_secs(2);

/// After which time what is kept for a while is gone.
const SETTLED: Duration = Duration::from_secs(15);

pub(crate) fn measure(table: &mut Table) {
    let mut node = Node::start();
    table.section("adopt", &format!("{INSTANCES} instances with living VMMs; the daemon was killed"));
    let empty = rss(&node);
    node.create_many(INSTANCES, 8);
    table.line("RSS without instances", &format!("{:.1} MiB", empty));
    table.line("RSS of the daemon that made them", &format!("{:.1} MiB", rss(&node)));
    let mut starts = Times::default();
    for _ in 0..STARTS {
        node.daemon.kill().unwrap();
        let begin = Instant::now();
        node.daemon.launch().unwrap();
        starts.push(begin.elapsed());
        let (list, _) = node.expect(200, node.client.get("/instances?limit=1000"));
        let items = list.json()["items"].as_array().map_or(0, Vec::len);
        assert_eq!(items, INSTANCES, "all are there");
        std::thread::sleep(IDLE);
    }
    for (milestone, time) in milestones(&node.daemon.log()) {
        table.line(&format!("  {milestone}"), &format!("after {time:.0} ms"));
    }
    let start = starts.quantile(0.5);
    table.aim("from exec to serving (within 5 ms)", &format!("{start:.0} ms"), ("<= 500 ms", start <= 500.0));
    let (list, _) = node.expect(200, node.client.get("/instances?limit=1000"));
    let running = list.json()["items"].as_array().unwrap().iter().filter(|item| item["state"] == "Running").count();
    assert_eq!(running, INSTANCES, "all run");
    std::thread::sleep(SETTLED);
    let rss = rss(&node);
    table.aim("RSS after adoption", &format!("{rss:.1} MiB"), ("<= 80 MiB", rss <= 80.0));
    let mut lists = Times::default();
    for _ in 0..LISTS {
        lists.push(node.expect(200, node.client.get("/instances?limit=1000")).1);
    }
    let p50 = lists.quantile(0.5);
    table.aim("GET /instances?limit=1000", &lists.show(), ("p50 <= 10 ms", p50 <= 10.0));
    table.line("  of so many bytes", &list.body.len().to_string());
    let before = cpu_ticks(&node);
    std::thread::sleep(IDLE);
    let used = cpu_ticks(&node) - before;
    // USER_HZ is 100 on every architecture that Linux has here.
    table.line("CPU of the idle daemon", &format!("{:.1} %", used as f64 / IDLE.as_secs_f64()));
}

/// When the last start came how far: what its log says, in milliseconds since its first line.
fn milestones(log: &str) -> Vec<(&'static str, f64)> {
    const MILESTONES: [(&str, &str); 6] = [
        ("hypervisors probed", "hypervisor chosen"),
        ("kernel and initramfs taken in", "new instances are pinned"),
        ("network up", "network is up"),
        ("first VMM adopted", "adopted a living VMM"),
        ("last VMM adopted", "adopted a living VMM"),
        ("serving", " serving "),
    ];
    let begin = log.rfind(" starting ").unwrap();
    let begin = log[..begin].rfind('\n').map_or(0, |end| end + 1);
    let log = &log[begin..];
    let at = |line: &str| {
        let (_, clock) = line.split(' ').next()?.trim_end_matches('Z').split_once('T')?;
        let parts: Vec<f64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        Some(1e3 * (parts[0] * 3600.0 + parts[1] * 60.0 + parts[2]))
    };
    let start = log.lines().next().and_then(at).unwrap();
    let time_of = |(name, words): &(&'static str, &str)| {
        let mut lines = log.lines().filter(|line| line.contains(words));
        let line = if name.starts_with("last") { lines.next_back() } else { lines.next() };
        Some((*name, at(line?)? - start))
    };
    MILESTONES.iter().filter_map(time_of).collect()
}

/// What it holds, in MiB.
fn rss(node: &Node) -> f64 {
    node.daemon.rss().unwrap() as f64 / f64::from(1 << 20)
}

/// Time on a processor, in ticks: fields 14 and 15 of `/proc/<pid>/stat`.
fn cpu_ticks(node: &Node) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.daemon.pid().unwrap())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
