//! The long calls of one VMM: snapshot, restore, and other sizes while it runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use dataplane_types::Mib;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::api::{Call, Refusal};
use super::handle::Handle;
use super::restore::{self, Copy};
use super::snapshot::{self, Snapshot};
use super::wire::{State, VmInfo};
use crate::process::{lend, show_directory, take_back};
use crate::{Sizes, VmmError};

const SNAPSHOT: Call = Call::put("vm.snapshot", 30);
const RESTORE: Call = Call::put("vm.restore", 30);
const RESIZE: Call = Call::put("vm.resize", 10);

/// How fast a disk must take or give memory, in bytes a second.
const SLOWEST_DISK: u64 = 50_000_000;
/// What memory is plugged in by.
const BLOCK: u64 = 2 << 20;
/// How long memory that is filled in may take, beyond its size.
const FILL_GRACE: Duration = Duration::from_secs(30);
/// How long the guest may take to let go of processors that were taken away.
const RESIZE_GRACE: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(2);

impl Handle {
    pub(super) async fn take_snapshot(&self, directory: &Path) -> Result<(), VmmError> {
        let url = snapshot::url(directory)?;
        let target = directory.to_owned();
        blocking(move || snapshot::check_empty(&target)).await?;
        if let Some(info) = self.info().await? {
            self.check_settled(&info).await?;
        }
        let spec = &self.launch.spec;
        let time = time_for(spec.max.memory.bytes());
        let body = body(&json!({"destination_url": url}));
        let filled_in = |refusal: &Refusal| refusal.says("on-demand memory restore is still in progress");
        lend(directory, &self.launch)?;
        let written = self.insist(SNAPSHOT.and(time), &body, FILL_GRACE + time, filled_in).await;
        let (directory, launch) = (directory.to_owned(), self.launch.clone());
        let memory_file = spec.memory_file.is_some();
        blocking(move || {
            let taken = take_back(&directory, &launch);
            written.and(taken)?;
            Snapshot::read(&directory, memory_file).map(drop)
        })
        .await
    }

    /// Refuses a VM whose guest has not yet let go of what was taken away: its snapshot could not be restored, or only
    /// to a guest that hangs.
    async fn check_settled(&self, info: &VmInfo) -> Result<(), VmmError> {
        let pending = |what| Err(VmmError::Pending { call: SNAPSHOT.name(), what });
        if let Some(device) = info.device_in_between() {
            // The state would hold a device that the configuration lacks.
            return pending(format!("{device} is still being unplugged"));
        }
        let spec = &self.launch.spec;
        if let (State::Paused, Some(vcpus)) = (info.state, info.vcpus())
            && spec.max.vcpus > spec.boot.vcpus
        {
            // The configuration says what was asked for, and a restore makes no more. Asking for the same again changes
            // nothing; that it is too early for that is the only sign of processors that are still there.
            match self.api.call(RESIZE, Some(body(&json!({"desired_vcpus": vcpus})))).await? {
                Err(refusal) if refusal.is_later() => {
                    return pending("the guest still has virtual CPUs that were taken away".into());
                }
                outcome => drop(outcome.map_err(|refusal| refusal.into_error(RESIZE))?),
            }
        }
        Ok(())
    }

    pub(super) async fn load_snapshot(&self, directory: &Path) -> Result<(), VmmError> {
        let (source, launch) = (directory.to_owned(), self.launch.clone());
        let version = self.version;
        let prepared = blocking(move || {
            let mut snapshot = Snapshot::read(&source, launch.spec.memory_file.is_some())?;
            let rewritten = restore::rewrite(&mut snapshot.config, &launch);
            let checked = rewritten.and_then(|()| restore::check_memory_file(&snapshot.config));
            checked.map_err(|message| snapshot::unusable(&source, message))?;
            let ram = restore::ram_of(&snapshot.config, snapshot.memory_bytes);
            show_directory(&source, &launch)?;
            let mode = restore::mode(version, ram, restore::can_page());
            Ok((Copy::make(&launch, &source, &snapshot)?, snapshot.memory_bytes, mode))
        });
        let (copy, memory_bytes, mode) = prepared.await?;
        let restored = self.restore_copy(&copy, memory_bytes, mode).await;
        blocking(move || {
            if let Err(error) = copy.remove() {
                tracing::warn!(error = &error as &dyn std::error::Error, "the copy of a snapshot stays behind");
            }
            Ok(())
        })
        .await?;
        restored
    }

    async fn restore_copy(&self, copy: &Copy, memory_bytes: u64, mode: restore::Mode) -> Result<(), VmmError> {
        let url = snapshot::url(copy.directory())?;
        let call = RESTORE.and(time_for(memory_bytes));
        // Never with `resume`: the caller commits in between.
        let body = body(&json!({"source_url": url, "memory_restore_mode": mode.name()}));
        self.api.call(call, Some(body)).await?.map_err(|refusal| refusal.into_error(call))?;
        self.seen.set_booted(true);
        // A guest that is not there, or that runs already, must not be committed to.
        match self.info().await?.map(|info| info.state) {
            Some(State::Paused) => Ok(()),
            other => {
                let message = format!("the VM is then {other:?}");
                Err(VmmError::Nonsense { call: call.name(), message })
            }
        }
    }

    pub(super) async fn change_sizes(&self, wanted: Sizes) -> Result<(), VmmError> {
        let spec = &self.launch.spec;
        let vcpus_fit = (spec.boot.vcpus..=spec.max.vcpus).contains(&wanted.vcpus);
        if !vcpus_fit || !(spec.boot.memory..=spec.max.memory).contains(&wanted.memory) {
            // The VMM would take some of these, and do nothing or something else.
            let message = format!("{wanted:?} is not between {:?} and {:?}", spec.boot, spec.max);
            return Err(VmmError::Refused { call: RESIZE.name(), message });
        }
        let info = self.info().await?.filter(|info| matches!(info.state, State::Running | State::Paused));
        let Some(info) = info else {
            // Without a guest the VMM would rewrite what it boots with.
            let message = "there is no guest to take other sizes".into();
            return Err(VmmError::Refused { call: RESIZE.name(), message });
        };
        if info.vcpus() != Some(wanted.vcpus.into()) {
            // What was asked for before has to be so first: a number that is still there would be taken for reached,
            // and then go all the same.
            for vcpus in [info.vcpus(), Some(wanted.vcpus.into())].into_iter().flatten() {
                let vcpus = body(&json!({"desired_vcpus": vcpus}));
                self.insist(RESIZE, &vcpus, RESIZE_GRACE, Refusal::is_later).await?;
            }
        }
        if spec.max.memory > spec.boot.memory {
            let memory = body(&json!({"desired_ram": pluggable(spec.boot.memory, wanted.memory)}));
            match self.api.call(RESIZE, Some(memory)).await? {
                Err(refusal) if !refusal.says("and requested_size are identical") => {
                    return Err(refusal.into_error(RESIZE));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// A call, made again while the VMM's refusal says that it is too early, at most this long.
    async fn insist(
        &self,
        call: Call,
        body: &Bytes,
        limit: Duration,
        too_early: impl Fn(&Refusal) -> bool,
    ) -> Result<(), VmmError> {
        let end = Instant::now() + limit;
        let mut pause = FIRST_RETRY;
        loop {
            let Err(refusal) = self.api.call(call, Some(body.clone())).await? else { return Ok(()) };
            if !too_early(&refusal) {
                return Err(refusal.into_error(call));
            }
            if Instant::now() >= end {
                return Err(VmmError::Pending { call: call.name(), what: refusal.into_error(call).to_string() });
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
        }
    }
}

/// What a call may take beyond its usual deadline.
fn time_for(memory_bytes: u64) -> Duration {
    Duration::from_secs(memory_bytes / SLOWEST_DISK)
}

/// The VMM's total for a wanted size: what is plugged in comes in whole blocks.
fn pluggable(boot: Mib, wanted: Mib) -> u64 {
    let (boot, wanted) = (boot.bytes(), wanted.bytes());
    boot + wanted.saturating_sub(boot).next_multiple_of(BLOCK)
}

fn body(document: &serde_json::Value) -> Bytes {
    document.to_string().into()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VmmError> + Send + 'static,
) -> Result<T, VmmError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let path = PathBuf::from("a snapshot's files");
        Err(VmmError::Host { act: "work on", path, source: std::io::Error::other(error) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_asked_for_in_whole_blocks() {
        for (boot, wanted, mib) in [(1000, 1000, 1000), (1000, 1001, 1002), (1001, 1003, 1003), (512, 1024, 1024)] {
            assert_eq!(pluggable(Mib(boot), Mib(wanted)), mib << 20, "{boot} {wanted}");
        }
        assert_eq!(time_for(4 << 30), Duration::from_secs(85));
    }
}
