//! A tree as a test thinks of it, how it is said to the writer, and what the kernel should then show.

use std::collections::BTreeMap;

use dataplane_erofs::{Attributes, Directory, Epoch, ErofsError, ImageWriter, Node, Options, Special, Summary};

use crate::support::image_file;

pub(crate) const EPOCH: Epoch = Epoch { seconds: 1_600_000_000, nanoseconds: 7 };
pub(crate) const UUID: [u8; 16] = *b"0123456789abcdef";

pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Xattrs,
}

impl Meta {
    /// What needs no more than the short inode.
    pub(crate) fn plain(mode: u16) -> Self {
        let mtime = (i64::try_from(EPOCH.seconds).expect("a time"), EPOCH.nanoseconds);
        Self { mode, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
    }

    pub(crate) fn attributes(&self) -> Attributes<'_> {
        Attributes { mode: self.mode, uid: self.uid, gid: self.gid, mtime: self.mtime, xattrs: &self.xattrs }
    }
}

/// A stretch of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// So many bytes that follow from the seed.
    Data(u64, u32),
    Hole(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File(Vec<Stretch>),
    Symlink(Vec<u8>),
    Special(Special),
    /// Another name of the entry with this index, which is no directory.
    Link(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The index of the directory that it is in; `None` is the root.
    pub(crate) parent: Option<usize>,
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
}

/// Entries, each after its directory and its target.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) root: Meta,
    pub(crate) entries: Vec<Entry>,
    /// Whether attributes of directories are said after everything else.
    pub(crate) directories_last: bool,
}

pub(crate) fn bytes(length: u64, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(usize::try_from(length).expect("a length") + 4);
    while (out.len() as u64) < length {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(usize::try_from(length).expect("a length"));
    out
}

/// The whole content of a file.
pub(crate) fn content(stretches: &[Stretch]) -> Vec<u8> {
    let part = |stretch: &Stretch| match stretch {
        Stretch::Data(length, seed) => bytes(*length, *seed),
        Stretch::Hole(length) => vec![0; usize::try_from(*length).expect("a length")],
    };
    stretches.iter().flat_map(part).collect()
}

#[derive(Clone, Copy)]
enum Made {
    Directory(Directory),
    Node(Node),
}

impl Tree {
    /// Writes the tree.
    pub(crate) fn write(&self) -> Result<(std::fs::File, Summary), ErofsError> {
        let scratch = std::env::temp_dir();
        let mut image = ImageWriter::new(image_file(), &Options { uuid: UUID, epoch: EPOCH, scratch: &scratch })?;
        let mut made: Vec<Made> = Vec::new();
        for entry in &self.entries {
            made.push(self.add(&mut image, &made, entry)?);
        }
        for (entry, made) in self.entries.iter().zip(&made) {
            if let (Made::Directory(directory), true) = (*made, self.directories_last) {
                image.set_directory(directory, &entry.meta.attributes())?;
            }
        }
        image.set_directory(image.root(), &self.root.attributes())?;
        image.finish()
    }

    fn add(&self, image: &mut ImageWriter, made: &[Made], entry: &Entry) -> Result<Made, ErofsError> {
        let parent = match entry.parent.map(|parent| made[parent]) {
            None => image.root(),
            Some(Made::Directory(directory)) => directory,
            Some(Made::Node(_)) => panic!("the parent is a directory"),
        };
        let (name, attributes) = (&entry.name[..], entry.meta.attributes());
        Ok(match &entry.kind {
            Kind::Directory if self.directories_last => {
                Made::Directory(image.directory(parent, name, &Meta::plain(0).attributes())?)
            }
            Kind::Directory => Made::Directory(image.directory(parent, name, &attributes)?),
            Kind::File(stretches) => {
                let length = |stretch: &Stretch| match stretch {
                    Stretch::Data(length, _) | Stretch::Hole(length) => *length,
                };
                let mut file = image.file(parent, name, &attributes, stretches.iter().map(length).sum())?;
                for stretch in stretches {
                    match stretch {
                        Stretch::Data(length, seed) => file.data(&bytes(*length, *seed))?,
                        Stretch::Hole(length) => file.hole(*length)?,
                    }
                }
                Made::Node(file.finish()?)
            }
            Kind::Symlink(target) => Made::Node(image.symlink(parent, name, target, &attributes)?),
            Kind::Special(special) => Made::Node(image.special(parent, name, *special, &attributes)?),
            Kind::Link(target) => {
                let Made::Node(node) = made[*target] else { panic!("the target is no directory") };
                image.hard_link(parent, name, node)?;
                Made::Node(node)
            }
        })
    }

    /// What the kernel should show, by path.
    pub(crate) fn expected(&self) -> BTreeMap<Vec<u8>, Seen> {
        let mut seen = BTreeMap::new();
        let mut paths: Vec<Vec<u8>> = Vec::new();
        let mut groups: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let mut path = entry.parent.map_or(Vec::new(), |parent| paths[parent].clone());
            path.push(b'/');
            path.extend_from_slice(&entry.name);
            paths.push(path.clone());
            groups.entry(self.origin(index)).or_default().push(path);
        }
        let mut children: BTreeMap<Option<usize>, u64> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.kind == Kind::Directory) {
            *children.entry(entry.parent).or_default() += 1;
        }
        let directory = |index| 2 + children.get(&index).copied().unwrap_or_default();
        for (index, names) in &mut groups {
            names.sort();
            let entry = &self.entries[*index];
            let is_directory = entry.kind == Kind::Directory;
            let links = if is_directory { directory(Some(*index)) } else { names.len() as u64 };
            for name in names.iter() {
                seen.insert(name.clone(), Seen::of(entry, links, names));
            }
        }
        let root = Entry { parent: None, name: Vec::new(), kind: Kind::Directory, meta: self.root.clone() };
        seen.insert(Vec::new(), Seen::of(&root, directory(None), &[]));
        seen
    }

    fn origin(&self, index: usize) -> usize {
        match self.entries[index].kind {
            Kind::Link(target) => self.origin(target),
            Kind::Directory | Kind::File(_) | Kind::Symlink(_) | Kind::Special(_) => index,
        }
    }
}

/// Everything that can be seen of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, i64),
    pub(crate) device: (u32, u32),
    pub(crate) links: u64,
    pub(crate) xattrs: Xattrs,
    /// A file's bytes or a link's target.
    pub(crate) content: Vec<u8>,
    /// All names of the same node.
    pub(crate) names: Vec<Vec<u8>>,
}

impl Seen {
    fn of(entry: &Entry, links: u64, names: &[Vec<u8>]) -> Self {
        let (kind, device, content) = match &entry.kind {
            Kind::Directory => (0o040_000, (0, 0), Vec::new()),
            Kind::File(stretches) => (0o100_000, (0, 0), content(stretches)),
            Kind::Symlink(target) => (0o120_000, (0, 0), target.clone()),
            Kind::Special(Special::Char(major, minor)) => (0o020_000, (*major, *minor), Vec::new()),
            Kind::Special(Special::Block(major, minor)) => (0o060_000, (*major, *minor), Vec::new()),
            Kind::Special(Special::Fifo) => (0o010_000, (0, 0), Vec::new()),
            Kind::Special(Special::Socket) => (0o140_000, (0, 0), Vec::new()),
            Kind::Link(_) => panic!("a link is not its own origin"),
        };
        let meta = &entry.meta;
        let mut xattrs = meta.xattrs.clone();
        xattrs.sort();
        Self {
            mode: kind | u32::from(meta.mode),
            owner: (meta.uid, meta.gid),
            mtime: (meta.mtime.0, meta.mtime.1.into()),
            device,
            links,
            xattrs,
            content,
            names: if entry.kind == Kind::Directory { Vec::new() } else { names.to_vec() },
        }
    }
}
