//! The actor: one task that owns one instance. It alone changes the record, and it alone talks to the VMM.
//!
//! Its loop is `observe, plan, execute` until the plan rests, then it waits for something to happen: an event of the
//! VMM, a word of the guest's agent, or a delete. Deletes have a lane of their own and are looked at between any two
//! steps, so that a delete wins over whatever is in progress.

mod clock;
mod events;
mod failure;
mod observe;
mod orders;
mod restarts;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use dataplane_store::{InstancePaths, StoreError};
use dataplane_types::{InstanceId, OperationId};
use dataplane_vmm::{VmEvent, VmHandle, VmState, VmmError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::agent::AgentLink;
use crate::logs::journal::Journal;
use crate::plan::{Leavings, Progress, SeenLink, Step, plan};
use crate::record::{OpKind, OpRecord};
use crate::view::state_of;
use crate::{ActionError, CreateError, DeleteError, Deps, ErrorRecord, InstanceState, Record, View};

pub(crate) use clock::CLOCK_PATIENCE;
use clock::GuestClock;
pub use orders::{Action, Patch, Precondition};
pub(crate) use orders::{ActionReply, DeleteMail, Order, OrderMail};
pub(crate) use restarts::Restarts;

/// No plan needs more steps than this; one that does has a VMM that only says that it did them.
const MAX_STEPS: usize = 64;

/// A VMM process and the two streams that come from it.
#[derive(Debug)]
pub(crate) struct LiveVmm {
    pub(crate) handle: Arc<dyn VmHandle>,
    /// `None` once the stream has ended.
    pub(crate) events: Option<mpsc::Receiver<VmEvent>>,
    pub(crate) agent: AgentLink,
    pub(crate) agent_connected: bool,
    pub(crate) clock: GuestClock,
    pub(crate) state: VmState,
    pub(crate) unresponsive: bool,
    /// The VMM was asked for its state just now, and nothing has been done since.
    pub(crate) is_fresh: bool,
}

impl LiveVmm {
    pub(crate) fn new(id: &InstanceId, handle: Arc<dyn VmHandle>) -> Self {
        let events = handle.events();
        let agent = AgentLink::start(id.clone(), Arc::clone(&handle));
        let (agent_connected, clock) = (false, GuestClock::default());
        Self {
            handle,
            events,
            agent,
            agent_connected,
            clock,
            state: VmState::Empty,
            unresponsive: false,
            is_fresh: false,
        }
    }
}

/// The next event of a VMM; pending for ever once its stream has ended. Cancel-safe.
pub(crate) async fn next_event(events: &mut Option<mpsc::Receiver<VmEvent>>) -> VmEvent {
    if let Some(receiver) = events {
        if let Some(event) = receiver.recv().await {
            return event;
        }
        *events = None;
    }
    std::future::pending().await
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Vmm(#[from] VmmError),
    #[error(transparent)]
    Link(#[from] crate::LinkError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("end a VMM that no record names")]
    Orphans(#[source] std::io::Error),
    #[error("no driver for hypervisor {0}")]
    NoDriver(dataplane_vmm::Hypervisor),
    #[error("{free} bytes are free, {needed} are needed and {reserved} must stay free")]
    NoSpace { free: u64, needed: u64, reserved: u64 },
    #[error("{act} the guest's memory file")]
    MemoryFile {
        act: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Uid(#[from] dataplane_vmm::UidError),
    #[error("the plan did not come to rest within {MAX_STEPS} steps")]
    Endless,
}

impl From<StepError> for CreateError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Vmm(error) => Self::Vmm(error),
            StepError::Link(error) => Self::Link(error),
            StepError::Store(error) => Self::Store(error),
            StepError::NoDriver(hypervisor) => Self::NoHypervisor(hypervisor),
            StepError::Uid(error) => Self::Uid(error),
            StepError::NoSpace { free, reserved, .. } => Self::NoSpace { free, reserved },
            StepError::Orphans(_) | StepError::MemoryFile { .. } | StepError::Endless => Self::Unruly(chain(&error)),
        }
    }
}

/// How a drive ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Rest,
    Gone,
}

/// The task's state. Fields are shared with the operations in `ops`.
pub(crate) struct Actor {
    pub(crate) deps: Arc<Deps>,
    pub(crate) paths: InstancePaths,
    pub(crate) record: Record,
    pub(crate) vmm: Option<LiveVmm>,
    pub(crate) link: SeenLink,
    /// The record's limit may be another than the link's.
    pub(crate) limit_is_due: bool,
    pub(crate) snapshot: bool,
    pub(crate) leavings: Leavings,
    pub(crate) progress: Progress,
    /// The record says already that the next VMM is to be started.
    pub(crate) intended: bool,
    pub(crate) hopeless: bool,
    /// Why the operation in progress is being undone.
    pub(crate) cause: Option<ErrorRecord>,
    pub(crate) restarts: Restarts,
    pub(crate) ready: bool,
    pub(crate) init_ms: Option<u64>,
    pub(crate) grace: Duration,
    pub(crate) deletes: mpsc::Receiver<DeleteMail>,
    pub(crate) orders: mpsc::Receiver<OrderMail>,
    pub(crate) joined: Vec<ActionReply>,
    pub(crate) waiting: Vec<oneshot::Sender<Result<(), DeleteError>>>,
    pub(crate) views: watch::Sender<Option<Arc<View>>>,
    pub(crate) resets: VecDeque<Instant>,
    pub(crate) journal: Journal,
    /// Takes the instance off the manager's map: after it the id is free, so it comes before any answer.
    pub(crate) leave: Box<dyn Fn() + Send + Sync>,
}

/// The client of a create that is in progress.
pub(crate) type CreateReply = oneshot::Sender<Result<Arc<View>, CreateError>>;

impl Actor {
    /// Runs until the instance is gone. The first drive serves the create, when there is one.
    pub(crate) async fn run(mut self, mut created: Option<CreateReply>) {
        // Why the create failed, while it is being taken back.
        let mut cause = None;
        loop {
            let result = self.drive().await;
            match result {
                Ok(Outcome::Gone) => {
                    self.farewell();
                    if let Some(reply) = created.take() {
                        let deleted = || CreateError::Deleted(self.record.id.clone());
                        let _ = reply.send(Err(cause.take().unwrap_or_else(deleted)));
                    }
                    return;
                }
                Ok(Outcome::Rest) => {
                    self.publish();
                    let view = self.views.borrow().clone();
                    if let Some(view) = view {
                        if let Some(reply) = created.take() {
                            let _ = reply.send(Ok(Arc::clone(&view)));
                        }
                        self.tell_joined(Ok(view));
                    }
                    // After the answers: what is started anew has been created, or done to, as was asked.
                    if !self.starts_anew() && !self.wait().await {
                        return;
                    }
                }
                Err(error) if self.can_undo() => self.undo(&error),
                Err(error) if created.is_some() && !self.deleting() => {
                    tracing::warn!(instance.id = %self.record.id, error = %chain(&error), "a create failed: taking it back");
                    cause = Some(error.into());
                    self.grace = Duration::ZERO;
                    self.intend_delete();
                }
                Err(error) => {
                    // What cannot be taken back now stays known, as a delete that is tried again.
                    if let (Some(reply), Some(cause)) = (created.take_if(|_| cause.is_some()), cause.take()) {
                        let _ = reply.send(Err(cause));
                    }
                    self.failed(&error).await;
                }
            }
        }
    }

    async fn drive(&mut self) -> Result<Outcome, StepError> {
        let mut spawned = false;
        for _ in 0..MAX_STEPS {
            self.admit_mail();
            self.renew_limit().await;
            self.publish();
            let (seen, silence) = self.observe().await;
            // One that was just started and fails would be started again and again.
            if let Some(error) = silence.filter(|_| spawned && !self.deleting()) {
                return Err(error.into());
            }
            let step = plan(&self.record, seen);
            if step == Step::Rest {
                return Ok(Outcome::Rest);
            }
            tracing::debug!(instance.id = %self.record.id, ?step, ?seen, "step");
            self.execute(step).await?;
            spawned |= step == Step::Spawn;
            if step == Step::Discard {
                return Ok(Outcome::Gone);
            }
        }
        Err(StepError::Endless)
    }

    async fn execute(&mut self, step: Step) -> Result<(), StepError> {
        match step {
            Step::Rest => Ok(()),
            Step::EnsureLink => self.ensure_link().await,
            Step::Spawn => self.spawn().await,
            Step::CreateVm => self.create_vm().await,
            Step::Boot => self.boot().await,
            Step::PauseVm => self.pause_vm().await,
            Step::ResumeVm => self.resume_vm().await,
            Step::ResizeVm => self.resize_vm().await,
            Step::Done => self.done(),
            Step::GiveUp => self.give_up(),
            Step::Finish => self.finish().await,
            Step::Quiesce => self.quiesce().await,
            Step::TakeSnapshot => self.take_snapshot().await,
            Step::CommitSnapshot => self.commit_snapshot().await,
            Step::RestoreVm => self.restore_vm().await,
            Step::SpendSnapshot => self.spend_snapshot(),
            Step::DiscardSnapshot => self.discard_snapshot(),
            Step::Sweep => self.sweep(),
            Step::AskGuest => self.ask_guest().await,
            Step::EndVmm => self.end_vmm().await,
            Step::RemoveLink => self.remove_link().await,
            Step::Settle => self.settle().await,
            Step::Discard => self.discard().await,
        }
    }

    pub(crate) fn deleting(&self) -> bool {
        self.record.op.as_ref().is_some_and(|op| op.kind == OpKind::Delete)
    }

    /// Makes a delete the intent, in memory alone where that cannot be recorded: on a full disk a delete is what
    /// helps, and one that a crash cuts short has not been answered.
    fn intend_delete(&mut self) {
        if let Err(error) = self.begin(OpKind::Delete) {
            tracing::warn!(instance.id = %self.record.id, error = %chain(&error), "the delete could not be recorded and goes on without");
            self.record.op = Some(self.operation(OpKind::Delete));
            self.progress = Progress::default();
            self.publish();
        }
    }

    fn operation(&self, kind: OpKind) -> OpRecord {
        let from_paused = self.vmm.as_ref().is_some_and(|live| live.state == VmState::Paused);
        let from_paused = kind == OpKind::Standby && from_paused;
        OpRecord { kind, id: OperationId::generate(), since: self.deps.clock.now(), from_paused, target: None }
    }

    /// Makes an operation the intent, durably.
    pub(crate) fn begin(&mut self, kind: OpKind) -> Result<(), StepError> {
        self.begin_with(kind, |_| {})
    }

    /// The same, and changes the record with it.
    pub(crate) fn begin_with(&mut self, kind: OpKind, change: impl FnOnce(&mut Record)) -> Result<(), StepError> {
        let op = self.operation(kind);
        self.update(|record| {
            record.restart_from = match kind {
                OpKind::Restart | OpKind::Reboot => record.vmm.as_ref().map(|vmm| vmm.generation),
                OpKind::Create
                | OpKind::Start
                | OpKind::Stop
                | OpKind::Pause
                | OpKind::Resume
                | OpKind::Standby
                | OpKind::Restore
                | OpKind::Resize
                | OpKind::Delete => None,
            };
            record.op = Some(op);
            record.up = match kind {
                OpKind::Create | OpKind::Start | OpKind::Reboot | OpKind::Restart | OpKind::Restore => true,
                OpKind::Stop | OpKind::Delete => false,
                OpKind::Pause | OpKind::Resume | OpKind::Standby | OpKind::Resize => record.up,
            };
            change(record);
        })?;
        self.progress = Progress::default();
        self.cause = None;
        Ok(())
    }

    /// Changes the record: on disk first, then in memory and in the view.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), StepError> {
        let mut record = self.record.clone();
        change(&mut record);
        record.generation += 1;
        // One small fsync on a task of its own; the actor has nothing else to do meanwhile.
        tokio::task::block_in_place(|| self.deps.store.replace(&self.paths.record(), &record))?;
        self.record = record;
        self.publish();
        Ok(())
    }

    pub(crate) fn state(&self) -> InstanceState {
        state_of(self.vmm.as_ref().map(|live| live.state), self.snapshot)
    }

    pub(crate) fn publish(&self) {
        let (state, has_snapshot) = (self.state(), self.snapshot);
        let (ready, init_ms) = (self.ready, self.init_ms);
        let door = self.vmm.as_ref().map(|live| live.agent.door());
        let record = Arc::new(self.record.clone());
        let view = Arc::new(View { record, state, has_snapshot, ready, init_ms, door });
        self.journal.see(&view);
        self.views.send_replace(Some(view));
    }

    fn farewell(&mut self) {
        if let Some(link) = &self.record.spec.link {
            tracing::debug!(instance.id = %self.record.id, network.ip = %link.ip, "address released");
        }
        self.deps.links.release(&self.record.id);
        self.deps.release_uid(self.record.uid);
        (self.leave)();
        self.tell_joined(Err(ActionError::NotFound(self.record.id.clone())));
        self.views.send_replace(None);
        for reply in self.waiting.drain(..) {
            let _ = reply.send(Ok(()));
        }
    }

    /// Waits until something happened that may change the plan; `false` when the manager is gone: the daemon stops,
    /// and the VM goes on without it.
    async fn wait(&mut self) -> bool {
        let due = self.restarts.due();
        let Some(live) = &mut self.vmm else {
            // All are cancel-safe: channel receives and a timer.
            tokio::select! {
                biased;
                mail = self.deletes.recv() => return mail.map(|mail| self.admit_delete(mail)).is_some(),
                mail = self.orders.recv() => return mail.map(|mail| self.admit_order(mail)).is_some(),
                () = at(due) => return true,
            }
        };
        // All are cancel-safe: channel receives and a timer.
        tokio::select! {
            biased;
            mail = self.deletes.recv() => return mail.map(|mail| self.admit_delete(mail)).is_some(),
            mail = self.orders.recv() => return mail.map(|mail| self.admit_order(mail)).is_some(),
            event = next_event(&mut live.events) => self.vmm_event(event),
            event = live.agent.next() => self.agent_event(event),
            () = at(due) => {}
        }
        true
    }
}

/// An instant, or never.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
