//! Tables of callers: who gets in, and why the others do not.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::Request;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn parts(peer: Peer, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri("/images").extension(peer);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn tcp() -> Peer {
    Peer::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)))
}

fn signed(algorithm: Algorithm, secret: &[u8], claims: &Value) -> String {
    let token = jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).unwrap();
    format!("Bearer {token}")
}

fn in_an_hour() -> i64 {
    Utc::now().timestamp() + 3600
}

fn identify(policy: &Policy, peer: Peer, authorization: &[&str]) -> Result<Option<Claims>, Problem> {
    let headers: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
    policy.identify(&parts(peer, &headers))
}

#[test]
fn weak_secrets_and_open_addresses_stop_the_start() {
    let open = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    for (secret, address, expected) in [
        (Some(&SECRET[..31]), LOOPBACK, Some(AuthError::WeakSecret(31))),
        (Some(&[][..]), LOOPBACK, Some(AuthError::WeakSecret(0))),
        (None, open, Some(AuthError::NotLoopback(open))),
        (None, IpAddr::V6(Ipv6Addr::UNSPECIFIED), Some(AuthError::NotLoopback(Ipv6Addr::UNSPECIFIED.into()))),
        (Some(SECRET), open, None),
        (None, LOOPBACK, None),
        (None, IpAddr::V6(Ipv6Addr::LOCALHOST), None),
    ] {
        assert_eq!(Policy::new(secret, None, address).err(), expected, "{address}");
    }
}

#[test]
fn only_a_good_token_gets_in() {
    let policy = Policy::new(Some(SECRET), None, LOOPBACK).unwrap();
    let (soon, now) = (in_an_hour(), Utc::now().timestamp());
    let good = signed(Algorithm::HS256, SECRET, &json!({ "sub": "cp", "exp": soon, "aud": "anything" }));
    let claims = identify(&policy, tcp(), &[&good]).unwrap().unwrap();
    assert_eq!((claims.subject.as_deref(), claims.expires_at.timestamp()), (Some("cp"), soon));
    assert!(identify(&policy, tcp(), &[&good.replace("Bearer", "bEARER")]).is_ok());

    let token = good.strip_prefix("Bearer ").unwrap();
    let body = token.split('.').nth(1).unwrap();
    let unsigned = format!("Bearer eyJhbGciOiJub25lIn0.{body}.");
    let other_secret = [b'x'; 32];
    for (what, headers) in [
        ("no header", vec![]),
        ("two headers", vec![good.clone(), good.clone()]),
        ("another scheme", vec![format!("Basic {token}")]),
        ("no scheme", vec![token.to_owned()]),
        ("nothing", vec!["Bearer ".to_owned()]),
        ("no token", vec!["Bearer a.b.c".to_owned()]),
        ("no signature", vec![unsigned]),
        ("a cut signature", vec![good[..good.len() - 2].to_owned()]),
        ("another secret", vec![signed(Algorithm::HS256, &other_secret, &json!({ "exp": soon }))]),
        ("another algorithm", vec![signed(Algorithm::HS512, SECRET, &json!({ "exp": soon }))]),
        ("no exp", vec![signed(Algorithm::HS256, SECRET, &json!({ "sub": "cp" }))]),
        ("exp as text", vec![signed(Algorithm::HS256, SECRET, &json!({ "exp": "tomorrow" }))]),
        ("exp far beyond time", vec![signed(Algorithm::HS256, SECRET, &json!({ "exp": 1e300 }))]),
        ("expired just now", vec![signed(Algorithm::HS256, SECRET, &json!({ "exp": now }))]),
        ("expired long ago", vec![signed(Algorithm::HS256, SECRET, &json!({ "exp": 1 }))]),
        ("not yet valid", vec![signed(Algorithm::HS256, SECRET, &json!({ "exp": soon, "nbf": soon - 5 }))]),
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let problem = identify(&policy, tcp(), &headers).expect_err(what);
        assert_eq!(problem.code(), ProblemCode::Unauthorized, "{what}");
        assert!(!problem.message().contains("eyJ"), "{what}: a token must not come back");
    }
}

#[test]
fn an_audience_must_be_named_when_one_is_wanted() {
    let policy = Policy::new(Some(SECRET), Some("node-1"), LOOPBACK).unwrap();
    for (aud, good) in [
        (json!("node-1"), true),
        (json!(["node-1", "node-2"]), true),
        (json!("node-2"), false),
        (json!([]), false),
        (Value::Null, false),
    ] {
        let mut claims = json!({ "exp": in_an_hour() });
        if !aud.is_null() {
            claims["aud"] = aud.clone();
        }
        let token = signed(Algorithm::HS256, SECRET, &claims);
        assert_eq!(identify(&policy, tcp(), &[&token]).is_ok(), good, "{aud}");
    }
}

#[test]
fn the_unix_socket_needs_neither_token_nor_host() {
    for policy in [Policy::Loopback, Policy::new(Some(SECRET), None, LOOPBACK).unwrap()] {
        assert_eq!(identify(&policy, Peer::Unix, &[]), Ok(None));
        let strange = [("host", "evil.example"), ("origin", "http://evil.example")];
        assert!(policy.admit(&parts(Peer::Unix, &strange)).is_ok());
    }
}

#[test]
fn on_loopback_host_and_origin_decide() {
    let policy = Policy::Loopback;
    for (headers, good) in [
        (&[("host", "localhost")][..], true),
        (&[("host", "LocalHost:8080")], true),
        (&[("host", "127.0.0.1:8080")], true),
        (&[("host", "127.8.9.1")], true),
        (&[("host", "[::1]:8080")], true),
        (&[("host", "[::1]")], true),
        (&[], false),
        (&[("host", "")], false),
        (&[("host", "localhost"), ("host", "localhost")], false),
        (&[("host", "evil.example")], false),
        (&[("host", "localhost.evil.example")], false),
        (&[("host", "127.0.0.1.evil.example")], false),
        (&[("host", "localhost:80@evil.example")], false),
        (&[("host", "localhost:99999")], false),
        (&[("host", "0.0.0.0")], false),
        (&[("host", "192.168.0.1")], false),
        (&[("host", "[::1]x")], false),
        (&[("host", "::1")], false),
        (&[("host", "localhost:8080"), ("origin", "http://localhost:8080")], true),
        (&[("host", "localhost:8080"), ("origin", "http://localhost:3000")], false),
        (&[("host", "localhost:8080"), ("origin", "http://evil.example")], false),
        (&[("host", "localhost:8080"), ("origin", "https://localhost:8080")], false),
        (&[("host", "localhost:8080"), ("origin", "null")], false),
        (&[("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://evil.example")], false),
    ] {
        let result = policy.admit(&parts(tcp(), headers));
        assert_eq!(result.is_ok(), good, "{headers:?}");
        assert!(result.err().is_none_or(|problem| problem.code() == ProblemCode::Forbidden));
    }
    let mut absolute = parts(tcp(), &[("host", "localhost")]);
    absolute.uri = "http://evil.example/images".parse().unwrap();
    assert!(policy.admit(&absolute).is_err());
    assert!(Policy::new(Some(SECRET), None, LOOPBACK).unwrap().admit(&parts(tcp(), &[])).is_ok());
}
