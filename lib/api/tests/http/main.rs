//! The conventions of the whole API, through the real router and a service that stands in for the daemon's. Each
//! answer that any test sees is checked against the contract.

#![expect(clippy::unwrap_used, reason = "tests fail by it, helpers of tests too")]

mod bodies;
mod conventions;
mod service;
mod streams;

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::http::{HeaderMap, Request, request::Parts};
use dataplane_api::contract::{Contract, Seen};
use dataplane_api::{Claims, Gate, Limits, Problem, ProblemCode, Runtime};
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt as _;

use service::Service;

/// Lets everybody in, but wants the word `token` where a caller must be known.
struct TestGate;

impl Gate for TestGate {
    fn admit(&self, parts: &Parts) -> Result<(), Problem> {
        let evil = parts.headers.get("host").is_some_and(|host| host == "evil.example");
        if evil { Err(Problem::new(ProblemCode::Forbidden, "not from here")) } else { Ok(()) }
    }
    fn identify(&self, parts: &Parts) -> Result<Option<Claims>, Problem> {
        match parts.headers.get("authorization") {
            Some(value) if value == "Bearer token" => Ok(None),
            _ => Err(Problem::new(ProblemCode::Unauthorized, "a token is needed")),
        }
    }
}

/// The API with the stand-in service.
pub(crate) struct Harness {
    router: axum::Router,
    pub(crate) service: Arc<Service>,
    pub(crate) stop: watch::Sender<bool>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let (stop, stopping) = watch::channel(false);
        let service = Arc::new(Service::default());
        let runtime = Runtime::new(Arc::new(TestGate), stopping, limits);
        Self { router: dataplane_api::router(Arc::clone(&service), runtime), service, stop }
    }

    /// One request with a token; the answer has passed the contract.
    pub(crate) async fn ask(&self, line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut all = vec![("authorization", "Bearer token")];
        all.extend(headers);
        self.ask_as(line, &all, body).await
    }

    pub(crate) async fn ask_as(&self, line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        let response = self.router.clone().oneshot(request(line, headers, body.into())).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 24).await.unwrap().to_vec();
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, body };
        let seen = Seen { method, path, status: answer.status, headers: &answer.headers, body: &answer.body };
        contract().check(&seen).unwrap();
        answer
    }

    /// A JSON POST.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask(&format!("POST {path}"), &[("content-type", "application/json")], body.to_owned()).await
    }

    /// The response itself, for streams.
    pub(crate) async fn open(&self, line: &str, headers: &[(&str, &str)]) -> axum::response::Response {
        let mut all = vec![("authorization", "Bearer token")];
        all.extend(headers);
        self.router.clone().oneshot(request(line, &all, Body::empty())).await.unwrap()
    }

    pub(crate) fn router(&self) -> axum::Router {
        self.router.clone()
    }
}

pub(crate) fn request(line: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

fn contract() -> &'static Contract {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    CONTRACT.get_or_init(Contract::new)
}
