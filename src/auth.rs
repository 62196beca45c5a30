//! Who may call: bearer tokens where there is a secret, the rules of loopback where there is none.
//!
//! Loopback is not a safe place: any web page in a browser on this host can reach it, and so can any local program.
//! A name that resolves to loopback (DNS rebinding) is told by `Host`, a page by `Origin`. Callers of the Unix socket
//! were checked by their credentials when they connected. Tokens come in a header only, never in a URL.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use chrono::{DateTime, Utc};
use dataplane_api::{Claims, Gate, Problem, ProblemCode};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

/// The shortest secret: as long as the hash of HS256 (RFC 7518, 3.2).
const SHORTEST_SECRET: usize = 32;

/// Why the API cannot be guarded as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// A secret that can be guessed.
    #[error("the JWT secret has {0} bytes; at least {SHORTEST_SECRET} are needed")]
    WeakSecret(usize),
    /// Everybody on the network could call.
    #[error("listening on {0} needs a JWT secret; without one only a loopback address is served")]
    NotLoopback(IpAddr),
}

/// Where a connection comes from: an extension of each of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over the Unix socket, by a process of root or of the daemon's own user.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// The daemon's [`Gate`].
pub(crate) enum Policy {
    /// Everybody with a token.
    Tokens(Box<Tokens>),
    /// Everybody on loopback, but no web page.
    Loopback,
}

/// How tokens are checked.
pub(crate) struct Tokens {
    key: DecodingKey,
    validation: Validation,
}

impl Policy {
    /// Tokens if there is a secret, else loopback.
    ///
    /// # Errors
    /// The secret is weak, or there is none and the address is not loopback.
    pub(crate) fn new(secret: Option<&[u8]>, audience: Option<&str>, address: IpAddr) -> Result<Self, AuthError> {
        match secret {
            Some(secret) if secret.len() < SHORTEST_SECRET => Err(AuthError::WeakSecret(secret.len())),
            Some(secret) => Ok(Self::Tokens(Box::new(Tokens::new(secret, audience)))),
            None if !address.is_loopback() => Err(AuthError::NotLoopback(address)),
            None => Ok(Self::Loopback),
        }
    }
}

impl Gate for Policy {
    fn admit(&self, parts: &Parts) -> Result<(), Problem> {
        match (self, parts.extensions.get::<Peer>()) {
            (_, Some(Peer::Unix)) | (Self::Tokens(_), Some(Peer::Tcp(_)) | None) => Ok(()),
            (Self::Loopback, Some(Peer::Tcp(_)) | None) => check_loopback(parts),
        }
    }

    fn identify(&self, parts: &Parts) -> Result<Option<Claims>, Problem> {
        match (self, parts.extensions.get::<Peer>()) {
            (_, Some(Peer::Unix)) | (Self::Loopback, Some(Peer::Tcp(_)) | None) => Ok(None),
            (Self::Tokens(tokens), Some(Peer::Tcp(_)) | None) => tokens.check(&parts.headers, Utc::now()).map(Some),
        }
    }
}

#[derive(serde::Deserialize)]
struct Wire {
    sub: Option<String>,
    exp: f64,
    #[serde(default)]
    scope: Scope,
}

/// A text of words, as RFC 8693 has it, or a list of them.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Scope {
    Text(String),
    List(Vec<String>),
}

impl Default for Scope {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Scope {
    fn words(self) -> Vec<String> {
        match self {
            Self::Text(text) => text.split_ascii_whitespace().map(str::to_owned).collect(),
            Self::List(words) => words,
        }
    }
}

impl Tokens {
    fn new(secret: &[u8], audience: Option<&str>) -> Self {
        // The algorithm is ours to name, never the token's.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.validate_nbf = true;
        match audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.set_required_spec_claims(&["exp", "aud"]);
            }
            None => {
                validation.validate_aud = false;
                validation.set_required_spec_claims(&["exp"]);
            }
        }
        Self { key: DecodingKey::from_secret(secret), validation }
    }

    fn check(&self, headers: &HeaderMap, now: DateTime<Utc>) -> Result<Claims, Problem> {
        let refuse = |why: &str| Problem::new(ProblemCode::Unauthorized, why);
        let token = bearer(headers).ok_or_else(|| refuse("one Authorization header with a bearer token is needed"))?;
        let decoded = jsonwebtoken::decode::<Wire>(token, &self.key, &self.validation);
        let claims = decoded.map_err(|error| refuse(reason(error.kind())))?.claims;
        let expires_at = time_of(claims.exp).ok_or_else(|| refuse("the token's exp is no time"))?;
        // RFC 7519, 4.1.4: not accepted on or after that time; the library takes it for one second more.
        if expires_at <= now {
            return Err(refuse("the token has expired"));
        }
        Ok(Claims { subject: claims.sub, expires_at, scopes: claims.scope.words() })
    }
}

/// The one bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = single(headers, &header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_start())
}

/// What a caller may know of why a token is refused.
fn reason(kind: &ErrorKind) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list is open")]
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks a claim that is needed (exp, or aud)",
        _ => "the token is not valid",
    }
}

/// A NumericDate (RFC 7519), cut to milliseconds.
fn time_of(seconds: f64) -> Option<DateTime<Utc>> {
    let milliseconds = (seconds * 1e3).floor();
    #[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
    let whole = (milliseconds.abs() < 1e15).then_some(milliseconds as i64)?;
    DateTime::from_timestamp_millis(whole)
}

/// `Host` must be a loopback name or address; an `Origin` must be that very host.
fn check_loopback(parts: &Parts) -> Result<(), Problem> {
    let refuse = |why: &str| Err(Problem::new(ProblemCode::Forbidden, why));
    let Some(host) = single(&parts.headers, &header::HOST) else { return refuse("one Host header is needed") };
    let target = parts.uri.authority().map_or(host, |authority| authority.as_str());
    if !is_loopback(host) || !is_loopback(target) {
        return refuse("Host must be a loopback name or address");
    }
    if !parts.headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let origin = single(&parts.headers, &header::ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
    match origin {
        Some(origin) if origin.eq_ignore_ascii_case(host) => Ok(()),
        Some(_) | None => refuse("web pages of another origin may not use this API"),
    }
}

/// The value of a header that is there exactly once, as text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

/// Whether a `host[:port]` is loopback by its text alone; nothing is looked up.
fn is_loopback(authority: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = authority.strip_prefix('[') {
        let Some((address, behind)) = rest.split_once(']') else { return false };
        let port_fits = behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port);
        return port_fits && address.parse::<std::net::Ipv6Addr>().is_ok_and(|address| address.is_loopback());
    }
    let (host, port_fits) = authority.split_once(':').map_or((authority, true), |(host, port)| (host, is_port(port)));
    let is_address = host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    port_fits && (is_address || host.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests;
