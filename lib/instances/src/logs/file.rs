//! One log file, read at offsets: bytes, a gap where they are gone, or the end. Everything here blocks.
//!
//! Invariant: zeros that the file system shows for a freed head are never taken for what somebody wrote. Where data
//! begins is asked after the read: what was freed before or during it is seen then.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use memchr::{memchr, memrchr_iter};
use rustix::fs::{CWD, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::chunk::{LogChunk, MAX_PIECE_BYTES, complete};

/// How much is read at once. More than one piece, so that a read always yields one when there is one.
const READ: usize = 2 * MAX_PIECE_BYTES;

/// How far back lines are looked for: beyond it a tail begins with fewer.
const MAX_TAIL_BYTES: u64 = 64 << 20;

/// What there is at an offset.
#[derive(Debug)]
pub(super) enum Found {
    Chunk(Arc<LogChunk>),
    /// Nothing before `to`, any more or yet.
    Gap {
        to: u64,
    },
    /// Nothing that is complete.
    End,
}

#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    /// Stays open: an instance's last words are read when its directory is gone.
    file: OnceLock<File>,
}

impl LogFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: OnceLock::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, made when it is missing so that it can be watched; `None` when its directory is gone.
    pub(super) fn open(&self) -> io::Result<Option<&File>> {
        if let Some(file) = self.file.get() {
            return Ok(Some(file));
        }
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
        match rustix::fs::openat(CWD, &self.path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Some(self.file.get_or_init(|| file.into()))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What there is from an offset on. With `to_the_end` a last line that is not ended counts.
    pub(super) fn read(&self, at: u64, to_the_end: bool) -> io::Result<Found> {
        let Some(file) = self.open()? else {
            return Ok(if at == 0 { Found::End } else { Found::Gap { to: 0 } });
        };
        let length = file.metadata()?.len();
        if at >= length {
            return Ok(if at == length { Found::End } else { Found::Gap { to: length } });
        }
        let mut bytes = vec![0; usize::try_from(length - at).unwrap_or(READ).min(READ)];
        let read = file.read_at(&mut bytes, at)?;
        bytes.truncate(read);
        if let Some(data) = data_from(file, at)?.filter(|data| *data > at) {
            return Ok(Found::Gap { to: next_line(file, data)? });
        }
        let complete = match complete(&bytes) {
            0 if to_the_end => bytes.len(),
            complete => complete,
        };
        if complete == 0 {
            return Ok(Found::End);
        }
        bytes.truncate(complete);
        if complete < READ / 2 {
            bytes.shrink_to_fit();
        }
        Ok(Found::Chunk(LogChunk::new(at, Bytes::from(bytes))))
    }

    /// Where the last `lines` lines begin; an unfinished last line counts.
    pub(super) fn tail(&self, lines: u64) -> io::Result<u64> {
        let Some(file) = self.open()? else { return Ok(0) };
        let length = file.metadata()?.len();
        if lines == 0 {
            return Ok(length);
        }
        let earliest = data_from(file, 0)?.unwrap_or(0).max(length.saturating_sub(MAX_TAIL_BYTES));
        let (mut at, mut missing) = (length, lines);
        let mut chunk = vec![0; READ];
        while at > earliest {
            let start = at.saturating_sub(READ as u64).max(earliest);
            let part = &mut chunk[..usize::try_from(at - start).unwrap_or(READ)];
            file.read_exact_at(part, start)?;
            for end in memrchr_iter(b'\n', part) {
                let next = start + end as u64 + 1;
                // The end of the last line begins no line behind it.
                if next == length {
                    continue;
                }
                missing -= 1;
                if missing == 0 {
                    return Ok(next);
                }
            }
            at = start;
        }
        if earliest == 0 { Ok(0) } else { next_line(file, earliest) }
    }
}

/// Where data begins, from an offset on; `None` where there is none, or the file system does not tell.
pub(super) fn data_from(file: &File, at: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Where the next line begins behind a place that is most likely in the middle of one; the place itself in a line that
/// is too long.
fn next_line(file: &File, at: u64) -> io::Result<u64> {
    let mut bytes = vec![0; MAX_PIECE_BYTES + 1];
    let read = file.read_at(&mut bytes, at)?;
    Ok(memchr(b'\n', &bytes[..read]).map_or(at, |end| at + end as u64 + 1))
}
