//! The merged tree of an image: names and metadata in memory, file contents where they lie in the unpacked layers.
//!
//! Invariant: a tree. Directories have one name, every other node one or more; a path is looked up only from the root
//! of this tree, symbolic links included, so nothing outside it can be named.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use dataplane_tar::Region;

/// How many symbolic links one lookup follows (`MAXSYMLINKS` of Linux).
const MAX_LINKS: usize = 40;

/// A node's place in the tree's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// The root directory.
    pub const ROOT: Self = Self(0);
}

/// Owner, permissions, time and attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since the epoch, nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes: full names and values.
    pub xattrs: Box<[(Vec<u8>, Vec<u8>)]>,
}

/// Where a file's bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The layer, counted from the lowest.
    pub(crate) layer: u16,
    pub(crate) size: u64,
    pub(crate) regions: Box<[Region]>,
}

impl Content {
    /// The file's size in bytes, holes included.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// What it names.
    pub node: NodeId,
    /// The layer that gave it.
    layer: u16,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A directory and its names, sorted.
    Directory(BTreeMap<Box<[u8]>, Link>),
    /// A regular file.
    File(Content),
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device: major, minor.
    Char(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// A node.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Owner, permissions, time and attributes.
    pub meta: Meta,
}

/// The tree.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Vec<Node>,
    max_depth: usize,
}

/// Why a path could not be walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WalkFault {
    /// A directory is missing, and none was to be made.
    Missing,
    /// A parent is something else than a directory.
    NotADirectory,
    /// Too many symbolic links, or a loop of them.
    TooManyLinks,
    /// Deeper than accepted.
    TooDeep,
}

/// Whether directories that a path lacks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parents {
    /// Made, and owned by root, as container runtimes do.
    Make {
        /// By which layer.
        layer: u16,
    },
    /// Missing is missing.
    Find,
}

impl Tree {
    pub(crate) fn new(max_depth: usize) -> Self {
        Self { nodes: vec![implied_directory()], max_depth }
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        // The limit on entries keeps the number of nodes far below 2^32.
        let id = NodeId(u32::try_from(self.nodes.len()).expect("the number of entries is limited"));
        self.nodes.push(node);
        id
    }

    fn names(&self, directory: NodeId) -> Option<&BTreeMap<Box<[u8]>, Link>> {
        match &self.node(directory).kind {
            Kind::Directory(names) => Some(names),
            Kind::File(_) | Kind::Symlink(_) | Kind::Char(..) | Kind::Block(..) | Kind::Fifo => None,
        }
    }

    pub(crate) fn names_mut(&mut self, directory: NodeId) -> Option<&mut BTreeMap<Box<[u8]>, Link>> {
        match &mut self.node_mut(directory).kind {
            Kind::Directory(names) => Some(names),
            Kind::File(_) | Kind::Symlink(_) | Kind::Char(..) | Kind::Block(..) | Kind::Fifo => None,
        }
    }

    /// What a name in a directory stands for, links not followed.
    #[must_use]
    pub fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.names(directory)?.get(name).map(|link| link.node)
    }

    /// Gives a directory a name, in place of what had it.
    pub(crate) fn link(&mut self, directory: NodeId, name: &[u8], node: NodeId, layer: u16) {
        if let Some(names) = self.names_mut(directory) {
            names.insert(name.into(), Link { node, layer });
        }
    }

    /// Walks to a directory from the root, following symbolic links, all of them within this tree: an absolute target
    /// starts at the root again, and `..` stops there. This is what container runtimes do for entries below a link.
    pub(crate) fn walk(&mut self, path: &[&[u8]], parents: Parents) -> Result<NodeId, WalkFault> {
        let mut todo: VecDeque<Vec<u8>> = path.iter().map(|part| part.to_vec()).collect();
        let mut trail = vec![NodeId::ROOT];
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            let here = *trail.last().unwrap_or(&NodeId::ROOT);
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    if trail.len() > 1 {
                        trail.pop();
                    }
                    continue;
                }
                _ => {}
            }
            if trail.len() > self.max_depth {
                return Err(WalkFault::TooDeep);
            }
            let Some(next) = self.child(here, &part) else {
                let Parents::Make { layer } = parents else { return Err(WalkFault::Missing) };
                let made = self.add(implied_directory());
                self.link(here, &part, made, layer);
                trail.push(made);
                continue;
            };
            match &self.node(next).kind {
                Kind::Directory(_) => trail.push(next),
                Kind::Symlink(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(WalkFault::TooManyLinks);
                    }
                    if target.starts_with(b"/") {
                        trail.truncate(1);
                    }
                    target.rsplit(|byte| *byte == b'/').for_each(|part| todo.push_front(part.to_vec()));
                }
                Kind::File(_) | Kind::Char(..) | Kind::Block(..) | Kind::Fifo => return Err(WalkFault::NotADirectory),
            }
        }
        Ok(*trail.last().unwrap_or(&NodeId::ROOT))
    }

    /// Takes away what layers below `layer` put under a directory's name.
    pub(crate) fn hide_name(&mut self, directory: NodeId, name: &[u8], layer: u16) {
        let Some(link) = self.names(directory).and_then(|names| names.get(name)).copied() else { return };
        let keeps = self.hide_below(link.node, layer);
        if link.layer < layer
            && !keeps
            && let Some(names) = self.names_mut(directory)
        {
            names.remove(name);
        }
    }

    /// Takes away everything in a directory that layers below `layer` put there; tells whether anything of `layer`
    /// is left. The depth limit bounds the recursion.
    pub(crate) fn hide_below(&mut self, directory: NodeId, layer: u16) -> bool {
        let Some(names) = self.names_mut(directory).map(std::mem::take) else { return false };
        let kept: BTreeMap<_, _> = names
            .into_iter()
            .filter(|(_, link)| {
                let keeps = self.hide_below(link.node, layer);
                keeps || link.layer >= layer
            })
            .collect();
        let keeps = !kept.is_empty();
        if let Some(names) = self.names_mut(directory) {
            *names = kept;
        }
        keeps
    }

    /// The names of a directory, sorted; none for anything else.
    pub fn entries(&self, directory: NodeId) -> impl Iterator<Item = (&[u8], NodeId)> {
        self.names(directory).into_iter().flatten().map(|(name, link)| (&name[..], link.node))
    }
}

/// A directory that no entry describes.
fn implied_directory() -> Node {
    Node { kind: Kind::Directory(BTreeMap::new()), meta: Meta { mode: 0o755, ..Meta::default() } }
}
