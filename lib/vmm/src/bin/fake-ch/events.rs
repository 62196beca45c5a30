//! The event file: pretty-printed records with a blank line between them, in the real VMM's very spelling.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

/// Writes the records of one process.
#[derive(Debug)]
pub(crate) struct Events {
    file: Option<Mutex<File>>,
    start: Instant,
}

impl Events {
    /// Truncates, as the real one does. Without a path nothing is written.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn create(path: Option<&Path>) -> io::Result<Self> {
        let open = |path| File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
        Ok(Self { file: path.map(open).transpose()?.map(Mutex::new), start: Instant::now() })
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
