//! Names of images, in the form that container tools use: `nginx`, `ghcr.io/a/b:1`, `127.0.0.1:5000/x@sha256:…`.
//!
//! Grammar: the distribution specification's (`name`, `tag`, `digest`), with the usual short forms: no registry means
//! `docker.io`, a single name there means `library/<name>`, no tag and no digest means `latest`.

use std::fmt;
use std::str::FromStr;

use dataplane_types::Digest;

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// The specification's bound on registry and repository together.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no image reference: {reason}")]
pub struct ReferenceError {
    /// The text, cut to 300 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A normalised image reference. Its `Display` is the full form and parses back to the same value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host and optional port of the registry.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The registry's host without port or brackets.
    #[must_use]
    pub fn registry_host(&self) -> &str {
        match self.registry.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest),
            None => self.registry.split(':').next().unwrap_or(&self.registry),
        }
    }

    /// The repository's path.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The last part of the repository's path: what people call the image.
    #[must_use]
    pub fn last_part(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or(&self.repository)
    }

    /// The tag, if the reference has one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned to one.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What to ask the registry for: the digest where there is one, else the tag.
    #[must_use]
    pub fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |reason| ReferenceError { text: text.chars().take(300).collect(), reason };
        if text.is_empty() || text.len() > MAX_NAME + MAX_TAG + 80 {
            return Err(wrong("it is empty or too long"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| wrong("the digest must be sha256: and 64 hex digits"))?))
            }
            None => (text, None),
        };
        let after_slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[after_slash..].find(':') {
            Some(at) => (&rest[..after_slash + at], Some(&rest[after_slash + at + 1..])),
            None => (rest, None),
        };
        if !tag.is_none_or(is_tag) {
            return Err(wrong(
                "a tag has 1 to 128 letters, digits, '_', '.', '-' and begins with none of the last two",
            ));
        }
        let (registry, repository) = split_registry(name);
        if !is_registry(registry) {
            return Err(wrong("the registry must be a host name or address with an optional port"));
        }
        if repository.is_empty() || !repository.split('/').all(is_path_part) {
            return Err(wrong("the name's parts are a-z and 0-9, joined by '.', '_', '__' or '-'"));
        }
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(wrong("registry and name have more than 255 characters"));
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io" | "registry-1.docker.io", rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest))
            if first.contains(['.', ':', '['])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, after)) if host.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", after),
            _ => return false,
        },
        None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
    };
    let port_is_right = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    port_is_right && host.split('.').all(label)
}

fn is_path_part(part: &str) -> bool {
    let is_alnum = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !is_alnum(*first) || !is_alnum(*last) {
        return false;
    }
    bytes
        .split(|byte| is_alnum(*byte))
        .all(|joint| matches!(joint, b"" | b"." | b"_" | b"__") || joint.iter().all(|byte| *byte == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_completed() {
        let hex = "a".repeat(64);
        for (short, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("me/app", "docker.io/me/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("ghcr.io/a/b-c__d.e", "ghcr.io/a/b-c__d.e:latest"),
            (&format!("a/b@sha256:{hex}"), &format!("docker.io/a/b@sha256:{hex}")),
            (&format!("a/b:1@sha256:{hex}"), &format!("docker.io/a/b:1@sha256:{hex}")),
        ] {
            let reference: Reference = short.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{short}");
            assert_eq!(full.parse(), Ok(reference), "the full form parses to the same");
        }
    }

    #[test]
    fn what_names_no_image_is_refused() {
        let long = "a".repeat(300);
        for bad in [
            "",
            "/",
            "a//b",
            "a/",
            "/a",
            "A",
            "a:",
            "a:-x",
            "a:.x",
            "a b",
            "a\0b",
            "../x",
            "a/../b",
            "a@sha256:1",
            "a@",
            "host.io:0/a",
            "host.io:99999/a",
            "host.io:/a",
            "ho_st.io/a",
            "-h.io/a",
            "[::1/a",
            "[x]/a",
            "a..b",
            "a___b",
            "_a",
            "a_",
            "http://x/y",
            "a?b",
            "a#b",
            "a%2e",
            "x.io/a:b:c",
            &long,
            &format!("a:{}", "t".repeat(129)),
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parts_are_told_apart() {
        let reference: Reference = "[::1]:5000/team/web:2".parse().unwrap();
        assert_eq!((reference.registry_host(), reference.last_part(), reference.tag()), ("::1", "web", Some("2")));
        assert_eq!("127.0.0.1:5000/x".parse::<Reference>().unwrap().registry_host(), "127.0.0.1");
    }
}
