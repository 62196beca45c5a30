//! Identifiers of resources, each a bounded string that is safe as a file name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not the value it was parsed as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} is not valid: {expected}")]
pub struct ParseError {
    /// What was to be parsed, for example `instance id`.
    pub kind: &'static str,
    /// The offending text, cut to 80 characters.
    pub value: String,
    /// What would have been right.
    pub expected: &'static str,
}

impl ParseError {
    pub(crate) fn new(kind: &'static str, value: &str, expected: &'static str) -> Self {
        Self { kind, value: value.chars().take(80).collect(), expected }
    }
}

fn is_alnum(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_bounded_name(text: &str, max: usize, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    bytes.len() <= max
        && is_alnum(*first)
        && is_alnum(*last)
        && bytes.iter().all(|byte| is_alnum(*byte) || inner.contains(byte))
}

macro_rules! string_newtype {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err(ParseError::new($kind, text, $expected)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseError;
            fn try_from(text: String) -> Result<Self, ParseError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

string_newtype!(
    /// The id of an instance: a DNS label (RFC 1123), 1 to 63 characters.
    InstanceId,
    "instance id",
    "a DNS label: a-z, 0-9 and inner hyphens, at most 63 characters",
    |text| is_bounded_name(text, 63, b"-")
);

string_newtype!(
    /// The id of an image: like a DNS label, but may also hold inner `.` and `_`; 1 to 128 characters.
    ImageId,
    "image id",
    "a-z, 0-9 and inner '-', '.', '_', at most 128 characters",
    |text| is_bounded_name(text, 128, b"-._")
);

string_newtype!(
    /// The id of one operation: 32 lower-case hex digits, part of every temporary name that the operation makes.
    OperationId,
    "operation id",
    "32 lower-case hex digits",
    |text| text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
);

impl OperationId {
    /// A new id: time-ordered (UUID version 7), so that leftovers sort by age.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_ids_are_dns_labels() {
        for good in ["a", "my-instance", "0", &"a".repeat(63)] {
            assert!(good.parse::<InstanceId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "../x", "/etc", "a\0b", "a b", "ä", &"a".repeat(64), &"a".repeat(300)]
        {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn image_ids_may_hold_dots_but_never_be_paths() {
        for good in ["img-nginx", "img-nginx_1.25", "a"] {
            assert!(good.parse::<ImageId>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a.", "a/b", "..%2f", &"a".repeat(129)] {
            assert!(bad.parse::<ImageId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn operation_ids_round_trip() {
        let id = OperationId::generate();
        assert_eq!(id.to_string().parse::<OperationId>(), Ok(id));
    }
}
