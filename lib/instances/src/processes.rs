//! The processes that clients have started in a guest. The guest keeps the list: it outlives this daemon.

use std::time::Duration;

use dataplane_agent::{Answer, Ask, ProcessInfo};
use dataplane_types::InstanceId;
use tokio::time::{Instant, timeout_at};

use crate::{GuestError, Instances};

/// A guest that knows of more lies.
const MOST: usize = 1000;
/// How often a process is looked at although nothing was heard of its end: the news of it may be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

impl Instances {
    /// All of them, the oldest first.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn processes(&self, id: &InstanceId) -> Result<Vec<ProcessInfo>, GuestError> {
        let mut all: Vec<ProcessInfo> = Vec::new();
        loop {
            let after = all.last().map_or(0, |last| last.serial);
            let (found, more) = listed(self.ask(id, Ask::Processes { after }).await?)?;
            let goes_on = more && found.last().is_some_and(|last| last.serial > after);
            all.extend(found);
            if !goes_on || all.len() >= MOST {
                all.truncate(MOST);
                return Ok(all);
            }
        }
    }

    /// One of them: once it has ended, or after the patience.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn process(&self, id: &InstanceId, pid: u32, patience: Duration) -> Result<ProcessInfo, GuestError> {
        let deadline = Instant::now() + patience;
        let mut known = None;
        loop {
            let mut ends = self.door(id)?.asker.process_ends();
            let (found, _) = listed(self.ask(id, Ask::Process { pid }).await?)?;
            // One that is forgotten while it is waited for, or whose number has come again, is not the same.
            let found = found.into_iter().next().filter(|it| known.is_none_or(|serial| serial == it.serial));
            let found = found.ok_or_else(|| GuestError::NoProcess { id: id.clone(), pid })?;
            known = Some(found.serial);
            if found.ended.is_some() || Instant::now() >= deadline {
                return Ok(found);
            }
            let look_again = deadline.min(Instant::now() + LOOK_AGAIN);
            // Whatever ended the wait, the next look tells.
            let _ = timeout_at(look_again, ends.changed()).await;
        }
    }

    /// Sends a signal to one of them, or to all of its process group. One that has ended gets none.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn signal(&self, id: &InstanceId, pid: u32, signal: u8, group: bool) -> Result<(), GuestError> {
        match self.ask(id, Ask::Kill { pid, signal, group }).await? {
            Answer::Done => Ok(()),
            Answer::Processes { .. } => Err(GuestError::NoProcess { id: id.clone(), pid }),
            Answer::Clock { .. } | Answer::Sizes { .. } | Answer::Failed { .. } | Answer::Usage(_) => Err(nonsense()),
        }
    }
}

fn listed(answer: Answer) -> Result<(Vec<ProcessInfo>, bool), GuestError> {
    match answer {
        Answer::Processes { processes, more } => Ok((processes, more)),
        Answer::Done | Answer::Clock { .. } | Answer::Sizes { .. } | Answer::Failed { .. } | Answer::Usage(_) => {
            Err(nonsense())
        }
    }
}

pub(crate) fn nonsense() -> GuestError {
    GuestError::Refused("the guest's agent answers something else than what it was asked".to_owned())
}
