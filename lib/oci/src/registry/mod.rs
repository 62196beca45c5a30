//! Images from a registry, by the OCI distribution protocol.
//!
//! Everything that arrives is bounded while it arrives and checked against its digest and size. Failures that may
//! pass are retried a bounded number of times; a blob goes on where it broke off. Credentials are sent only when the
//! registry asks for them, only over TLS (or to hosts that were declared plain), and appear in no message.

mod auth;
mod blob;
mod error;
mod http;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dataplane_types::Digest;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Mutex;

pub use auth::Credentials;
pub use error::RegistryError;

use crate::image::FetchedImage;
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Document, OCI_INDEX, OCI_MANIFEST};
use crate::spool::Scratch;
use crate::{ContentError, ImageConfig, Limits, Manifest, Platform, Reference, digest_of};

/// An index may hold an index, but not without end.
const MAX_NESTING: usize = 3;

/// Layers that are fetched at the same time.
const PARALLEL: usize = 3;

/// How registries are talked to.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// For something to arrive.
    pub silence: Duration,
    /// Attempts after the first, without any progress between them.
    pub retries: u32,
    /// The pause before the first retry; it doubles with each, up to `longest_pause`.
    pub first_pause: Duration,
    /// The longest pause, including one that the registry asks for.
    pub longest_pause: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            retries: 4,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(20),
        }
    }
}

/// Bytes transferred, of how many.
#[derive(Debug, Default)]
pub struct Transfer {
    pub(crate) done: AtomicU64,
    pub(crate) total: AtomicU64,
}

impl Transfer {
    /// So far, and in all (0 until it is known).
    #[must_use]
    pub fn now(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Starts counting towards a total.
    pub fn start(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }
}

/// A way to all registries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registries {
    clients: Arc<http::Clients>,
    options: Arc<RegistryOptions>,
    plain_http: Arc<[String]>,
}

impl Registries {
    /// Prepares; connects to nothing. `plain_http` names registries (host, or host and port) that are spoken to
    /// without TLS, as loopback addresses always are.
    #[must_use]
    pub fn new(options: RegistryOptions, plain_http: Vec<String>) -> Self {
        Self { clients: Arc::default(), options: Arc::new(options), plain_http: plain_http.into() }
    }

    /// Opens one repository with credentials that live as long as the answer.
    ///
    /// # Errors
    /// [`RegistryError::Setup`] when TLS cannot be set up on this host.
    pub fn open(&self, reference: &Reference, credentials: Option<Credentials>) -> Result<Repository, RegistryError> {
        let is_loopback = http::is_loopback(reference.registry_host());
        let is_plain = is_loopback
            || self.plain_http.iter().any(|host| host == reference.registry() || host == reference.registry_host());
        let host = if reference.registry() == "docker.io" { "registry-1.docker.io" } else { reference.registry() };
        Ok(Repository {
            client: self.clients.get(is_loopback, &self.options)?,
            base: format!("{}://{host}/v2/{}", if is_plain { "http" } else { "https" }, reference.repository()),
            is_plain,
            reference: reference.clone(),
            credentials,
            authorization: Mutex::new(None),
            options: self.options.clone(),
        })
    }
}

/// One repository of one registry.
#[derive(Debug)]
pub struct Repository {
    client: reqwest::Client,
    base: String,
    is_plain: bool,
    reference: Reference,
    credentials: Option<Credentials>,
    /// What the registry was last content with.
    authorization: Mutex<Option<reqwest::header::HeaderValue>>,
    options: Arc<RegistryOptions>,
}

/// What a reference stands for at this moment.
#[derive(Debug)]
pub struct Resolved {
    /// The digest of what the registry answered: of the index where there is one.
    pub top: Digest,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
}

impl Repository {
    /// The digest that the reference has now.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn top_digest(&self, limits: &Limits) -> Result<Digest, RegistryError> {
        if let Some(digest) = self.reference.digest() {
            return Ok(digest);
        }
        Ok(digest_of(&self.manifest_bytes(&self.reference.version(), None, limits).await?))
    }

    /// Finds the image for a platform behind the reference.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn resolve(&self, platform: &Platform, limits: &Limits) -> Result<Resolved, RegistryError> {
        let bytes = self.manifest_bytes(&self.reference.version(), None, limits).await?;
        let top = digest_of(&bytes);
        let (mut bytes, mut digest) = (bytes, top);
        for _ in 0..MAX_NESTING {
            match Document::parse(&format!("the manifest {digest}"), &bytes, limits)? {
                Document::Index(index) => {
                    let entry = index.choose(platform)?;
                    digest = entry.digest;
                    bytes = self.manifest_bytes(&digest.to_string(), Some(entry), limits).await?;
                }
                Document::Manifest(manifest) => {
                    let config = self.small_blob(&manifest.config, limits).await?;
                    let config = ImageConfig::parse(&config, &manifest, platform)?;
                    return Ok(Resolved { top, digest, manifest: *manifest, config });
                }
            }
        }
        Err(ContentError::limit(self.reference.to_string(), "the nesting of indexes", MAX_NESTING as u64).into())
    }

    async fn manifest_bytes(
        &self,
        version: &str,
        declared: Option<&Descriptor>,
        limits: &Limits,
    ) -> Result<Vec<u8>, RegistryError> {
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
        let url = format!("{}/manifests/{version}", self.base);
        let subject = format!("the manifest {version}");
        let (bytes, told) = self.get_document(&url, &accept, (&subject, limits.document_bytes)).await?;
        // The header is the registry's own word for what it sent; a reference by digest needs nobody's word.
        let expected = version.parse().ok().or(told);
        check(&subject, &bytes, expected, declared.map(|declared| declared.size))?;
        Ok(bytes)
    }

    async fn small_blob(&self, descriptor: &Descriptor, limits: &Limits) -> Result<Vec<u8>, RegistryError> {
        let url = format!("{}/blobs/{}", self.base, descriptor.digest);
        let subject = format!("the blob {}", descriptor.digest);
        // The declared size was checked against the limit when the manifest was read; no byte more is taken.
        let most = descriptor.size.min(limits.document_bytes);
        let (bytes, _) = self.get_document(&url, "*/*", (&subject, most)).await.map_err(|error| {
            let too_long = matches!(error, RegistryError::Content(ContentError::Limit { .. }));
            if too_long {
                ContentError::Size { subject: subject.clone(), expected: descriptor.size }.into()
            } else {
                error
            }
        })?;
        check(&subject, &bytes, Some(descriptor.digest), Some(descriptor.size))?;
        Ok(bytes)
    }

    /// Fetches the layers into the scratch directory. Dropping the future stops the transfer.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn fetch(
        &self,
        resolved: Resolved,
        scratch: &Scratch,
        transfer: &Transfer,
    ) -> Result<FetchedImage, RegistryError> {
        transfer.start(resolved.manifest.layer_bytes());
        let mut wanted: Vec<Descriptor> = resolved.manifest.layers.clone();
        wanted.sort_by_key(|layer| layer.digest);
        wanted.dedup_by_key(|layer| layer.digest);
        let blobs = futures_util::stream::iter(wanted)
            .map(|layer| async move {
                let blob = self.download(&layer, scratch, transfer).await?;
                Ok::<_, RegistryError>((layer.digest, blob))
            })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        let Resolved { top, digest, manifest, config } = resolved;
        Ok(FetchedImage { top, digest, manifest, config, blobs })
    }
}

fn check(subject: &str, bytes: &[u8], digest: Option<Digest>, size: Option<u64>) -> Result<(), ContentError> {
    if let Some(expected) = size.filter(|size| *size != bytes.len() as u64) {
        return Err(ContentError::Size { subject: subject.to_owned(), expected });
    }
    let found = digest_of(bytes);
    match digest.filter(|expected| *expected != found) {
        Some(expected) => Err(ContentError::Digest { subject: subject.to_owned(), expected, found }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
