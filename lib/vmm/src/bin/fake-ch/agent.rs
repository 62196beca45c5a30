//! The simulated guest's side of the agent protocol.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use dataplane_agent::{Answer, Ask, Decoder, GuestMessage, GuestUsage, HostMessage, PROTOCOL_VERSION, encode};

use crate::exec::Streams;
use crate::guest::Shared;

/// What a simulated kernel keeps for itself of the machine's memory.
const KERNEL_KIB: u64 = 16 << 10;

/// Serves one connection until either side goes.
///
/// # Errors
/// [`io::Error`] when it breaks.
pub(crate) fn serve(guest: &Arc<Shared>, mut stream: &UnixStream) -> io::Result<()> {
    let mut decoder = Decoder::default();
    let mut streams = Streams::default();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        decoder.push(&buffer[..count]);
        while let Some((number, payload)) = decoder.next_frame() {
            if !guest.is_heard() {
                continue;
            }
            if number != 0 {
                streams.data(number, &payload);
            } else if let Ok(message) = serde_json::from_slice(&payload) {
                hear(guest, stream, &mut streams, message)?;
            }
        }
    }
}

fn hear(guest: &Arc<Shared>, stream: &UnixStream, streams: &mut Streams, message: HostMessage) -> io::Result<()> {
    let speaking = || guest.speaking.lock().unwrap_or_else(PoisonError::into_inner);
    match message {
        HostMessage::Hello { nonce, .. } => {
            let mut state = guest.lock();
            let _one = speaking();
            send(stream, &GuestMessage::Hello { version: PROTOCOL_VERSION, nonce })?;
            send(stream, &GuestMessage::Started { init_ms: 1 })?;
            if let Some(status) = state.memory.exit {
                send(stream, &GuestMessage::Exited { status, reason: None })?;
            }
            state.clients.push(stream.try_clone()?);
        }
        HostMessage::Stop { grace_ms } => {
            let kill_at = Instant::now() + Duration::from_millis(grace_ms);
            guest.change(|state| state.kill_at = state.kill_at.or(Some(kill_at)));
        }
        HostMessage::Open { stream: number, window, what } => streams.open(guest, stream, (number, window), what)?,
        HostMessage::Stream { stream, order } => streams.order(stream, order),
        HostMessage::ExitRecorded => guest.change(|state| state.memory.recorded = state.memory.exit.is_some()),
        HostMessage::Ask { id, ask } => {
            let answer = answer(guest, &ask);
            let _one = speaking();
            send(stream, &GuestMessage::Answer { id, answer })?;
        }
    }
    Ok(())
}

fn answer(guest: &Shared, ask: &Ask) -> Answer {
    match ask {
        Ask::Ping | Ask::Sync => Answer::Done,
        Ask::SetClock { unix_ns, .. } => {
            guest.change(|state| state.clock.set(*unix_ns));
            Answer::Done
        }
        Ask::ReadClock => Answer::Clock { unix_ns: guest.lock().clock.now() },
        Ask::OnlineCpus => {
            let mut state = guest.lock();
            state.memory.online = state.offered.vcpus;
            let memory_kib = (state.offered.memory_bytes / 1024).saturating_sub(KERNEL_KIB);
            Answer::Sizes { vcpus: state.memory.online, memory_kib }
        }
        Ask::Processes { after } => guest.processes().after(*after),
        Ask::Process { pid } => guest.processes().get(*pid),
        Ask::Kill { pid, signal, .. } => guest.processes().kill(*pid, *signal),
        Ask::ReadUsage => {
            let memory_total_kib = guest.lock().offered.memory_bytes / 1024;
            Answer::Usage(GuestUsage { memory_total_kib, ..GuestUsage::default() })
        }
        Ask::Mount { .. } | Ask::Unmount { .. } | Ask::Freeze { .. } | Ask::Thaw { .. } => {
            Answer::Failed { message: "a simulated guest has no file systems".into() }
        }
    }
}

/// Sends one message.
///
/// # Errors
/// [`io::Error`] when the client is gone.
pub(crate) fn send(mut stream: &UnixStream, message: &GuestMessage) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    stream.write_all(&encode(0, &json).map_err(io::Error::other)?)
}
