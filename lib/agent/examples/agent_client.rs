//! Talks to a guest's agent over a Unix socket: `agent_client SOCKET [--vsock] [--stop GRACE_MS] [--keep]`. Prints one
//! line for each message, acknowledges `Exited` and stays until the guest is gone; `--keep` leaves at `Exited` without a
//! word. `--stop` asks the program to end once it has started; `--vsock` asks Cloud Hypervisor for the agent's port first.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use dataplane_agent::host::{AgentClient, AgentError};
use dataplane_agent::{AGENT_VSOCK_PORT, GuestMessage, HostMessage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const ATTEMPTS: usize = 300;
const INTERVAL: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (path, options) = arguments.split_first().ok_or("usage: agent_client SOCKET [--vsock] [--stop MS] [--keep]")?;
    let has = |name: &str| options.iter().any(|option| option == name);
    let stop = options.iter().position(|option| option == "--stop").and_then(|at| options.get(at + 1));
    let mut client = connect(path, has("--vsock")).await?;
    let mut out = std::io::stdout();
    loop {
        let message = match client.next().await {
            Err(AgentError::Closed) => return Ok(()),
            message => message?,
        };
        writeln!(out, "{}", serde_json::to_string(&message)?)?;
        match message {
            GuestMessage::Started { .. } => {
                if let Some(grace_ms) = stop {
                    client.send(&HostMessage::Stop { grace_ms: grace_ms.parse()? }).await?;
                }
            }
            GuestMessage::Exited { .. } => {
                if has("--keep") {
                    return Ok(());
                }
                client.send(&HostMessage::ExitRecorded).await?;
            }
            GuestMessage::Hello { .. }
            | GuestMessage::Answer { .. }
            | GuestMessage::Opened { .. }
            | GuestMessage::Credit { .. }
            | GuestMessage::End { .. }
            | GuestMessage::ProcessEnded { .. } => {}
        }
    }
}

async fn connect(path: &str, vsock: bool) -> Result<AgentClient, Box<dyn Error>> {
    for _ in 0..ATTEMPTS {
        if let Ok(mut stream) = UnixStream::connect(path).await
            && (!vsock || is_connected(&mut stream).await)
        {
            match AgentClient::handshake(stream, TIMEOUT).await {
                Err(AgentError::Closed) => {}
                client => return Ok(client?),
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Err("the guest's agent does not answer".into())
}

/// Cloud Hypervisor's own words before a vsock connection: `CONNECT port`, answered by `OK` and a number.
async fn is_connected(stream: &mut UnixStream) -> bool {
    if stream.write_all(format!("CONNECT {AGENT_VSOCK_PORT}\n").as_bytes()).await.is_err() {
        return false;
    }
    let mut line = Vec::new();
    while !line.ends_with(b"\n") && line.len() < 64 {
        match stream.read_u8().await {
            Ok(byte) => line.push(byte),
            Err(_) => return false,
        }
    }
    line.starts_with(b"OK ")
}
