//! What the daemon asks of the kernel per operation: fsyncs, and programs started. Counted by strace, which slows
//! everything down, so nothing is timed here.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::Node;
use crate::table::Table;

/// How often each operation is done under the counter.
const ROUNDS: usize = 5;

const SYNCS: [&str; 5] = ["fsync", "fdatasync", "syncfs", "sync_file_range", "msync"];
const PROGRAMS: [&str; 2] = ["execve", "execveat"];

pub(crate) fn count(table: &mut Table) {
    table.section("calls", &format!("of the daemon and what it starts, per operation; mean of {ROUNDS}"));
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return table.line("skipped", "there is no strace");
    }
    let node = Node::start();
    let path = |act: &str, round| format!("/instances/i-{round}/{act}");
    let act = |name: &str, round| {
        node.expect(200, node.client.post_json(&path(name, round), &json!({})));
    };
    let with_grace = |name: &str, round| {
        node.expect(200, node.client.post_json(&path(name, round), &json!({ "grace_seconds": 0 })));
    };
    let each = |operation: &dyn Fn(usize)| (0..ROUNDS).for_each(operation);
    let counted = |name: &str, operation: &dyn Fn(usize)| {
        let counts = traced(&node, || each(operation));
        let [syncs, programs] = [&SYNCS[..], &PROGRAMS[..]].map(|names| counts.per_round(names));
        (name.to_owned(), syncs, programs)
    };
    let creates = counted("create", &|round| {
        node.create(&format!("i-{round}"));
    });
    let is_one = (creates.2 - 1.0).abs() < f64::EPSILON;
    table.aim("programs per create", &format!("{:.1} execve", creates.2), ("1: the VMM", is_one));
    let rest = [
        counted("pause", &|round| act("pause", round)),
        counted("resume", &|round| act("resume", round)),
        counted("standby", &|round| act("standby", round)),
        counted("restore", &|round| act("restore", round)),
        counted("stop", &|round| with_grace("stop", round)),
        counted("start", &|round| act("start", round)),
        counted("delete", &|round| {
            node.delete(&format!("i-{round}"));
        }),
    ];
    for (name, syncs, programs) in [creates].into_iter().chain(rest) {
        table.line(&name, &format!("{syncs:.1} fsync, {programs:.1} execve"));
    }
}

/// The calls that were made, by name.
struct Counts(Vec<String>);

impl Counts {
    fn per_round(&self, names: &[&str]) -> f64 {
        self.0.iter().filter(|name| names.contains(&name.as_str())).count() as f64 / ROUNDS as f64
    }
}

/// Runs something while every thread of the daemon and every program that it starts is traced.
fn traced(node: &Node, work: impl FnOnce()) -> Counts {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("calls");
    let strace = attach(node.daemon.pid().unwrap(), &output);
    work();
    end(strace);
    let text = std::fs::read_to_string(output).unwrap();
    // `1234  fsync(7) = 0`; an unfinished call is told again when it is resumed, in other words. An execve that fails
    // starts nothing.
    let name = |line: &str| {
        let (call, rest) = line.split_once(' ')?.1.trim_start().split_once('(')?;
        let failed = rest.contains(" = -1 ");
        (!failed).then(|| call.to_owned())
    };
    Counts(text.lines().filter_map(name).collect())
}

fn attach(pid: u32, output: &PathBuf) -> Child {
    let mut child = Command::new("strace")
        .args(["-f", "-p", &pid.to_string(), "-e"])
        .arg(format!("trace={}", [&SYNCS[..], &PROGRAMS[..]].concat().join(",")))
        .arg("-o")
        .arg(output)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace is installed");
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("attached"), "strace: {line}");
    // What it says later is of no interest, but somebody must read it.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    child
}

/// The tracer lets go when it is interrupted.
fn end(mut strace: Child) {
    kill(Pid::from_raw(i32::try_from(strace.id()).unwrap()), Signal::SIGINT).unwrap();
    strace.wait().unwrap();
}
