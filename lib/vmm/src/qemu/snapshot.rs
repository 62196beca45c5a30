//! The files of a snapshot: the machine as QEMU streams it, and what has to be known before that can be loaded.
//!
//! Invariant: a snapshot is read whole or not at all. QEMU writes its stream to a descriptor and says nothing of its
//! length, so the driver writes down length and processors beside it, after it has seen the stream's end with its own
//! eyes. What lies between beginning and end is not summed: a stream is made durable before it is used, and to read
//! gigabytes again would cost more than to write them. Nothing here is made durable: whoever commits it does that.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::VmmError;

/// Everything that a machine is, but for its disks and what its memory file holds.
const STREAM: &str = "state";
const DESCRIPTION: &str = "machine.json";
const VERSION: u32 = 1;
/// A description is a few hundred bytes.
const MAX_DESCRIPTION: u64 = 64 << 10;

/// How a stream begins: its name and version.
const HEAD: [u8; 8] = *b"QEVM\0\0\0\x03";
/// What its end is made of: the mark of the end, the mark of a description of what was in it, that one's length.
const END_MARK: u8 = 0;
const DESCRIPTION_MARK: u8 = 6;
/// How far from the end that may be. The description is some 100 KiB.
const MAX_END: u64 = 8 << 20;

/// What is known of a stream without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    version: u32,
    stream_bytes: u64,
    /// The places of processors that had been plugged in.
    processors: Vec<u64>,
}

/// A stream that can be loaded.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) file: File,
    pub(super) processors: Vec<u64>,
}

/// Makes the file for a stream.
///
/// # Errors
/// [`VmmError::Host`], also when the directory holds anything.
pub(super) fn create(directory: &Path) -> Result<File, VmmError> {
    let mut entries = directory.read_dir().map_err(failed("list", directory))?;
    if entries.next().is_some() {
        return Err(failed("write into", directory)(ErrorKind::DirectoryNotEmpty.into()));
    }
    create_private(&directory.join(STREAM))
}

/// Looks at a stream that was written, and describes it.
///
/// # Errors
/// [`VmmError::Snapshot`] when it has no end; [`VmmError::Host`].
pub(super) fn seal(directory: &Path, stream: &File, processors: Vec<u64>) -> Result<(), VmmError> {
    let path = directory.join(STREAM);
    let stream_bytes = check(stream).map_err(failed("read", &path))?.map_err(unusable(directory))?;
    let description = Description { version: VERSION, stream_bytes, processors };
    let path = directory.join(DESCRIPTION);
    let text = serde_json::to_vec(&description).map_err(|error| failed("describe", &path)(error.into()))?;
    create_private(&path)?.write_all(&text).map_err(failed("write", &path))
}

/// Opens a stream, when it is as it was sealed.
///
/// # Errors
/// [`VmmError::Snapshot`] when a file is cut, or of another version; [`VmmError::Host`], also when one is missing.
pub(super) fn open(directory: &Path) -> Result<Stream, VmmError> {
    let path = directory.join(DESCRIPTION);
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_DESCRIPTION).read_to_end(&mut text));
    read.map_err(failed("read", &path))?;
    let Description { version, stream_bytes, processors } =
        serde_json::from_slice(&text).map_err(|error| unusable(directory)(&format!("{DESCRIPTION}: {error}")))?;
    if version != VERSION {
        return Err(unusable(directory)(&format!("{DESCRIPTION} is of version {version}")));
    }
    let path = directory.join(STREAM);
    let file = File::open(&path).map_err(failed("open", &path))?;
    let found = check(&file).map_err(failed("read", &path))?.map_err(unusable(directory))?;
    if found != stream_bytes {
        return Err(unusable(directory)(&format!("the stream has {found} bytes and was written with {stream_bytes}")));
    }
    Ok(Stream { file, processors })
}

/// The stream's length, when it has a beginning and an end; otherwise what is wrong with it.
fn check(stream: &File) -> io::Result<Result<u64, &'static str>> {
    let length = stream.metadata()?.len();
    let mut head = [0; HEAD.len()];
    match stream.read_exact_at(&mut head, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Err("the stream is empty")),
        read => read?,
    }
    if head != HEAD {
        return Ok(Err("the stream has an unknown beginning"));
    }
    let tail = length.min(MAX_END);
    let mut end = vec![0; usize::try_from(tail).map_err(io::Error::other)?];
    stream.read_exact_at(&mut end, length - tail)?;
    Ok(if has_end(&end) { Ok(length) } else { Err("the stream has no end") })
}

/// Whether these bytes end with the mark of the end and a description of exactly the length that it gives.
fn has_end(bytes: &[u8]) -> bool {
    let marked = |at: usize| bytes[at..at + 2] == [END_MARK, DESCRIPTION_MARK];
    (0..bytes.len().saturating_sub(6)).rev().filter(|at| marked(*at)).any(|at| {
        let text = &bytes[at + 6..];
        let length = [bytes[at + 2], bytes[at + 3], bytes[at + 4], bytes[at + 5]];
        u32::try_from(text.len()).is_ok_and(|found| found == u32::from_be_bytes(length))
            && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
    })
}

fn create_private(path: &Path) -> Result<File, VmmError> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600).open(path).map_err(failed("create", path))
}

/// A snapshot that is not what this driver wrote.
pub(super) fn unusable(directory: &Path) -> impl Fn(&str) -> VmmError + use<> {
    let directory = directory.to_owned();
    move |message| VmmError::Snapshot { directory: directory.clone(), message: message.to_owned() }
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VmmError + use<> {
    let path: PathBuf = path.to_owned();
    move |source| VmmError::Host { act, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(end: &[u8]) -> Vec<u8> {
        // A page that looks like an end, and is none.
        let page = [&[END_MARK, DESCRIPTION_MARK, 0, 0, 0, 2][..], &[7; 5000]].concat();
        [&HEAD[..], &page, &[END_MARK, DESCRIPTION_MARK], &u32::try_from(end.len()).unwrap().to_be_bytes(), end]
            .concat()
    }

    fn sealed(bytes: &[u8]) -> (tempfile::TempDir, Result<(), VmmError>) {
        let directory = tempfile::tempdir().unwrap();
        let mut file = create(directory.path()).unwrap();
        file.write_all(bytes).unwrap();
        let sealed = seal(directory.path(), &file, vec![2, 3]);
        (directory, sealed)
    }

    #[test]
    fn a_whole_stream_is_sealed_and_found_again() {
        let (directory, outcome) = sealed(&stream(br#"{"devices":[]}"#));
        outcome.unwrap();
        assert_eq!(open(directory.path()).unwrap().processors, [2, 3]);
        assert!(create(directory.path()).is_err(), "nothing is overwritten");
    }

    #[test]
    fn what_was_cut_is_neither_sealed_nor_found() {
        let whole = stream(br#"{"devices":[]}"#);
        for length in [0, 4, 8, 100, whole.len() - 20, whole.len() - 1] {
            assert!(sealed(&whole[..length]).1.is_err(), "{length}");
            let (directory, outcome) = sealed(&whole);
            outcome.unwrap();
            let file = File::options().write(true).open(directory.path().join(STREAM)).unwrap();
            file.set_len(u64::try_from(length).unwrap()).unwrap();
            assert!(matches!(open(directory.path()), Err(VmmError::Snapshot { .. })), "{length}");
        }
        let (directory, outcome) = sealed(&whole);
        outcome.unwrap();
        let description = File::options().write(true).open(directory.path().join(DESCRIPTION)).unwrap();
        description.set_len(10).unwrap();
        assert!(open(directory.path()).is_err());
    }
}
