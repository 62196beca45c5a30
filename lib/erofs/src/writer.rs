//! The image as a caller builds it: nodes in any order below directories that are there, contents as they come.
//!
//! A node that is no directory gets its final place, and with it its number, at once. Directories get theirs when all
//! names are known; until then there are only records of names, and one description of each directory, in spools.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{ErofsError, Fault, Limit};
use crate::file::FileWriter;
use crate::format::{self, BLOCK, FileType, Inode, Layout, Owner, SLOT};
use crate::names::{self, Description};
use crate::output::Output;
use crate::sorter::Sorter;
use crate::spool::Spool;
use crate::table::{Row, Table};
use crate::xattr::Xattrs;
use crate::{Attributes, Epoch, Options, Special, Summary};

/// Memory for names before they are sorted.
const NAME_BYTES: usize = 8 << 20;
/// The same for further names of one node.
const LINK_BYTES: usize = 1 << 20;

/// A directory of an image that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Directory {
    image: u32,
    pub(crate) index: u32,
}

/// A node that is no directory, in an image that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    image: u32,
    compact: bool,
    kind: u8,
    number: u64,
}

/// Writes one image. The crate's documentation has an example.
#[derive(Debug)]
pub struct ImageWriter {
    image: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) epoch: Epoch,
    pub(crate) output: Output,
    pub(crate) xattrs: Xattrs,
    /// What a directory is called, and its attributes.
    pub(crate) descriptions: Spool,
    pub(crate) table: Table,
    pub(crate) directories: u32,
    pub(crate) names: Sorter,
    pub(crate) links: Sorter,
    pub(crate) inodes: u64,
    pub(crate) chunked: bool,
    pub(crate) data_bytes: u64,
    /// What a file's content is gathered in.
    pub(crate) buffer: Vec<u8>,
}

impl ImageWriter {
    /// Starts an image in an empty file.
    ///
    /// # Errors
    /// [`ErofsError::NotEmpty`], [`ErofsError::Metadata`] for an epoch that is no time, [`ErofsError::Io`].
    pub fn new(file: File, options: &Options<'_>) -> Result<Self, ErofsError> {
        static IMAGES: AtomicU32 = AtomicU32::new(0);
        let spool = || ErofsError::io("create a temporary file");
        names::check_nanoseconds(options.epoch.nanoseconds).map_err(|fault| fault.at(|| "/".to_owned()))?;
        let mut writer = Self {
            image: IMAGES.fetch_add(1, Ordering::Relaxed),
            uuid: options.uuid,
            epoch: options.epoch,
            output: Output::new(file)?,
            xattrs: Xattrs::default(),
            descriptions: Spool::new(options.scratch).map_err(spool())?,
            table: Table::new(options.scratch).map_err(spool())?,
            directories: 0,
            names: Sorter::new(options.scratch, NAME_BYTES),
            links: Sorter::new(options.scratch, LINK_BYTES),
            inodes: 0,
            chunked: false,
            data_bytes: 0,
            buffer: Vec::new(),
        };
        let mtime = (i64::try_from(options.epoch.seconds).unwrap_or(i64::MAX), options.epoch.nanoseconds);
        let root = Attributes { mode: 0o755, uid: 0, gid: 0, mtime, xattrs: &[] };
        writer.add_directory(0, b"", &root).map_err(|fault| fault.at(|| "/".to_owned()))?;
        Ok(writer)
    }

    /// The root directory: until something else is said it belongs to root, has mode 755 and the epoch's time.
    #[must_use]
    pub fn root(&self) -> Directory {
        Directory { image: self.image, index: 0 }
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// What is wrong with the name, the attributes or the parent; [`ErofsError::Io`].
    pub fn directory(
        &mut self,
        parent: Directory,
        name: &[u8],
        attributes: &Attributes<'_>,
    ) -> Result<Directory, ErofsError> {
        self.check(parent, name, attributes)?;
        let added = self.add_directory(parent.index, name, attributes);
        let index = added.map_err(|fault| fault.at(|| self.path(parent.index, name)))?;
        Ok(Directory { image: self.image, index })
    }

    /// Says anew what a directory's attributes are: what is said last counts.
    ///
    /// # Errors
    /// What is wrong with the attributes; [`ErofsError::Io`].
    pub fn set_directory(&mut self, directory: Directory, attributes: &Attributes<'_>) -> Result<(), ErofsError> {
        if directory.image != self.image {
            return Err(ErofsError::Unknown { entry: "?".to_owned(), what: "the directory" });
        }
        let index = directory.index;
        let set = self.describe_again(index, attributes);
        set.map_err(|fault| fault.at(|| self.path_of(index)))
    }

    /// Begins a file of so many bytes, holes included. It is there once its content is complete.
    ///
    /// # Errors
    /// What is wrong with the name, the attributes or the parent, [`Limit::FileBytes`]; [`ErofsError::Io`].
    pub fn file<'a>(
        &'a mut self,
        parent: Directory,
        name: &'a [u8],
        attributes: &Attributes<'_>,
        bytes: u64,
    ) -> Result<FileWriter<'a>, ErofsError> {
        self.check(parent, name, attributes)?;
        let begun = self.begin_file(attributes, bytes);
        let xattrs = begun.map_err(|fault| fault.at(|| self.path(parent.index, name)))?;
        Ok(FileWriter::new(self, (parent.index, name), (attributes.into(), xattrs), bytes))
    }

    fn begin_file(&mut self, attributes: &Attributes<'_>, bytes: u64) -> Result<Vec<u8>, Fault> {
        Fault::within(Limit::FileBytes, bytes)?;
        self.xattrs.encode(attributes.xattrs, Limit::XattrBytes, &mut self.output)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// What is wrong with the name, the attributes, the parent or the target; [`ErofsError::Io`].
    pub fn symlink(
        &mut self,
        parent: Directory,
        name: &[u8],
        target: &[u8],
        attributes: &Attributes<'_>,
    ) -> Result<Node, ErofsError> {
        self.check(parent, name, attributes)?;
        let added = self.add_symlink(target, attributes);
        let node = added.map_err(|fault| fault.at(|| self.path(parent.index, name)))?;
        self.name(parent.index, name, node)
    }

    fn add_symlink(&mut self, target: &[u8], attributes: &Attributes<'_>) -> Result<Node, Fault> {
        if target.is_empty() || target.contains(&0) {
            return Err(Fault::Target);
        }
        Fault::within(Limit::TargetBytes, target.len() as u64)?;
        let xattrs = self.xattrs.encode(attributes.xattrs, Limit::XattrBytes, &mut self.output)?;
        let fits = fits_inline(xattrs.len(), target.len());
        let mut place = 0;
        if !fits {
            place = self.output.reserve(1)?;
            self.output.write(target, place * BLOCK as u64)?;
        }
        let layout = if fits { Layout::Inline } else { Layout::Plain };
        let inode = self.inode(FileType::Symlink, attributes.into(), layout, target.len() as u64);
        let inode = Inode { place: narrow(place)?, ..inode };
        self.place(inode, &xattrs, if fits { target } else { b"" })
    }

    /// Adds a device, fifo or socket.
    ///
    /// # Errors
    /// What is wrong with the name, the attributes, the parent or the device number; [`ErofsError::Io`].
    pub fn special(
        &mut self,
        parent: Directory,
        name: &[u8],
        special: Special,
        attributes: &Attributes<'_>,
    ) -> Result<Node, ErofsError> {
        self.check(parent, name, attributes)?;
        let added = self.add_special(special, attributes);
        let node = added.map_err(|fault| fault.at(|| self.path(parent.index, name)))?;
        self.name(parent.index, name, node)
    }

    fn add_special(&mut self, special: Special, attributes: &Attributes<'_>) -> Result<Node, Fault> {
        let (kind, major, minor) = match special {
            Special::Char(major, minor) => (FileType::Char, major, minor),
            Special::Block(major, minor) => (FileType::Block, major, minor),
            Special::Fifo => (FileType::Fifo, 0, 0),
            Special::Socket => (FileType::Socket, 0, 0),
        };
        Fault::within(Limit::DeviceMajor, major.into())?;
        Fault::within(Limit::DeviceMinor, minor.into())?;
        let xattrs = self.xattrs.encode(attributes.xattrs, Limit::XattrBytes, &mut self.output)?;
        let inode = self.inode(kind, attributes.into(), Layout::Plain, 0);
        self.place(Inode { place: format::device(major, minor), ..inode }, &xattrs, b"")
    }

    /// Adds another name of a node.
    ///
    /// # Errors
    /// What is wrong with the name or the parent, [`ErofsError::Unknown`] for another image's node;
    /// [`ErofsError::Io`]. That a node has too many names is found at the end.
    pub fn hard_link(&mut self, parent: Directory, name: &[u8], node: Node) -> Result<(), ErofsError> {
        self.check_name(parent, name)?;
        if node.image != self.image {
            let entry = self.path(parent.index, name);
            return Err(ErofsError::Unknown { entry, what: "the target of its hard link" });
        }
        let link = [&node.number.to_be_bytes()[..], &[u8::from(node.compact)]];
        self.links.push(&link).map_err(ErofsError::io("spool a link"))?;
        self.name(parent.index, name, node).map(|_| ())
    }

    /// Writes what is missing: all directories, the counts of links and the superblock. The file is flushed to the
    /// system, not to the disk; that, and its name, are the caller's business.
    ///
    /// # Errors
    /// [`ErofsError::Duplicate`], [`Limit::Links`], [`Limit::ImageBytes`], [`Limit::RootXattrBytes`];
    /// [`ErofsError::Io`]; [`ErofsError::Broken`] after an earlier one.
    pub fn finish(self) -> Result<(File, Summary), ErofsError> {
        crate::directories::finish(self)
    }

    pub(crate) fn inode(&mut self, kind: FileType, owner: Owner, layout: Layout, size: u64) -> Inode {
        self.inodes += 1;
        let ordinal = u32::try_from(self.inodes & u64::from(u32::MAX)).unwrap_or(0);
        Inode { kind, owner, layout, size, links: 1, place: 0, ordinal, xattr_bytes: 0 }
    }

    /// Places an inode with its attributes and what else lies behind it.
    pub(crate) fn place(&mut self, inode: Inode, xattrs: &[u8], behind: &[u8]) -> Result<Node, Fault> {
        let inode = Inode { xattr_bytes: xattrs.len(), ..inode };
        let mut bytes = Vec::with_capacity(format::EXTENDED + xattrs.len() + behind.len());
        inode.encode(self.epoch, &mut bytes);
        bytes.extend_from_slice(xattrs);
        bytes.extend_from_slice(behind);
        let at = self.output.place(&bytes, SLOT)?;
        let compact = inode.is_compact(self.epoch);
        Ok(Node { image: self.image, compact, kind: inode.kind.number(), number: at / SLOT as u64 })
    }

    /// Records a name.
    pub(crate) fn name(&mut self, parent: u32, name: &[u8], node: Node) -> Result<Node, ErofsError> {
        let recorded = names::record(&mut self.names, (parent, name), node.kind, node.number);
        self.recorded(recorded)?;
        Ok(node)
    }

    /// A spool that has lost something makes the whole image worthless.
    fn recorded<T>(&mut self, result: io::Result<T>) -> Result<T, ErofsError> {
        if result.is_err() {
            self.output.give_up();
        }
        result.map_err(ErofsError::io("spool what is known of the tree"))
    }

    fn add_directory(&mut self, parent: u32, name: &[u8], attributes: &Attributes<'_>) -> Result<u32, Fault> {
        let index = self.directories;
        Fault::within(Limit::Directories, u64::from(index) + 1)?;
        let limit = if index == 0 { Limit::RootXattrBytes } else { Limit::XattrBytes };
        let xattrs = self.xattrs.encode(attributes.xattrs, limit, &mut self.output)?;
        self.directories += 1;
        let label = self.descriptions.end();
        let spooled = names::append_label(&mut self.descriptions, parent, name)
            .and_then(|()| self.describe(index, Description { label, owner: attributes.into(), xattrs }))
            .and_then(|()| names::record_directory(&mut self.names, (parent, name), index));
        self.recorded(spooled)?;
        Ok(index)
    }

    fn describe(&mut self, index: u32, description: Description) -> io::Result<()> {
        let row = Row { description: self.descriptions.end(), ..Row::default() };
        description.append(&mut self.descriptions)?;
        self.table.set(index, row)
    }

    fn describe_again(&mut self, index: u32, attributes: &Attributes<'_>) -> Result<(), Fault> {
        names::check_attributes(attributes)?;
        let limit = if index == 0 { Limit::RootXattrBytes } else { Limit::XattrBytes };
        let xattrs = self.xattrs.encode(attributes.xattrs, limit, &mut self.output)?;
        let row = self.table.get(index);
        let row = self.recorded(row)?;
        let label = names::label_of(&self.descriptions, row.description);
        let label = self.recorded(label)?;
        let described = self.describe(index, Description { label, owner: attributes.into(), xattrs });
        Ok(self.recorded(described)?)
    }

    fn check(&mut self, parent: Directory, name: &[u8], attributes: &Attributes<'_>) -> Result<(), ErofsError> {
        self.check_name(parent, name)?;
        names::check_attributes(attributes).map_err(|fault| fault.at(|| self.path(parent.index, name)))
    }

    fn check_name(&mut self, parent: Directory, name: &[u8]) -> Result<(), ErofsError> {
        if parent.image != self.image {
            let entry = name.escape_ascii().to_string();
            return Err(ErofsError::Unknown { entry, what: "its directory" });
        }
        names::check_name(name).map_err(|fault| fault.at(|| self.path(parent.index, name)))
    }

    /// An entry's path, for messages.
    pub(crate) fn path(&mut self, parent: u32, name: &[u8]) -> String {
        names::path(&mut self.table, &self.descriptions, parent, name)
    }

    pub(crate) fn path_of(&mut self, index: u32) -> String {
        names::path(&mut self.table, &self.descriptions, index, b"")
    }
}

/// Whether so many bytes of data can lie behind an inode: within its own block, whichever form it has.
pub(crate) fn fits_inline(xattr_bytes: usize, bytes: usize) -> bool {
    bytes > 0 && format::EXTENDED + xattr_bytes + bytes <= BLOCK
}

/// A block's number as inodes have it; what is reserved always fits.
pub(crate) fn narrow(block: u64) -> Result<u32, Fault> {
    u32::try_from(block).map_err(|_| Fault::Limit(Limit::ImageBytes, block.saturating_mul(BLOCK as u64)))
}
