//! Checks any answer against the document: the operation, its status, media type, headers and body.
//!
//! It reads the document and nothing of the generated code, so that a fault of the generator cannot hide itself. For
//! tests; the daemon does not link it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderMap;
use jsonschema::Validator;
use serde_json::{Value, json};

/// An answer that the document does not have.
#[derive(Debug, thiserror::Error)]
#[error("{method} {path} answered {status}: {what}")]
pub struct Breach {
    method: String,
    path: String,
    status: u16,
    what: String,
}

/// One answer, as a client saw it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Upper case.
    pub method: &'a str,
    /// The path as it was asked for; a query behind `?` is ignored.
    pub path: &'a str,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The whole body, or of a stream what was read of it.
    pub body: &'a [u8],
}

/// The document, ready to judge.
pub struct Contract {
    document: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Default for Contract {
    fn default() -> Self {
        Self::new()
    }
}

impl Contract {
    /// The contract of this crate's document.
    #[must_use]
    pub fn new() -> Self {
        let document = serde_json::from_str(crate::SPEC_JSON).unwrap_or_default();
        Self { document, validators: Mutex::default() }
    }

    /// The id of the operation that a request belongs to, if the document has it.
    #[must_use]
    pub fn operation_id(&self, method: &str, path: &str) -> Option<&str> {
        self.path_item(path)?[method.to_lowercase()]["operationId"].as_str()
    }

    /// Judges one answer.
    ///
    /// # Errors
    /// Says what of the answer is not in the document.
    pub fn check(&self, seen: &Seen<'_>) -> Result<(), Breach> {
        self.judge(seen).map_err(|what| Breach {
            method: seen.method.to_owned(),
            path: seen.path.to_owned(),
            status: seen.status,
            what,
        })
    }

    fn judge(&self, seen: &Seen<'_>) -> Result<(), String> {
        for name in ["x-request-id", "traceparent"] {
            seen.headers.get(name).ok_or_else(|| format!("header {name} is missing"))?;
        }
        let item = self.path_item(seen.path);
        let operation = item.and_then(|item| item.get(seen.method.to_lowercase()));
        let Some(operation) = operation else { return self.judge_unknown(seen, item.is_some()) };
        let response = operation["responses"].get(seen.status.to_string()).ok_or("this status is not declared")?;
        let response = self.resolve(response);
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            self.judge_header(seen, name, &self.resolve(header)["schema"])?;
        }
        let Some(content) = response["content"].as_object() else {
            return if seen.body.is_empty() { Ok(()) } else { Err("a body, but none is declared".to_owned()) };
        };
        let media = media_type(seen)?;
        let declared = content.get(&media).ok_or_else(|| format!("media type {media} is not declared"))?;
        if media.ends_with("yaml") {
            // There is one such answer, and it is compared byte for byte by whoever asks for it.
            return Ok(());
        }
        let body = body_value(seen, &media)?;
        self.validate(&declared["schema"], &body)?;
        if media == "application/problem+json" { self.judge_problem(seen, &body) } else { Ok(()) }
    }

    /// Outside of the document there are only a few problems.
    fn judge_unknown(&self, seen: &Seen<'_>, path_is_known: bool) -> Result<(), String> {
        if seen.method == "HEAD" {
            // Its answer never has a body, so there is only the status to judge.
            return if matches!(seen.status, 403..=405) { Ok(()) } else { Err("outside of the document".to_owned()) };
        }
        let expected: &[&str] = if path_is_known { &["method_not_allowed"] } else { &["route_not_found"] };
        let media = media_type(seen)?;
        if media != "application/problem+json" {
            return Err(format!("{media} outside of the document"));
        }
        let body = body_value(seen, &media)?;
        self.validate(&json!({ "$ref": "#/components/schemas/Problem" }), &body)?;
        let code = body["code"].as_str().unwrap_or_default();
        if !expected.contains(&code) && code != "forbidden" {
            return Err(format!("{code} outside of the document"));
        }
        if code == "method_not_allowed" && !seen.headers.contains_key("allow") {
            return Err("header Allow is missing".to_owned());
        }
        self.judge_problem(seen, &body)
    }

    fn judge_problem(&self, seen: &Seen<'_>, body: &Value) -> Result<(), String> {
        let code = body["code"].as_str().unwrap_or_default();
        let meaning = &self.document["components"]["schemas"]["ProblemCode"]["x-problems"][code];
        let right = meaning["status"] == seen.status
            && body["status"] == seen.status
            && body["title"] == meaning["title"]
            && body["retryable"] == meaning.get("retryable").cloned().unwrap_or(json!(false));
        if right { Ok(()) } else { Err(format!("{code} is not as x-problems says: {body}")) }
    }

    fn judge_header(&self, seen: &Seen<'_>, name: &str, schema: &Value) -> Result<(), String> {
        let value = seen.headers.get(name).ok_or_else(|| format!("header {name} is missing"))?;
        let text = value.to_str().map_err(|_| format!("header {name} is no text"))?;
        let value = match self.resolve(schema)["type"].as_str() {
            Some("integer") => {
                text.parse::<i64>().map(Value::from).map_err(|_| format!("header {name} is no integer"))?
            }
            _ => json!(text),
        };
        self.validate(schema, &value).map_err(|what| format!("header {name}: {what}"))
    }

    fn validate(&self, schema: &Value, value: &Value) -> Result<(), String> {
        if schema.is_null() {
            return Ok(());
        }
        let validator = self.validator(schema)?;
        let errors: Vec<String> =
            validator.iter_errors(value).take(5).map(|error| format!("{}: {error}", error.instance_path())).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    fn validator(&self, schema: &Value) -> Result<Arc<Validator>, String> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let key = schema.to_string();
        if let Some(validator) = validators.get(&key) {
            return Ok(Arc::clone(validator));
        }
        let mut whole = schema.clone();
        whole["components"] = self.document["components"].clone();
        let built = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .should_validate_formats(true)
            .build(&whole)
            .map_err(|error| format!("the schema cannot be used: {error}"))?;
        let built = Arc::new(built);
        validators.insert(key, Arc::clone(&built));
        Ok(built)
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        pointer.and_then(|pointer| self.document.pointer(pointer)).unwrap_or(value)
    }

    /// The path item of a request's path; one without parameters wins over one with.
    fn path_item(&self, path: &str) -> Option<&Value> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let paths = self.document["paths"].as_object()?;
        paths.get(path).or_else(|| paths.iter().find(|(template, _)| matches(template, path)).map(|(_, item)| item))
    }
}

fn matches(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted == given => {}
            (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => {}
            (Some(_) | None, Some(_) | None) => return false,
        }
    }
}

fn media_type(seen: &Seen<'_>) -> Result<String, String> {
    let value = seen.headers.get("content-type").ok_or("header Content-Type is missing")?;
    let text = value.to_str().map_err(|_| "Content-Type is no text")?;
    Ok(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn body_value(seen: &Seen<'_>, media: &str) -> Result<Value, String> {
    if media.ends_with("json") {
        return serde_json::from_slice(seen.body).map_err(|error| format!("the body is no JSON: {error}"));
    }
    Ok(json!(String::from_utf8_lossy(seen.body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "r1";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let base = [("x-request-id", ID), ("traceparent", "00-x"), ("content-type", "application/json")];
        let mut headers = HeaderMap::new();
        for (name, value) in base.iter().chain(pairs) {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    fn breach(method: &str, path: &str, status: u16, pairs: &[(&'static str, &str)], body: &str) -> Option<String> {
        let headers = headers(pairs);
        let seen = Seen { method, path, status, headers: &headers, body: body.as_bytes() };
        Contract::new().check(&seen).err().map(|breach| breach.what)
    }

    #[test]
    fn right_answers_pass_and_each_wrong_one_is_found() {
        let ok = r#"{"status":"ok"}"#;
        assert_eq!(breach("GET", "/health", 200, &[], ok), None);
        for (status, pairs, body, expected) in [
            (201, &[][..], ok, "this status is not declared"),
            (200, &[], "{}", "\"status\" is a required property"),
            (200, &[], r#"{"status":"ok","x":1}"#, "Additional properties"),
            (200, &[], "{", "the body is no JSON"),
            (200, &[("content-type", "text/plain")], ok, "media type text/plain is not declared"),
            (200, &[("x-request-id", "a b")], ok, "header X-Request-Id"),
        ] {
            let what = breach("GET", "/health", status, pairs, body).unwrap_or_default();
            assert!(what.contains(expected), "{what:?} lacks {expected:?}");
        }
        assert!(breach("DELETE", "/images/a", 204, &[], "x").unwrap().contains("none is declared"));
        assert!(breach("GET", "/images/a", 200, &[], "{}").unwrap().contains("ETag is missing"));
    }

    #[test]
    fn a_problem_must_be_what_its_code_means() {
        let problem = |code: &str, status: u16, title: &str| {
            json!({ "type": format!("urn:dataplane:problem:{code}"), "title": title, "status": status, "detail": "x",
                "code": code, "message": "x", "request_id": ID, "retryable": false })
            .to_string()
        };
        let media = &[("content-type", "application/problem+json")];
        let missing = problem("image_not_found", 404, "No such image");
        assert_eq!(breach("GET", "/images/a", 404, media, &missing), None);
        let wrong = problem("image_not_found", 404, "Busy");
        assert!(breach("GET", "/images/a", 404, media, &wrong).unwrap().contains("x-problems"));
        let wrong = problem("no_such_code", 404, "x");
        assert!(breach("GET", "/images/a", 404, media, &wrong).unwrap().contains("/code"));
        let route = problem("route_not_found", 404, "No such route");
        assert_eq!(breach("GET", "/nowhere", 404, media, &route), None);
        assert!(breach("PATCH", "/images", 404, media, &route).unwrap().contains("outside of the document"));
    }

    #[test]
    fn paths_find_their_operation() {
        let contract = Contract::new();
        for (method, path, expected) in [
            ("POST", "/images/import", Some("import_image")),
            ("GET", "/images/img-a?x=1", Some("get_image")),
            ("GET", "/instances/a/logs", Some("get_instance_logs")),
            ("GET", "/images/", None),
            ("PATCH", "/images", None),
        ] {
            assert_eq!(contract.operation_id(method, path), expected, "{method} {path}");
        }
    }
}
