//! Entity tags and `If-Match` (RFC 9110).

use std::fmt;
use std::str::FromStr;

use crate::{Problem, ProblemCode};

/// The version of a resource, with its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ETag(String);

impl ETag {
    /// `"<uuid>-<generation>"`: a re-created thing never has an old one's.
    #[must_use]
    pub fn new(uuid: uuid::Uuid, generation: u64) -> Self {
        Self(format!("\"{uuid}-{generation}\""))
    }

    /// A tag of a resource without uuid and generation: a hash (FNV-1a, 128 bits) of all that makes up its version.
    #[must_use]
    pub fn of_parts(parts: &[&str]) -> Self {
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        for part in parts {
            for byte in part.bytes().chain([0]) {
                hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
            }
        }
        Self(format!("\"{hash:032x}\""))
    }

    /// The text of the header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Refuses when the caller's `If-Match` names other versions than this one.
    ///
    /// # Errors
    /// `precondition_failed`.
    pub fn require(&self, if_match: Option<&IfMatch>) -> Result<(), Problem> {
        match if_match {
            Some(IfMatch::Tags(tags)) if !tags.contains(&self.0) => {
                Err(Problem::new(ProblemCode::PreconditionFailed, format!("the resource is now {}", self.0)))
            }
            Some(IfMatch::Tags(_) | IfMatch::Any) | None => Ok(()),
        }
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The versions on which the caller insists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: any, as long as it exists.
    Any,
    /// These. A weak tag is kept out, since `If-Match` compares strongly: it matches nothing.
    Tags(Vec<String>),
}

impl FromStr for IfMatch {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "must be * or a list of entity tags in double quotes";
        let mut rest = text.trim();
        if rest == "*" {
            return Ok(Self::Any);
        }
        let mut tags = Vec::new();
        loop {
            let weak = rest.starts_with("W/");
            let quoted = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"').ok_or(WRONG)?;
            let (tag, behind) = quoted.split_once('"').ok_or(WRONG)?;
            if !weak {
                tags.push(format!("\"{tag}\""));
            }
            rest = behind.trim_start();
            if rest.is_empty() {
                return Ok(Self::Tags(tags));
            }
            rest = rest.strip_prefix(',').ok_or(WRONG)?.trim_start();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_compares_strongly() {
        let uuid = uuid::Uuid::from_u128(7);
        let tag = ETag::new(uuid, 3);
        let same = format!("\"{uuid}-3\"");
        for (header, passes) in [
            ("*", true),
            (same.as_str(), true),
            (&format!("\"x\", {same}"), true),
            (&format!("W/{same}"), false),
            (&format!("\"{uuid}-2\""), false),
        ] {
            let parsed: IfMatch = header.parse().unwrap();
            assert_eq!(tag.require(Some(&parsed)).is_ok(), passes, "{header}");
        }
        assert!(tag.require(None).is_ok());
    }

    #[test]
    fn a_malformed_if_match_is_refused() {
        for bad in ["", "x", "\"x", "\"x\" \"y\"", "\"x\",", "*,\"x\""] {
            assert!(bad.parse::<IfMatch>().is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_are_kept_apart() {
        assert_ne!(ETag::of_parts(&["ab", "c"]), ETag::of_parts(&["a", "bc"]));
    }
}
