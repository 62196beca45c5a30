//! Small container images, made on the spot: one layer, one config, as a `docker save` archive.

use std::io;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// An image under construction.
pub struct ImageBuilder {
    name: String,
    layer: Builder<Vec<u8>>,
    config: serde_json::Map<String, serde_json::Value>,
}

impl ImageBuilder {
    /// An empty image of a name such as `demo:1`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), layer: Builder::new(Vec::new()), config: serde_json::Map::new() }
    }

    /// An image with a static busybox and a shell, as Debian's `busybox-static` installs it.
    ///
    /// # Errors
    /// When `/bin/busybox` cannot be read.
    pub fn busybox(name: &str) -> io::Result<Self> {
        let busybox = std::fs::read("/bin/busybox").map_err(|error| {
            io::Error::new(error.kind(), format!("read /bin/busybox (package busybox-static): {error}"))
        })?;
        let mut image = Self::new(name);
        for directory in ["bin", "etc", "tmp", "run", "proc", "sys", "dev", "var"] {
            image = image.directory(directory, 0o755)?;
        }
        image = image.file("bin/busybox", 0o755, &busybox)?;
        for applet in ["sh", "cat", "echo", "sleep", "id", "ping", "wget", "hostname", "ls", "stat", "seq", "kill"] {
            image = image.link(&format!("bin/{applet}"), "bin/busybox")?;
        }
        image.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?.file("etc/group", 0o644, b"root:x:0:\n")
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// When the tar cannot be written.
    pub fn directory(mut self, path: &str, mode: u32) -> io::Result<Self> {
        let mut header = header(EntryType::Directory, mode, 0);
        self.layer.append_data(&mut header, path, io::empty())?;
        Ok(self)
    }

    /// Adds a file owned by root.
    ///
    /// # Errors
    /// When the tar cannot be written.
    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<Self> {
        let mut header = header(EntryType::Regular, mode, content.len() as u64);
        self.layer.append_data(&mut header, path, content)?;
        Ok(self)
    }

    /// Adds a hard link.
    ///
    /// # Errors
    /// When the tar cannot be written.
    pub fn link(mut self, path: &str, target: &str) -> io::Result<Self> {
        let mut header = header(EntryType::Link, 0o755, 0);
        self.layer.append_link(&mut header, path, target)?;
        Ok(self)
    }

    /// Sets a field of the image's `config`, for example `Entrypoint` or `User`.
    #[must_use]
    pub fn config(mut self, field: &str, value: serde_json::Value) -> Self {
        self.config.insert(field.to_owned(), value);
        self
    }

    /// The archive.
    ///
    /// # Errors
    /// When the tar cannot be written.
    pub fn archive(self) -> io::Result<Vec<u8>> {
        let layer = self.layer.into_inner()?;
        let diff_id = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        });
        let config = serde_json::to_vec(&config)?;
        let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
        let manifest = json!([{ "Config": config_name, "RepoTags": [self.name], "Layers": ["layer.tar"] }]);
        let mut archive = Builder::new(Vec::new());
        for (name, content) in
            [(config_name.as_str(), config), ("layer.tar", layer), ("manifest.json", serde_json::to_vec(&manifest)?)]
        {
            let mut header = header(EntryType::Regular, 0o644, content.len() as u64);
            archive.append_data(&mut header, name, content.as_slice())?;
        }
        archive.into_inner()
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header
}
