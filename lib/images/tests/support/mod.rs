//! A data directory, layers, and other people's judgement of disks.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use dataplane_images::{FailureCode, ImageOptions, Images, ImagesError, RegistryOptions};
use dataplane_store::{Layout, Store};
use tar::{EntryType, Header};

/// A data directory of its own.
pub(crate) struct Place {
    root: PathBuf,
    _own: Option<tempfile::TempDir>,
}

#[allow(dead_code, reason = "each test binary uses its part")]
impl Place {
    pub(crate) fn new() -> Self {
        let own = tempfile::tempdir().expect("make a directory");
        Self { root: own.path().to_owned(), _own: Some(own) }
    }

    /// One that somebody else made and removes.
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root, _own: None }
    }

    pub(crate) fn options(&self) -> ImageOptions {
        let clock: chrono::DateTime<chrono::Utc> = "2026-01-01T00:00:00Z".parse().expect("a time");
        let first_pause = Duration::from_millis(1);
        let registry = RegistryOptions { retries: 2, first_pause, ..RegistryOptions::default() };
        ImageOptions { registry, ..ImageOptions::new(Arc::new(clock)) }
    }

    pub(crate) async fn open(&self) -> Images {
        self.open_with(self.options()).await
    }

    pub(crate) async fn open_with(&self, options: ImageOptions) -> Images {
        let layout = Layout::new(self.root.join("data"), self.root.join("run")).expect("a layout");
        Images::open(Store::new(layout), options).await.expect("open the images")
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join("data/images").join(below)
    }

    pub(crate) fn files(&self, below: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(below)).expect("list a directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// Waits for work of ours that nothing announces: the removal of scratch space after a caller went away.
    pub(crate) async fn until_empty(&self, below: &str) {
        let empty = async {
            while !self.files(below).is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), empty).await.expect("the directory is emptied");
    }

    pub(crate) fn write(&self, below: &str, bytes: &[u8]) {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
        File::create(path).and_then(|mut file| file.write_all(bytes)).expect("write a file");
    }

    pub(crate) fn read(&self, below: &str) -> String {
        std::fs::read_to_string(self.path(below)).expect("read a file")
    }

    pub(crate) fn mode(&self, below: &str) -> u32 {
        self.path(below).metadata().expect("a file").permissions().mode() & 0o7777
    }
}

/// What kind of failure of an image an error is.
#[allow(dead_code, reason = "each test binary uses its part")]
pub(crate) fn failure_of(error: &ImagesError) -> FailureCode {
    let ImagesError::Failed(failure) = error else { panic!("{error} is no failure of an image") };
    failure.code
}

/// A layer's tar under construction.
#[derive(Default)]
pub(crate) struct LayerTar(Vec<u8>);

#[allow(dead_code, reason = "each test binary uses its part")]
impl LayerTar {
    pub(crate) fn dir(self, path: &str) -> Self {
        self.entry(path, EntryType::Directory, (0, 0, 0o755), ("", b""))
    }

    pub(crate) fn file(self, path: &str, owner: u64, content: &[u8]) -> Self {
        self.entry(path, EntryType::Regular, (owner, owner, 0o644), ("", content))
    }

    pub(crate) fn entry(
        mut self,
        path: &str,
        kind: EntryType,
        (uid, gid, mode): (u64, u64, u32),
        (link, content): (&str, &[u8]),
    ) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mtime(1_600_000_000);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).expect("a GNU header");
            header.set_device_minor(3).expect("a GNU header");
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Extended records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length.to_string().len() + rest != length {
                length += 1;
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.entry("PaxHeader", EntryType::XHeader, (0, 0, 0o644), ("", &data))
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// Runs a program that must be installed and must succeed; answers what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let path = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn fsck(disk: &Path) {
    run("e2fsck", &["-fn", disk.to_str().expect("a UTF-8 path")]);
}

#[allow(dead_code, reason = "each test binary uses its part")]
pub(crate) fn debugfs(disk: &Path, request: &str) -> String {
    run("debugfs", &["-R", request, disk.to_str().expect("a UTF-8 path")])
}
