//! One request to a registry: authorization, bounded retries, pauses that it asks for, bounded answers.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use dataplane_types::Digest;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};

use super::error::chain;
use super::{RegistryError, RegistryOptions, Repository};
use crate::ContentError;

const MAX_REDIRECTS: usize = 5;

/// Connections, made when first needed: one set for loopback, which no proxy may see, and one for the rest.
#[derive(Debug, Default)]
pub(super) struct Clients {
    loopback: Mutex<Option<Client>>,
    remote: Mutex<Option<Client>>,
}

impl Clients {
    pub(super) fn get(&self, is_loopback: bool, options: &RegistryOptions) -> Result<Client, RegistryError> {
        let slot = if is_loopback { &self.loopback } else { &self.remote };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let client = build(is_loopback, options).map_err(|error| RegistryError::Setup(chain(error)))?;
        Ok(slot.insert(client).clone())
    }
}

fn build(is_loopback: bool, options: &RegistryOptions) -> Result<Client, reqwest::Error> {
    // Another part of the process may have installed it already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .user_agent(concat!("dataplane/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.silence)
        .redirect(redirect::Policy::custom(|attempt| {
            let was_secure = attempt.previous().last().is_some_and(|from| from.scheme() == "https");
            if attempt.previous().len() > MAX_REDIRECTS {
                attempt.error("too many redirects")
            } else if was_secure && attempt.url().scheme() != "https" {
                attempt.error("a redirect away from TLS")
            } else {
                attempt.follow()
            }
        }));
    if is_loopback { builder.no_proxy().build() } else { builder.build() }
}

pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Repository {
    pub(super) fn protocol(&self, detail: impl Into<String>) -> RegistryError {
        RegistryError::Protocol { registry: self.reference.registry().to_owned(), detail: detail.into() }
    }

    fn unavailable(&self, attempts: u32, detail: String) -> RegistryError {
        RegistryError::Unavailable { registry: self.reference.registry().to_owned(), attempts, detail }
    }

    /// Waits before another attempt, or says that there is none.
    pub(super) async fn pause(&self, attempt: u32, detail: String) -> Result<(), RegistryError> {
        if attempt >= self.options.retries {
            return Err(self.unavailable(attempt + 1, detail));
        }
        tracing::debug!(
            registry.name = self.reference.registry(),
            attempt,
            detail,
            "a request to a registry is tried again"
        );
        let pause = self.options.first_pause.saturating_mul(1 << attempt.min(16)).min(self.options.longest_pause);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Sends a request until it gets an answer that is not a passing trouble.
    pub(super) async fn get_retried(
        &self,
        request: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let mut attempt = 0;
        loop {
            let detail = match request(&self.client).send().await {
                Ok(answer) if !is_passing(answer.status()) => return Ok(answer),
                Ok(answer) => {
                    let told = retry_after(answer.headers(), Utc::now());
                    let is_last = attempt >= self.options.retries;
                    let is_limit = answer.status() == StatusCode::TOO_MANY_REQUESTS;
                    if told.is_some_and(|told| told > self.options.longest_pause) || (is_limit && is_last) {
                        let registry = self.reference.registry().to_owned();
                        return Err(RegistryError::Busy { registry, retry_after: told });
                    }
                    if let Some(told) = told.filter(|_| !is_last) {
                        tokio::time::sleep(told).await;
                        attempt += 1;
                        continue;
                    }
                    format!("it answered {}", answer.status())
                }
                Err(error) if error.is_redirect() => return Err(self.protocol(chain(error))),
                Err(error) => chain(error),
            };
            self.pause(attempt, detail).await?;
            attempt += 1;
        }
    }

    /// Gets an address, authorized as the registry wants it. The answer has a status of success.
    pub(super) async fn get(&self, url: &str, headers: &HeaderMap, what: &str) -> Result<Response, RegistryError> {
        // Once without, once with an answer to the challenge, and once more when a token has expired.
        for _ in 0..3 {
            let authorization = self.authorization.lock().await.clone();
            let answer = self.get_retried(|client| {
                let request = client.get(url).headers(headers.clone());
                match &authorization {
                    Some(value) => request.header(AUTHORIZATION, value.clone()),
                    None => request,
                }
            });
            let answer = answer.await?;
            match answer.status() {
                status if status.is_success() => return Ok(answer),
                StatusCode::UNAUTHORIZED => {
                    let challenges = answer.headers().get_all(WWW_AUTHENTICATE).iter();
                    let challenges: Vec<String> =
                        challenges.filter_map(|value| value.to_str().ok()).map(str::to_owned).take(8).collect();
                    let mut current = self.authorization.lock().await;
                    // Another transfer may have renewed it meanwhile.
                    if *current == authorization {
                        let renewed = self.answer(&challenges).await?;
                        if Some(&renewed) == authorization.as_ref() {
                            return Err(self.unauthorized("it does not accept these credentials"));
                        }
                        *current = Some(renewed);
                    }
                }
                StatusCode::FORBIDDEN => return Err(self.unauthorized("it answered 403 Forbidden")),
                StatusCode::NOT_FOUND => {
                    let registry = self.reference.registry().to_owned();
                    return Err(RegistryError::NotFound { registry, what: format!("{what} of {}", self.reference) });
                }
                status => return Err(self.protocol(format!("{status} for {what}"))),
            }
        }
        Err(self.unauthorized("it does not accept these credentials"))
    }

    /// Gets a small document whole, and the digest that the registry says it has.
    pub(super) async fn get_document(
        &self,
        url: &str,
        accept: &str,
        (subject, most): (&str, u64),
    ) -> Result<(Vec<u8>, Option<Digest>), RegistryError> {
        let accept = accept.parse().map_err(|_| self.protocol("a malformed Accept header"))?;
        let headers = HeaderMap::from_iter([(ACCEPT, accept)]);
        let mut attempt = 0;
        loop {
            let answer = self.get(url, &headers, subject).await?;
            let told = answer.headers().get("docker-content-digest");
            let told = told.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
            match self.read_bounded(answer, (subject, most)).await? {
                Ok(bytes) => return Ok((bytes, told)),
                Err(error) => self.pause(attempt, chain(error)).await?,
            }
            attempt += 1;
        }
    }

    /// Reads an answer of a bounded length; the inner error is the connection's.
    pub(super) async fn read_bounded(
        &self,
        mut answer: Response,
        (subject, most): (&str, u64),
    ) -> Result<Result<Vec<u8>, reqwest::Error>, RegistryError> {
        let too_long = || ContentError::limit(subject, "the size of a document", most);
        if answer.content_length().is_some_and(|length| length > most) {
            return Err(too_long().into());
        }
        let mut bytes = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => return Ok(Ok(bytes)),
                Err(error) => return Ok(Err(error)),
            }
            if bytes.len() as u64 > most {
                return Err(too_long().into());
            }
        }
    }
}

/// Answers that another attempt may better.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

/// How long the registry asks to be left alone: seconds or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some((date.with_timezone(&Utc) - now).to_std().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-11-06T08:49:37Z").unwrap().to_utc();
        for (text, expected) in [
            ("7", Some(7)),
            ("Fri, 06 Nov 2026 08:49:47 GMT", Some(10)),
            ("Fri, 06 Nov 2026 08:49:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn only_loopback_is_loopback() {
        for (host, expected) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("10.0.0.1", false),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
