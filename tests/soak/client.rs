//! One instance and the client that does everything with it. Nobody else touches this instance, so each answer and each
//! state can be judged.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dataplane_testkit::http::{Answer, Client};
use http_body_util::Full;
use hyper::Request;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::model::{Face, Known, Op, State};
use crate::processes::vmms_below;
use crate::random::Random;

/// No answer takes longer, on a machine that has much else to do.
const ANSWER_LIMIT: Duration = Duration::from_secs(180);
/// How long an operation, or its recovery, may take to come to its end: emulated guests are slow.
const REST_LIMIT_SECONDS: u64 = 120;

/// Where the daemon is in its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Up(u64),
    Down(u64),
    /// Up, and not killed any more.
    Last,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    answered: Mutex<BTreeMap<&'static str, u64>>,
    lost: AtomicU64,
}

impl Tally {
    pub(crate) fn answered(&self, op: Op) {
        *self.answered.lock().unwrap().entry(op.verb()).or_default() += 1;
    }

    pub(crate) fn lost_vmm(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answered, lost) = (self.answered.lock().unwrap(), self.lost.load(Ordering::Relaxed));
        write!(f, "{lost} VMMs killed; answered: {answered:?}")
    }
}

/// Why a step did not come to its end.
pub(crate) enum Stop {
    /// The daemon died meanwhile.
    Cut,
    /// A promise was broken.
    Violation(String),
}

/// An instance as its only client knows it.
pub(crate) struct Subject {
    pub(crate) id: String,
    /// What it is made by.
    pub(crate) wish: Value,
    /// The guest ends by itself: where it should run, it may have shut down.
    pub(crate) ends: bool,
    pub(crate) client: Client,
    pub(crate) run_dir: PathBuf,
    pub(crate) random: Random,
    pub(crate) tally: Arc<Tally>,
    /// Where what is known is written down, line by line, before anything else happens.
    pub(crate) journal: Option<fn(&str)>,
    pub(crate) known: Known,
    pub(crate) history: Vec<String>,
}

impl Subject {
    /// Does things until the end is called, then deletes the instance.
    pub(crate) async fn live(mut self, mut phases: watch::Receiver<Phase>) -> Result<(), String> {
        loop {
            let phase = *phases.borrow_and_update();
            let ended = match phase {
                Phase::Down(_) => Err(Stop::Cut),
                Phase::Up(_) => self.step().await,
                Phase::Last => self.leave().await,
            };
            match ended {
                Ok(()) if phase == Phase::Last => return Ok(()),
                Ok(()) => {}
                Err(Stop::Cut) if phase == Phase::Last => return Err(self.story("the daemon is away")),
                // A cut is followed by a phase of its own, perhaps seen already.
                Err(Stop::Cut) => {
                    self.history.push("(killed)".into());
                    if phases.changed().await.is_err() {
                        return Ok(());
                    }
                }
                Err(Stop::Violation(what)) => return Err(self.story(&what)),
            }
        }
    }

    fn story(&self, what: &str) -> String {
        let begin = self.history.len().saturating_sub(40);
        format!("{}: {what}\n  possible: {:?}\n  {}", self.id, self.known, self.history[begin..].join("\n  "))
    }

    async fn step(&mut self) -> Result<(), Stop> {
        let state = self.look().await?;
        let op = self.choose(state);
        match self.random.below(20) {
            0 if !self.ends && matches!(state, State::Running | State::Paused) => self.lose_vmm(state).await,
            1 => self.twice(op, state).await,
            2 => self.delete_meanwhile(op, state).await,
            _ => self.ask(op, state).await,
        }
    }

    fn choose(&mut self, state: State) -> Op {
        if state == State::Absent {
            return Op::Create;
        }
        // Most of the time something that changes anything, and half of that what is hardest.
        let hard = [Op::Standby, Op::Restore];
        if let Some(op) = hard.into_iter().find(|op| op.target(state).is_some_and(|to| to != state))
            && self.random.percent(40)
        {
            return op;
        }
        let changes = |op: &Op| op.target(state).is_some_and(|to| to != state || *op == Op::Reboot);
        let mut ops: Vec<Op> = Op::ALL.into_iter().filter(|op| *op != Op::Delete).collect();
        if !self.random.percent(15) {
            ops.retain(changes);
        }
        if self.random.percent(12) { Op::Delete } else { self.random.pick(&ops) }
    }

    /// The state at rest. It must be a possible one, and is the only one from then on.
    async fn look(&mut self) -> Result<State, Stop> {
        let state = if self.known.doomed { "&state=Stopped" } else { "" };
        let path = self.path(&format!("wait?timeout_seconds={REST_LIMIT_SECONDS}{state}"));
        let answer = self.send(Request::get(path), Bytes::new()).await?;
        let state = match answer.status {
            404 => State::Absent,
            200 => {
                let body = answer.json();
                if body["timed_out"] == true {
                    return Err(Stop::Violation(format!("it does not come to rest: {body}")));
                }
                self.examine(&body["instance"])?
            }
            _ => return Err(unexpected(&answer)),
        };
        if !self.known.may_be(state) && !self.has_ended(state) {
            return Err(Stop::Violation(format!("it is {state:?}: {}", answer.json())));
        }
        self.history.push(format!("is {state:?}"));
        self.known.doomed = false;
        self.settle(state);
        Ok(state)
    }

    /// Its guest may have ended since, if there was one.
    fn has_ended(&self, state: State) -> bool {
        let alive = self.known.may_be(State::Running) || self.known.may_be(State::Paused);
        self.ends && state == State::Shutdown && alive
    }

    fn settle(&mut self, state: State) {
        self.known.is(state);
        if let Some(journal) = self.journal {
            journal(&format!("{} is {}", self.id, self.known.to_json()));
        }
    }

    fn note_asked(&mut self, op: Op) {
        self.known.asked(op);
        if let Some(journal) = self.journal {
            journal(&format!("{} asked {op:?}", self.id));
        }
    }

    /// What never changes is as it was, and what grows has not shrunk.
    fn examine(&mut self, instance: &Value) -> Result<State, Stop> {
        let text = |field: &str| instance[field].as_str().unwrap_or_default().to_owned();
        let face = Face { uuid: text("uuid"), address: text("private_ip"), mac: text("mac") };
        let generation = instance["generation"].as_u64().unwrap_or_default();
        // Deleted and made again, perhaps by a request that was never answered.
        let renewed =
            self.known.may_be(State::Absent) && self.known.face.as_ref().is_some_and(|old| old.uuid != face.uuid);
        if let Some(old) = self.known.face.as_ref().filter(|_| !renewed)
            && (*old != face || generation < self.known.generation)
        {
            return Err(Stop::Violation(format!("it was {old:?} of generation {}: {instance}", self.known.generation)));
        }
        (self.known.face, self.known.generation) = (Some(face), generation);
        State::parse(&text("state")).ok_or_else(|| Stop::Violation(format!("no state: {instance}")))
    }

    /// One request, judged by the table.
    async fn ask(&mut self, op: Op, from: State) -> Result<(), Stop> {
        self.history.push(format!("{op:?}"));
        self.note_asked(op);
        let (request, body) = self.request(op);
        let answer = self.send(request, body).await?;
        self.judge(op, from, &answer)
    }

    fn judge(&mut self, op: Op, from: State, answer: &Answer) -> Result<(), Stop> {
        let target = op.target(from);
        let good = matches!(answer.status, 200 | 201 | 204);
        self.history.push(format!("{op:?} answered {}", answer.status));
        match target {
            Some(to) if good => {
                self.tally.answered(op);
                self.settle(to);
                if matches!(answer.status, 200 | 201) {
                    let state = self.examine(&answer.json())?;
                    if state != to && !self.has_ended(state) {
                        return Err(Stop::Violation(format!("{op:?} of {from:?} answered {}", answer.json())));
                    }
                }
                Ok(())
            }
            None if matches!(answer.status, 404 | 409) => {
                self.settle(from);
                Ok(())
            }
            // It may have ended just before, or meanwhile.
            Some(_) if self.ends && matches!(answer.status, 409 | 503) => Ok(()),
            Some(_) | None if self.ends && good => Ok(()),
            Some(_) | None => Err(unexpected(answer)),
        }
    }

    /// The same request twice at once: the second joins the first, or finds it done.
    async fn twice(&mut self, op: Op, from: State) -> Result<(), Stop> {
        self.history.push(format!("{op:?} twice"));
        self.note_asked(op);
        let ((one, one_body), (other, other_body)) = (self.request(op), self.request(op));
        let (one, other) = tokio::join!(self.send(one, one_body), self.send(other, other_body));
        let (one, other) = (one?, other?);
        if op == Op::Delete || op == Op::Reboot {
            // The second may come after the first is done: then there is nothing left, or it reboots once more.
            let answer = if one.status >= 400 { &other } else { &one };
            return self.judge(op, from, answer);
        }
        // In the order in which they were done, which is not that in which they were asked.
        let mut both = [one, other];
        both.sort_by_key(|answer| answer.json()["generation"].as_u64());
        both.iter().try_for_each(|answer| self.judge(op, from, answer))
    }

    /// A delete while something else is going on: it wins.
    async fn delete_meanwhile(&mut self, op: Op, from: State) -> Result<(), Stop> {
        self.history.push(format!("{op:?} and Delete"));
        self.note_asked(op);
        self.note_asked(Op::Delete);
        let wait = Duration::from_millis(self.random.below(30));
        let ((request, body), (delete, nothing)) = (self.request(op), self.request(Op::Delete));
        let (answer, deleted) = tokio::join!(self.send(request, body), async {
            tokio::time::sleep(wait).await;
            self.send(delete, nothing).await
        });
        let (answer, deleted) = (answer?, deleted?);
        self.history.push(format!("{op:?} answered {}, Delete {}", answer.status, deleted.status));
        match deleted.status {
            // A create that came after it made it anew.
            204 if op == Op::Create => {}
            204 => {
                self.tally.answered(Op::Delete);
                self.settle(State::Absent);
            }
            404 if from == State::Absent || op == Op::Delete => {}
            _ => return Err(unexpected(&deleted)),
        }
        // Its guest may have ended before the delete came.
        let fits = answer.status < 500 || (self.ends && answer.status == 503);
        if fits { Ok(()) } else { Err(unexpected(&answer)) }
    }

    /// The VMM dies under the daemon.
    async fn lose_vmm(&mut self, state: State) -> Result<(), Stop> {
        let uuid = self.known.face.as_ref().map(|face| face.uuid.replace('-', "")).unwrap_or_default();
        let name = &uuid[uuid.len().saturating_sub(8)..];
        let found = vmms_below(&self.run_dir).remove(name).unwrap_or_default();
        let [pid] = found[..] else {
            return Err(Stop::Violation(format!("{state:?}, it has the VMMs {found:?}")));
        };
        self.history.push(format!("its VMM {pid} is killed"));
        self.tally.lost_vmm();
        self.known.doomed = true;
        self.settle(State::Stopped);
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        self.look().await.map(drop)
    }

    async fn leave(&mut self) -> Result<(), Stop> {
        let state = self.look().await?;
        if state == State::Running && !self.ends {
            let path = self.path(&format!("wait?ready=true&timeout_seconds={REST_LIMIT_SECONDS}"));
            let answer = self.send(Request::get(path), Bytes::new()).await?;
            if answer.json()["timed_out"] != false {
                return Err(Stop::Violation(format!("its guest is not ready: {}", answer.json())));
            }
        }
        self.ask(Op::Delete, state).await
    }

    fn path(&self, rest: &str) -> String {
        format!("/instances/{}/{rest}", self.id)
    }

    fn request(&mut self, op: Op) -> (hyper::http::request::Builder, Bytes) {
        let media = |request: hyper::http::request::Builder| request.header("content-type", "application/json");
        match op {
            Op::Create => (media(Request::post("/instances")), self.wish.to_string().into()),
            Op::Delete => {
                let grace = self.random.pick(&[0, 0, 5]);
                (Request::delete(format!("/instances/{}?grace_seconds={grace}", self.id)), Bytes::new())
            }
            Op::Stop | Op::StopForGood => {
                let grace = self.random.pick(&[0, 5]);
                (media(Request::post(self.path(op.verb()))), json!({ "grace_seconds": grace }).to_string().into())
            }
            Op::Relabel => {
                let labels = json!({ "labels": { "turn": self.random.below(1000).to_string() } });
                (media(Request::patch(format!("/instances/{}", self.id))), labels.to_string().into())
            }
            Op::Start | Op::StartAnew | Op::Reboot | Op::Pause | Op::Resume | Op::Standby | Op::Restore => {
                (Request::post(self.path(op.verb())), Bytes::new())
            }
        }
    }

    async fn send(&self, request: hyper::http::request::Builder, body: Bytes) -> Result<Answer, Stop> {
        let request = request.header("host", "localhost").body(Full::new(body)).unwrap();
        match tokio::time::timeout(ANSWER_LIMIT, self.client.call(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Stop::Cut),
            Err(_) => Err(Stop::Violation(format!("no answer within {ANSWER_LIMIT:?}"))),
        }
    }
}

fn unexpected(answer: &Answer) -> Stop {
    Stop::Violation(format!("{} answered {}: {}", answer.request, answer.status, answer.json()))
}
