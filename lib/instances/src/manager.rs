//! The handle: a map from ids to actors. Nothing here waits while it holds the map.

mod opening;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use dataplane_store::Store;
use dataplane_types::{Digest, InstanceId, Mib, WallClock};
use dataplane_vmm::{Confiner, UidPool, Vmm};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::actor::{Action, Actor, CreateReply, DeleteMail, Order, OrderMail, Patch, Precondition, Restarts};
use crate::logs::journal::{Kind, Note, Scribe};
use crate::logs::{Bound, Logs};
use crate::ops::{Draft, prepare};
use crate::plan::{Leavings, Progress};
use crate::{ActionError, CreateError, CreateRequest, DeleteError, Links, LogReader, LogSource, RootDisks, View};

pub use opening::Opened;

/// How many deletes, and how many other requests, of one instance may wait.
const LANE: usize = 64;

/// How many ids of deleted instances are remembered, so that a client that comes back for a log learns of its end.
const REMEMBERED: usize = 1024;

/// What the manager works with.
pub struct Deps {
    /// The data directory.
    pub store: Store,
    /// The wall clock.
    pub clock: Arc<dyn WallClock>,
    /// Images and writable layers.
    pub disks: Arc<dyn RootDisks>,
    /// Network links.
    pub links: Arc<dyn Links>,
    /// The available drivers, the preferred one first.
    pub vmms: Vec<Arc<dyn Vmm>>,
    /// File names of the drivers' binaries: by these orphans are known.
    pub vmm_binaries: Vec<String>,
    /// What new instances are pinned to.
    pub boot: BootFiles,
    /// What the host can give.
    pub limits: HostLimits,
    /// Names.
    pub dns: GuestDns,
    /// Bytes that must stay free on the data directory's disk.
    pub reserved_bytes: u64,
    /// How much of each log is kept, in bytes.
    pub log_limit: u64,
    /// How VMMs are confined.
    pub confiner: Confiner,
    /// The users that they run as.
    pub uids: Mutex<UidPool>,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deps").field("vmms", &self.vmms).field("boot", &self.boot).finish_non_exhaustive()
    }
}

/// Kernel and initramfs, by digest, in the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootFiles {
    /// The guest kernel.
    pub kernel: Digest,
    /// The initramfs.
    pub initramfs: Digest,
}

/// What the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostLimits {
    /// Logical CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: Mib,
}

/// How guests resolve names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestDns {
    /// Name servers, in order.
    pub nameservers: Vec<Ipv4Addr>,
    /// The domain below which instances are named.
    pub domain: String,
}

impl GuestDns {
    /// The full name of an instance.
    #[must_use]
    pub fn fqdn(&self, id: &InstanceId) -> String {
        format!("{id}.{}", self.domain)
    }
}

/// The answer to a create.
#[derive(Debug, Clone)]
pub struct Created {
    /// The instance.
    pub view: Arc<View>,
    /// Whether it was there before.
    pub existed: bool,
}

/// Where the log of an id is.
#[derive(Debug)]
pub enum LogLookup {
    /// Here, and so is what says that the instance is gone.
    Here(LogReader, watch::Receiver<Option<Arc<View>>>),
    /// It was here a while ago.
    Departed,
    /// Nobody knows of such an instance.
    Unknown,
}

type CreateResult = Result<Arc<View>, Arc<CreateError>>;

#[derive(Debug, Clone)]
struct Entry {
    /// Tells this entry from a later one of the same id.
    number: u64,
    request: CreateRequest,
    deletes: mpsc::Sender<DeleteMail>,
    orders: mpsc::Sender<OrderMail>,
    /// `None` before the instance is committed and after it is gone.
    view: watch::Receiver<Option<Arc<View>>>,
    /// The result of the create, for those who join it.
    created: watch::Receiver<Option<CreateResult>>,
}

/// The actor's ends of an entry.
struct EntryEnds {
    number: u64,
    deletes: mpsc::Receiver<DeleteMail>,
    orders: mpsc::Receiver<OrderMail>,
    views: watch::Sender<Option<Arc<View>>>,
    done: watch::Sender<Option<CreateResult>>,
}

#[derive(Debug)]
struct Inner {
    deps: Arc<Deps>,
    entries: RwLock<BTreeMap<InstanceId, Entry>>,
    logs: Logs,
    log_bound: Bound,
    scribe: Scribe,
    departed: Mutex<VecDeque<InstanceId>>,
    entered: AtomicU64,
    actors: TaskTracker,
}

/// The instance manager. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Instances(Arc<Inner>);

impl Instances {
    /// Creates and starts an instance. An identical request for an id that exists is answered with what is there, and
    /// one for an id that is being made joins that.
    ///
    /// # Errors
    /// [`CreateError`]; nothing of the instance is left.
    pub async fn create(&self, request: CreateRequest) -> Result<Created, Arc<CreateError>> {
        let id = request.id.clone().unwrap_or_else(generate_id);
        let (entry, fresh) = self.enter(&id, &request).map_err(Arc::new)?;
        if let Some(ends) = fresh {
            self.0.actors.spawn(self.clone().make(id, request, ends));
        }
        let existed = entry.created.borrow().is_some();
        let mut created = entry.created.clone();
        let result = created.wait_for(Option::is_some).await.ok().and_then(|result| (*result).clone());
        match result {
            // What is there now, not what was there when it was made.
            Some(Ok(view)) => Ok(Created { view: entry.view.borrow().clone().unwrap_or(view), existed }),
            Some(Err(error)) => Err(error),
            None => Err(Arc::new(CreateError::Stopping)),
        }
    }

    async fn make(self, id: InstanceId, request: CreateRequest, ends: EntryEnds) {
        let EntryEnds { number, deletes, orders, views, done } = ends;
        let (draft, lease) = match prepare(&self.0.deps, &id, request).await {
            Ok(made) => made,
            Err(error) => {
                self.forget(&id, number);
                done.send_replace(Some(Err(Arc::new(error))));
                return;
            }
        };
        tracing::info!(instance.id = %id, instance.uuid = %draft.record.uuid, image.digest = %draft.record.spec.image_digest, "the instance exists");
        let actor = self.new_actor(draft, number, (deletes, orders), views);
        actor.journal.tell(&Note::new(Kind::Created, "the instance exists"));
        // Seen from here on, the instance itself keeps its image.
        actor.publish();
        drop(lease);
        // From here on only the map keeps the manager alive: an actor must not.
        drop(self);
        let (reply, answer): (CreateReply, _) = oneshot::channel();
        let relay = async {
            let result = answer.await.unwrap_or(Err(CreateError::Stopping));
            done.send_replace(Some(result.map_err(Arc::new)));
        };
        tokio::join!(actor.run(Some(reply)), relay);
    }

    /// The entry of an id: what is there when it was asked for in the same words, or a new one with its other ends.
    fn enter(&self, id: &InstanceId, request: &CreateRequest) -> Result<(Entry, Option<EntryEnds>), CreateError> {
        let mut entries = self.0.entries.write().expect("no code panics while it holds the map");
        if let Some(entry) = entries.get(id) {
            return if entry.request == *request {
                Ok((entry.clone(), None))
            } else {
                Err(CreateError::Conflict(id.clone()))
            };
        }
        let (entry, ends) = self.entry(request.clone());
        entries.insert(id.clone(), entry.clone());
        Ok((entry, Some(ends)))
    }

    /// A new entry of the map and its other ends.
    fn entry(&self, request: CreateRequest) -> (Entry, EntryEnds) {
        let number = self.0.entered.fetch_add(1, Ordering::Relaxed);
        let (views, view) = watch::channel(None);
        let (done, created) = watch::channel(None);
        let (delete_sender, deletes) = mpsc::channel(LANE);
        let (order_sender, orders) = mpsc::channel(LANE);
        let entry = Entry { number, request, deletes: delete_sender, orders: order_sender, view, created };
        (entry, EntryEnds { number, deletes, orders, views, done })
    }

    fn forget(&self, id: &InstanceId, number: u64) {
        let mut entries = self.0.entries.write().expect("no code panics while it holds the map");
        if entries.get(id).is_some_and(|entry| entry.number == number) {
            entries.remove(id);
        }
    }

    fn remember(&self, id: InstanceId) {
        let mut departed = self.0.departed.lock().unwrap_or_else(PoisonError::into_inner);
        departed.truncate(REMEMBERED - 1);
        departed.push_front(id);
    }

    fn new_actor(
        &self,
        draft: Draft,
        number: u64,
        (deletes, orders): (mpsc::Receiver<DeleteMail>, mpsc::Receiver<OrderMail>),
        views: watch::Sender<Option<Arc<View>>>,
    ) -> Actor {
        let (manager, id) = (Arc::downgrade(&self.0), draft.record.id.clone());
        let leave = move || {
            if let Some(inner) = manager.upgrade() {
                let instances = Self(inner);
                // First: at no moment is it neither here nor gone.
                instances.remember(id.clone());
                instances.forget(&id, number);
            }
        };
        self.0.log_bound.keep(draft.paths.logs());
        let journal = self.0.scribe.journal(draft.paths.dataplane_log(), Arc::clone(&self.0.deps.clock));
        Actor {
            deps: Arc::clone(&self.0.deps),
            paths: draft.paths,
            record: draft.record,
            vmm: None,
            link: draft.link,
            limit_is_due: false,
            snapshot: false,
            leavings: Leavings::None,
            progress: Progress::default(),
            intended: draft.intended,
            hopeless: false,
            cause: None,
            restarts: Restarts::default(),
            ready: false,
            init_ms: None,
            grace: Duration::ZERO,
            deletes,
            orders,
            joined: Vec::new(),
            waiting: Vec::new(),
            views,
            resets: VecDeque::new(),
            journal,
            leave: Box::new(leave),
        }
    }

    /// Lets every actor come to rest and end, for at most `patience`. VMs go on; what an actor has not finished then is
    /// finished by the next start.
    pub async fn stop(&self, patience: Duration) {
        self.0.entries.write().expect("no code panics while it holds the map").clear();
        self.0.actors.close();
        if tokio::time::timeout(patience, self.0.actors.wait()).await.is_err() {
            tracing::warn!(instances = self.0.actors.len(), "work in progress is left to the next start");
        }
        self.0.scribe.flush().await;
    }

    /// One instance as it is now.
    #[must_use]
    pub fn get(&self, id: &InstanceId) -> Option<Arc<View>> {
        let entries = self.0.entries.read().expect("no code panics while it holds the map");
        entries.get(id).and_then(|entry| entry.view.borrow().clone())
    }

    /// All instances as they are now, by id.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<View>> {
        let entries = self.0.entries.read().expect("no code panics while it holds the map");
        entries.values().filter_map(|entry| entry.view.borrow().clone()).collect()
    }

    /// Changes of one instance; the value becomes `None` when it is gone.
    #[must_use]
    pub fn watch(&self, id: &InstanceId) -> Option<watch::Receiver<Option<Arc<View>>>> {
        let entries = self.0.entries.read().expect("no code panics while it holds the map");
        entries.get(id).map(|entry| entry.view.clone())
    }

    /// Deletes an instance, whatever it is doing: its guest has `grace` to end by itself.
    ///
    /// # Errors
    /// [`DeleteError`].
    pub async fn delete(
        &self,
        id: &InstanceId,
        grace: Duration,
        precondition: Option<Precondition>,
    ) -> Result<(), DeleteError> {
        let lane = {
            let entries = self.0.entries.read().expect("no code panics while it holds the map");
            entries.get(id).map(|entry| entry.deletes.clone()).ok_or_else(|| DeleteError::NotFound(id.clone()))?
        };
        let (reply, answer) = oneshot::channel();
        lane.try_send(DeleteMail { grace, precondition, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => DeleteError::Busy(id.clone()),
            mpsc::error::TrySendError::Closed(_) => DeleteError::NotFound(id.clone()),
        })?;
        match answer.await {
            Ok(deleted) => deleted,
            // An actor takes itself off the map before it ends; one that is still there has not done its work.
            Err(_) if self.get(id).is_some() => {
                Err(DeleteError::Failed(id.clone(), "its task has ended; restart the daemon".to_owned()))
            }
            Err(_) => Err(DeleteError::NotFound(id.clone())),
        }
    }

    /// Does something to an instance. The same request during the operation joins
    /// it; what is so already is answered at once.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn act(&self, id: &InstanceId, action: Action) -> Result<Arc<View>, ActionError> {
        let Action { kind, grace, discard_snapshot, precondition } = action;
        self.order(id, Order::Act(kind, grace, discard_snapshot), precondition).await
    }

    async fn order(
        &self,
        id: &InstanceId,
        order: Order,
        precondition: Option<Precondition>,
    ) -> Result<Arc<View>, ActionError> {
        let lane = {
            let entries = self.0.entries.read().expect("no code panics while it holds the map");
            let entry = entries.get(id).filter(|entry| entry.view.borrow().is_some());
            entry.map(|entry| entry.orders.clone()).ok_or_else(|| ActionError::NotFound(id.clone()))?
        };
        let (reply, answer) = oneshot::channel();
        lane.try_send(OrderMail { order, precondition, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ActionError::Full(id.clone()),
            mpsc::error::TrySendError::Closed(_) => ActionError::NotFound(id.clone()),
        })?;
        // An actor that ends without an answer has ended with its instance.
        answer.await.unwrap_or(Err(ActionError::NotFound(id.clone())))
    }

    /// Changes an instance: its name and labels at any time, its sizes as far as its state allows.
    ///
    /// # Errors
    /// [`ActionError`]; nothing has changed then.
    pub async fn patch(
        &self,
        id: &InstanceId,
        patch: Patch,
        precondition: Option<Precondition>,
    ) -> Result<Arc<View>, ActionError> {
        if let Some(ports) = patch.port_mappings.as_ref().filter(|_| self.get(id).is_some()) {
            self.0.deps.links.check_ports(id, ports).await.map_err(ActionError::Link)?;
        }
        self.order(id, Order::Patch(patch), precondition).await
    }

    /// Waits until an instance is as wanted, or gone, or the patience is over; how it is then, and whether it came true.
    pub async fn wait(
        &self,
        id: &InstanceId,
        patience: Duration,
        wanted: impl Fn(&View) -> bool + Send,
    ) -> Option<(Arc<View>, bool)> {
        let mut view = self.watch(id)?;
        let holds = |view: &Option<Arc<View>>| view.as_deref().is_none_or(&wanted);
        let came_true = match tokio::time::timeout(patience, view.wait_for(holds)).await {
            Ok(found) => found.is_ok(),
            Err(_) => false,
        };
        let view = view.borrow().clone()?;
        Some((view, came_true))
    }

    /// Reads a log of an instance.
    #[must_use]
    pub fn logs(&self, id: &InstanceId, source: LogSource) -> LogLookup {
        if let Some((view, subject)) = self.get(id).zip(self.watch(id)) {
            let paths = self.0.deps.store.layout().instance(id);
            return LogLookup::Here(self.0.logs.reader(view.record.uuid, source, &paths), subject);
        }
        let departed = self.0.departed.lock().unwrap_or_else(PoisonError::into_inner);
        if departed.contains(id) { LogLookup::Departed } else { LogLookup::Unknown }
    }

    /// How many bytes of each log are kept, or why logs are not bounded.
    ///
    /// # Errors
    /// The reason.
    pub fn log_bound(&self) -> Result<u64, &str> {
        self.0.log_bound.report()
    }

    pub(crate) fn writable_disk(&self, id: &InstanceId) -> PathBuf {
        self.0.deps.store.layout().instance(id).writable_disk()
    }

    /// Who uses an image.
    #[must_use]
    pub fn user_of_image(&self, image: &Digest) -> Option<InstanceId> {
        self.list().into_iter().find(|view| view.record.spec.image_digest == *image).map(|view| view.record.id.clone())
    }

    /// The names under which instances are known.
    #[must_use]
    pub fn dns(&self) -> &GuestDns {
        &self.0.deps.dns
    }
}

/// An id for an instance that was not given one: `i-` and 12 hex digits.
fn generate_id() -> InstanceId {
    let hex = Uuid::new_v4().simple().to_string();
    format!("i-{}", &hex[..12]).parse().expect("i- and hex digits are a DNS label")
}
