//! `Prefer` (RFC 7240), as far as the document uses it.

use std::convert::Infallible;
use std::str::FromStr;

/// What the caller prefers; preferences that nobody knows are ignored, as the RFC wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefer {
    /// `respond-async`: do not wait for the work.
    pub respond_async: bool,
}

impl FromStr for Prefer {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let mut names = text.split(',').map(|item| item.split([';', '=']).next().unwrap_or_default().trim());
        Ok(Self { respond_async: names.any(|name| name.eq_ignore_ascii_case("respond-async")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_known_preference_counts() {
        for (text, expected) in [
            ("respond-async", true),
            ("wait=10, Respond-Async", true),
            ("respond-async; foo=bar", true),
            ("return=minimal", false),
            ("", false),
            ("respond-asynchronously", false),
        ] {
            assert_eq!(text.parse::<Prefer>().unwrap().respond_async, expected, "{text}");
        }
    }
}
