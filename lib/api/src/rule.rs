//! The rules of request bodies and parameters, read from static tables that the generator wrote.
//!
//! All violations are found, each with its place; a message says what would be right and never repeats the value, which
//! may be a secret.

use std::sync::OnceLock;

use serde_json::Value;

/// The most violations that are reported at once.
const MOST: usize = 16;

/// What a value must look like.
#[derive(Debug)]
pub(crate) enum Rule {
    Named(&'static Rule),
    /// `null`, or what the other rule says.
    Nullable(&'static Rule),
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    Text {
        min: usize,
        max: usize,
        pattern: Option<&'static Pattern>,
    },
    Choice(&'static [&'static str]),
    Array {
        items: &'static Rule,
        min: usize,
        max: usize,
    },
    Object(&'static [Field]),
    Map {
        keys: &'static Rule,
        values: &'static Rule,
        max: usize,
    },
}

/// One property of an object.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) rule: &'static Rule,
}

/// A pattern of the document (ECMA-262), compiled once.
#[derive(Debug)]
pub(crate) struct Pattern {
    source: &'static str,
    compiled: OnceLock<Option<regress::Regex>>,
}

impl Pattern {
    pub(crate) const fn new(source: &'static str) -> Self {
        Self { source, compiled: OnceLock::new() }
    }

    fn matches(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| regress::Regex::with_flags(self.source, "u").ok());
        compiled.as_ref().is_some_and(|regex| regex.find(text).is_some())
    }
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The place, for example `network.ip` or `cmd[2]`; empty for the whole.
    pub(crate) field: String,
    pub(crate) message: String,
    /// Whether the field should not be there at all.
    pub(crate) unknown: bool,
}

impl Rule {
    /// All that is wrong with a JSON value, up to a bound.
    pub(crate) fn violations(&self, value: &Value) -> Vec<Violation> {
        let mut found = Vec::new();
        self.check(value, &mut String::new(), &mut found);
        found
    }

    /// What is wrong with the text of a parameter.
    pub(crate) fn text_violation(&self, text: &str) -> Option<String> {
        match self {
            Self::Named(rule) | Self::Nullable(rule) => rule.text_violation(text),
            Self::Boolean => (!matches!(text, "true" | "false")).then(|| "must be true or false".to_owned()),
            Self::Integer { min, max } => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                integer_violation(text.parse().ok().filter(|_| plain), *min, *max)
            }
            Self::Text { min, max, pattern } => text_violation(text, *min, *max, *pattern),
            Self::Choice(values) => choice_violation(text, values),
            Self::Array { items, .. } => items.text_violation(text),
            Self::Object(_) | Self::Map { .. } => Some("cannot be a parameter".to_owned()),
        }
    }

    fn check(&self, value: &Value, path: &mut String, found: &mut Vec<Violation>) {
        if found.len() >= MOST {
            return;
        }
        match self {
            Self::Named(rule) => rule.check(value, path, found),
            Self::Nullable(_) if value.is_null() => {}
            Self::Nullable(rule) => rule.check(value, path, found),
            Self::Boolean => report(path, (!value.is_boolean()).then(|| "must be true or false".to_owned()), found),
            Self::Integer { min, max } => report(path, integer_violation(value.as_i64(), *min, *max), found),
            Self::Text { min, max, pattern } => match value.as_str() {
                Some(text) => report(path, text_violation(text, *min, *max, *pattern), found),
                None => report(path, Some("must be a string".to_owned()), found),
            },
            Self::Choice(values) => {
                report(path, choice_violation(value.as_str().unwrap_or_default(), values), found);
            }
            Self::Array { items, min, max } => check_array(value, (items, *min, *max), path, found),
            Self::Object(fields) => check_object(value, fields, path, found),
            Self::Map { keys, values, max } => check_map(value, (keys, values, *max), path, found),
        }
    }
}

fn report(path: &str, message: Option<String>, found: &mut Vec<Violation>) {
    if let Some(message) = message
        && found.len() < MOST
    {
        found.push(Violation { field: path.to_owned(), message, unknown: false });
    }
}

fn integer_violation(value: Option<i64>, min: i64, max: i64) -> Option<String> {
    let fits = value.is_some_and(|value| (min..=max).contains(&value));
    (!fits).then(|| format!("must be an integer from {min} to {max}, written without a fraction"))
}

fn text_violation(text: &str, min: usize, max: usize, pattern: Option<&Pattern>) -> Option<String> {
    // Bytes first: no text has more characters than bytes, so most are never counted.
    let too_long = text.len() > max && text.chars().count() > max;
    let too_short = min > 0 && text.chars().take(min).count() < min;
    if too_long || too_short {
        return Some(format!("must have {min} to {max} characters"));
    }
    let pattern = pattern?;
    (!pattern.matches(text)).then(|| format!("must match {}", pattern.source))
}

fn choice_violation(text: &str, values: &[&str]) -> Option<String> {
    (!values.contains(&text)).then(|| format!("must be one of {}", values.join(", ")))
}

fn check_array(value: &Value, (items, min, max): (&Rule, usize, usize), path: &mut String, found: &mut Vec<Violation>) {
    let Some(list) = value.as_array() else { return report(path, Some("must be an array".to_owned()), found) };
    if list.len() < min || list.len() > max {
        return report(path, Some(format!("must have {min} to {max} elements")), found);
    }
    for (index, item) in list.iter().enumerate() {
        descend(path, &format!("[{index}]"), |path| items.check(item, path, found));
    }
}

fn check_object(value: &Value, fields: &[Field], path: &mut String, found: &mut Vec<Violation>) {
    let Some(object) = value.as_object() else { return report(path, Some("must be an object".to_owned()), found) };
    for name in object.keys().filter(|name| fields.iter().all(|field| field.name != name.as_str())) {
        descend(path, &segment(path, name), |path| {
            if found.len() < MOST {
                found.push(Violation {
                    field: path.clone(),
                    message: "is not a known field".to_owned(),
                    unknown: true,
                });
            }
        });
    }
    for field in fields {
        descend(path, &segment(path, field.name), |path| match object.get(field.name) {
            Some(value) => field.rule.check(value, path, found),
            None if field.required => report(path, Some("is required".to_owned()), found),
            None => {}
        });
    }
}

fn check_map(value: &Value, (keys, values, max): (&Rule, &Rule, usize), path: &mut String, found: &mut Vec<Violation>) {
    let Some(object) = value.as_object() else { return report(path, Some("must be an object".to_owned()), found) };
    if object.len() > max {
        return report(path, Some(format!("must have at most {max} entries")), found);
    }
    for (name, value) in object {
        descend(path, &segment(path, name), |path| {
            report(path, keys.text_violation(name).map(|message| format!("its name {message}")), found);
            values.check(value, path, found);
        });
    }
}

/// A property's part of a path; a caller's own name is cut so that a problem stays small.
fn segment(path: &str, name: &str) -> String {
    let name: String = name.chars().take(64).collect();
    if path.is_empty() { name } else { format!(".{name}") }
}

fn descend(path: &mut String, segment: &str, check: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push_str(segment);
    check(path);
    path.truncate(length);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    static WORD: Pattern = Pattern::new("^[a-z]+$");
    static TEXT: Rule = Rule::Text { min: 1, max: 3, pattern: Some(&WORD) };
    static RULE: Rule = Rule::Object(&[
        Field { name: "size", required: true, rule: &Rule::Integer { min: 1, max: 8 } },
        Field { name: "on", required: false, rule: &Rule::Boolean },
        Field { name: "kind", required: false, rule: &Rule::Choice(&["a", "b"]) },
        Field { name: "words", required: false, rule: &Rule::Array { items: &TEXT, min: 0, max: 2 } },
        Field { name: "map", required: false, rule: &Rule::Map { keys: &TEXT, values: &TEXT, max: 2 } },
        Field { name: "inner", required: false, rule: &Rule::Named(&INNER) },
    ]);
    static INNER: Rule = Rule::Object(&[Field { name: "word", required: false, rule: &TEXT }]);

    fn fields(value: &Value) -> Vec<String> {
        RULE.violations(value).into_iter().map(|it| it.field).collect()
    }

    #[test]
    fn each_violation_names_its_place() {
        for (value, expected) in [
            (json!({ "size": 8, "on": true, "kind": "b", "words": ["abc"], "map": { "k": "v" } }), vec![]),
            (json!(null), vec![""]),
            (json!([]), vec![""]),
            (json!({}), vec!["size"]),
            (json!({ "size": null }), vec!["size"]),
            (json!({ "size": 0 }), vec!["size"]),
            (json!({ "size": 9 }), vec!["size"]),
            (json!({ "size": 2.0 }), vec!["size"]),
            (json!({ "size": "2" }), vec!["size"]),
            (json!({ "size": u64::MAX }), vec!["size"]),
            (json!({ "size": 1, "on": "true" }), vec!["on"]),
            (json!({ "size": 1, "kind": "c" }), vec!["kind"]),
            (json!({ "size": 1, "kind": 1 }), vec!["kind"]),
            (json!({ "size": 1, "words": ["a", "b", "c"] }), vec!["words"]),
            (json!({ "size": 1, "words": ["a", "B"] }), vec!["words[1]"]),
            (json!({ "size": 1, "words": [""] }), vec!["words[0]"]),
            (json!({ "size": 1, "words": ["äöü", "abcd"] }), vec!["words[0]", "words[1]"]),
            (json!({ "size": 1, "map": { "K": "v" } }), vec!["map.K"]),
            (json!({ "size": 1, "inner": { "word": 1, "other": 2 } }), vec!["inner.other", "inner.word"]),
        ] {
            assert_eq!(fields(&value), expected, "{value}");
        }
    }

    #[test]
    fn reports_are_bounded_and_hold_no_value() {
        let many: serde_json::Map<String, Value> = (0..100).map(|n| (format!("x{n}"), json!("hunter2"))).collect();
        let found = RULE.violations(&Value::Object(many));
        assert_eq!(found.len(), MOST);
        assert!(found.iter().all(|it| !it.message.contains("hunter2")));
        let name = "n".repeat(5000);
        assert!(fields(&json!({ "size": 1, name: 1 })).iter().all(|field| field.len() <= 64));
    }

    #[test]
    fn parameters_are_plain_texts() {
        let integer = Rule::Integer { min: -2, max: 5 };
        for (text, good) in [("-2", true), ("5", true), ("6", false), ("+1", false), ("1.0", false), ("", false)] {
            assert_eq!(integer.text_violation(text).is_none(), good, "{text}");
        }
        assert!(Rule::Boolean.text_violation("1").is_some());
        assert!(TEXT.text_violation("ab").is_none());
    }
}
