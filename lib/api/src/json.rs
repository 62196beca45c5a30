//! JSON bodies: read strictly (no duplicate names), checked by the rule, then made into a type.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::problem::from_violations;
use crate::rule::Rule;
use crate::types::{ProblemDetail, ProblemPlace};
use crate::{Problem, ProblemCode};

/// The typed body, or a problem that names each wrong field.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], rule: &Rule) -> Result<T, Problem> {
    let Strict(value) = serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(ProblemCode::BadRequest, format!("the body cannot be read as JSON: {error}")))?;
    let violations = rule.violations(&value);
    if !violations.is_empty() {
        return Err(from_violations(violations));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (field, message) = (error.path().to_string(), error.inner().to_string());
        Problem::new(ProblemCode::InvalidField, format!("{field}: {message}")).with_detail(ProblemDetail {
            in_: ProblemPlace::Body,
            field,
            message,
        })
    })
}

/// A field that is there, be it `null`; one that is absent is `None` by its default.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A JSON value whose objects have no name twice: which of the two a reader takes must never matter.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if object.contains_key(&name) {
                let name: String = name.chars().take(64).collect();
                return Err(A::Error::custom(format!("{name} is there twice")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_must_not_repeat_at_any_depth() {
        assert!(serde_json::from_str::<Strict>(r#"{"a":1,"b":{"a":[{"a":null}]}}"#).is_ok());
        for bad in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"a":2}]}"#, "{", "", "nul", "1 2"] {
            assert!(serde_json::from_str::<Strict>(bad).is_err(), "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(serde_json::from_str::<Strict>(&deep).is_err());
    }
}
