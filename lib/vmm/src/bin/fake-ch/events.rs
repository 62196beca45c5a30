//! The event file: pretty-printed records with a blank line between them, in the real VMM's very spelling.

#![expect(unsafe_code, reason = "a descriptor given by number can only be believed in")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::FromRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use crate::cli::EventMonitor;

/// Writes the records of one process.
#[derive(Debug)]
pub(crate) struct Events {
    file: Option<Mutex<File>>,
    start: Instant,
}

impl Events {
    /// Truncates a file given by its path, as the real one does. Without any nothing is written.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn create(monitor: Option<EventMonitor>) -> io::Result<Self> {
        let open = |monitor| match monitor {
            EventMonitor::Path(path) => File::options().write(true).create(true).truncate(true).mode(0o600).open(path),
            // SAFETY: the number is the caller's promise; nothing else in this program takes up inherited descriptors.
            EventMonitor::Descriptor(number) => Ok(unsafe { File::from_raw_fd(number) }),
        };
        Ok(Self { file: monitor.map(open).transpose()?.map(Mutex::new), start: Instant::now() })
    }

    /// Appends one record.
    pub(crate) fn record(&self, source: &str, event: &str, properties: Option<Value>) {
        let Some(file) = &self.file else { return };
        let since = self.start.elapsed();
        let text = format!(
            "{{\n  \"timestamp\": {{\n    \"secs\": {},\n    \"nanos\": {}\n  }},\n  \"source\": {},\n  \"event\": {},\n  \
             \"properties\": {}\n}}\n\n",
            since.as_secs(),
            since.subsec_nanos(),
            json!(source),
            json!(event),
            properties.unwrap_or(Value::Null),
        );
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        // As in the real one: an event that cannot be written is lost.
        let _lost = file.write_all(text.as_bytes());
    }

    /// A record about the VM.
    pub(crate) fn vm(&self, event: &str) {
        self.record("vm", event, None);
    }
}
