//! The start: every record is loaded, every VMM that lives is taken up, and what is nobody's is ended. Nothing is done
//! to an instance yet.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use dataplane_store::{DRAFT_PREFIX, InstancePaths};
use dataplane_types::InstanceId;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::{CreateResult, Deps, Entry, EntryEnds, Inner, Instances};
use crate::actor::{Actor, StepError};
use crate::logs::journal::{Kind, Note, Scribe};
use crate::logs::{Bound, Logs};
use crate::ops::Draft;
use crate::plan::SeenLink;
use crate::record::RECORD_VERSION;
use crate::{OpenError, Record};

/// An instance that a record tells of, at start.
struct Returning {
    entry: Entry,
    actor: Actor,
    done: watch::Sender<Option<CreateResult>>,
}

/// All instances that were there, known and to be seen. None is worked on before [`Opened::go_on`], so that what some of
/// them have to do keeps nobody from being heard.
#[must_use = "instances that do not go on answer nobody"]
pub struct Opened {
    instances: Instances,
    actors: Vec<Actor>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("instances", &self.actors.len()).finish_non_exhaustive()
    }
}

impl Opened {
    /// The instances.
    #[must_use]
    pub fn instances(&self) -> &Instances {
        &self.instances
    }

    /// Lets each bring itself to rest, and hear what is wanted of it.
    pub fn go_on(self) -> Instances {
        for actor in self.actors {
            self.instances.0.actors.spawn(actor.run(None));
        }
        self.instances
    }
}

impl Instances {
    /// Loads every record and adopts every VMM that lives.
    ///
    /// # Errors
    /// [`OpenError`] when a record cannot be read or contradicts another: nothing is guessed.
    pub async fn open(deps: Deps) -> Result<Opened, OpenError> {
        let directory = deps.store.layout().instances();
        deps.store.create_dir(&directory, 0o711)?;
        let inner = Inner {
            logs: Logs::default(),
            log_bound: Bound::new(&directory, deps.log_limit).map_err(OpenError::Watch)?,
            scribe: Scribe::start(),
            departed: Mutex::default(),
            deps: Arc::new(deps),
            entries: RwLock::default(),
            entered: AtomicU64::new(0),
            actors: TaskTracker::new(),
        };
        let instances = Self(Arc::new(inner));
        let records = instances.load()?;
        instances.end_strangers(&records);
        let returning: Vec<_> =
            records.into_iter().map(|(record, paths)| instances.expect(record, paths)).collect::<Result<_, _>>()?;
        // Together, on all processors: a VMM that hangs keeps nobody else waiting.
        let mut adopting = JoinSet::new();
        for returning in returning {
            let instances = instances.clone();
            adopting.spawn(async move { instances.resume(returning).await });
        }
        let mut actors = Vec::with_capacity(adopting.len());
        while let Some(adopted) = adopting.join_next().await {
            actors.push(adopted.expect("taking up a VMM does not panic")?);
        }
        Ok(Opened { instances, actors })
    }

    /// Ends VMMs of ours, known by their cgroups, that no record has a place for. Those of a record are its actor's.
    fn end_strangers(&self, records: &[(Record, InstancePaths)]) {
        let deps = &self.0.deps;
        let Some(groups) = deps.confiner.cgroups() else { return };
        let runs = records.iter().map(|(record, _)| deps.store.layout().run(&record.uuid));
        let names: BTreeSet<_> = runs.filter_map(|path| path.file_name().map(OsStr::to_owned)).collect();
        let is_ours = |name: &str| names.contains(OsStr::new(name));
        let found =
            groups.sweep().inspect_err(|error| tracing::warn!(error = %error, "look for cgroups without a record"));
        for (name, pids) in found.unwrap_or_default().into_iter().filter(|(name, _)| !is_ours(name)) {
            tracing::warn!(cgroup = name, ?pids, "ending VMMs that no record names");
            if let Err(error) = groups.kill(&name) {
                tracing::error!(cgroup = name, error = %error, "end them");
            }
        }
    }

    fn load(&self) -> Result<Vec<(Record, InstancePaths)>, OpenError> {
        let store = &self.0.deps.store;
        let layout = store.layout();
        let mut records = Vec::new();
        for path in store.list(&layout.instances())? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(DRAFT_PREFIX) {
                tracing::info!(path = %path.display(), "removing the draft of a create that did not happen");
                store.discard(&path)?;
                continue;
            }
            let Some(id) = name.parse::<InstanceId>().ok().filter(|_| path.is_dir()) else {
                // Perhaps what somebody has put aside: it may hold the only copy of a disk.
                tracing::warn!(path = %path.display(), "what is no instance is left alone");
                continue;
            };
            let paths = layout.instance(&id);
            store.sweep_temporaries(paths.root())?;
            let Some(record) = store.load::<Record>(&paths.record())? else {
                tracing::warn!(path = %path.display(), "a directory without a record is left alone");
                continue;
            };
            if record.version > RECORD_VERSION {
                let (path, version) = (paths.record(), record.version);
                return Err(OpenError::Version { path, version, known: RECORD_VERSION });
            }
            records.push((record.upgrade(), paths));
        }
        Ok(records)
    }

    /// Takes over what a record names, before anybody can claim it.
    fn expect(&self, record: Record, paths: InstancePaths) -> Result<Returning, OpenError> {
        let deps = &self.0.deps;
        if let Some(link) = &record.spec.link {
            let adopted = deps.links.adopt(&record.id, link, &record.spec.policy);
            adopted.map_err(|source| OpenError::Link { id: record.id.clone(), source })?;
        }
        let id = record.id.clone();
        if let Some(uid) = record.uid {
            let adopted = deps.uids.lock().unwrap_or_else(PoisonError::into_inner).adopt(uid);
            adopted.map_err(|source| OpenError::Uid { id: id.clone(), source })?;
        }
        let (entry, ends) = self.entry(record.request.clone());
        let EntryEnds { number, deletes, orders, views, done } = ends;
        let draft = Draft { record, paths, intended: false, link: SeenLink::Unknown };
        let actor = self.new_actor(draft, number, (deletes, orders), views);
        actor.journal.tell(&Note::new(Kind::Resumed, "a daemon was started and looks after the instance"));
        Ok(Returning { entry, actor, done })
    }

    /// Adopts its VMM, when that lives; the actor is to be let go on.
    async fn resume(&self, returning: Returning) -> Result<Actor, OpenError> {
        let Returning { entry, mut actor, done } = returning;
        let id = actor.record.id.clone();
        match actor.adopt().await {
            Ok(()) => {}
            // One that lives and cannot be taken up must not be forgotten: no later delete would end it.
            Err(StepError::NoDriver(hypervisor)) if actor.recorded_process_lives() => {
                return Err(OpenError::NoDriver { id, hypervisor });
            }
            Err(StepError::Vmm(source)) => return Err(OpenError::Adopt { id, source }),
            Err(error) => actor.trouble("vmm_failed", &format!("adopt the VMM: {error}")),
        }
        actor.publish();
        done.send_replace(entry.view.borrow().clone().map(Ok));
        self.0.entries.write().expect("no code panics while it holds the map").insert(id, entry);
        Ok(actor)
    }
}
