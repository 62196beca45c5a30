//! The one shape of every failure: RFC 9457 with a code from the document's closed list.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::ProblemCode;
use crate::rule::Violation;
use crate::types::{self, InnerError, ProblemDetail, ProblemPlace};

/// A failure that the caller gets to see. The code alone decides the status.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone, PartialEq)]
struct Inner {
    code: ProblemCode,
    message: String,
    details: Vec<ProblemDetail>,
    inner: Option<InnerError>,
    retry_after: Option<Duration>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The document's bound on texts.
const LONGEST: usize = 4096;

impl Problem {
    /// A problem with a message for the caller.
    #[must_use]
    pub fn new(code: ProblemCode, message: impl Into<String>) -> Self {
        let message: String = message.into();
        let message = if message.is_empty() { code.title().to_owned() } else { cut(&message, LONGEST) };
        Self(Box::new(Inner {
            code,
            message,
            details: Vec::new(),
            inner: None,
            retry_after: None,
            headers: Vec::new(),
        }))
    }

    /// A bug: the whole chain goes to the log, the caller learns the request id only.
    #[must_use]
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        tracing::error!(error = %text, "a request failed by a bug");
        Self::new(ProblemCode::Internal, "an internal error; the log has more under the request id")
    }

    /// A wrong field of the body that only the service could find.
    #[must_use]
    pub fn invalid_field(field: &str, message: &str) -> Self {
        let detail = ProblemDetail { in_: ProblemPlace::Body, field: field.to_owned(), message: message.to_owned() };
        Self::new(ProblemCode::InvalidField, format!("{field} {message}")).with_detail(detail)
    }

    /// Adds one thing that is wrong with the request.
    #[must_use]
    pub fn with_detail(mut self, mut detail: ProblemDetail) -> Self {
        detail.field = cut(&detail.field, 512);
        detail.message = cut(&detail.message, 1024);
        self.0.details.push(detail);
        self.0.details.truncate(16);
        self
    }

    /// Adds what another party said.
    #[must_use]
    pub fn with_inner(mut self, code: Option<&str>, message: &str) -> Self {
        let code = code.filter(|code| !code.is_empty()).map(|code| cut(code, 128));
        self.0.inner = Some(InnerError { code, message: cut(message, LONGEST) });
        self
    }

    /// Says when to try again; 429 and 503 say one second where nobody says more.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Adds a header, for example `Allow`.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> ProblemCode {
        self.0.code
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The body as the document has it.
    #[must_use]
    pub fn to_wire(&self, request_id: &str) -> types::Problem {
        let Inner { code, message, details, inner, .. } = &*self.0;
        types::Problem {
            type_: format!("urn:dataplane:problem:{code}"),
            title: code.title().to_owned(),
            status: code.status().into(),
            detail: message.clone(),
            code: *code,
            message: message.clone(),
            details: (!details.is_empty()).then(|| details.clone()),
            inner_error: inner.clone(),
            request_id: request_id.to_owned(),
            retryable: code.retryable(),
        }
    }

    pub(crate) fn into_response(self, request_id: &str) -> Response<Body> {
        let body = serde_json::to_vec(&self.to_wire(request_id)).unwrap_or_default();
        let status = self.0.code.status();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(status, 429 | 503) || self.0.retry_after.is_some() {
            let seconds = self.0.retry_after.map_or(1, |wait| wait.as_secs()).clamp(1, 3600);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        headers.extend(self.0.headers);
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl Error for Problem {}

/// A problem from what the rules found; `unknown_field` only if nothing else is wrong.
pub(crate) fn from_violations(violations: Vec<Violation>) -> Problem {
    let code =
        if violations.iter().all(|it| it.unknown) { ProblemCode::UnknownField } else { ProblemCode::InvalidField };
    let place = |field: &str| if field.is_empty() { "the body".to_owned() } else { field.to_owned() };
    let message = violations.iter().map(|it| format!("{} {}", place(&it.field), it.message)).collect::<Vec<_>>();
    let details = violations.into_iter().map(|it| ProblemDetail {
        in_: ProblemPlace::Body,
        field: it.field,
        message: it.message,
    });
    details.fold(Problem::new(code, message.join("; ")), Problem::with_detail)
}

/// The first characters of a text.
fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_decides_status_title_and_retryability() {
        let wire = Problem::new(ProblemCode::Busy, "x").to_wire("r1");
        assert_eq!((wire.status, wire.title.as_str(), wire.retryable), (409, "Busy", true));
        assert_eq!((wire.type_.as_str(), wire.request_id.as_str()), ("urn:dataplane:problem:busy", "r1"));
    }

    #[test]
    fn texts_keep_within_the_documents_bounds() {
        let long = "ä".repeat(10_000);
        let problem = Problem::new(ProblemCode::Internal, &*long).with_inner(Some(&long), &long);
        let wire = problem.to_wire("r1");
        assert_eq!(wire.message.chars().count(), LONGEST);
        let inner = wire.inner_error.unwrap();
        assert_eq!((inner.code.unwrap().chars().count(), inner.message.chars().count()), (128, LONGEST));
        assert_eq!(Problem::new(ProblemCode::Internal, "").message(), "Internal error");
    }

    #[test]
    fn busy_answers_say_when_to_come_back() {
        let retry = |problem: Problem| {
            let response = problem.into_response("r");
            response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned())
        };
        let unavailable = Problem::new(ProblemCode::Unavailable, "x");
        assert_eq!(retry(unavailable.clone()).as_deref(), Some("1"));
        assert_eq!(retry(unavailable.with_retry_after(Duration::from_secs(9))).as_deref(), Some("9"));
        assert_eq!(retry(Problem::new(ProblemCode::Busy, "x")), None);
    }
}
