//! Files of a guest, as they flow: nothing of them is kept here.

use dataplane_agent::{Channel, ExitStatus, Files, Open, files_code};
use dataplane_types::InstanceId;
use futures_util::{Stream, StreamExt as _};

use crate::processes::nonsense;
use crate::{GuestError, GuestEvent, GuestStream, Instances};

/// How much of a guest's complaint is kept.
const MAX_COMPLAINT: usize = 1000;
/// The largest answer about a path: as many entries as a guest lists, with long names.
const MAX_LOOK: usize = 16 << 20;

/// A path in a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPath {
    /// Absolute.
    pub path: String,
    /// Whether links on the way are followed.
    pub follow: bool,
}

/// What a guest sends of its files.
#[derive(Debug)]
pub struct FileStream {
    work: Work,
    first: Option<Vec<u8>>,
}

/// Work on files that is under way.
#[derive(Debug)]
struct Work {
    stream: GuestStream,
    complaint: Vec<u8>,
}

impl Work {
    /// The next bytes; none once all is done.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, GuestError> {
        loop {
            match self.stream.next().await? {
                GuestEvent::Started(_) => {}
                GuestEvent::Says(Channel::Error, bytes) => {
                    let room = MAX_COMPLAINT - self.complaint.len();
                    self.complaint.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
                }
                GuestEvent::Says(Channel::Output | Channel::Input, bytes) => return Ok(Some(bytes)),
                GuestEvent::Ended(Some(ExitStatus::Code(0)), _) => return Ok(None),
                GuestEvent::Ended(status, reason) => return Err(self.failure(status, reason)),
            }
        }
    }

    fn failure(&self, status: Option<ExitStatus>, reason: Option<String>) -> GuestError {
        let said = String::from_utf8_lossy(&self.complaint).trim().replace(char::is_control, " ");
        let why = reason.unwrap_or(if said.is_empty() { "the guest does not say why".to_owned() } else { said });
        match status {
            Some(ExitStatus::Code(files_code::NOT_FOUND)) => GuestError::NoPath(why),
            Some(ExitStatus::Code(files_code::NO_SPACE)) => GuestError::NoSpace(why),
            Some(ExitStatus::Code(_) | ExitStatus::Signal(_)) | None => GuestError::Refused(why),
        }
    }
}

impl FileStream {
    /// The next bytes; none once all was sent.
    ///
    /// # Errors
    /// [`GuestError`]: what was sent is not all.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, GuestError> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.work.next().await,
        }
    }
}

impl Instances {
    async fn work_on_files(&self, id: &InstanceId, work: Files) -> Result<Work, GuestError> {
        Ok(Work { stream: self.open_stream(id, Open::Files(work)).await?, complaint: Vec::new() })
    }

    /// A file or a tree of a guest as a tar stream, which has begun.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn read_files(&self, id: &InstanceId, at: GuestPath) -> Result<FileStream, GuestError> {
        let GuestPath { path, follow } = at;
        let mut work = self.work_on_files(id, Files::Read { path, follow }).await?;
        let first = work.next().await?;
        Ok(FileStream { first: Some(first.ok_or_else(nonsense)?), work })
    }

    /// Unpacks a tar stream in a directory of a guest. What fails on its way here ends it, as what fails there does.
    ///
    /// # Errors
    /// [`GuestError`], or the stream's own error; what was unpacked by then stays.
    pub async fn write_files<B, E>(
        &self,
        id: &InstanceId,
        at: GuestPath,
        mut content: impl Stream<Item = Result<B, E>> + Unpin,
    ) -> Result<(), E>
    where
        B: AsRef<[u8]>,
        E: From<GuestError>,
    {
        let GuestPath { path, follow } = at;
        let mut work = self.work_on_files(id, Files::Write { path, follow }).await?;
        let writer = work.stream.writer();
        let feed = async {
            while let Some(chunk) = content.next().await {
                if writer.write(&mut chunk?.as_ref()).await.is_err() {
                    return Ok(());
                }
            }
            writer.finish();
            Ok(())
        };
        let mut feed = std::pin::pin!(feed);
        let mut fed = false;
        loop {
            // Neither is begun anew: the feed is polled in place, the work's next is cancel-safe up to its complaint.
            tokio::select! {
                biased;
                more = work.next() => match more? {
                    None => return Ok(()),
                    Some(_nothing_is_expected) => {}
                },
                outcome = &mut feed, if !fed => {
                    outcome.map_err(|error: E| error)?;
                    fed = true;
                }
            }
        }
    }

    /// What lies at a path of a guest, as one JSON document of the guest's making.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn look_at_file(&self, id: &InstanceId, at: GuestPath, list: bool) -> Result<Vec<u8>, GuestError> {
        let GuestPath { path, follow } = at;
        let mut work = self.work_on_files(id, Files::Look { path, follow, list }).await?;
        let mut told = Vec::new();
        while let Some(bytes) = work.next().await? {
            told.extend(bytes);
            if told.len() > MAX_LOOK {
                return Err(GuestError::Refused("the guest says too much".to_owned()));
            }
        }
        Ok(told)
    }
}
