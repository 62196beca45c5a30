//! The files of a snapshot: what the VMM wrote, read back and checked.
//!
//! Invariant: nothing of a snapshot is believed before its parts agree with each other. The VMM checks neither its own
//! writes of the two documents nor, when it restores, whether the memory is all there: a file that is too short would
//! become a guest with zeros in its memory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::VmmError;

/// The VM's configuration.
pub(super) const CONFIG: &str = "config.json";
/// The state of its devices and processors.
pub(super) const STATE: &str = "state.json";
/// Its memory, one range after the other.
pub(super) const MEMORY: &str = "memory-ranges";

/// The largest configuration; a VM with hundreds of devices has some 100 KiB.
const MAX_CONFIG: u64 = 4 << 20;
/// The largest state: some 32 KiB, 16 KiB for each processor, and what devices add.
const MAX_STATE: u64 = 64 << 20;

/// A snapshot whose parts agree.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The configuration.
    pub(super) config: Value,
    /// The state, as it is in the file.
    pub(super) state: Vec<u8>,
    /// How much memory lies in the snapshot.
    pub(super) memory_bytes: u64,
}

impl Snapshot {
    /// Reads and checks a directory; `memory_file` says that the VM's memory lies in a file of its own. Blocks.
    ///
    /// # Errors
    /// [`VmmError::Snapshot`], which says what is wrong.
    pub(super) fn read(directory: &Path, memory_file: bool) -> Result<Self, VmmError> {
        Self::check(directory, memory_file).map_err(|message| unusable(directory, message))
    }

    fn check(directory: &Path, memory_file: bool) -> Result<Self, String> {
        let config: Value = parse(CONFIG, &read(directory, CONFIG, MAX_CONFIG)?)?;
        if !config.is_object() {
            return Err(format!("{CONFIG} is no configuration"));
        }
        let state = read(directory, STATE, MAX_STATE)?;
        let memory_bytes = memory_bytes(&state)?;
        let path = directory.join(MEMORY);
        match (memory_file, length(&path).map_err(|error| format!("look at {MEMORY}: {error}"))?) {
            (true, None) if memory_bytes == 0 => {}
            (true, _) => return Err("it holds memory that should lie in a file of its own".into()),
            (false, None) => return Err(format!("{MEMORY} is missing")),
            (false, Some(_)) if memory_bytes == 0 => return Err(format!("{STATE} lists no memory")),
            (false, Some(length)) if length == memory_bytes => {}
            (false, Some(length)) => {
                return Err(format!("{MEMORY} is {length} bytes long, {memory_bytes} would be right"));
            }
        }
        Ok(Self { config, state, memory_bytes })
    }
}

/// The error for a snapshot with something wrong about it.
pub(super) fn unusable(directory: &Path, message: String) -> VmmError {
    VmmError::Snapshot { directory: directory.to_owned(), message }
}

/// What a path names in the VMM's API.
///
/// # Errors
/// [`VmmError::Host`] when it is not UTF-8.
pub(super) fn url(directory: &Path) -> Result<String, VmmError> {
    let failed = |source| VmmError::Host { act: "name", path: directory.to_owned(), source };
    let absolute = std::path::absolute(directory).map_err(failed)?;
    let path = absolute.to_str().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    Ok(format!("file://{path}"))
}

/// Refuses a directory that is none, or not empty: files that are there already would stop the VMM half way.
///
/// # Errors
/// [`VmmError`].
pub(super) fn check_empty(directory: &Path) -> Result<(), VmmError> {
    let failed = |source| VmmError::Host { act: "look into", path: directory.to_owned(), source };
    match std::fs::read_dir(directory).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(unusable(directory, "the directory is not empty".into())),
    }
}

fn read(directory: &Path, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // The VMM could have put anything there: a link leads nowhere, and a pipe does not block.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(directory.join(name));
    let file = file.map_err(|error| format!("open {name}: {error}"))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(format!("{name} is no regular file"));
    }
    let count = file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| format!("read {name}: {error}"))?;
    if count as u64 > limit { Err(format!("{name} is longer than {limit} bytes")) } else { Ok(bytes) }
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{name}: {error}"))
}

/// `None` when there is no such file.
fn length(path: &Path) -> io::Result<Option<u64>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
        Ok(_) => Err(io::Error::other("it is no regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the memory's part of the state says about its size. Its own state is a document in a string.
fn memory_bytes(state: &[u8]) -> Result<u64, String> {
    let state: State = parse(STATE, state)?;
    let memory: MemoryState = parse(STATE, state.snapshots.memory_manager.snapshot_data.state.as_bytes())?;
    let lengths = memory.memory_ranges.data.iter().map(|range| range.length);
    let sum = lengths.into_iter().try_fold(0u64, u64::checked_add);
    sum.ok_or_else(|| format!("{STATE} lists more memory than there can be"))
}

#[derive(Debug, Deserialize)]
struct State {
    snapshots: Parts,
}

#[derive(Debug, Deserialize)]
struct Parts {
    #[serde(rename = "memory-manager")]
    memory_manager: Part,
}

#[derive(Debug, Deserialize)]
struct Part {
    snapshot_data: PartData,
}

#[derive(Debug, Deserialize)]
struct PartData {
    state: String,
}

#[derive(Debug, Deserialize)]
struct MemoryState {
    memory_ranges: Ranges,
}

#[derive(Debug, Deserialize)]
struct Ranges {
    data: Vec<Range>,
}

#[derive(Debug, Deserialize)]
struct Range {
    length: u64,
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn put(directory: &Path, name: &str, bytes: &[u8]) {
        File::create(directory.join(name)).unwrap().write_all(bytes).unwrap();
    }

    fn state(ranges: &str) -> String {
        let memory = format!(r#"{{"memory_ranges":{{"data":{ranges}}},"boot_ram":1}}"#);
        let memory = serde_json::to_string(&memory).unwrap();
        let part = format!(r#"{{"snapshots":{{}},"snapshot_data":{{"state":{memory}}}}}"#);
        format!(r#"{{"snapshots":{{"cpu-manager":{{}},"memory-manager":{part}}},"snapshot_data":null}}"#)
    }

    fn refusal(config: &str, state: &str, memory: Option<u64>, memory_file: bool) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        put(directory.path(), CONFIG, config.as_bytes());
        put(directory.path(), STATE, state.as_bytes());
        if let Some(length) = memory {
            File::create(directory.path().join(MEMORY)).unwrap().set_len(length).unwrap();
        }
        match Snapshot::read(directory.path(), memory_file) {
            Ok(_) => None,
            Err(VmmError::Snapshot { message, .. }) => Some(message),
            Err(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn a_snapshot_is_whole_or_refused() {
        let two = state(r#"[{"gpa":0,"length":4096},{"gpa":8192,"length":8192}]"#);
        let none = state("[]");
        assert_eq!(refusal(r#"{"net":null}"#, &two, Some(12288), false), None);
        assert_eq!(refusal("{}", &none, None, true), None);
        let cut = &two[..two.len() - 1];
        let endless = state(r#"[{"gpa":0,"length":18446744073709551615},{"gpa":0,"length":1}]"#);
        for (config, state, memory, memory_file, words) in [
            ("", &*two, Some(12288), false, "config.json: EOF"),
            ("[]", &two, Some(12288), false, "config.json is no configuration"),
            ("{}", cut, Some(12288), false, "state.json: EOF"),
            ("{}", "{}", Some(12288), false, "state.json: missing field `snapshots`"),
            ("{}", &two, Some(12287), false, "memory-ranges is 12287 bytes long, 12288 would be right"),
            ("{}", &two, Some(12289), false, "memory-ranges is 12289 bytes long"),
            ("{}", &two, None, false, "memory-ranges is missing"),
            ("{}", &none, Some(0), false, "state.json lists no memory"),
            ("{}", &none, None, false, "memory-ranges is missing"),
            ("{}", &two, Some(12288), true, "memory that should lie in a file"),
            ("{}", &none, Some(0), true, "memory that should lie in a file"),
            ("{}", &endless, Some(0), false, "more memory than there can be"),
        ] {
            let said = refusal(config, state, memory, memory_file).unwrap_or_else(|| panic!("accepted: {words}"));
            assert!(said.contains(words), "{words:?} is not in {said:?}");
        }
        let missing = tempfile::tempdir().unwrap();
        let error = Snapshot::read(missing.path(), false).unwrap_err();
        assert!(error.to_string().contains("cannot be used: open config.json: "), "{error}");
    }

    #[test]
    fn only_an_empty_directory_is_taken_and_no_link_followed() {
        let directory = tempfile::tempdir().unwrap();
        check_empty(directory.path()).unwrap();
        assert!(matches!(check_empty(&directory.path().join("nothing")), Err(VmmError::Host { .. })));
        put(directory.path(), "x", b"");
        std::os::unix::fs::symlink("x", directory.path().join(CONFIG)).unwrap();
        assert!(read(directory.path(), CONFIG, 10).unwrap_err().starts_with("open config.json: "));
        assert!(matches!(check_empty(directory.path()), Err(VmmError::Snapshot { .. })));
        assert_eq!(url(Path::new("/a b/c")).unwrap(), "file:///a b/c");
    }
}
