//! The router: one path through which every request goes.
//!
//! Admission, method, identity, parameters, then the handler in a task of its own. Whatever happens, the answer carries
//! the request's id and trace, and is one of those that the document has.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use axum::http::{HeaderName, HeaderValue, Response, header, request::Parts};
use futures_util::FutureExt as _;
use tokio::sync::{Semaphore, watch};
use tracing::Instrument as _;

use crate::input::FromInput;
use crate::reply::IntoReply;
use crate::sse::Until;
use crate::{Claims, Cx, Input, Operation, Problem, ProblemCode, Reply, trace};

/// Who may call, decided outside of this crate.
pub trait Gate: Send + Sync + 'static {
    /// Asked for every request, known path or not, before anything else is looked at.
    ///
    /// # Errors
    /// The problem to answer with, for example `forbidden` for a foreign `Host`.
    fn admit(&self, parts: &Parts) -> Result<(), Problem>;

    /// Asked for operations that need to know the caller.
    ///
    /// # Errors
    /// The problem to answer with, for example `unauthorized`.
    fn identify(&self, parts: &Parts) -> Result<Option<Claims>, Problem>;
}

/// Bounds on requests.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest JSON body.
    pub json_bytes: usize,
    /// How long a JSON body may take to arrive.
    pub json_time: Duration,
    /// How long the sender of a streamed body may be silent.
    pub body_idle: Duration,
    /// How many handlers may run at once; they outlive their callers, so callers do not bound them.
    pub handlers: usize,
    /// After how much silence an event stream sends a comment.
    pub heartbeat: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            json_bytes: 1 << 20,
            json_time: Duration::from_secs(30),
            body_idle: Duration::from_secs(30),
            handlers: 512,
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// What all operations share.
#[derive(Clone)]
pub struct Runtime {
    gate: Arc<dyn Gate>,
    stopping: watch::Receiver<bool>,
    limits: Limits,
    handlers: Arc<Semaphore>,
}

impl Runtime {
    /// `stopping` turns true when the daemon stops; streams then end.
    #[must_use]
    pub fn new(gate: Arc<dyn Gate>, stopping: watch::Receiver<bool>, limits: Limits) -> Self {
        let permits = limits.handlers.min(Semaphore::MAX_PERMITS);
        Self { gate, stopping, limits, handlers: Arc::new(Semaphore::new(permits)) }
    }
}

/// What is known of an answer beside the answer: an extension of every response, for the access log.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The request's id.
    pub request_id: Arc<str>,
    /// The operation, if the document has it.
    pub operation: Option<&'static Operation>,
    /// The problem's code, if it is one.
    pub code: Option<ProblemCode>,
}

type Call = Arc<dyn Fn(Cx, Input) -> Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>> + Send + Sync>;

struct Route {
    operation: &'static Operation,
    call: Call,
}

/// Collects the generated routes.
pub(crate) struct Routes<A> {
    api: Arc<A>,
    runtime: Runtime,
    by_path: BTreeMap<&'static str, Vec<Route>>,
}

impl<A: Send + Sync + 'static> Routes<A> {
    pub(crate) fn new(api: Arc<A>, runtime: Runtime) -> Self {
        Self { api, runtime, by_path: BTreeMap::new() }
    }

    pub(crate) fn add<Q, P, W, H>(mut self, operation: &'static Operation, handler: H) -> Self
    where
        Q: FromInput + Send + 'static,
        P: IntoReply + Send + 'static,
        W: Future<Output = Result<P, Problem>> + Send + 'static,
        H: Fn(Arc<A>, Cx, Q) -> W + Copy + Send + Sync + 'static,
    {
        let (api, handlers) = (Arc::clone(&self.api), Arc::clone(&self.runtime.handlers));
        let call: Call = Arc::new(move |cx, mut input| {
            let (api, handlers) = (Arc::clone(&api), Arc::clone(&handlers));
            Box::pin(async move {
                let permit = handlers
                    .try_acquire_owned()
                    .map_err(|_| Problem::new(ProblemCode::TooManyRequests, "too many requests are being worked on"));
                // Health answers under any load: whoever asks decides by it whether to kill us.
                let permit = if operation.auth { Some(permit?) } else { permit.ok() };
                let request = Q::from_input(&mut input).await?;
                drop(input);
                let work = async move {
                    let outcome = AssertUnwindSafe(handler(api, cx, request)).catch_unwind().await;
                    drop(permit);
                    outcome
                };
                // A task of its own: when the client hangs up, this future is dropped and the work goes on.
                match tokio::spawn(work.in_current_span()).await {
                    Ok(Ok(result)) => result.map(IntoReply::into_reply),
                    Ok(Err(panic)) => Err(panicked(operation, panic.as_ref())),
                    Err(_) => Err(Problem::new(ProblemCode::Unavailable, "the daemon is stopping")),
                }
            })
        });
        self.by_path.entry(operation.path).or_default().push(Route { operation, call });
        self
    }

    pub(crate) fn build(self) -> axum::Router {
        let runtime = self.runtime;
        let unknown = runtime.clone();
        let mut router = axum::Router::new().fallback(move |request: Request| answer(unknown.clone(), None, request));
        for (path, routes) in self.by_path {
            let (runtime, routes) = (runtime.clone(), Arc::<[Route]>::from(routes));
            let handler = move |request: Request| answer(runtime.clone(), Some(Arc::clone(&routes)), request);
            router = router.route(path, axum::routing::any(handler));
        }
        router
    }
}

fn panicked(operation: &Operation, panic: &(dyn std::any::Any + Send)) -> Problem {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(operation = operation.id, panic = text.unwrap_or("no text"), "a handler panicked");
    Problem::new(ProblemCode::Internal, "an internal error; the log has more under the request id")
}

/// Answers one request, whatever it is.
async fn answer(runtime: Runtime, routes: Option<Arc<[Route]>>, request: Request) -> Response<Body> {
    let start = Instant::now();
    let request_id = trace::request_id(request.headers());
    let traceparent = trace::traceparent(request.headers());
    // Held until there is an answer: when the caller hangs up, this future is dropped.
    let (cx, _waits) = Cx::new(&request_id, &traceparent);
    let span = tracing::info_span!("request", request.id = %request_id);
    let mut answered = Answered { request_id: request_id.as_str().into(), operation: None, code: None };
    let result = dispatch(&runtime, routes.as_deref(), request, &cx, &mut answered.operation).instrument(span).await;
    let mut response = result.unwrap_or_else(|problem| {
        answered.code = Some(problem.code());
        check_declared(answered.operation, &problem);
        problem.into_response(&request_id)
    });
    let headers = response.headers_mut();
    let mut stamp = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    stamp("x-request-id", &request_id);
    stamp("traceparent", &traceparent);
    if answered.operation.is_some_and(Operation::is_mutation) {
        stamp("server-timing", &cx.server_timing(start.elapsed()));
    }
    response.extensions_mut().insert(answered);
    response
}

async fn dispatch(
    runtime: &Runtime,
    routes: Option<&[Route]>,
    request: Request,
    cx: &Cx,
    found: &mut Option<&'static Operation>,
) -> Result<Response<Body>, Problem> {
    let (mut parts, body) = request.into_parts();
    runtime.gate.admit(&parts)?;
    let Some(routes) = routes else {
        return Err(Problem::new(ProblemCode::RouteNotFound, "this path is not in the API"));
    };
    let Some(route) = routes.iter().find(|route| route.operation.method == parts.method.as_str()) else {
        return Err(method_not_allowed(routes));
    };
    *found = Some(route.operation);
    let claims = if route.operation.auth { runtime.gate.identify(&parts)? } else { None };
    check_scopes(route.operation, claims.as_ref())?;
    let until =
        Until { stopping: runtime.stopping.clone(), expires_at: claims.as_ref().map(|claims| claims.expires_at) };
    let path = path_parameters(&mut parts).await?;
    let input = Input::new(route.operation, path, parts, body, runtime.limits)?;
    let cx = cx.clone().with_claims(claims);
    let reply = (route.call)(cx, input).await?;
    reply.into_response(until, &runtime.limits)
}

/// Where no token is needed, everything is allowed.
fn check_scopes(operation: &Operation, claims: Option<&Claims>) -> Result<(), Problem> {
    let Some(claims) = claims else { return Ok(()) };
    match operation.scopes.iter().find(|scope| !claims.scopes.iter().any(|it| it == *scope)) {
        None => Ok(()),
        Some(missing) => {
            let why = format!("the token's scope does not hold {missing:?}");
            Err(Problem::new(ProblemCode::InsufficientScope, why))
        }
    }
}

fn method_not_allowed(routes: &[Route]) -> Problem {
    let methods: Vec<&str> = routes.iter().map(|route| route.operation.method).collect();
    let problem = Problem::new(ProblemCode::MethodNotAllowed, format!("this path has {}", methods.join(", ")));
    match HeaderValue::from_str(&methods.join(", ")) {
        Ok(value) => problem.with_header(header::ALLOW, value),
        Err(_) => problem,
    }
}

async fn path_parameters(parts: &mut Parts) -> Result<Vec<(String, String)>, Problem> {
    use axum::extract::FromRequestParts as _;
    let parameters = RawPathParams::from_request_parts(parts, &()).await;
    let parameters = parameters.map_err(|_| Problem::new(ProblemCode::BadRequest, "the path is not UTF-8"))?;
    Ok(parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// An answer that the document does not have is a bug of ours, but still the best answer.
fn check_declared(operation: Option<&'static Operation>, problem: &Problem) {
    let status = problem.code().status();
    if let Some(operation) = operation.filter(|operation| !operation.statuses.contains(&status)) {
        tracing::error!(operation = operation.id, status, code = %problem.code(), "an undeclared answer");
    }
}
