//! The bounds within which an image is accepted. Everything an image says is checked against one of them,
//! but for how it wants to be run: those bounds are the API's, and nobody's to choose.

/// What an image may cost at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A manifest, index or configuration, in bytes.
    pub document_bytes: u64,
    /// Layers of one image.
    pub layers: usize,
    /// One blob as it is transferred, in bytes.
    pub blob_bytes: u64,
    /// All layers together once unpacked, and all files together as they declare themselves, in bytes.
    pub unpacked_bytes: u64,
    /// How many times larger than its compressed form a layer may be, once it is past `ratio_free_bytes`.
    pub ratio: u64,
    /// Unpacked bytes of a layer for which `ratio` is not looked at.
    pub ratio_free_bytes: u64,
    /// Entries of all layers together.
    pub entries: u64,
    /// Device nodes of all layers together.
    pub devices: u64,
    /// The path of an entry, in bytes.
    pub path_bytes: usize,
    /// Directories above an entry, symbolic links followed.
    pub depth: usize,
    /// The target of a symbolic link, in bytes.
    pub link_bytes: usize,
    /// All extended attributes of an entry, names and values, in bytes.
    pub xattr_bytes: usize,
    /// One extended header of the tar format, in bytes.
    pub header_bytes: u64,
    /// Data regions of a sparse file.
    pub sparse_regions: usize,
    /// Files in an archive that is imported.
    pub archive_members: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            document_bytes: 4 * MIB,
            layers: 256,
            blob_bytes: 64 << 30,
            unpacked_bytes: 64 << 30,
            ratio: 200,
            ratio_free_bytes: 1 << 30,
            entries: 1_000_000,
            devices: 4096,
            path_bytes: 4096,
            depth: 256,
            link_bytes: 4095,
            xattr_bytes: 64 << 10,
            header_bytes: MIB,
            sparse_regions: 65_536,
            archive_members: 10_000,
        }
    }
}
