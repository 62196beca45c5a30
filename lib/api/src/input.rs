//! The parts of a request as generated code takes them: each checked by its rule, then parsed into its type.

use std::fmt;
use std::str::FromStr;

use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts as _;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use crate::body::too_large;
use crate::router::Limits;
use crate::rule::Rule;
use crate::types::{ProblemDetail, ProblemPlace};
use crate::{BodyStream, Operation, Problem, ProblemCode, Upgrade, json, negotiate, query, socket};

/// One request of a known operation.
#[derive(Debug)]
pub struct Input {
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    /// What of the head an upgrade needs.
    head: Option<Parts>,
    body: Body,
    accepted: &'static str,
    limits: Limits,
}

/// What generated request structs are made by.
pub(crate) trait FromInput: Sized {
    fn from_input(input: &mut Input) -> impl Future<Output = Result<Self, Problem>> + Send;
}

impl Input {
    /// Checks what holds for every operation: known query parameters, `Accept`, `Content-Type`.
    pub(crate) fn new(
        operation: &'static Operation,
        path: Vec<(String, String)>,
        parts: Parts,
        body: Body,
        limits: Limits,
    ) -> Result<Self, Problem> {
        let query = query::parse(parts.uri.query().unwrap_or_default())
            .map_err(|why| Problem::new(ProblemCode::BadRequest, why))?;
        if let Some((name, _)) = query.iter().find(|(name, _)| !operation.query.contains(&name.as_str())) {
            return Err(unknown_parameter(name));
        }
        let accepted = negotiate::accepted(operation, &parts.headers)?;
        negotiate::check_content(operation, &parts.headers)?;
        Ok(Self { path, query, headers: parts.headers.clone(), head: Some(parts), body, accepted, limits })
    }

    /// The media type that the answer shall have.
    pub(crate) fn accepted(&self) -> &'static str {
        self.accepted
    }

    /// The connection, where it asks to become a WebSocket.
    pub(crate) async fn upgrade(&mut self, first: &'static Rule) -> Result<Upgrade, Problem> {
        let mut head = self.head.take().ok_or_else(socket::required)?;
        let upgrade = WebSocketUpgrade::from_request_parts(&mut head, &()).await;
        upgrade.map(|upgrade| Upgrade::new(upgrade, first)).map_err(|_| socket::required())
    }

    /// A parameter of the path.
    pub(crate) fn path<T: FromStr<Err: fmt::Display>>(&self, name: &str, rule: &Rule) -> Result<T, Problem> {
        let found = self.path.iter().find(|(key, _)| key == name);
        let (_, text) = found.ok_or_else(|| invalid(ProblemPlace::Path, name, "is required"))?;
        parse(ProblemPlace::Path, name, text, rule)
    }

    /// A query parameter that may be there once.
    pub(crate) fn query<T: FromStr<Err: fmt::Display>>(&self, name: &str, rule: &Rule) -> Result<Option<T>, Problem> {
        let mut found = self.query.iter().filter(|(key, _)| key == name);
        let Some((_, text)) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(invalid(ProblemPlace::Query, name, "must not be repeated"));
        }
        parse(ProblemPlace::Query, name, text, rule).map(Some)
    }

    /// A query parameter that may be repeated.
    pub(crate) fn query_all<T: FromStr<Err: fmt::Display>>(&self, name: &str, rule: &Rule) -> Result<Vec<T>, Problem> {
        let found: Vec<&str> =
            self.query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
        if let Rule::Array { max, .. } = rule
            && found.len() > *max
        {
            return Err(invalid(ProblemPlace::Query, name, &format!("must not be repeated more than {max} times")));
        }
        found.into_iter().map(|text| parse(ProblemPlace::Query, name, text, rule)).collect()
    }

    /// A header; repeated ones are one list (RFC 9110, 5.3).
    pub(crate) fn header<T: FromStr<Err: fmt::Display>>(&self, name: &str, rule: &Rule) -> Result<Option<T>, Problem> {
        let values: Result<Vec<&str>, _> = self.headers.get_all(name).iter().map(|value| value.to_str()).collect();
        let values = values.map_err(|_| invalid(ProblemPlace::Header, name, "must be visible ASCII"))?;
        if values.is_empty() {
            return Ok(None);
        }
        parse(ProblemPlace::Header, name, &values.join(", "), rule).map(Some)
    }

    /// The JSON body, or the defaults of its type where there is none.
    pub(crate) async fn json_or_default<T: DeserializeOwned + Default>(&mut self, rule: &Rule) -> Result<T, Problem> {
        let body = self.json_bytes().await?;
        if body.is_empty() { Ok(T::default()) } else { json::parse(&body, rule) }
    }

    /// The JSON body.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self, rule: &Rule) -> Result<T, Problem> {
        json::parse(&self.json_bytes().await?, rule)
    }

    async fn json_bytes(&mut self) -> Result<Bytes, Problem> {
        let limit = self.limits.json_bytes;
        let declared = self.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        // A client that asks first has not sent anything yet; any other is sending already.
        if declared.is_some_and(|length: usize| length > limit) && self.headers.contains_key(header::EXPECT) {
            return Err(too_large(limit));
        }
        let late = || Problem::new(ProblemCode::RequestTimeout, "the body did not arrive in time");
        let collected = tokio::time::timeout(self.limits.json_time, self.stream().collect(limit));
        collected.await.map_err(|_| late())?
    }

    /// The body as it arrives.
    pub(crate) fn stream(&mut self) -> BodyStream {
        BodyStream::new(std::mem::take(&mut self.body), self.limits.body_idle)
    }
}

fn parse<T: FromStr<Err: fmt::Display>>(
    place: ProblemPlace,
    name: &str,
    text: &str,
    rule: &Rule,
) -> Result<T, Problem> {
    match rule.text_violation(text) {
        Some(message) => Err(invalid(place, name, &message)),
        None => text.parse().map_err(|error: T::Err| invalid(place, name, &error.to_string())),
    }
}

fn invalid(place: ProblemPlace, name: &str, message: &str) -> Problem {
    let problem = Problem::new(ProblemCode::InvalidField, format!("{place} parameter {name} {message}"));
    problem.with_detail(ProblemDetail { in_: place, field: name.to_owned(), message: message.to_owned() })
}

fn unknown_parameter(name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    let problem = Problem::new(ProblemCode::UnknownField, format!("{name} is not a known query parameter"));
    let message = "is not a known query parameter".to_owned();
    problem.with_detail(ProblemDetail { in_: ProblemPlace::Query, field: name, message })
}
