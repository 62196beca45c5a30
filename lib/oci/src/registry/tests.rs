//! The client against a registry that misbehaves on demand: a few lines of HTTP on loopback.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::test_support::{Layer, documents, gzip, listing, scratch};

struct Request {
    path: String,
    headers: HashMap<String, String>,
    /// How often this path was asked for before.
    seen: usize,
}

#[derive(Default)]
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Bytes of the body after which the connection breaks.
    cut: Option<usize>,
    /// Whether to say nothing more, instead of breaking.
    hang: bool,
    /// Whether to leave out how long the body is.
    untold: bool,
}

fn reply(status: u16, body: &[u8]) -> Reply {
    Reply { status, body: body.to_vec(), ..Reply::default() }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

struct Fake {
    host: String,
    log: Arc<StdMutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let log = Arc::new(StdMutex::new(Vec::new()));
        let (handler, lines): (Arc<Handler>, _) = (Arc::new(handler), log.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, handler.clone(), lines.clone()));
            }
        });
        Self { host, log, task }
    }

    fn repository(&self, credentials: Option<Credentials>) -> Repository {
        let options = RegistryOptions {
            retries: 2,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_secs(1),
            silence: Duration::from_millis(300),
            ..RegistryOptions::default()
        };
        let reference = format!("{}/demo:1", self.host).parse().unwrap();
        Registries::new(options, Vec::new()).open(&reference, credentials).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, handler: Arc<Handler>, log: Arc<StdMutex<Vec<String>>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let seen = {
        let mut log = log.lock().unwrap();
        log.push(path.clone());
        log.iter().filter(|known| **known == path).count() - 1
    };
    let reply = handler(&Request { path, headers, seen });
    let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", reply.status);
    if !reply.untold {
        head += &format!("content-length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
    let sent = reply.cut.unwrap_or(reply.body.len());
    stream.write_all(&reply.body[..sent]).await.ok()?;
    stream.flush().await.ok()?;
    if reply.hang {
        std::future::pending::<()>().await;
    }
    Some(())
}

/// An image of two layers, and what a well-behaved registry answers for it.
#[derive(Clone)]
struct Image {
    manifest: Vec<u8>,
    blobs: HashMap<String, Vec<u8>>,
    big: String,
}

impl Image {
    fn new() -> Self {
        let noise: Vec<u8> = (0..200_000u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let layers = vec![Layer::default().file("a", &noise).finish(), Layer::default().file("b", b"b").finish()];
        let (config, manifest) = documents(&layers);
        let big = digest_of(&layers[0]).to_string();
        let blobs = layers.into_iter().chain([config]).map(|blob| (digest_of(&blob).to_string(), blob)).collect();
        Self { manifest, blobs, big }
    }

    fn answer(&self, request: &Request) -> Reply {
        if request.path == "/v2/demo/manifests/1" {
            return reply(200, &self.manifest);
        }
        let blob = request.path.strip_prefix("/v2/demo/blobs/").and_then(|digest| self.blobs.get(digest));
        let Some(blob) = blob else { return reply(404, b"") };
        let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
        match range.and_then(|range| range.trim_end_matches('-').parse::<usize>().ok()) {
            Some(from) => Reply {
                headers: vec![("content-range", format!("bytes {from}-{}/{}", blob.len() - 1, blob.len()))],
                ..reply(206, &blob[from..])
            },
            None => reply(200, blob),
        }
    }

    fn is_big(&self, request: &Request) -> bool {
        request.path.ends_with(&self.big)
    }
}

async fn fetch(repository: &Repository) -> Result<(FetchedImage, tempfile::TempDir, Transfer), RegistryError> {
    let limits = Limits::default();
    let directory = tempfile::tempdir().unwrap();
    let transfer = Transfer::default();
    let resolved = repository.resolve(&Platform::default(), &limits).await?;
    let image = repository.fetch(resolved, &scratch(directory.path()), &transfer).await?;
    Ok((image, directory, transfer))
}

async fn fetch_from(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Result<Vec<String>, RegistryError> {
    let fake = Fake::start(handler).await;
    let (image, directory, transfer) = fetch(&fake.repository(None)).await?;
    let (done, total) = transfer.now();
    assert_eq!((done, total), (image.manifest.layer_bytes(), image.manifest.layer_bytes()), "the progress is whole");
    Ok(listing(image.merge(&Limits::default(), &scratch(directory.path())).unwrap().tree()))
}

const EXPECTED: [&str; 2] = ["a file 800000", "b file 1"];

#[tokio::test]
async fn an_image_arrives_whole() {
    let image = Image::new();
    assert_eq!(fetch_from(move |request| image.answer(request)).await.unwrap(), EXPECTED);
}

#[tokio::test]
async fn passing_troubles_pass() {
    for status in [500, 502, 503, 429, 408] {
        let image = Image::new();
        let names =
            fetch_from(move |request| if request.seen < 2 { reply(status, b"sorry") } else { image.answer(request) });
        assert_eq!(names.await.unwrap(), EXPECTED, "{status}");
    }
}

#[tokio::test]
async fn lasting_troubles_end_after_a_bounded_number_of_attempts() {
    let fake = Fake::start(|_| reply(503, b"")).await;
    let error = fetch(&fake.repository(None)).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, RegistryError::Unavailable { attempts: 3, .. }), "{error}");
    assert_eq!(fake.requests().len(), 3);
    let error = fetch_from(|_| reply(400, b"")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Protocol { .. }), "{error}");
    let error = fetch_from(|_| reply(404, b"")).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn retry_after_is_honoured_within_its_bound() {
    let image = Image::new();
    let started = std::time::Instant::now();
    let names = fetch_from(move |request| {
        if request.path.contains("manifests") && request.seen == 0 {
            Reply { headers: vec![("retry-after", "1".to_owned())], ..reply(429, b"") }
        } else {
            image.answer(request)
        }
    });
    assert_eq!(names.await.unwrap(), EXPECTED);
    assert!(started.elapsed() >= Duration::from_secs(1), "it asked for a second");
    let busy = |_: &Request| Reply { headers: vec![("retry-after", "3600".to_owned())], ..reply(429, b"") };
    let error = fetch_from(busy).await.unwrap_err();
    let hour = Some(Duration::from_secs(3600));
    assert!(matches!(error, RegistryError::Busy { retry_after, .. } if retry_after == hour), "{error}");
}

#[tokio::test]
async fn a_lasting_rate_limit_is_no_outage() {
    for told in [None, Some("0")] {
        let headers = move || told.map(|told| ("retry-after", told.to_owned())).into_iter().collect();
        let fake = Fake::start(move |_| Reply { headers: headers(), ..reply(429, b"") }).await;
        let error = fetch(&fake.repository(None)).await.map(|_| ()).unwrap_err();
        let expected = told.map(|_| Duration::ZERO);
        assert!(matches!(error, RegistryError::Busy { retry_after, .. } if retry_after == expected), "{error}");
        assert_eq!(fake.requests().len(), 3);
    }
}

#[tokio::test]
async fn a_blob_goes_on_where_it_broke_off() {
    // Broken connections, and silence.
    for hang in [false, true] {
        let image = Image::new();
        let whole = image.clone();
        let fake = Fake::start(move |request| {
            let mut reply = image.answer(request);
            if image.is_big(request) && request.seen < 3 {
                reply.cut = Some(100_000);
                reply.hang = hang;
            }
            reply
        });
        let fake = fake.await;
        let (image, directory, transfer) = fetch(&fake.repository(None)).await.unwrap();
        assert_eq!(transfer.now().0, image.manifest.layer_bytes());
        let merged = image.merge(&Limits::default(), &scratch(directory.path())).unwrap();
        assert_eq!(listing(merged.tree()), EXPECTED);
        assert_eq!(fake.requests().iter().filter(|path| path.ends_with(&whole.big)).count(), 4);
    }
}

#[tokio::test]
async fn a_registry_that_ignores_ranges_is_read_from_the_start() {
    let image = Image::new();
    let names = fetch_from(move |request| {
        let plain = Request { path: request.path.clone(), headers: HashMap::new(), seen: request.seen };
        let mut reply = image.answer(&plain);
        if image.is_big(request) && request.seen == 0 {
            reply.cut = Some(100_000);
        }
        reply
    });
    assert_eq!(names.await.unwrap(), EXPECTED);
}

#[tokio::test]
async fn content_that_is_not_what_was_declared_is_refused() {
    let image = Image::new();
    let flipped = fetch_from(move |request| {
        let mut reply = image.answer(request);
        if image.is_big(request) {
            reply.body[1000] ^= 1;
        }
        reply
    });
    let error = flipped.await.unwrap_err();
    assert!(matches!(error, RegistryError::Content(ContentError::Digest { .. })), "{error}");
    let image = Image::new();
    let longer = fetch_from(move |request| {
        let mut reply = image.answer(request);
        if image.is_big(request) {
            reply.body.push(0);
        }
        reply
    });
    let error = longer.await.unwrap_err();
    assert!(matches!(error, RegistryError::Content(ContentError::Size { .. })), "{error}");
    let image = Image::new();
    let other_manifest = fetch_from(move |request| {
        let mut reply = image.answer(request);
        if request.path.contains("manifests") {
            reply.headers.push(("docker-content-digest", format!("sha256:{}", "0".repeat(64))));
        }
        reply
    });
    let error = other_manifest.await.unwrap_err();
    assert!(matches!(error, RegistryError::Content(ContentError::Digest { .. })), "{error}");
}

#[tokio::test]
async fn documents_are_bounded_whether_their_length_is_told_or_not() {
    for told in [true, false] {
        let error = fetch_from(move |_| Reply { untold: !told, ..reply(200, &vec![b' '; 5 << 20]) });
        let error = error.await.unwrap_err();
        assert!(matches!(error, RegistryError::Content(ContentError::Limit { .. })), "{error}");
    }
}

#[tokio::test]
async fn redirects_are_followed_but_not_for_ever() {
    let image = Image::new();
    let names = fetch_from(move |request| match request.path.strip_prefix("/elsewhere") {
        Some(path) => image.answer(&Request { path: path.to_owned(), headers: request.headers.clone(), seen: 0 }),
        None => Reply { headers: vec![("location", format!("/elsewhere{}", request.path))], ..reply(307, b"") },
    });
    assert_eq!(names.await.unwrap(), EXPECTED);
    let fake = Fake::start(|request| Reply { headers: vec![("location", request.path.clone())], ..reply(307, b"") });
    let fake = fake.await;
    let error = fetch(&fake.repository(None)).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, RegistryError::Protocol { .. }), "{error}");
    assert!(fake.requests().len() <= 8, "{} requests", fake.requests().len());
}

/// A registry behind a token service, which gives tokens that work once for each repository scope.
#[tokio::test]
async fn tokens_are_fetched_with_and_without_credentials_and_renewed() {
    let basic = Credentials::Basic { username: "alice".to_owned(), password: "secret".to_owned() };
    for credentials in [None, Some(basic)] {
        let image = Image::new();
        let is_anonymous = credentials.is_none();
        let host = Arc::new(StdMutex::new(String::new()));
        let realm = host.clone();
        let issued = StdMutex::new(0);
        let fake = Fake::start(move |request| {
            if request.path.starts_with("/token?") {
                assert_eq!(request.path, "/token?service=fake&scope=repository%3Ademo%3Apull");
                assert_eq!(!request.headers.contains_key("authorization"), is_anonymous);
                *issued.lock().unwrap() += 1;
                return reply(200, format!(r#"{{"token":"t{}"}}"#, issued.lock().unwrap()).as_bytes());
            }
            // The first token expires once the manifest is read.
            let valid = if request.path.contains("blobs") { "Bearer t2" } else { "Bearer t1" };
            if request.headers.get("authorization").map(String::as_str) == Some(valid) {
                return image.answer(request);
            }
            let challenge = format!(r#"Bearer realm="http://{}/token",service="fake""#, realm.lock().unwrap());
            Reply { headers: vec![("www-authenticate", challenge)], ..reply(401, b"") }
        });
        let fake = fake.await;
        host.lock().unwrap().clone_from(&fake.host);
        fetch(&fake.repository(credentials)).await.unwrap();
        assert_eq!(fake.requests().iter().filter(|path| path.starts_with("/token")).count(), 2);
    }
}

#[tokio::test]
async fn a_token_that_is_given_is_sent_as_it_is() {
    let image = Image::new();
    let fake = Fake::start(move |request| match request.headers.get("authorization").map(String::as_str) {
        Some("Bearer mine") => image.answer(request),
        _ => Reply { headers: vec![("www-authenticate", "Bearer realm=\"http://x/\"".to_owned())], ..reply(401, b"") },
    });
    let fake = fake.await;
    fetch(&fake.repository(Some(Credentials::Bearer("mine".to_owned())))).await.unwrap();
    let error = fetch(&fake.repository(Some(Credentials::Bearer("theirs".to_owned())))).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
    assert!(!format!("{error:?}").contains("theirs"));
}

#[tokio::test]
async fn compressed_layers_of_an_index_arrive() {
    let tar = Layer::default().file("a", b"x").finish();
    let packed = gzip(&tar);
    let (config, manifest) = documents(std::slice::from_ref(&tar));
    let mut value: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    value["layers"][0]["digest"] = digest_of(&packed).to_string().into();
    value["layers"][0]["size"] = packed.len().into();
    let manifest = serde_json::to_vec(&value).unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{"digest": digest_of(&manifest),
        "size": manifest.len(), "platform": {"os": "linux", "architecture": "amd64"}}]});
    let index = serde_json::to_vec(&index).unwrap();
    let all: HashMap<String, Vec<u8>> =
        [&packed, &config, &manifest].into_iter().map(|bytes| (digest_of(bytes).to_string(), bytes.clone())).collect();
    let top = digest_of(&index);
    let fake = Fake::start(move |request| match request.path.rsplit('/').next() {
        Some("1") => reply(200, &index),
        Some(digest) => all.get(digest).map_or_else(|| reply(404, b""), |bytes| reply(200, bytes)),
        None => reply(404, b""),
    });
    let fake = fake.await;
    let (image, directory, _) = fetch(&fake.repository(None)).await.unwrap();
    assert_eq!((image.top, image.digest), (top, digest_of(&manifest)));
    let merged = image.merge(&Limits::default(), &scratch(directory.path())).unwrap();
    assert_eq!(listing(merged.tree()), ["a file 1"]);
    assert_eq!(fake.repository(None).top_digest(&Limits::default()).await.unwrap(), top);
}
