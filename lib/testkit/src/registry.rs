//! A container registry on loopback, for tests that pull: Debian's `docker-registry`, on a port of its own, with its
//! files in a directory of its own; and OCI layouts to push into it with `skopeo`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// How long the registry may take to say that it listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who may pull, where a registry is not open to all.
#[derive(Debug, Clone, Copy)]
pub struct Login {
    /// The user's name.
    pub username: &'static str,
    /// The user's password.
    pub password: &'static str,
    /// The same as bcrypt makes it, with the prefix `$2y$`: the only form that the registry takes.
    pub bcrypt: &'static str,
}

/// A registry that runs until this is dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    port: u16,
    login: Option<Login>,
    directory: tempfile::TempDir,
}

impl Registry {
    /// Starts a registry, open to all or to one login, and waits until it listens.
    ///
    /// # Errors
    /// When `docker-registry` is not installed, or does not come up.
    pub fn start(login: Option<Login>) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("config.yml");
        let mut settings = json!({
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": directory.path().join("data")}, "delete": {"enabled": true}},
            // The kernel chooses the port, and the registry says which in its log.
            "http": {"addr": "127.0.0.1:0"},
        });
        if let Some(login) = login {
            let file = directory.path().join("htpasswd");
            write(&file, format!("{}:{}\n", login.username, login.bcrypt).as_bytes())?;
            settings["auth"] = json!({"htpasswd": {"realm": "test", "path": file}});
        }
        write(&config, &serde_json::to_vec(&settings)?)?;
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start docker-registry (Debian package docker-registry)")?;
        let port = listening_port(&mut child);
        let mut registry = Self { child, port: 0, login, directory };
        registry.port = port?;
        Ok(registry)
    }

    /// `127.0.0.1:<port>`: the beginning of every reference into it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it keeps its files: `docker/registry/v2` and what is below.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Copies an image of a layout into a repository, for example `demo:1`, by `skopeo`; answers the full reference.
    ///
    /// # Errors
    /// When `skopeo` is not installed or fails.
    pub fn push(&self, layout: &Layout, repository: &str) -> anyhow::Result<String> {
        let reference = format!("{}/{repository}", self.host());
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--all", "--quiet", "--dest-tls-verify=false"]);
        if let Some(Login { username, password, .. }) = self.login {
            command.arg(format!("--dest-creds={username}:{password}"));
        }
        command.arg(format!("oci:{}:image", layout.directory().display())).arg(format!("docker://{reference}"));
        run(command.env("HOME", self.directory.path())).context("skopeo copy (Debian package skopeo)")?;
        Ok(reference)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log until the registry says where it listens, and goes on reading, so that its pipe never fills.
fn listening_port(child: &mut Child) -> anyhow::Result<u16> {
    let log = child.stderr.take().context("the registry's log")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            // Nobody listens any more once the port is known.
            let _ = sender.send(line);
        }
    });
    let mut seen = String::new();
    while let Ok(line) = receiver.recv_timeout(PATIENCE) {
        let port = line.split_once("listening on 127.0.0.1:").map(|(_, rest)| rest);
        let digits = port.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        if let Some(port) = digits.and_then(|digits| digits.parse().ok()) {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connect to the registry")?;
            return Ok(port);
        }
        seen = format!("{seen}{line}\n");
    }
    bail!("the registry did not come up; it said:\n{seen}")
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?}: {}\n{error}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    File::create(path)?.write_all(bytes)
}

/// An OCI layout in a directory of its own, holding one image with the name `image`.
#[derive(Debug)]
pub struct Layout {
    directory: tempfile::TempDir,
}

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    Plain,
    /// gzip.
    Gzip,
    /// zstd, by the `zstd` program.
    Zstd,
}

impl Layout {
    /// A layout of plain tars, lowest first, and the `config` part of the image's configuration.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(layers: &[(Vec<u8>, Compression)], config: &Value) -> anyhow::Result<Self> {
        let layout = Self { directory: tempfile::tempdir()? };
        let diff_ids: Vec<String> = layers.iter().map(|(tar, _)| digest(tar)).collect();
        let config = json!({"created": "2026-01-01T00:00:00Z", "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = layout.blob("application/vnd.oci.image.config.v1+json", &serde_json::to_vec(&config)?)?;
        let mut descriptors = Vec::new();
        for (tar, compression) in layers {
            let (suffix, bytes) = match compression {
                Compression::Plain => ("", tar.clone()),
                Compression::Gzip => ("+gzip", gzip(tar)?),
                Compression::Zstd => ("+zstd", zstd(tar)?),
            };
            descriptors.push(layout.blob(&format!("application/vnd.oci.image.layer.v1.tar{suffix}"), &bytes)?);
        }
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": descriptors});
        let mut manifest = layout.blob(manifest_type, &serde_json::to_vec(&manifest)?)?;
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "image"});
        manifest["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        write(&layout.path("index.json"), &serde_json::to_vec(&index)?)?;
        write(&layout.path("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(layout)
    }

    /// Where it lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The layout as one tar, as it is imported.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn archive(&self) -> anyhow::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_dir_all(".", self.directory())?;
        Ok(archive.into_inner()?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> anyhow::Result<Value> {
        let digest = digest(bytes);
        std::fs::create_dir_all(self.path("blobs/sha256"))?;
        write(&self.path("blobs").join(digest.replacen(':', "/", 1)), bytes)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn zstd(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let file = tempfile::NamedTempFile::new()?;
    write(file.path(), bytes)?;
    let output = Command::new("zstd").args(["-q", "-c"]).arg(file.path()).output();
    let output = output.context("compress with zstd (Debian package zstd)")?;
    ensure!(output.status.success(), "zstd: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
