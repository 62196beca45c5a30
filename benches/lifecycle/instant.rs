//! What an `instant` standby and restore cost by what the guest has dirtied since the last one, and that they do not
//! cost more for a larger memory. Real guests only: a simulated one has no memory.

use std::time::Duration;

use serde_json::json;

use crate::Node;
use crate::node::is_real;
use crate::table::{Table, Times};

const ROUNDS: usize = 3;

/// How long a guest may take to dirty its memory.
const PATIENCE: Duration = Duration::from_secs(300);

/// Equal dirty bytes in two sizes of memory.
const SIZES: [u64; 2] = [512, 2048];
const DIRTY: u64 = 64;

/// Shares of the smaller memory, in percent.
const CURVE: [u64; 3] = [10, 50, 80];

/// A guest that dirties so much, says so, and then does nothing for a while. The file is written in place: a guest that
/// frees memory dirties other pages each time.
fn script(dirty: u64) -> String {
    format!(
        "B=/bin/busybox; $B mkdir -p /mem; $B mount -t tmpfs -o size=90% none /mem; n=0; \
         while :; do n=$((n+1)); \
         $B dd if=/dev/zero of=/mem/file bs=1M count={dirty} conv=notrunc 2>/dev/null; \
         echo dirty $n; $B sleep 5; done"
    )
}

/// Standby and restore of a guest with so much memory, of which so much is dirty, in MiB.
fn rounds(memory: u64, dirty: u64) -> [Times; 2] {
    let node = Node::start();
    let program = json!(["/bin/sh", "-c", script(dirty)]);
    node.sample(memory, &json!({ "standby": "instant", "entrypoint": program, "disk_gb": 1 }));
    let [mut standby, mut restore] = [(); 2].map(|()| Times::default());
    let act = |name: &str| node.expect(200, node.client.post_json(&format!("/instances/sample/{name}"), &json!({}))).1;
    let mut said = 0;
    for _ in 0..=ROUNDS {
        said = says_more(&node, said);
        let (away, back) = (act("standby"), act("restore"));
        // The first one writes all that booting has dirtied as well.
        if said > 1 {
            standby.push(away);
            restore.push(back);
        }
    }
    [standby, restore]
}

/// Waits until the guest has said once more that it is done; how often it has.
fn says_more(node: &Node, before: usize) -> usize {
    let begin = std::time::Instant::now();
    loop {
        let (log, _) = node.expect(200, node.client.get("/instances/sample/logs?tail=100"));
        let times = String::from_utf8_lossy(&log.body).matches("dirty ").count();
        if times > before {
            return times;
        }
        assert!(begin.elapsed() < PATIENCE, "the guest says nothing more");
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(crate) fn measure(table: &mut Table) {
    if !is_real() {
        table.section("instant", "skipped: it needs real guests (DATAPLANE_BENCH_VMM)");
        return;
    }
    table.section("instant", &format!("memory in a file, {ROUNDS} rounds each, the first standby not counted"));
    let mut times = Vec::new();
    for memory in SIZES {
        let [standby, restore] = rounds(memory, DIRTY);
        table.line(&format!("{memory} MiB, {DIRTY} dirty: standby"), &standby.show());
        table.line(&format!("{memory} MiB, {DIRTY} dirty: restore"), &restore.show());
        times.push([standby.quantile(0.5), restore.quantile(0.5)]);
    }
    for (index, what) in ["standby", "restore"].into_iter().enumerate() {
        let ratio = times[1][index] / times[0][index];
        table.aim(&format!("  {what}: large against small"), &format!("{ratio:.2} x"), ("<= 1.10 x", ratio <= 1.1));
    }
    for share in CURVE {
        let dirty = SIZES[0] * share / 100;
        let [standby, restore] = rounds(SIZES[0], dirty);
        table.line(&format!("{} MiB, {share} % dirty: standby", SIZES[0]), &standby.show());
        table.line(&format!("{} MiB, {share} % dirty: restore", SIZES[0]), &restore.show());
    }
}
