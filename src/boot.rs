//! Kernels and initramfs images in the data directory, each under its own SHA-256: what an instance is pinned to stays
//! what it is, however often `make build` runs.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use dataplane_store::{Store, StoreError};
use dataplane_types::Digest;
use sha2::{Digest as _, Sha256};

/// Why a boot file could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// It could not be read or copied.
    #[error("copy {path:?} into the data directory")]
    Copy {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Copies a file into the data directory under its digest, unless it is there: then nothing is written, so that a
/// daemon starts on a full disk. Blocks.
///
/// # Errors
/// [`BootError`]; nothing half copied is left under the digest.
pub(crate) fn take_in(store: &Store, path: &Path) -> Result<Digest, BootError> {
    let layout = store.layout();
    store.create_dir(&layout.boot(), 0o711)?;
    let failed = |source| BootError::Copy { path: path.to_owned(), source };
    let known = copy(path, &mut io::sink()).map_err(failed)?;
    if layout.boot_file(&known).is_file() {
        return Ok(known);
    }
    let temp = Store::temporary_in(&layout.boot());
    let target = File::options().write(true).create_new(true).mode(0o444).open(&temp);
    let copied = target.and_then(|mut target| copy(path, &mut target)).map_err(failed);
    let result = copied.and_then(|digest| match store.commit_new(&temp, &layout.boot_file(&digest), &[]) {
        Ok(()) => Ok(digest),
        Err(StoreError::Exists(_)) => Ok(digest),
        Err(error) => Err(error.into()),
    });
    // After a commit nothing has that name any more.
    store.discard_volatile(&temp)?;
    result
}

/// Copies a file and says what it was.
fn copy(from: &Path, to: &mut impl io::Write) -> io::Result<Digest> {
    let mut source = File::open(from)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = source.read(&mut chunk)?;
        if read == 0 {
            return Ok(Digest::from_bytes(hash.finalize().into()));
        }
        hash.update(&chunk[..read]);
        to.write_all(&chunk[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use dataplane_store::Layout;

    use super::*;

    #[test]
    fn the_same_file_is_kept_once_under_its_digest() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(Layout::new(directory.path().join("data"), directory.path().join("run")).unwrap());
        let file = directory.path().join("vmlinux");
        File::create(&file).unwrap().write_all(b"abc").unwrap();
        let digest = take_in(&store, &file).unwrap();
        // SHA-256 of "abc" (FIPS 180-2, appendix B.1).
        assert_eq!(digest.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(take_in(&store, &file).unwrap(), digest);
        assert_eq!(store.list(&store.layout().boot()).unwrap(), [store.layout().boot_file(&digest)]);
    }
}
