//! Extended attributes: checked, encoded, and shared between nodes where that saves much.
//!
//! An attribute that comes a second time is written once more, into the shared area, and from then on only referred
//! to; a large one goes there at once, so that its node still fits a block together with its data. What is remembered
//! for this is bounded; attributes beyond lie beside their node, which is never wrong.

use std::collections::HashMap;

use crate::error::{ErofsError, Fault, Limit};
use crate::format::{BLOCK, put};
use crate::output::Output;

/// What can lie beside a node: a head and as many units as its inode can count.
pub(crate) const ROOM: usize = HEAD + 4 * (u16::MAX as usize - 1);

const HEAD: usize = 12;
const ENTRY_HEAD: usize = 4;
/// References that a head can count.
const MAX_SHARED: usize = 255;
/// What is smaller is never shared: a reference has four bytes itself.
const MIN_SHARED_BYTES: usize = 16;
/// What is larger always is.
const LARGE_BYTES: usize = 1024;
/// Bytes of attributes that are remembered.
const MEMORY: usize = 1 << 20;

const NAMESPACES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];
const LISTS: [(&[u8], u8); 2] = [(b"system.posix_acl_access", 2), (b"system.posix_acl_default", 3)];

/// A name and a value, as a caller has them.
type Attribute = (Vec<u8>, Vec<u8>);

/// Knows what was seen and what is shared.
#[derive(Debug, Default)]
pub(crate) struct Xattrs {
    /// By encoded attribute: the number by which it is referred to, once it is shared.
    known: HashMap<Vec<u8>, Option<u32>>,
    remembered: usize,
    /// Where the shared area begins, in blocks.
    base: Option<u64>,
}

impl Xattrs {
    /// Where the shared area begins, in blocks; 0 where there is none.
    pub(crate) fn base(&self) -> u64 {
        self.base.unwrap_or(0)
    }

    /// What lies between an inode and its data.
    pub(crate) fn encode(&mut self, all: &[Attribute], limit: Limit, output: &mut Output) -> Result<Vec<u8>, Fault> {
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let room = usize::try_from(limit.allowed()).unwrap_or(usize::MAX);
        let entries = entries(all)?;
        let mut shared: Vec<bool> = entries.iter().map(|entry| self.is_worth(entry)).collect();
        cap(&mut shared);
        share_until_it_fits(&entries, &mut shared, room);
        let (mut references, mut beside) = (Vec::new(), Vec::new());
        for (entry, shared) in entries.iter().zip(shared) {
            match if shared { self.share(entry, output)? } else { None } {
                Some(reference) => references.push(reference),
                None => beside.extend_from_slice(entry),
            }
        }
        let size = HEAD + 4 * references.len() + beside.len();
        if size > room {
            return Err(Fault::Limit(limit, size as u64));
        }
        let mut out = Vec::with_capacity(size);
        put(&mut out, 4, 0);
        put(&mut out, 1, references.len() as u64);
        out.resize(HEAD, 0);
        references.iter().for_each(|reference| put(&mut out, 4, (*reference).into()));
        out.extend_from_slice(&beside);
        Ok(out)
    }

    /// Whether an attribute should be shared; remembers it.
    fn is_worth(&mut self, entry: &[u8]) -> bool {
        if entry.len() < MIN_SHARED_BYTES {
            return false;
        }
        let seen = self.known.contains_key(entry);
        if !seen && self.remembered + entry.len() <= MEMORY {
            self.remembered += entry.len();
            self.known.insert(entry.to_owned(), None);
        }
        seen || entry.len() >= LARGE_BYTES
    }

    /// The number by which an attribute is referred to; `None` where it would lie beyond what numbers reach.
    fn share(&mut self, entry: &[u8], output: &mut Output) -> Result<Option<u32>, Fault> {
        if let Some(Some(reference)) = self.known.get(entry) {
            return Ok(Some(*reference));
        }
        let base = *self.base.get_or_insert(output.lowest());
        let reach = u64::from(u32::MAX) * 4;
        if (output.next() + 64).saturating_sub(base) * BLOCK as u64 > reach {
            return Ok(None);
        }
        let at = output.place(entry, 4)? - base * BLOCK as u64;
        let reference = u32::try_from(at / 4).map_err(|_| ErofsError::Broken)?;
        if let Some(known) = self.known.get_mut(entry) {
            *known = Some(reference);
        }
        Ok(Some(reference))
    }
}

/// A node refers to so many and no more.
fn cap(shared: &mut [bool]) {
    shared.iter_mut().filter(|shared| **shared).skip(MAX_SHARED).for_each(|shared| *shared = false);
}

/// Shares more than is worth it, the largest first, where the room does not suffice.
fn share_until_it_fits(entries: &[Vec<u8>], shared: &mut [bool], room: usize) {
    let count = shared.iter().filter(|shared| **shared).count();
    let beside = entries.iter().zip(&*shared).filter(|(_, shared)| !**shared);
    let mut size = HEAD + 4 * count + beside.map(|(entry, _)| entry.len()).sum::<usize>();
    let mut by_size: Vec<usize> = (0..entries.len()).filter(|at| !shared[*at]).collect();
    by_size.sort_by_key(|at| std::cmp::Reverse(entries[*at].len()));
    for at in by_size.into_iter().take(MAX_SHARED - count) {
        if size <= room {
            return;
        }
        shared[at] = true;
        size = size + 4 - entries[at].len();
    }
}

/// The attributes as they are written, by ascending name.
fn entries(all: &[Attribute]) -> Result<Vec<Vec<u8>>, Fault> {
    let mut sorted: Vec<&Attribute> = all.iter().collect();
    sorted.sort();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Fault::Xattr { name: pair[0].0.clone(), reason: "is there twice" });
    }
    let listed: usize = sorted.iter().map(|(name, _)| name.len() + 1).sum();
    Fault::within(Limit::XattrListBytes, listed as u64)?;
    sorted.into_iter().map(|(name, value)| entry(name, value)).collect()
}

fn entry(name: &[u8], value: &[u8]) -> Result<Vec<u8>, Fault> {
    let refuse = |reason| Fault::Xattr { name: name.to_owned(), reason };
    if name.contains(&0) {
        return Err(refuse("has a NUL in its name"));
    }
    Fault::within(Limit::XattrNameBytes, name.len() as u64)?;
    Fault::within(Limit::XattrValueBytes, value.len() as u64)?;
    let list = LISTS.iter().find(|(list, _)| *list == name).map(|(_, number)| (*number, &b""[..]));
    let in_namespace = || NAMESPACES.iter().find_map(|(space, number)| Some((*number, name.strip_prefix(*space)?)));
    let (number, rest) = list.or_else(in_namespace).ok_or_else(|| refuse("is in no namespace that EROFS has"))?;
    if list.is_none() && rest.is_empty() {
        return Err(refuse("has no name within its namespace"));
    }
    let mut out = Vec::with_capacity(ENTRY_HEAD + rest.len() + value.len() + 3);
    put(&mut out, 1, rest.len() as u64);
    put(&mut out, 1, number.into());
    put(&mut out, 2, value.len() as u64);
    out.extend_from_slice(rest);
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> Output {
        Output::new(tempfile::tempfile().unwrap()).unwrap()
    }

    fn attribute(name: &str, bytes: usize) -> Attribute {
        (name.as_bytes().to_owned(), vec![b'v'; bytes])
    }

    #[test]
    fn the_second_of_equals_is_shared_and_the_third_refers_to_it() {
        let (mut xattrs, mut output) = (Xattrs::default(), output());
        let all = [attribute("security.capability", 20), attribute("user.a", 1)];
        let sizes: Vec<usize> =
            (0..3).map(|_| xattrs.encode(&all, Limit::XattrBytes, &mut output).unwrap().len()).collect();
        assert_eq!(sizes, [12 + 36 + 8, 12 + 4 + 8, 12 + 4 + 8]);
        assert_eq!(xattrs.base(), 1);
    }

    #[test]
    fn large_ones_leave_the_node_and_what_is_too_much_is_refused() {
        let (mut xattrs, mut output) = (Xattrs::default(), output());
        let large: Vec<_> = (0..9).map(|at| attribute(&format!("user.{at}"), 65_535)).collect();
        assert_eq!(xattrs.encode(&large, Limit::XattrBytes, &mut output).unwrap().len(), 12 + 9 * 4);
        let many: Vec<_> = (0..300).map(|at| attribute(&format!("user.{at:03}"), 2000)).collect();
        assert_eq!(xattrs.encode(&many, Limit::XattrBytes, &mut output).unwrap().len(), 12 + 255 * 4 + 45 * 2008);
        let fault = xattrs.encode(&many, Limit::RootXattrBytes, &mut output).unwrap_err();
        assert!(matches!(fault, Fault::Limit(Limit::RootXattrBytes, _)));
        let small: Vec<_> = (0..200).map(|at| attribute(&format!("user.{at:03}"), 20)).collect();
        assert!(xattrs.encode(&small, Limit::RootXattrBytes, &mut output).unwrap().len() <= crate::format::ROOT_ROOM);
    }

    #[test]
    fn what_no_kernel_would_give_back_is_refused() {
        let refused = |name: &str, bytes| {
            let mut output = output();
            Xattrs::default().encode(&[attribute(name, bytes)], Limit::XattrBytes, &mut output).unwrap_err()
        };
        for name in ["user.", "system.other", "lustre.x", "user", "", "user.a\0b"] {
            assert!(matches!(refused(name, 1), Fault::Xattr { .. }), "{name}");
        }
        assert!(matches!(refused("user.a", 65_536), Fault::Limit(Limit::XattrValueBytes, 65_536)));
        let long = format!("user.{}", "n".repeat(251));
        assert!(matches!(refused(&long, 1), Fault::Limit(Limit::XattrNameBytes, 256)));
        let twice = [attribute("user.a", 1), attribute("user.a", 2)];
        assert!(matches!(entries(&twice), Err(Fault::Xattr { .. })));
        let many: Vec<_> = (0..260).map(|at| attribute(&format!("user.{at:0247}"), 0)).collect();
        assert!(matches!(entries(&many), Err(Fault::Limit(Limit::XattrListBytes, 65_780))));
    }
}
