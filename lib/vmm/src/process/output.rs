//! What VMM processes say: to their logs, and when a binary is asked about itself.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::VmmError;

/// How much of a log an error quotes.
const QUOTE: usize = 2000;

/// A log that processes append to. Only the owner may read it.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    start: u64,
}

impl Log {
    /// Opens a log for appending, making it when it is missing.
    ///
    /// # Errors
    /// [`VmmError::Host`].
    pub(crate) fn open(path: &Path) -> Result<Self, VmmError> {
        let failed = |source| VmmError::Host { act: "open", path: path.to_owned(), source };
        let file = File::options().read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        let start = file.metadata().map_err(failed)?.len();
        Ok(Self { path: path.to_owned(), file, start })
    }

    /// A descriptor for a child.
    ///
    /// # Errors
    /// [`VmmError::Host`].
    pub(crate) fn file(&self) -> Result<File, VmmError> {
        self.file.try_clone().map_err(|source| VmmError::Host { act: "share", path: self.path.clone(), source })
    }

    /// The end of what was written since [`Log::open`], on one line; at most 2,000 bytes.
    pub(crate) fn quote(&self) -> String {
        let length = self.file.metadata().map_or(self.start, |metadata| metadata.len());
        let start = self.start.max(length.saturating_sub(QUOTE as u64));
        let mut bytes = [0; QUOTE];
        let count = self.file.read_at(&mut bytes, start).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..count]);
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
    }
}

/// A descriptor that can only append to a log; made when it is missing.
///
/// # Errors
/// [`VmmError::Host`].
pub(crate) fn append_to(path: &Path) -> Result<File, VmmError> {
    let file = File::options().append(true).create(true).mode(0o600).open(path);
    file.map_err(|source| VmmError::Host { act: "open", path: path.to_owned(), source })
}

/// An empty file in place of one that may be there; what is written goes to its end.
///
/// # Errors
/// [`VmmError::Host`].
pub(crate) fn make_anew(path: &Path) -> Result<File, VmmError> {
    let file = append_to(path)?;
    file.set_len(0).map_err(|source| VmmError::Host { act: "empty", path: path.to_owned(), source })?;
    Ok(file)
}

const DEADLINE: Duration = Duration::from_secs(10);
const LIMIT: usize = 64 << 10;

/// Runs `binary arguments…` and returns what it prints to standard output: at most 64 KiB, within 10 s. Blocks.
///
/// # Errors
/// [`VmmError::Binary`] when it cannot be run, fails, or does not end.
pub(crate) fn first_output(binary: &Path, arguments: &[&OsStr]) -> Result<String, VmmError> {
    collect(binary, arguments).map_err(|source| VmmError::Binary { binary: binary.to_owned(), source })
}

fn collect(binary: &Path, arguments: &[&OsStr]) -> io::Result<String> {
    let mut child = Command::new(binary)
        .args(arguments)
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let text = read_until_closed(output);
    if text.is_err() {
        // It has no business running on; that it is gone already is fine.
        let _gone = child.kill();
    }
    let status = child.wait()?;
    let text = text?;
    if status.success() { Ok(text) } else { Err(io::Error::other(format!("it ended with {status}"))) }
}

fn read_until_closed(mut output: std::process::ChildStdout) -> io::Result<String> {
    let end = Instant::now() + DEADLINE;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while bytes.len() <= LIMIT {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&left))? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end within 10 s"));
        }
        match output.read(&mut chunk)? {
            0 => return String::from_utf8(bytes).map_err(io::Error::other),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
    Err(io::Error::other("it printed more than 64 KiB"))
}
