//! Tells feeds that their files have grown: one inotify descriptor for all of them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use futures_util::StreamExt as _;
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::file::LogFile;

type Senders = Arc<Mutex<HashMap<WatchDescriptor, watch::Sender<()>>>>;

/// The descriptor, and who is told. Opened when the first log is followed: the kernel takes its time to close one.
#[derive(Debug, Default)]
pub(super) struct LogWatch {
    /// `None` where the system has no inotify instance left (there are 128 for all of a user's programs).
    watched: OnceLock<Option<(Watches, JoinHandle<()>)>>,
    senders: Senders,
}

impl LogWatch {
    fn open(&self) -> io::Result<(Watches, JoinHandle<()>)> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let mut events = inotify.into_event_stream(vec![0; 4096])?;
        let (known, mut remover) = (Arc::clone(&self.senders), watches.clone());
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => notify(&known, &mut remover, &event.wd, event.mask),
                    Err(error) => tracing::error!(error = %error, "watch log files"),
                }
            }
        });
        Ok((watches, task))
    }

    /// Changes of a file from now on; `None` where it cannot be watched and has to be looked at now and then.
    pub(super) fn subscribe(&self, file: &LogFile) -> Option<watch::Receiver<()>> {
        let path = file.path();
        let added = self.add(file);
        let warn =
            |error: &io::Error| tracing::warn!(path = %path.display(), error = %error, "a log cannot be watched");
        added.inspect_err(warn).ok()
    }

    fn add(&self, file: &LogFile) -> io::Result<watch::Receiver<()>> {
        // Made when it is missing: what is not there cannot be watched.
        file.open()?;
        let watched = self.watched.get_or_init(|| {
            let warn = |error: &io::Error| tracing::warn!(error = %error, "logs are looked at now and then");
            self.open().inspect_err(warn).ok()
        });
        let (watches, _) = watched.as_ref().ok_or_else(|| io::Error::other("no inotify instance is left"))?;
        let mut senders = self.senders.lock().expect("no code panics while it holds the senders");
        let descriptor = watches.clone().add(file.path(), WatchMask::MODIFY)?;
        Ok(senders.entry(descriptor).or_insert_with(|| watch::channel(()).0).subscribe())
    }
}

impl Drop for LogWatch {
    fn drop(&mut self) {
        if let Some(Some((_, task))) = self.watched.get() {
            task.abort();
        }
    }
}

fn notify(senders: &Senders, watches: &mut Watches, descriptor: &WatchDescriptor, mask: EventMask) {
    let mut senders = senders.lock().expect("no code panics while it holds the senders");
    if mask.contains(EventMask::Q_OVERFLOW) {
        for sender in senders.values() {
            sender.send_replace(());
        }
        return;
    }
    let Some(sender) = senders.get(descriptor) else { return };
    sender.send_replace(());
    if sender.receiver_count() == 0 || mask.contains(EventMask::IGNORED) {
        senders.remove(descriptor);
        // Gone already when the file is gone.
        let _ = watches.remove(descriptor.clone());
    }
}
