//! The two things this tool reads from ELF files: notes of a kernel and named sections of a module.
//!
//! Invariant: every offset comes from the file and is checked against its length; a damaged file is an error, never a
//! panic. Knows nothing of kernels, packages or archives.

use thiserror::Error;

/// The note by which a Xen-style PVH kernel names its 32-bit entry point.
const XEN_PHYS32_ENTRY: u32 = 18;
const PT_NOTE: u32 = 4;

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ElfError {
    #[error("read ELF header: not a 64-bit little-endian ELF file")]
    NotElf64,
    #[error("read ELF file: {what} lies outside the file")]
    OutOfBounds { what: &'static str },
}

/// A borrowed 64-bit little-endian ELF file.
pub(crate) struct Elf<'a> {
    bytes: &'a [u8],
}

impl<'a> Elf<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, ElfError> {
        // Class 2 = 64 bit, data 1 = little endian.
        if bytes.len() < 64 || !bytes.starts_with(b"\x7fELF\x02\x01") {
            return Err(ElfError::NotElf64);
        }
        Ok(Self { bytes })
    }

    /// Whether a program header of type NOTE holds the Xen PVH entry point.
    pub(crate) fn has_pvh_note(&self) -> Result<bool, ElfError> {
        let table = self.u64_at(32, "program header offset")?;
        let (size, count) = (self.u16_at(54, "program header size")?, self.u16_at(56, "program header count")?);
        for index in 0..u64::from(count) {
            let header = table.saturating_add(index * u64::from(size));
            if self.u32_at(header, "program header")? != PT_NOTE {
                continue;
            }
            let offset = self.u64_at(header.saturating_add(8), "note offset")?;
            let length = self.u64_at(header.saturating_add(32), "note length")?;
            if notes_hold_pvh(self.slice(offset, length, "notes")?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The bytes of the section with this name, if there is one.
    pub(crate) fn section(&self, name: &str) -> Result<Option<&'a [u8]>, ElfError> {
        let table = self.u64_at(40, "section header offset")?;
        let size = u64::from(self.u16_at(58, "section header size")?);
        let count = u64::from(self.u16_at(60, "section header count")?);
        let names = table.saturating_add(size * u64::from(self.u16_at(62, "name section index")?));
        let names_at = self.u64_at(names.saturating_add(24), "name section offset")?;
        for index in 0..count {
            let header = table.saturating_add(index * size);
            let name_at = names_at.saturating_add(u64::from(self.u32_at(header, "section name")?));
            let found = self.slice(name_at, name.len() as u64 + 1, "section name");
            // A name at the very end of the file may be shorter than the one sought: not this one.
            if found.is_ok_and(|found| found.split_last() == Some((&0, name.as_bytes()))) {
                let offset = self.u64_at(header.saturating_add(24), "section offset")?;
                let length = self.u64_at(header.saturating_add(32), "section length")?;
                return self.slice(offset, length, "section").map(Some);
            }
        }
        Ok(None)
    }

    fn slice(&self, offset: u64, length: u64, what: &'static str) -> Result<&'a [u8], ElfError> {
        let start = usize::try_from(offset).map_err(|_| ElfError::OutOfBounds { what })?;
        let length = usize::try_from(length).map_err(|_| ElfError::OutOfBounds { what })?;
        let end = start.checked_add(length).ok_or(ElfError::OutOfBounds { what })?;
        self.bytes.get(start..end).ok_or(ElfError::OutOfBounds { what })
    }

    fn array<const N: usize>(&self, offset: u64, what: &'static str) -> Result<[u8; N], ElfError> {
        let slice = self.slice(offset, N as u64, what)?;
        slice.try_into().map_err(|_| ElfError::OutOfBounds { what })
    }

    fn u16_at(&self, offset: u64, what: &'static str) -> Result<u16, ElfError> {
        self.array(offset, what).map(u16::from_le_bytes)
    }

    fn u32_at(&self, offset: u64, what: &'static str) -> Result<u32, ElfError> {
        self.array(offset, what).map(u32::from_le_bytes)
    }

    fn u64_at(&self, offset: u64, what: &'static str) -> Result<u64, ElfError> {
        self.array(offset, what).map(u64::from_le_bytes)
    }
}

/// Walks a note segment; a truncated last note ends the walk.
fn notes_hold_pvh(mut notes: &[u8]) -> bool {
    while let Some((header, rest)) = notes.split_at_checked(12) {
        let word = |at: usize| header.get(at..at + 4).and_then(|w| w.try_into().ok()).map_or(0, u32::from_le_bytes);
        let (name_length, value_length, kind) = (word(0) as usize, word(4) as usize, word(8));
        if kind == XEN_PHYS32_ENTRY && rest.get(..name_length) == Some(b"Xen\0") {
            return true;
        }
        let used = name_length.next_multiple_of(4).saturating_add(value_length.next_multiple_of(4));
        match rest.get(used..) {
            Some(next) => notes = next,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A minimal ELF file: one note segment, one named section.
    pub(crate) fn synthetic(note_kind: u32, section: &str, content: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [4, 4, note_kind] {
            note.extend_from_slice(&u32::to_le_bytes(word));
        }
        note.extend_from_slice(b"Xen\0\x00\x10\x00\x00");
        let names = [b"\0".as_slice(), section.as_bytes(), b"\0"].concat();
        let note_at = 64 + 56;
        let content_at = note_at + note.len() as u64;
        let names_at = content_at + content.len() as u64;
        let sections_at = names_at + names.len() as u64;

        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(32, 0);
        file.extend_from_slice(&64u64.to_le_bytes());
        file.extend_from_slice(&sections_at.to_le_bytes());
        file.resize(54, 0);
        for half in [56u16, 1, 64, 2, 1] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        file.extend_from_slice(&PT_NOTE.to_le_bytes());
        file.resize(64 + 8, 0);
        file.extend_from_slice(&note_at.to_le_bytes());
        file.resize(64 + 32, 0);
        file.extend_from_slice(&(note.len() as u64).to_le_bytes());
        file.resize(64 + 56, 0);
        file.extend_from_slice(&note);
        file.extend_from_slice(content);
        file.extend_from_slice(&names);
        for (name, at, length) in [(1u32, content_at, content.len()), (0, names_at, names.len())] {
            let start = file.len();
            file.extend_from_slice(&name.to_le_bytes());
            file.resize(start + 24, 0);
            file.extend_from_slice(&at.to_le_bytes());
            file.extend_from_slice(&(length as u64).to_le_bytes());
            file.resize(start + 64, 0);
        }
        file
    }

    #[test]
    fn finds_the_pvh_note_and_nothing_else() {
        let with = synthetic(XEN_PHYS32_ENTRY, ".modinfo", b"");
        let without = synthetic(3, ".modinfo", b"");
        assert_eq!(Elf::parse(&with).unwrap().has_pvh_note(), Ok(true));
        assert_eq!(Elf::parse(&without).unwrap().has_pvh_note(), Ok(false));
    }

    #[test]
    fn finds_a_section_by_its_whole_name() {
        let file = synthetic(3, ".modinfo", b"depends=a,b\0");
        let elf = Elf::parse(&file).unwrap();
        assert_eq!(elf.section(".modinfo"), Ok(Some(b"depends=a,b\0".as_slice())));
        assert_eq!(elf.section(".modinf"), Ok(None));
        assert_eq!(elf.section(".modinfo.more"), Ok(None));
    }

    #[test]
    fn every_truncation_is_an_error_or_an_answer_never_a_panic() {
        let file = synthetic(XEN_PHYS32_ENTRY, ".modinfo", b"depends=\0");
        for length in 0..file.len() {
            if let Ok(elf) = Elf::parse(&file[..length]) {
                let _ = (elf.has_pvh_note(), elf.section(".modinfo"));
            }
        }
        assert_eq!(Elf::parse(b"MZ").err(), Some(ElfError::NotElf64));
    }
}
