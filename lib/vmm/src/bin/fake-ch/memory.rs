//! The guest's memory: everything that it would go on with, and how that lies in an image.
//!
//! Invariant: a guest that goes on from an image is told nothing else about its past. The image is as large as the
//! machine's memory and almost all of it holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use dataplane_agent::ExitStatus;
use serde::{Deserialize, Serialize};

/// Where in the image it lies: not at its very beginning, where zeros would be usual.
const OFFSET: u64 = 4096;
const MAGIC: &[u8; 8] = b"FAKEMEM\x01";
const HEADER: usize = 16;
const MAX_IMAGE: usize = 1 << 20;

/// What a guest knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// The image's program.
    pub(crate) argv: Vec<String>,
    /// Whether its first lines are printed.
    pub(crate) begun: bool,
    /// How far `count` has come.
    pub(crate) count: u64,
    /// How the program ended.
    pub(crate) exit: Option<ExitStatus>,
    /// Whether the host has written that down.
    pub(crate) recorded: bool,
    /// When a program that was asked to end is killed, from when this was written.
    pub(crate) kill_in_ms: Option<u64>,
    /// The kernel has panicked: nothing answers any more.
    pub(crate) dead: bool,
    /// Virtual CPUs that are online.
    pub(crate) online: u32,
    /// The guest's clock when this was written.
    pub(crate) clock_ns: u64,
    /// What the guest wrote to its disk when it began to run, the last time.
    pub(crate) mark: u64,
}

impl Memory {
    /// Writes it into an image.
    ///
    /// # Errors
    /// [`io::Error`].
    pub(crate) fn store(&self, image: &File) -> io::Result<()> {
        let json = serde_json::to_vec(self)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend((json.len() as u64).to_le_bytes());
        bytes.extend(json);
        image.write_all_at(&bytes, OFFSET)
    }

    /// Finds it in an image; `None` when the image holds something else.
    pub(crate) fn load(image: &File) -> Option<Self> {
        let mut header = [0; HEADER];
        image.read_exact_at(&mut header, OFFSET).ok()?;
        let (magic, length) = header.split_at(MAGIC.len());
        let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
        if magic != MAGIC || length > MAX_IMAGE {
            return None;
        }
        let mut json = vec![0; length];
        image.read_exact_at(&mut json, OFFSET + HEADER as u64).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

/// The host's clock, in nanoseconds since 1970.
pub(crate) fn host_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
