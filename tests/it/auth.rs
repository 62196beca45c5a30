//! Who may call, over TCP: loopback without a secret, tokens with one.

use dataplane::config::Secret;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::harness::Node;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

async fn call(node: &Node, request: Request<Full<Bytes>>) -> (u16, String) {
    let stream = tokio::net::TcpStream::connect(node.address()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer: Response<_> = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

fn get(path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_web_page_drives_a_daemon_on_loopback() {
    let node = Node::start().await;
    let host = node.address().to_string();
    let forbidden = (403, "forbidden".to_owned());
    for host in ["localhost", "127.0.0.1:8080", "[::1]", host.as_str()] {
        assert_eq!(call(&node, get("/instances", &[("host", host)])).await.0, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "192.168.1.1"] {
        assert_eq!(call(&node, get("/instances", &[("host", host)])).await, forbidden, "{host}");
    }
    for origin in ["https://evil.example", "null"] {
        assert_eq!(
            call(&node, get("/instances", &[("host", "localhost"), ("origin", origin)])).await,
            forbidden,
            "{origin}"
        );
    }
    // What a form can send without asking is refused by its media type.
    let form = Request::post("/instances").header("host", "localhost").header("content-type", "text/plain");
    assert_eq!(call(&node, form.body(Full::from("{}")).unwrap()).await.0, 415);
    assert_eq!(call(&node, get("/health", &[("host", "localhost")])).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_secret_only_valid_tokens_pass() {
    let node = Node::with(|config| {
        config.jwt_secret = Some(Secret::new(SECRET.to_vec()));
        config.jwt_audience = Some("node-1".into());
    })
    .await;
    let now = chrono::Utc::now().timestamp();
    let token = |secret: &[u8], header: Header, claims: Value| {
        encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    let good = token(SECRET, Header::default(), json!({ "exp": now + 60, "aud": "node-1" }));
    let hs384 = Header::new(jsonwebtoken::Algorithm::HS384);
    let bad = [
        ("no token", String::new()),
        ("another secret", token(&[7; 32], Header::default(), json!({ "exp": now + 60, "aud": "node-1" }))),
        ("expired", token(SECRET, Header::default(), json!({ "exp": now - 1, "aud": "node-1" }))),
        ("without exp", token(SECRET, Header::default(), json!({ "aud": "node-1" }))),
        ("another audience", token(SECRET, Header::default(), json!({ "exp": now + 60, "aud": "node-2" }))),
        ("another algorithm", token(SECRET, hs384, json!({ "exp": now + 60, "aud": "node-1" }))),
        ("garbage", "a.b.c".to_owned()),
    ];
    let bearer = |token: &str| format!("Bearer {token}");
    assert_eq!(call(&node, get("/instances", &[("host", "x"), ("authorization", &bearer(&good))])).await.0, 200);
    for (name, token) in bad {
        let answer = call(&node, get("/instances", &[("host", "x"), ("authorization", &bearer(&token))])).await;
        assert_eq!(answer, (401, "unauthorized".to_owned()), "{name}");
    }
    // Tokens never travel in URLs.
    assert_eq!(call(&node, get(&format!("/instances?token={good}"), &[("host", "x")])).await.0, 401);
    for open in ["/health", "/readyz", "/spec.yaml", "/spec.json"] {
        assert_ne!(call(&node, get(open, &[("host", "x")])).await.0, 401, "{open}");
    }
    // The Unix socket needs no token: its peer is root.
    assert_eq!(node.client.get("/instances").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_token_with_the_scope_gets_into_a_guest() {
    let node = Node::with(|config| config.jwt_secret = Some(Secret::new(SECRET.to_vec()))).await;
    let exp = chrono::Utc::now().timestamp() + 60;
    let ask = async |path: &str, scope: Value| {
        let mut claims = json!({ "exp": exp });
        if !scope.is_null() {
            claims["scope"] = scope;
        }
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap();
        call(&node, get(path, &[("host", "x"), ("authorization", &format!("Bearer {token}"))])).await
    };
    let refused = (403, "insufficient_scope".to_owned());
    for path in ["/instances/a/exec", "/instances/a/processes", "/instances/a/processes/7"] {
        for scope in [Value::Null, json!("read executive"), json!([]), json!(["exec2"])] {
            assert_eq!(ask(path, scope.clone()).await, refused, "{path} {scope}");
        }
        for scope in [json!("exec"), json!("read exec"), json!(["exec"])] {
            assert_ne!(ask(path, scope.clone()).await.0, 403, "{path} {scope}");
        }
    }
    assert_eq!(ask("/instances/a/stats", Value::Null).await.0, 404);
    assert_eq!(ask("/instances", Value::Null).await.0, 200);
}
