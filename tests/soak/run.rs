//! The run: clients at work, the daemon killed at random instants, the books closed at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Phase, Subject, Tally};
use crate::model::Known;
use crate::node::{Node, breaches};
use crate::processes::alone;
use crate::random::Random;

const INSTANCES: usize = 20;
/// All guests that the subnet has room for.
const FULL: usize = 29;
/// The longest that a daemon lives.
const LONGEST_LIFE_MS: u64 = 2000;
/// In which instant of its start a daemon is killed at the latest.
const START_MS: u64 = 150;

/// How long and how.
pub(crate) struct Plan {
    pub(crate) kills: u64,
    pub(crate) limit: Duration,
    pub(crate) seed: u64,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Report {
    kills: u64,
    in_start: u64,
    tally: Arc<Tally>,
    took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, in_start, tally, took } = self;
        write!(f, "{kills} kills of the daemon ({in_start} during its start) in {took:.0?}; {tally}")
    }
}

pub(crate) async fn run(plan: Plan) -> Result<Report, String> {
    let mut node = Node::new();
    let ended = drive(&mut node, &plan).await;
    ended.map_err(|what| format!("SOAK_SEED={}\n--- the daemon's log\n{}\n--- {what}", plan.seed, node.log_tail()))
}

async fn drive(node: &mut Node, plan: &Plan) -> Result<Report, String> {
    let begin = Instant::now();
    let mut random = Random::new(plan.seed);
    node.spawn();
    node.wait_up().await?;
    node.import().await;
    let rules = node.rules();
    let tally = Arc::new(Tally::default());
    let (phase, phases) = watch::channel(Phase::Up(0));
    let mut clients = JoinSet::new();
    for number in 0..INSTANCES {
        let (id, ends) = (format!("vm-{number}"), number % 5 == 4);
        let program: &[&str] = if ends { &["exit", "3"] } else { &["count"] };
        let subject = Subject {
            wish: json!({ "id": id, "image": "img-tiny", "memory_mb": 128, "vcpus": 1, "disk_gb": 1,
                "entrypoint": program }),
            id,
            ends,
            client: node.client(),
            run_dir: node.run_dir(),
            random: random.fork(),
            tally: Arc::clone(&tally),
            journal: None,
            known: Known::default(),
            history: Vec::new(),
        };
        clients.spawn(subject.live(phases.clone()));
    }
    let (mut kills, mut in_start) = (0, 0);
    while kills < plan.kills && begin.elapsed() < plan.limit {
        let life = random.below(random.clone().below(LONGEST_LIFE_MS) + 1);
        observe(node, Duration::from_millis(life), &mut clients).await?;
        kills += 1;
        node.kill()?;
        phase.send_replace(Phase::Down(kills));
        while random.percent(15) && kills < plan.kills {
            node.spawn();
            tokio::time::sleep(Duration::from_millis(random.below(START_MS))).await;
            node.kill()?;
            (kills, in_start) = (kills + 1, in_start + 1);
            alone(&node.run_dir())?;
        }
        node.spawn();
        node.wait_up().await?;
        phase.send_replace(Phase::Up(kills));
    }
    phase.send_replace(Phase::Last);
    while let Some(ended) = clients.join_next().await {
        ended.map_err(|panic| panic.to_string())??;
    }
    close_the_books(node, &rules).await?;
    Ok(Report { kills, in_start, tally, took: begin.elapsed() })
}

/// Lets the daemon live for a while, and looks whether anything goes wrong meanwhile.
async fn observe(node: &Node, life: Duration, clients: &mut JoinSet<Result<(), String>>) -> Result<(), String> {
    tokio::time::sleep(life / 2).await;
    alone(&node.run_dir())?;
    let answer = node.client().get("/instances?limit=1000").await.map_err(|error| format!("list: {error:#}"))?;
    let mut addresses = BTreeMap::new();
    for instance in answer.json()["items"].as_array().into_iter().flatten() {
        if let Some(other) = addresses.insert(instance["private_ip"].to_string(), instance["id"].to_string()) {
            return Err(format!("{other} and {} have the same address", instance["id"]));
        }
    }
    tokio::time::sleep(life / 2).await;
    match clients.try_join_next() {
        Some(Ok(Err(violation))) => Err(violation),
        Some(other) => Err(format!("a client ended early: {other:?}")),
        None => Ok(()),
    }
}

/// All was deleted: nothing is left, and every address can be had.
async fn close_the_books(node: &mut Node, rules: &str) -> Result<(), String> {
    let nothing_left = |node: &Node, when: &str| {
        let left = node.leftovers();
        if left.is_empty() { Ok(()) } else { Err(format!("{when}, this is left: {left:#?}")) }
    };
    nothing_left(node, "all deleted")?;
    if node.rules() != rules {
        return Err(format!("the packet filter was\n{rules}\nand is\n{}", node.rules()));
    }
    let mut requests = JoinSet::new();
    for number in 0..FULL {
        let client = node.client();
        requests.spawn(async move {
            let wish = json!({ "id": format!("full-{number}"), "image": "img-tiny", "memory_mb": 128, "vcpus": 1,
                "disk_gb": 1 });
            let made = client.post_json("/instances", &wish).await.unwrap();
            (made.status == 201).then_some(()).ok_or_else(|| format!("guest {number}: {}", made.json()))
        });
    }
    while let Some(ended) = requests.join_next().await {
        ended.unwrap()?;
    }
    for number in 0..FULL {
        let answer = node.client().delete(&format!("/instances/full-{number}?grace_seconds=0")).await.unwrap();
        (answer.status == 204).then_some(()).ok_or_else(|| answer.json().to_string())?;
    }
    nothing_left(node, "filled and emptied")?;
    let breaches = breaches();
    if breaches.is_empty() { Ok(()) } else { Err(format!("answers that are not in the spec: {breaches:#?}")) }
}
