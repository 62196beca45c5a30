//! Files with holes, in the four ways in which tar archives write them: GNU's own headers, and pax 0.0, 0.1 and 1.0.

use std::io::{self, Read};

/// Bytes that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Where in the file.
    pub at: u64,
    /// Where in the archive.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// Collects `(offset, length)` pairs and checks them.
#[derive(Debug)]
pub(crate) struct RegionList {
    pairs: Vec<(u64, u64)>,
    max: usize,
}

/// Why a list of regions is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SparseFault {
    TooMany,
    Nonsense,
}

impl RegionList {
    pub(crate) fn new(max: usize) -> Self {
        Self { pairs: Vec::new(), max }
    }

    pub(crate) fn push(&mut self, at: u64, length: u64) -> Result<(), SparseFault> {
        if self.pairs.len() >= self.max {
            return Err(SparseFault::TooMany);
        }
        self.pairs.push((at, length));
        Ok(())
    }

    /// Numbers in pairs, as pax writes them.
    pub(crate) fn from_numbers(numbers: &[u64], max: usize) -> Result<Self, SparseFault> {
        let mut list = Self::new(max);
        if !numbers.len().is_multiple_of(2) {
            return Err(SparseFault::Nonsense);
        }
        for pair in numbers.chunks_exact(2) {
            list.push(pair[0], pair[1])?;
        }
        Ok(list)
    }

    /// The regions, ascending and within the file's size, their bytes lying one after the other in the archive.
    pub(crate) fn finish(self, size: u64, mut offset: u64, stored: u64) -> Result<Vec<Region>, SparseFault> {
        let end_of_data = offset.checked_add(stored).ok_or(SparseFault::Nonsense)?;
        let mut regions = Vec::with_capacity(self.pairs.len());
        let mut end = 0;
        for (at, length) in self.pairs {
            let next = at.checked_add(length).ok_or(SparseFault::Nonsense)?;
            if at < end || next > size {
                return Err(SparseFault::Nonsense);
            }
            end = next;
            if length > 0 {
                regions.push(Region { at, offset, length });
                offset = offset.checked_add(length).ok_or(SparseFault::Nonsense)?;
            }
        }
        if offset > end_of_data { Err(SparseFault::Nonsense) } else { Ok(regions) }
    }
}

/// Reads pax 1.0's map, decimal lines that stand before the data and are padded to 512 bytes; tells its length.
pub(crate) fn read_pax_map(input: impl Read, max: usize) -> io::Result<Result<(RegionList, u64), SparseFault>> {
    let mut lines = Lines { input, read: 0 };
    let Some(count) = lines.number()? else { return Ok(Err(SparseFault::Nonsense)) };
    if count > max as u64 {
        return Ok(Err(SparseFault::TooMany));
    }
    let mut list = RegionList::new(max);
    for _ in 0..count {
        let (Some(at), Some(length)) = (lines.number()?, lines.number()?) else {
            return Ok(Err(SparseFault::Nonsense));
        };
        if let Err(fault) = list.push(at, length) {
            return Ok(Err(fault));
        }
    }
    Ok(Ok((list, lines.read.next_multiple_of(512))))
}

struct Lines<R> {
    input: R,
    read: u64,
}

impl<R: Read> Lines<R> {
    /// A decimal number and its line end; `None` for anything else.
    fn number(&mut self) -> io::Result<Option<u64>> {
        let mut value: Option<u64> = None;
        for _ in 0..21 {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            self.read += 1;
            match byte[0] {
                b'\n' => return Ok(value),
                digit @ b'0'..=b'9' => {
                    let digit = u64::from(digit - b'0');
                    value = value.unwrap_or(0).checked_mul(10).and_then(|value| value.checked_add(digit));
                    if value.is_none() {
                        return Ok(None);
                    }
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_and_padded() {
        let mut text = b"2\n0\n10\n1000\n24\n".to_vec();
        text.resize(512, 0);
        let (list, length) = read_pax_map(&text[..], 9).unwrap().unwrap();
        assert_eq!(length, 512);
        let regions = list.finish(2000, 512, 34).unwrap();
        assert_eq!(regions, [Region { at: 0, offset: 512, length: 10 }, Region { at: 1000, offset: 522, length: 24 }]);
        assert_eq!(read_pax_map(&b"10\n"[..], 9).unwrap().unwrap_err(), SparseFault::TooMany);
        assert_eq!(read_pax_map(&b"x\n"[..], 9).unwrap().unwrap_err(), SparseFault::Nonsense);
        assert!(read_pax_map(&b"1\n5"[..], 9).is_err(), "cut short");
        assert_eq!(read_pax_map(&b"99999999999999999999\n"[..], 9).unwrap().unwrap_err(), SparseFault::Nonsense);
    }

    #[test]
    fn overlapping_or_overlong_regions_are_refused() {
        for (numbers, size, stored) in [
            (vec![0, 10, 5, 10], 100, 20),
            (vec![0, 10], 5, 10),
            (vec![u64::MAX, 2], 100, 2),
            (vec![0, 50], 100, 49),
            (vec![10, 1, 0, 1], 100, 2),
        ] {
            let list = RegionList::from_numbers(&numbers, 9).unwrap();
            assert_eq!(list.finish(size, 0, stored), Err(SparseFault::Nonsense), "{numbers:?}");
        }
        assert_eq!(RegionList::from_numbers(&[1], 9).unwrap_err(), SparseFault::Nonsense);
        assert_eq!(RegionList::from_numbers(&[0; 8], 3).unwrap_err(), SparseFault::TooMany);
    }
}
