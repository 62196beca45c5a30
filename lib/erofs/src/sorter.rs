//! Records sorted by their bytes, however many there are: what exceeds a few mebibytes is sorted in runs, which lie in
//! a spool and are merged as they are read.
//!
//! Memory: the arena, and one buffer for each of at most [`MAX_RUNS`] runs; more runs than that are merged into one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::path::{Path, PathBuf};

use crate::spool::Spool;

/// Runs that are read side by side.
const MAX_RUNS: usize = 128;
/// What is read of a run at once: more than the longest record.
const WINDOW: usize = 16 << 10;
/// A record's length stands before it.
const HEAD: usize = 2;
/// The longest record.
const MAX_RECORD: usize = 1024;

/// Takes records.
#[derive(Debug)]
pub(crate) struct Sorter {
    directory: PathBuf,
    arena_bytes: usize,
    max_runs: usize,
    arena: Vec<u8>,
    /// Where in the arena each record lies.
    index: Vec<(u32, u16)>,
    spool: Option<Spool>,
    /// From where to where in the spool each run lies.
    runs: Vec<(u64, u64)>,
}

impl Sorter {
    pub(crate) fn new(directory: &Path, arena_bytes: usize) -> Self {
        Self {
            directory: directory.to_owned(),
            arena_bytes,
            max_runs: MAX_RUNS,
            arena: Vec::new(),
            index: Vec::new(),
            spool: None,
            runs: Vec::new(),
        }
    }

    /// Takes a record that is given in parts.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        debug_assert!(length <= MAX_RECORD, "a record of {length} bytes");
        if self.arena.len() + length > self.arena_bytes {
            self.spill()?;
        }
        let at = u32::try_from(self.arena.len()).map_err(io::Error::other)?;
        self.index.push((at, u16::try_from(length).map_err(io::Error::other)?));
        parts.iter().for_each(|part| self.arena.extend_from_slice(part));
        Ok(())
    }

    fn sort(&mut self) {
        let arena = &self.arena;
        self.index.sort_unstable_by_key(|slot| slice(arena, *slot));
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.runs.len() == self.max_runs {
            self.merge_runs()?;
        }
        self.sort();
        let spool = match &mut self.spool {
            Some(spool) => spool,
            None => self.spool.insert(Spool::new(&self.directory)?),
        };
        let start = spool.end();
        for slot in self.index.drain(..) {
            spool.append(&slot.1.to_le_bytes())?;
            spool.append(slice(&self.arena, slot))?;
        }
        self.runs.push((start, spool.end()));
        self.arena.clear();
        Ok(())
    }

    /// Makes one run of all, in a spool of its own.
    fn merge_runs(&mut self) -> io::Result<()> {
        let mut merged = Spool::new(&self.directory)?;
        let mut records = Records::new(&[], &[], self.spool.as_ref(), &self.runs)?;
        while let Some(record) = records.next()? {
            let length = u16::try_from(record.len()).map_err(io::Error::other)?;
            merged.append(&length.to_le_bytes())?;
            merged.append(record)?;
        }
        self.runs = vec![(0, merged.end())];
        self.spool = Some(merged);
        Ok(())
    }

    /// No more records come.
    pub(crate) fn finish(mut self) -> Sorted {
        self.sort();
        Sorted(self)
    }
}

fn slice(arena: &[u8], (at, length): (u32, u16)) -> &[u8] {
    &arena[at as usize..][..usize::from(length)]
}

/// Gives records, as often as they are wanted.
#[derive(Debug)]
pub(crate) struct Sorted(Sorter);

impl Sorted {
    pub(crate) fn records(&self) -> io::Result<Records<'_>> {
        Records::new(&self.0.arena, &self.0.index, self.0.spool.as_ref(), &self.0.runs)
    }
}

/// All records in order.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    arena: &'a [u8],
    held: std::slice::Iter<'a, (u32, u16)>,
    spool: Option<&'a Spool>,
    runs: Vec<Run>,
    /// The first record of each run that has one; the number after the last run stands for the arena.
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    current: Vec<u8>,
}

impl<'a> Records<'a> {
    fn new(
        arena: &'a [u8],
        index: &'a [(u32, u16)],
        spool: Option<&'a Spool>,
        runs: &[(u64, u64)],
    ) -> io::Result<Self> {
        let runs = runs.iter().map(|(at, end)| Run { at: *at, end: *end, window: Vec::new(), read: 0 }).collect();
        let mut records =
            Self { arena, held: index.iter(), spool, runs, heads: BinaryHeap::new(), current: Vec::new() };
        for source in 0..=records.runs.len() {
            records.advance(source, Vec::new())?;
        }
        Ok(records)
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let Some(Reverse((record, source))) = self.heads.pop() else { return Ok(None) };
        let spent = std::mem::replace(&mut self.current, record);
        self.advance(source, spent)?;
        Ok(Some(&self.current))
    }

    /// Takes the next record of a source into a buffer that is no longer needed.
    fn advance(&mut self, source: usize, mut record: Vec<u8>) -> io::Result<()> {
        record.clear();
        let found = match (self.runs.get_mut(source), self.spool) {
            (Some(run), Some(spool)) => run.next(spool, &mut record)?,
            (Some(_), None) => false,
            (None, _) => match self.held.next() {
                Some(slot) => {
                    record.extend_from_slice(slice(self.arena, *slot));
                    true
                }
                None => false,
            },
        };
        if found {
            self.heads.push(Reverse((record, source)));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Run {
    /// What is not yet in the window.
    at: u64,
    end: u64,
    window: Vec<u8>,
    /// What is read of the window.
    read: usize,
}

impl Run {
    fn next(&mut self, spool: &Spool, record: &mut Vec<u8>) -> io::Result<bool> {
        if self.window.len() - self.read < HEAD + MAX_RECORD {
            self.window.drain(..self.read);
            self.read = 0;
            let held = self.window.len();
            let more = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(WINDOW - held);
            self.window.resize(held + more, 0);
            spool.read(&mut self.window[held..], self.at)?;
            self.at += more as u64;
        }
        let Some((head, rest)) = self.window[self.read..].split_first_chunk::<HEAD>() else { return Ok(false) };
        let length = usize::from(u16::from_le_bytes(*head));
        record.extend_from_slice(rest.get(..length).ok_or(io::ErrorKind::UnexpectedEof)?);
        self.read += HEAD + length;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(records: &[Vec<u8>], arena_bytes: usize, max_runs: usize) -> (usize, Vec<Vec<u8>>) {
        let mut sorter = Sorter { max_runs, ..Sorter::new(&std::env::temp_dir(), arena_bytes) };
        for record in records {
            let (first, rest) = record.split_at(record.len() / 2);
            sorter.push(&[first, rest]).unwrap();
        }
        let sorted = sorter.finish();
        let once = collect(&sorted);
        assert_eq!(once, collect(&sorted), "it can be read again");
        (sorted.0.runs.len(), once)
    }

    fn collect(sorted: &Sorted) -> Vec<Vec<u8>> {
        let mut records = sorted.records().unwrap();
        let mut all = Vec::new();
        while let Some(record) = records.next().unwrap() {
            all.push(record.to_vec());
        }
        all
    }

    #[test]
    fn records_come_in_order_from_memory_from_runs_and_from_merged_runs() {
        let records: Vec<Vec<u8>> = (0..5000u32)
            .map(|at| {
                let number = at.wrapping_mul(2_654_435_761);
                vec![number.to_be_bytes()[0]; (number % 300) as usize]
            })
            .collect();
        let mut expected = records.clone();
        expected.sort();
        for (arena_bytes, max_runs, expected_runs) in [(1 << 20, 4, 0..=0), (20_000, 100, 20..=90), (9_000, 3, 2..=4)] {
            let (runs, found) = sorted(&records, arena_bytes, max_runs);
            assert!(expected_runs.contains(&runs), "{runs} runs");
            assert!(found == expected);
        }
        assert_eq!(sorted(&[], 100, 4).1, Vec::<Vec<u8>>::new());
    }
}
