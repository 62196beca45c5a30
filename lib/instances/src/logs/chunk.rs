//! Bytes of a log, and how they fall into lines and pieces of lines. Pure.
//!
//! Invariant: where pieces end follows from the bytes and from where the first one begins, never from how they were
//! read: an offset that was an event's id is one again for whoever comes back with it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use memchr::{memchr, memrchr};

/// A line longer than this comes in pieces.
pub const MAX_PIECE_BYTES: usize = 64 << 10;

/// A line, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPiece<'a> {
    /// The file offset behind it: reading goes on from here.
    pub end: u64,
    /// The bytes, without line end.
    pub bytes: &'a [u8],
    /// Whether the line goes on in the next piece, or was not ended when the log ended.
    pub partial: bool,
}

/// Some lines of a log, in one piece of memory that all its readers share.
#[derive(Debug)]
pub struct LogChunk {
    start: u64,
    bytes: Bytes,
    rendering: OnceLock<Bytes>,
}

impl LogChunk {
    pub(super) fn new(start: u64, bytes: Bytes) -> Arc<Self> {
        Arc::new(Self { start, bytes, rendering: OnceLock::new() })
    }

    /// The file offset of its first byte.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The file offset behind its last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// The bytes as they are in the file.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its lines.
    pub fn pieces(&self) -> impl Iterator<Item = LogPiece<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = &self.bytes[at..];
            if rest.is_empty() {
                return None;
            }
            let (length, line_end) = first_piece(rest).unwrap_or((rest.len(), 0));
            at += length + line_end;
            let mut bytes = &rest[..length];
            // The console's line discipline puts a carriage return before each line end.
            if line_end > 0
                && let Some(line) = bytes.strip_suffix(b"\r")
            {
                bytes = line;
            }
            Some(LogPiece { end: self.start + at as u64, bytes, partial: line_end == 0 })
        })
    }

    /// What a reader makes of it, made once for all of them.
    pub fn rendering(&self, make: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.rendering.get_or_init(|| make(self)).clone()
    }

    /// What of it lies behind an offset within it.
    pub(super) fn behind(self: &Arc<Self>, offset: u64) -> Arc<Self> {
        let skipped = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        if skipped == 0 {
            return Arc::clone(self);
        }
        Self::new(offset, self.bytes.slice(skipped.min(self.bytes.len())..))
    }
}

/// Lengths of the first piece and of the line end behind it; `None` where neither a line nor a piece is complete.
fn first_piece(bytes: &[u8]) -> Option<(usize, usize)> {
    let window = &bytes[..bytes.len().min(MAX_PIECE_BYTES + 1)];
    match memchr(b'\n', window) {
        Some(end) => Some((end, 1)),
        None => (bytes.len() > MAX_PIECE_BYTES).then(|| (cut(&bytes[..MAX_PIECE_BYTES]), 0)),
    }
}

/// Where a line that is too long is cut: not within a character, as far as it is text.
fn cut(bytes: &[u8]) -> usize {
    let continued = bytes.iter().rev().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
    let lead = bytes.len() - continued - 1;
    let needed = match bytes[lead] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        0x00..=0xc1 | 0xf5..=0xff => 1,
    };
    if needed > continued + 1 { lead } else { bytes.len() }
}

/// How many of the bytes are complete lines and pieces.
pub(super) fn complete(bytes: &[u8]) -> usize {
    let mut end = memrchr(b'\n', bytes).map_or(0, |last| last + 1);
    while let Some((length, line_end)) = first_piece(&bytes[end..]) {
        end += length + line_end;
    }
    end
}
