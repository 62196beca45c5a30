//! Pages of lists: keyset pagination, so that inserts never shift or repeat items.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// Where a list goes on: behind the item with this key. Opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor(String);

impl Cursor {
    /// The cursor that goes on behind an item's key.
    #[must_use]
    pub fn after(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key of the last item that was shown.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.0
    }
}

/// The version of the cursor's form, so that a later one can tell old ones.
const VERSION: &str = "1:";

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(format!("{VERSION}{}", self.0)))
    }
}

impl FromStr for Cursor {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "is not a cursor")?;
        let text = String::from_utf8(bytes).map_err(|_| "is not a cursor")?;
        text.strip_prefix(VERSION).map(|key| Self(key.to_owned())).ok_or("is not a cursor")
    }
}

impl TryFrom<String> for Cursor {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

/// One page of items that come in the order of their keys, and the cursor of the next, if there is one.
pub fn page<T>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> &str,
    cursor: Option<&Cursor>,
    limit: u32,
) -> (Vec<T>, Option<Cursor>) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let behind = |item: &T| cursor.is_none_or(|cursor| key(item) > cursor.key());
    let mut rest = items.into_iter().filter(behind);
    let page: Vec<T> = rest.by_ref().take(limit).collect();
    let next = rest.next().and_then(|_| page.last()).map(|last| Cursor::after(key(last)));
    (page, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_all_items_once_under_inserts() {
        let mut all = vec!["a", "c", "e"];
        let (first, next) = page(all.clone(), |item| item, None, 2);
        assert_eq!(first, ["a", "c"]);
        all.splice(0..0, ["A"]);
        all.insert(3, "d");
        let (second, next) = page(all.clone(), |item| item, next.as_ref(), 2);
        assert_eq!((second, next), (vec!["d", "e"], None));
    }

    #[test]
    fn a_cursor_round_trips_and_nothing_else_is_one() {
        let cursor = Cursor::after("img-nginx");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "!", "abc", "MTp4=", "_____w"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
