//! Standby and restore of one VM, each beside the same steps on the raw API socket with the same fsyncs.

use serde_json::json;

use crate::Node;
use crate::node::is_real;
use crate::raw::Prepared;
use crate::table::{Table, Times};

/// Real guests are few and slow.
fn rounds() -> usize {
    if is_real() { 5 } else { 50 }
}

pub(crate) fn measure(table: &mut Table) {
    let node = Node::start();
    let config = node.sample(256, &json!({}));
    let raw = Prepared::like(&config);
    let (mut vmm, _) = raw.start();
    if is_real() {
        // Its guest comes up as the daemon's did; nothing tells when.
        std::thread::sleep(std::time::Duration::from_secs(20));
    }
    let [mut standby, mut raw_standby, mut restore, mut raw_restore] = [(); 4].map(|()| Times::default());
    let act = |name: &str| node.expect(200, node.client.post_json(&format!("/instances/sample/{name}"), &json!({}))).1;
    for _ in 0..rounds() {
        raw_standby.push(raw.standby(vmm));
        standby.push(act("standby"));
        let time;
        (vmm, time) = raw.restore();
        raw_restore.push(time);
        restore.push(act("restore"));
    }
    drop(vmm);
    let vmm = if is_real() { "the real VMM" } else { "the simulated VMM" };
    table.section("standby", &format!("256 MiB, sparse, {vmm}, without network, {} times in turn", rounds()));
    for (what, daemon, raw, goal) in [("standby", standby, raw_standby, 1.2), ("restore", restore, raw_restore, 1.15)] {
        table.line(&format!("raw {what}"), &raw.show());
        table.line(&format!("POST /instances/{{id}}/{what}"), &daemon.show());
        let (p50, base) = (daemon.quantile(0.5), raw.quantile(0.5));
        let value = format!("{:.2} x, {:+.1} ms", p50 / base, p50 - base);
        if is_real() {
            table.aim("  p50 against raw", &value, (&format!("<= {goal} x"), p50 <= goal * base));
        } else {
            table.line("  p50 against raw", &value);
        }
    }
}
