//! The hybrid vsock socket: `CONNECT <port>` reaches what the guest listens on, `OK <port>` comes back; where nothing
//! listens, the connection is closed without a word.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use dataplane_agent::AGENT_VSOCK_PORT;

use crate::agent;
use crate::guest::Shared;

const MAX_COMMAND: usize = 32;

/// The bound socket; dropping it removes the file.
#[derive(Debug)]
pub(crate) struct Vsock {
    path: PathBuf,
    listener: Arc<UnixListener>,
}

impl Vsock {
    /// Binds and serves.
    ///
    /// # Errors
    /// The real VMM's chain of messages.
    pub(crate) fn bind(path: &Path, guest: Arc<Shared>) -> Result<Self, Vec<String>> {
        let failed = |error: io::Error| {
            vec![
                "Error from device manager".into(),
                "Cannot create virtio-vsock backend".into(),
                "Error binding to the host-side Unix socket".into(),
                error.to_string(),
            ]
        };
        let listener = Arc::new(UnixListener::bind(path).map_err(failed)?);
        let accepting = Arc::clone(&listener);
        thread::spawn(move || {
            for stream in accepting.incoming().map_while(Result::ok) {
                let guest = Arc::clone(&guest);
                // A broken connection concerns its client alone.
                thread::spawn(move || connect(&stream, &guest));
            }
        });
        Ok(Self { path: path.to_owned(), listener })
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        let _missing = std::fs::remove_file(&self.path);
        // Wakes the accepting thread, which then ends.
        let _woken = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
    }
}

fn connect(mut stream: &UnixStream, guest: &Arc<Shared>) -> io::Result<()> {
    let mut command = Vec::new();
    let mut byte = [0];
    while command.last() != Some(&b'\n') {
        stream.read_exact(&mut byte)?;
        command.push(byte[0]);
        if command.len() > MAX_COMMAND {
            return Ok(());
        }
    }
    if command != format!("CONNECT {AGENT_VSOCK_PORT}\n").into_bytes() {
        return Ok(());
    }
    stream.write_all(b"OK 1073741824\n")?;
    agent::serve(guest, stream)
}
