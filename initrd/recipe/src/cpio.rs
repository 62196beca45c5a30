//! Writes a `newc` cpio archive, the format of an initramfs.
//!
//! Invariant: the same entries give the same bytes: sorted by name, owned by root, dated zero, numbered in order.
//! Device nodes are only described, so no privilege is needed. Reads no files.

use std::collections::BTreeMap;

use thiserror::Error;

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFMT: u32 = 0o170_000;

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum CpioError {
    #[error("add {path} to archive: it is there already as something else")]
    Conflict { path: String },
    #[error("add {path} to archive: not a plain relative path")]
    BadPath { path: String },
    #[error("add {path} to archive: over 4 GiB")]
    TooLarge { path: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    CharDevice { mode: u32, major: u32, minor: u32 },
}

/// An archive under construction; paths are relative, without a leading slash.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    nodes: BTreeMap<String, Node>,
}

impl Archive {
    pub(crate) fn directory(&mut self, path: &str, mode: u32) -> Result<(), CpioError> {
        self.insert(path, Node::Directory { mode })
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) -> Result<(), CpioError> {
        self.insert(path, Node::File { mode, content })
    }

    pub(crate) fn char_device(&mut self, path: &str, mode: u32, number: (u32, u32)) -> Result<(), CpioError> {
        self.insert(path, Node::CharDevice { mode, major: number.0, minor: number.1 })
    }

    /// The archive's bytes. Parents precede their children because the order is that of the names.
    pub(crate) fn finish(self) -> Result<Vec<u8>, CpioError> {
        let mut out = Vec::new();
        for (number, (path, node)) in (1..).zip(&self.nodes) {
            let (mode, device, content) = match node {
                Node::Directory { mode } => (S_IFDIR | mode, (0, 0), [].as_slice()),
                Node::File { mode, content } => (S_IFREG | mode, (0, 0), content.as_slice()),
                Node::CharDevice { mode, major, minor } => (S_IFCHR | mode, (*major, *minor), [].as_slice()),
            };
            Header { number, path, mode, device }.write(content, &mut out)?;
        }
        Header { number: 0, path: "TRAILER!!!", mode: 0, device: (0, 0) }.write(&[], &mut out)?;
        out.resize(out.len().next_multiple_of(512), 0);
        Ok(out)
    }

    /// Adds a node and, where they lack, the directories above it.
    fn insert(&mut self, path: &str, node: Node) -> Result<(), CpioError> {
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
            return Err(CpioError::BadPath { path: path.to_owned() });
        }
        for (at, _) in path.match_indices('/') {
            let parent = path.split_at(at).0;
            let above = self.nodes.entry(parent.to_owned()).or_insert(Node::Directory { mode: 0o755 });
            if !matches!(above, Node::Directory { .. }) {
                return Err(CpioError::Conflict { path: parent.to_owned() });
            }
        }
        match self.nodes.get(path) {
            Some(there) if *there != node => Err(CpioError::Conflict { path: path.to_owned() }),
            _ => {
                self.nodes.insert(path.to_owned(), node);
                Ok(())
            }
        }
    }
}

struct Header<'a> {
    number: u32,
    path: &'a str,
    mode: u32,
    device: (u32, u32),
}

impl Header<'_> {
    /// The header in hexadecimal, the name with its NUL, the content, each padded to four bytes.
    fn write(&self, content: &[u8], out: &mut Vec<u8>) -> Result<(), CpioError> {
        let too_large = || CpioError::TooLarge { path: self.path.to_owned() };
        let size = u32::try_from(content.len()).map_err(|_| too_large())?;
        let name_size = u32::try_from(self.path.len() + 1).map_err(|_| too_large())?;
        let links = if self.mode & S_IFMT == S_IFDIR { 2 } else { 1 };
        let (major, minor) = self.device;
        // inode, mode, uid, gid, links, mtime, size, file system's device (2), own device (2), name size, checksum
        let fields = [self.number, self.mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        out.extend_from_slice(b"070701");
        for field in fields {
            out.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        out.extend_from_slice(self.path.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(4), 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn sample(order: &[usize]) -> Vec<u8> {
        let mut archive = Archive::default();
        for step in order {
            match step {
                0 => archive.file("lib/modules/a.ko", 0o644, b"module".to_vec()),
                1 => archive.file("init", 0o755, b"#!/bin/sh\n".to_vec()),
                2 => archive.char_device("dev/console", 0o600, (5, 1)),
                _ => archive.directory("run", 0o755),
            }
            .unwrap();
        }
        archive.finish().unwrap()
    }

    #[test]
    fn order_of_insertion_does_not_matter() {
        assert_eq!(sample(&[0, 1, 2, 3]), sample(&[3, 2, 1, 0]));
    }

    #[test]
    fn cpio_reads_it_back() {
        let listing = Command::new("cpio")
            .args(["-itv", "--quiet", "--numeric-uid-gid"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .and_then(|mut child| {
                child.stdin.take().unwrap().write_all(&sample(&[0, 1, 2, 3]))?;
                child.wait_with_output()
            });
        let listing = listing.expect("cpio is among the tools that `make install-tools` installs");
        assert!(listing.status.success());
        let text = String::from_utf8(listing.stdout).unwrap();
        let shape: Vec<_> = text
            .lines()
            .map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                (words[0].to_owned(), line.split_once("1970 ").unwrap().1.to_owned())
            })
            .collect();
        let expected = [
            ("drwxr-xr-x", "dev"),
            ("crw-------", "dev/console"),
            ("-rwxr-xr-x", "init"),
            ("drwxr-xr-x", "lib"),
            ("drwxr-xr-x", "lib/modules"),
            ("-rw-r--r--", "lib/modules/a.ko"),
            ("drwxr-xr-x", "run"),
        ];
        assert_eq!(shape, expected.map(|(mode, name)| (mode.to_owned(), name.to_owned())));
    }

    #[test]
    fn bad_paths_and_conflicts_are_refused() {
        let mut archive = Archive::default();
        for path in ["/abs", "a/../b", "", "a//b", "./a", "a\0b"] {
            assert!(matches!(archive.directory(path, 0o755), Err(CpioError::BadPath { .. })), "{path:?}");
        }
        archive.file("a", 0o644, Vec::new()).unwrap();
        assert!(matches!(archive.file("a/b", 0o644, Vec::new()), Err(CpioError::Conflict { .. })));
        assert!(matches!(archive.directory("a", 0o755), Err(CpioError::Conflict { .. })));
        archive.file("a", 0o644, Vec::new()).unwrap();
    }
}
