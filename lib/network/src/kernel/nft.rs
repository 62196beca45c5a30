//! nftables: rules go in as text through the `nft` program, in one transaction; whether our table exists is asked of the
//! kernel directly, which is cheap enough for a readiness probe.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use nix::libc;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::elements::family_number;
use super::nfnetlink::{NFTABLES, Request, Wire};
use crate::backend::BackendError;
use crate::element::Family;

const DEADLINE: Duration = Duration::from_secs(20);

/// How much of nft's complaint goes into our error.
const COMPLAINT: usize = 1000;

/// `NFT_MSG_GETTABLE`, `NFTA_TABLE_NAME` (linux/netfilter/nf_tables.h).
const GET_TABLE: u16 = 1;
const TABLE_NAME: u16 = 1;

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

/// Whether there is a table of this name.
pub(super) fn table_exists(wire: &mut Wire, family: Family, name: &str) -> Result<bool, BackendError> {
    let mut request = Request::default();
    request.message(NFTABLES, GET_TABLE, 0, family_number(family));
    request.text(TABLE_NAME, name);
    match request.send(wire, |_, _| {}) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(source) => Err(BackendError::Netlink { act: "look up table", subject: name.to_owned(), source }),
    }
}
