//! Answering a registry's challenge: basic credentials, or a token from the place that the challenge names.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::error::chain;
use super::{RegistryError, Repository};

/// A token and what comes with it is small.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// Who asks. Held for one request, never stored, never shown.
#[derive(Clone)]
pub enum Credentials {
    /// For basic authentication, and for asking for a token.
    Basic {
        /// The user's name.
        username: String,
        /// The user's password.
        password: String,
    },
    /// A token to be sent as it is.
    Bearer(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

/// What a `WWW-Authenticate` header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads one header (RFC 9110, section 11.6.1); `None` for schemes that are not spoken here.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, parameters) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (name, value) in Parameters(parameters) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }
}

/// `name=value` and `name="quoted"`, separated by commas.
struct Parameters<'a>(&'a str);

impl Iterator for Parameters<'_> {
    type Item = (String, String);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.trim_start_matches([' ', ',', '\t']);
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"')?;
                (&quoted[..end], &quoted[end + 1..])
            }
            None => rest.split_at(rest.find([',', ' ']).unwrap_or(rest.len())),
        };
        self.0 = rest;
        Some((name.trim().to_owned(), value.to_owned()))
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl Repository {
    pub(super) fn unauthorized(&self, detail: impl Into<String>) -> RegistryError {
        RegistryError::Unauthorized {
            registry: self.reference.registry().to_owned(),
            repository: self.reference.repository().to_owned(),
            detail: detail.into(),
        }
    }

    /// Makes the header that answers the challenges of a 401.
    pub(super) async fn answer(&self, challenges: &[String]) -> Result<HeaderValue, RegistryError> {
        if let Some(Credentials::Bearer(token)) = &self.credentials {
            return header(&format!("Bearer {token}"));
        }
        let known: Vec<Challenge> = challenges.iter().filter_map(|text| Challenge::parse(text)).collect();
        let bearer = known.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        match bearer.or(known.first()) {
            Some(Challenge::Bearer { realm, service, scope }) => {
                let token = self.fetch_token(realm, service.as_deref(), scope.as_deref()).await?;
                header(&format!("Bearer {token}"))
            }
            Some(Challenge::Basic) => {
                let basic = self.basic().ok_or_else(|| self.unauthorized("it wants a user name and a password"))?;
                header(&basic)
            }
            None => Err(self.unauthorized("it asks for a kind of authentication that is not supported")),
        }
    }

    fn basic(&self) -> Option<String> {
        let Some(Credentials::Basic { username, password }) = &self.credentials else { return None };
        Some(format!("Basic {}", BASE64.encode(format!("{username}:{password}"))))
    }

    async fn fetch_token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<String, RegistryError> {
        let mut url = reqwest::Url::parse(realm).map_err(|_| self.protocol("its token realm is no address"))?;
        // Credentials would go there: over TLS, unless the registry itself is one that was declared plain.
        if url.scheme() != "https" && !(url.scheme() == "http" && self.is_plain) {
            return Err(self.protocol("its token realm is not https"));
        }
        let default_scope = format!("repository:{}:pull", self.reference.repository());
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            query.append_pair("scope", scope.unwrap_or(&default_scope));
        }
        let answer = self.get_retried(|client| {
            let request = client.get(url.clone());
            match self.basic().and_then(|basic| header(&basic).ok()) {
                Some(basic) => request.header(reqwest::header::AUTHORIZATION, basic),
                None => request,
            }
        });
        let answer = answer.await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(self.unauthorized(format!("its token service answered {status}")));
        }
        let bytes = self.read_bounded(answer, ("the token", MAX_TOKEN_BYTES)).await?;
        let bytes = bytes.map_err(|error| self.protocol(chain(error)))?;
        let answer: TokenAnswer =
            serde_json::from_slice(&bytes).map_err(|_| self.protocol("its token service answered no token"))?;
        answer.token.or(answer.access_token).ok_or_else(|| self.protocol("its token service answered no token"))
    }
}

fn header(text: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| RegistryError::Setup("the credentials hold characters that no header may hold".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text = r#"Bearer realm="https://auth.example/token",service="reg, istry", scope="repository:a/b:pull""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token".to_owned(),
            service: Some("reg, istry".to_owned()),
            scope: Some("repository:a/b:pull".to_owned()),
        };
        assert_eq!(Challenge::parse(text), Some(expected));
        assert_eq!(Challenge::parse("basic realm=x"), Some(Challenge::Basic));
        let unquoted = Challenge::Bearer { realm: "http://x/t".to_owned(), service: Some("s".to_owned()), scope: None };
        assert_eq!(Challenge::parse("BEARER realm=http://x/t, service=s"), Some(unquoted));
        for bad in ["", "Negotiate", "Bearer", "Bearer service=x", r#"Bearer realm="open"#] {
            assert_eq!(Challenge::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn credentials_are_never_shown() {
        let secret = Credentials::Basic { username: "user".to_owned(), password: "hunter2".to_owned() };
        assert_eq!(format!("{secret:?} {:?}", Credentials::Bearer("hunter2".to_owned())), "(redacted) (redacted)");
        assert!(!format!("{:?}", header("Bearer hunter2").unwrap()).contains("hunter2"));
    }
}
