//! The API socket as the real VMM's small HTTP server has it: GET and PUT only, no chunks, bodies up to 51,200 bytes,
//! ten connections, no reason phrases, a client that half-closes is gone.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::routes::Api;

const MAX_BODY: usize = 51_200;
const MAX_LINE: usize = 1024;
const MAX_HEADERS: usize = 64;
const MAX_CONNECTIONS: usize = 10;
const DROPPED: &str = "All previous unanswered requests will be dropped.";

/// One request that could be read.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) get: bool,
    pub(crate) path: String,
    pub(crate) body: Option<Vec<u8>>,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Option<Vec<u8>>,
    /// Done once the answer is out.
    pub(crate) then: Then,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Serve,
    Quit,
}

impl Response {
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, body: None, then: Then::Serve }
    }

    pub(crate) fn json(status: u16, body: &impl serde::Serialize) -> Self {
        Self { status, body: serde_json::to_vec(body).ok(), then: Then::Serve }
    }
}

/// The listening socket, and the lock that keeps a second VMM off it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    _lock: File,
}

impl Listener {
    /// Takes `<path>.lock`, removes what a dead VMM left, and listens.
    ///
    /// # Errors
    /// The chain of messages that the real VMM prints.
    pub(crate) fn bind(path: &Path) -> Result<Self, Vec<String>> {
        let failed = |message: String| vec!["Failed to start the VMM thread".to_owned(), message];
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = File::create(PathBuf::from(name)).map_err(|error| failed(error.to_string()))?;
        lock.try_lock().map_err(|_| {
            failed(format!("API socket {:?} is already in use by another running instance", path.display().to_string()))
        })?;
        Self::unlink(path);
        let socket = UnixListener::bind(path).map_err(|error| failed(error.to_string()))?;
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, private).map_err(|error| failed(error.to_string()))?;
        Ok(Self { socket, _lock: lock })
    }

    /// Removes the socket, not its lock.
    pub(crate) fn unlink(path: &Path) {
        let _missing = std::fs::remove_file(path);
    }
}

/// Accepts for the life of the process.
pub(crate) fn serve(listener: &Listener, api: &Arc<Api>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.socket.incoming().map_while(Result::ok) {
        if open.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
            open.fetch_sub(1, Ordering::SeqCst);
            let body = Some(br#"{ "error": "Too many open connections" }"#.to_vec());
            let _gone = write(&stream, &Response { status: 503, body, then: Then::Serve });
            continue;
        }
        let (api, open) = (Arc::clone(api), Arc::clone(&open));
        thread::spawn(move || {
            // A broken connection concerns its client alone.
            let _broken = converse(&stream, &api);
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn converse(stream: &UnixStream, api: &Api) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let response = match read(&mut reader)? {
            None => return Ok(()),
            Some(Ok(request)) => api.handle(&request),
            Some(Err(response)) => {
                write(stream, &response)?;
                return Ok(());
            }
        };
        if half_closed(stream)? {
            return Ok(());
        }
        write(stream, &response)?;
        if response.then == Then::Quit {
            api.quit();
        }
    }
}

fn half_closed(stream: &UnixStream) -> io::Result<bool> {
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    Ok(poll(&mut fds, Some(&Timespec::default()))? > 0)
}

fn write(mut stream: &UnixStream, response: &Response) -> io::Result<()> {
    let mut bytes =
        format!("HTTP/1.1 {} \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n", response.status)
            .into_bytes();
    if response.status != 204 {
        let length = response.body.as_ref().map_or(0, Vec::len);
        bytes.extend(format!("Content-Type: application/json\r\nContent-Length: {length}\r\n").into_bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(response.body.iter().flatten());
    stream.write_all(&bytes)
}

type Read1 = Result<Request, Response>;

/// `None` when the client is gone.
fn read(reader: &mut BufReader<&UnixStream>) -> io::Result<Option<Read1>> {
    let Some(line) = read_line(reader)? else { return Ok(None) };
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut length = 0;
    let mut chunked = false;
    for _ in 0..MAX_HEADERS {
        let Some(line) = read_line(reader)? else { return Ok(None) };
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    let get = match method.as_str() {
        "GET" => true,
        "PUT" => false,
        "PATCH" => return Ok(Some(Err(Response::empty(400)))),
        _ => return Ok(Some(Err(refused("Invalid HTTP Method: Unsupported HTTP method.")))),
    };
    if chunked {
        return Ok(Some(Err(refused("Invalid request."))));
    }
    if length > MAX_BODY {
        let message =
            format!("Request payload with size {length} is larger than the limit of {MAX_BODY} allowed by server.");
        return Ok(Some(Err(refused(&message))));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Ok(Request { get, path, body: (length > 0).then_some(body) })))
}

/// The HTTP layer's own errors hold a raw newline: they are no JSON, in the real one too.
fn refused(message: &str) -> Response {
    let body = format!("{{ \"error\": \"{message}\n{DROPPED}\" }}").into_bytes();
    Response { status: 400, body: Some(body), then: Then::Serve }
}

fn read_line(reader: &mut BufReader<&UnixStream>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let count = reader.by_ref().take(MAX_LINE as u64 + 2).read_until(b'\n', &mut line)?;
    if count == 0 {
        return Ok(None);
    }
    if !line.ends_with(b"\r\n") {
        return Err(io::ErrorKind::InvalidData.into());
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).map(Some).map_err(io::Error::other)
}
