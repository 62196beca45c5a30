//! The `label=key=value` filter of lists.

use std::collections::BTreeMap;
use std::str::FromStr;

/// One `key=value` that an item must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFilter {
    /// The label's key.
    pub key: String,
    /// The value that it must have.
    pub value: String,
}

impl LabelFilter {
    /// Whether an item with these labels passes all filters.
    #[must_use]
    pub fn all_match(filters: &[Self], labels: &BTreeMap<String, String>) -> bool {
        filters.iter().all(|filter| labels.get(&filter.key) == Some(&filter.value))
    }
}

impl FromStr for LabelFilter {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or("must be key=value")?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_must_match_exactly() {
        let labels = BTreeMap::from([("tier".to_owned(), "web=1".to_owned())]);
        let filters = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<LabelFilter>>();
        assert!(LabelFilter::all_match(&[], &labels));
        assert!(LabelFilter::all_match(&filters(&["tier=web=1"]), &labels));
        assert!(!LabelFilter::all_match(&filters(&["tier=web=1", "zone=a"]), &labels));
        assert!(!LabelFilter::all_match(&filters(&["tier=web"]), &labels));
    }
}
