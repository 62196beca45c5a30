//! nftables: rules go in as text through the `nft` program, in one transaction; whether our table exists is asked of the
//! kernel directly, which is cheap enough for a readiness probe.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use nix::libc;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::backend::BackendError;

const DEADLINE: Duration = Duration::from_secs(20);

/// How much of nft's complaint goes into our error.
const COMPLAINT: usize = 1000;

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE` (linux/netfilter/nfnetlink.h, nf_tables.h).
const GET_TABLE: u16 = 10 << 8 | 1;
const NFPROTO_INET: u8 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;

pub(super) async fn apply(script: &str) -> Result<(), BackendError> {
    match tokio::time::timeout(DEADLINE, run(script)).await {
        Ok(outcome) => outcome,
        // The child is killed with its handle.
        Err(_) => Err(BackendError::NftTimeout(DEADLINE.as_secs())),
    }
}

async fn run(script: &str) -> Result<(), BackendError> {
    let mut child = spawn().map_err(BackendError::NftSpawn)?;
    if let Some(mut input) = child.stdin.take() {
        // A child that has ended early says why on its standard error, which is read below.
        let _ = input.write_all(script.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(BackendError::NftSpawn)?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(BackendError::NftRefused(complaint.trim().chars().take(COMPLAINT).collect()))
}

/// A service's PATH may lack the directories of administration, where Debian has `nft`.
fn spawn() -> io::Result<tokio::process::Child> {
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for program in ["nft", "/usr/sbin/nft", "/sbin/nft"] {
        let child = Command::new(program)
            .args(["-f", "-"])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        match child {
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
            outcome => return outcome,
        }
    }
    Err(last)
}

pub(super) fn table_exists(name: &str) -> Result<bool, BackendError> {
    ask_table(name).map_err(|source| BackendError::Netlink { act: "look up table", subject: name.to_owned(), source })
}

fn ask_table(name: &str) -> io::Result<bool> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.send_to(&table_request(name)?, &SocketAddr::new(0, 0), 0)?;
    // The kernel has put its answer into the socket before the request returned: this does not wait.
    let (answer, _) = socket.recv_from_full()?;
    let field = |at: usize| answer.get(at..at + 2).and_then(|two| two.try_into().ok()).map(u16::from_ne_bytes);
    if field(4) != Some(NLMSG_ERROR) {
        return Ok(true);
    }
    let code = answer.get(16..20).and_then(|four| four.try_into().ok()).map_or(0, i32::from_ne_bytes);
    match code.abs() {
        libc::ENOENT => Ok(false),
        other => Err(io::Error::from_raw_os_error(other)),
    }
}

/// A netlink header (16 bytes), an nfnetlink header (4) and the name as attribute, padded to four.
fn table_request(name: &str) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::from_raw_os_error(libc::ENAMETOOLONG);
    let attribute = u16::try_from(4 + name.len() + 1).map_err(too_long)?;
    let padded = usize::from(attribute).next_multiple_of(4);
    let length = 20 + padded;
    let mut message = Vec::with_capacity(length);
    message.extend(u32::try_from(length).map_err(too_long)?.to_ne_bytes());
    message.extend(GET_TABLE.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([NFPROTO_INET, 0, 0, 0]);
    message.extend(attribute.to_ne_bytes());
    message.extend(NFTA_TABLE_NAME.to_ne_bytes());
    message.extend(name.as_bytes());
    message.resize(length, 0);
    Ok(message)
}
