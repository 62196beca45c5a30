//! The documents of an image: descriptors, index, manifest, configuration; and the choice of a platform.
//!
//! Read leniently (unknown fields are ignored, `null` is absence), since registries hold many dialects; what matters
//! is checked: schema version, media types, digests, sizes, and that there are as many layers as `diff_ids`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use dataplane_types::Digest;
use serde::{Deserialize, Deserializer, Serialize};

use crate::run_config::RunConfig;
use crate::{ContentError, Limits};

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// The operating system and processor that an image is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, in Go's words.
    pub architecture: String,
    /// `v8` and the like.
    pub variant: Option<String>,
}

impl Default for Platform {
    fn default() -> Self {
        Self { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None }
    }
}

impl Platform {
    /// Whether an image that declares itself for `other` serves a request for this platform.
    fn accepts(&self, other: &DeclaredPlatform) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && self.variant.as_ref().is_none_or(|variant| other.variant.as_ref() == Some(variant))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// Why a text names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no platform: os/architecture or os/architecture/variant, for example linux/amd64")]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let word = |part: &&str| {
            !part.is_empty()
                && part.len() <= 32
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture, variant @ ..] if variant.len() < 2 && parts.iter().all(word) => Ok(Self {
                os: (*os).to_owned(),
                architecture: (*architecture).to_owned(),
                variant: variant.first().map(|variant| (*variant).to_owned()),
            }),
            _ => Err(PlatformError(text.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for Platform {
    type Error = PlatformError;
    fn try_from(text: String) -> Result<Self, PlatformError> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What an index says that an image is for; free text, unlike a [`Platform`] asked for.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct DeclaredPlatform {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) os: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: Option<String>,
}

/// A pointer to a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default, deserialize_with = "null_is_default")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    #[serde(default, skip_serializing)]
    pub(crate) platform: Option<DeclaredPlatform>,
    #[serde(default, skip_serializing, deserialize_with = "null_is_default")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A list of images, one for each platform.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) manifests: Vec<Descriptor>,
}

/// One image: its configuration and its layers, lowest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) media_type: String,
    /// The configuration blob.
    pub config: Descriptor,
    /// The layer blobs.
    pub layers: Vec<Descriptor>,
}

/// What a document of unknown kind turns out to be.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Index),
    Manifest(Box<Manifest>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    schema_version: Option<u32>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads a manifest or an index, telling them apart by what they hold.
    pub(crate) fn parse(subject: &str, bytes: &[u8], limits: &Limits) -> Result<Self, ContentError> {
        let corrupt = |error: serde_json::Error| ContentError::corrupt(subject, error);
        let probe: Probe = serde_json::from_slice(bytes).map_err(corrupt)?;
        if probe.schema_version.is_some_and(|version| version != 2) {
            return Err(ContentError::NotAnImage {
                subject: subject.to_owned(),
                reason: "only schema version 2 is supported".to_owned(),
            });
        }
        if probe.manifests.is_some() && probe.layers.is_none() {
            return serde_json::from_slice(bytes).map(Self::Index).map_err(corrupt);
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(corrupt)?;
        manifest.check(subject, limits)?;
        Ok(Self::Manifest(Box::new(manifest)))
    }
}

impl Manifest {
    fn check(&self, subject: &str, limits: &Limits) -> Result<(), ContentError> {
        if !["", OCI_CONFIG, DOCKER_CONFIG].contains(&self.config.media_type.as_str()) {
            return Err(ContentError::NotAnImage {
                subject: subject.to_owned(),
                reason: format!("its configuration is of type {:?}", self.config.media_type),
            });
        }
        if self.layers.len() > limits.layers {
            return Err(ContentError::limit(subject, "the number of layers", limits.layers as u64));
        }
        if self.config.size > limits.document_bytes {
            return Err(ContentError::limit(
                self.config.digest.to_string(),
                "a configuration's size",
                limits.document_bytes,
            ));
        }
        let mut total = 0u64;
        for layer in &self.layers {
            total = total.saturating_add(layer.size);
            if layer.media_type.ends_with("+encrypted")
                || layer.size > limits.blob_bytes
                || total > limits.unpacked_bytes
            {
                return Err(ContentError::limit(layer.digest.to_string(), "a layer's size", limits.blob_bytes));
            }
        }
        Ok(())
    }

    /// Bytes of all layers as they are transferred.
    #[must_use]
    pub fn layer_bytes(&self) -> u64 {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size))
    }
}

impl Index {
    /// The entry that serves a platform.
    pub(crate) fn choose(&self, wanted: &Platform) -> Result<&Descriptor, ContentError> {
        let declared = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|declared| wanted.accepts(declared));
        if let Some(entry) = self.manifests.iter().find(declared) {
            return Ok(entry);
        }
        // An index of one entry that says nothing leaves the answer to the image's own configuration.
        if let [entry] = self.manifests.as_slice()
            && entry.platform.is_none()
        {
            return Ok(entry);
        }
        let mut available: Vec<String> = self
            .manifests
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .map(|platform| format!("{}/{}", platform.os, platform.architecture))
            .filter(|platform| platform != "unknown/unknown")
            .take(32)
            .collect();
        available.sort();
        available.dedup();
        Err(ContentError::Platform { wanted: wanted.to_string(), available: available.join(", ") })
    }
}

/// How the image wants to be run, and which layers it has.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ImageConfig {
    #[serde(default, deserialize_with = "null_is_default")]
    os: String,
    #[serde(default, deserialize_with = "null_is_default")]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    created: Option<String>,
    /// The part about running.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: RunConfig,
    #[serde(default, deserialize_with = "null_is_default")]
    rootfs: RootFs,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "null_is_default")]
    diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads a configuration and checks its bounds, and that it fits the manifest and the platform asked for.
    pub(crate) fn parse(bytes: &[u8], manifest: &Manifest, wanted: &Platform) -> Result<Self, ContentError> {
        let subject = format!("the configuration {}", manifest.config.digest);
        let config: Self = serde_json::from_slice(bytes).map_err(|error| ContentError::corrupt(&subject, error))?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            let (ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
            return Err(ContentError::corrupt(&subject, format!("it names {ids} layers, the manifest {layers}")));
        }
        let is_for = DeclaredPlatform {
            os: config.os.clone(),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
        };
        // The variant was chosen by the index, where it is told more reliably than here.
        let wanted_base = Platform { variant: None, ..wanted.clone() };
        if !is_for.os.is_empty() && !wanted_base.accepts(&is_for) {
            let available = format!("{}/{}", is_for.os, is_for.architecture);
            return Err(ContentError::Platform { wanted: wanted.to_string(), available });
        }
        config.config.check(&subject)?;
        Ok(config)
    }

    /// The digests of the unpacked layers, lowest first.
    #[must_use]
    pub fn diff_ids(&self) -> &[Digest] {
        &self.rootfs.diff_ids
    }

    /// When the image was made, as it says itself (RFC 3339, unchecked).
    #[must_use]
    pub fn created(&self) -> Option<&str> {
        self.created.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn index(entries: &[(&str, &str, Option<&str>)]) -> Index {
        let manifests: Vec<_> = entries
            .iter()
            .enumerate()
            .map(|(size, (os, architecture, variant))| {
                serde_json::json!({"digest": HEX, "size": size,
                    "platform": {"os": os, "architecture": architecture, "variant": variant}})
            })
            .collect();
        serde_json::from_value(serde_json::json!({ "manifests": manifests })).unwrap()
    }

    #[test]
    fn the_platform_chooses_among_the_index() {
        let index = index(&[
            ("unknown", "unknown", None),
            ("linux", "arm64", Some("v8")),
            ("linux", "amd64", None),
            ("linux", "arm", Some("v7")),
        ]);
        for (wanted, found) in [("linux/amd64", 2), ("linux/arm64", 1), ("linux/arm64/v8", 1), ("linux/arm/v7", 3)] {
            assert_eq!(index.choose(&wanted.parse().unwrap()).unwrap().size, found, "{wanted}");
        }
        let error = index.choose(&"linux/s390x".parse().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no image for linux/s390x; there is linux/amd64, linux/arm, linux/arm64"
        );
        assert!(index.choose(&"linux/arm/v6".parse().unwrap()).is_err());
    }

    #[test]
    fn documents_are_bounded_and_typed() {
        let limits = Limits { layers: 2, ..Limits::default() };
        let layer = &format!(r#"{{"digest":"{HEX}","size":1}}"#)[..];
        let manifest = |layers: &[&str], config_type: &str| {
            format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"{config_type}","digest":"{HEX}","size":1}},"layers":[{}]}}"#,
                layers.join(",")
            )
        };
        let parse = |text: &str| Document::parse("it", text.as_bytes(), &limits);
        assert!(matches!(parse(&manifest(&[layer], OCI_CONFIG)), Ok(Document::Manifest(_))));
        assert!(matches!(parse(r#"{"schemaVersion":2,"manifests":[]}"#), Ok(Document::Index(_))));
        assert!(matches!(parse(&manifest(&[layer; 3], OCI_CONFIG)), Err(ContentError::Limit { .. })));
        assert!(matches!(parse(&manifest(&[], "application/vnd.cncf.helm")), Err(ContentError::NotAnImage { .. })));
        assert!(matches!(parse(r#"{"schemaVersion":1}"#), Err(ContentError::NotAnImage { .. })));
        for bad in ["", "[]", "{}", "nul", r#"{"schemaVersion":2,"config":{},"layers":[]}"#] {
            assert!(matches!(parse(bad), Err(ContentError::Corrupt { .. })), "{bad}");
        }
    }

    #[test]
    fn a_configuration_is_read_leniently_and_checked() {
        let manifest = Manifest {
            schema_version: 2,
            media_type: String::new(),
            config: serde_json::from_str(&format!(r#"{{"digest":"{HEX}","size":1}}"#)).unwrap(),
            layers: Vec::new(),
        };
        let text = r#"{"config":{"Cmd":null,"Env":null,"ExposedPorts":{"80/tcp":{}},"Labels":null,"User":"1:2"}}"#;
        let config = ImageConfig::parse(text.as_bytes(), &manifest, &Platform::default()).unwrap();
        assert_eq!((config.config.user.as_str(), config.config.exposed_ports), ("1:2", vec!["80/tcp".to_owned()]));
        let text = r#"{"config":{"WorkingDir":"srv"}}"#;
        let error = ImageConfig::parse(text.as_bytes(), &manifest, &Platform::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("the configuration {HEX} is corrupt: WorkingDir is not absolute"));
        let text = r#"{"os":"linux","architecture":"arm64"}"#;
        let error = ImageConfig::parse(text.as_bytes(), &manifest, &Platform::default()).unwrap_err();
        assert!(matches!(error, ContentError::Platform { .. }));
        let text = format!(r#"{{"rootfs":{{"diff_ids":["{HEX}"]}}}}"#);
        let error = ImageConfig::parse(text.as_bytes(), &manifest, &Platform::default()).unwrap_err();
        assert!(matches!(error, ContentError::Corrupt { .. }));
    }

    #[test]
    fn platforms_parse() {
        assert_eq!("linux/arm64/v8".parse::<Platform>().unwrap().to_string(), "linux/arm64/v8");
        for bad in ["", "linux", "linux/", "/amd64", "linux/amd64/a/b", "Linux/amd64", "linux/am d"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
