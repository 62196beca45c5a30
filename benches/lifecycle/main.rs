//! What the daemon costs beside its VMMs. Every number is taken beside a baseline in the same run: the same steps by
//! one process on the raw API socket. Nothing here fails because a machine is slow; the table says what was measured
//! and what is aimed at.
//!
//! `cargo bench -p dataplane-testkit --bench lifecycle [-- SECTION…]` with the sections create, sustained, calls, adopt,
//! standby, instant, logs, exec, files; all by default. It measures what is in `bin/`, or in the directory that `DATAPLANE_BENCH_BIN`
//! names, with the simulated VMM, or with the real one that `DATAPLANE_BENCH_VMM` names
//! (of QEMU only the last two); `TMPDIR` chooses the file
//! system. Needs root and `/dev/net/tun`: TAPs are real, in a namespace of the bench's own.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking, its helpers too")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod adopt;
mod calls;
mod create;
mod guest;
mod instant;
mod logs;
mod machine;
mod node;
mod raw;
mod standby;
mod table;

use crate::node::Node;
use crate::table::Table;

/// A part of the bench: its name, and what it does.
type Section = (&'static str, fn(&mut Table));

const SECTIONS: [Section; 9] = [
    ("create", create::latency),
    ("sustained", create::sustained),
    ("calls", calls::count),
    ("adopt", adopt::measure),
    ("standby", standby::measure),
    ("instant", instant::measure),
    ("logs", logs::measure),
    ("exec", guest::programs),
    ("files", guest::files),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let unknown: Vec<_> = wanted.iter().filter(|name| !SECTIONS.iter().any(|(known, _)| known == name)).collect();
    assert!(unknown.is_empty(), "there are no sections {unknown:?}");
    println!("{}", machine::describe());
    let mut table = Table::default();
    for (name, measure) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            measure(&mut table);
        }
    }
}
