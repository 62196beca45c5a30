//! The host's ends of a conversation's streams.
//!
//! Invariant: what is held of a stream is bounded by its windows, whatever the guest sends and however slowly its reader
//! takes it; control messages never wait behind data for longer than one batch takes; when the conversation ends, so does
//! each of its streams, at once. Knows nothing of what a stream is for.

mod cell;
mod handle;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use self::cell::{Cell, Told, say};
use super::{AgentError, StreamNews, control_frame};
use crate::message::HostMessage;
use crate::stream::{Channel, GUEST_WINDOW, MAX_STREAMS, MAX_WINDOW, Open, StreamEnd, StreamOrder};

pub use handle::{Stream, StreamWriter};

/// How many bytes a guest may send on a stream before its reader has taken some.
pub const HOST_WINDOW: u32 = 256 << 10;

/// The least credit that is worth a message.
const LEAST_CREDIT: u32 = 1024;
/// About so much is sent in one go.
const BATCH: usize = 64 << 10;

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no conversation.
    #[error("the guest's agent is not connected")]
    NotConnected,
    /// The guest knows no streams.
    #[error("the guest's agent speaks version {0} of the protocol, which has no streams")]
    TooOld(u32),
    /// [`MAX_STREAMS`] are open.
    #[error("{MAX_STREAMS} streams to the guest's agent are open")]
    TooMany,
    /// What is asked for does not fit a message.
    #[error("put the request into a message to the guest's agent")]
    Unspeakable(#[source] AgentError),
}

/// The conversation was over before the stream's end: the guest is gone or in standby, or its agent is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the conversation with the guest's agent is over")]
pub struct Lost;

/// What comes of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// The guest has begun; the process where there is one.
    Opened(Option<u32>),
    /// Data of a channel of the guest.
    Data(Channel, Vec<u8>),
    /// The last: how it ended.
    Ended(StreamEnd),
}

/// The streams of one conversation.
#[derive(Debug, Default)]
pub(crate) struct Board {
    cells: Mutex<Cells>,
    wake: Notify,
    process_ends: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Cells {
    by_number: BTreeMap<u16, Cell>,
    /// Whose data were sent last.
    last_sent: u16,
    closed: bool,
}

impl Board {
    pub(crate) fn open(self: &Arc<Self>, what: Open) -> Result<Stream, OpenError> {
        let mut cells = self.lock();
        if cells.closed {
            return Err(OpenError::NotConnected);
        }
        if cells.by_number.len() >= MAX_STREAMS {
            return Err(OpenError::TooMany);
        }
        let free = (1..=u16::MAX).find(|number| !cells.by_number.contains_key(number));
        let stream = free.ok_or(OpenError::TooMany)?;
        let message = HostMessage::Open { stream, window: HOST_WINDOW, what };
        let opening = Some(control_frame(&message).map_err(OpenError::Unspeakable)?);
        let cell = Cell { opening, credit: GUEST_WINDOW, allowance: HOST_WINDOW, ..Cell::default() };
        let doors = Arc::clone(&cell.doors);
        cells.by_number.insert(stream, cell);
        drop(cells);
        self.wake.notify_one();
        Ok(Stream::new(Arc::clone(self), stream, doors))
    }

    /// Until some stream may have something to say. Cancel-safe.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// What is to be said now, in whole frames: first all words, then some data of each stream in turn.
    pub(crate) fn outgoing(&self) -> Vec<u8> {
        let mut frames = Vec::new();
        let mut cells = self.lock();
        for (number, cell) in &mut cells.by_number {
            cell.speak(*number, &mut frames);
        }
        let mut more = true;
        while more && frames.len() < BATCH {
            more = false;
            let after = cells.last_sent;
            let mut numbers: Vec<u16> = cells.by_number.keys().copied().collect();
            let begin = numbers.partition_point(|number| *number <= after);
            numbers.rotate_left(begin);
            for number in numbers {
                if frames.len() >= BATCH {
                    break;
                }
                let Some(cell) = cells.by_number.get_mut(&number) else { continue };
                if cell.send_some(number, &mut frames) {
                    cells.last_sent = number;
                    more = true;
                }
            }
        }
        // The end of the input comes behind all of it.
        for (number, cell) in &mut cells.by_number {
            if cell.finish == Told::Wanted && cell.waiting.is_empty() {
                cell.finish = Told::Said;
                say(&mut frames, *number, StreamOrder::Finish);
            }
        }
        cells.by_number.retain(|_, cell| !cell.is_over());
        if more {
            self.wake.notify_one();
        }
        frames
    }

    /// Takes in what the guest says of a stream; whether it makes sense.
    pub(crate) fn hear(&self, stream: u16, news: StreamNews) -> Result<bool, AgentError> {
        let mut cells = self.lock();
        let Some(cell) = cells.by_number.get_mut(&stream).filter(|cell| cell.is_open()) else { return Ok(false) };
        match news {
            StreamNews::Opened(pid) => {
                if cell.opened.is_some() {
                    return Ok(false);
                }
                cell.opened = Some(pid);
                cell.doors.readable.notify_one();
            }
            StreamNews::Credit(bytes) => {
                let credit = cell.credit.checked_add(bytes).filter(|credit| *credit <= MAX_WINDOW);
                cell.credit = credit.ok_or(AgentError::Unruly(stream))?;
                if !cell.waiting.is_empty() {
                    self.wake.notify_one();
                }
                // A little at a time is noise: it costs more than it is worth.
                return Ok(bytes >= LEAST_CREDIT);
            }
            StreamNews::End(end) => {
                cell.end = Some(Ok(end));
                cell.doors.readable.notify_one();
                cell.doors.writable.notify_one();
                cells.by_number.retain(|_, cell| !cell.is_over());
            }
        }
        Ok(true)
    }

    /// Takes in a data frame of the guest; whether it makes sense.
    pub(crate) fn take(&self, stream: u16, payload: &[u8]) -> Result<bool, AgentError> {
        let mut cells = self.lock();
        let Some(cell) = cells.by_number.get_mut(&stream).filter(|cell| cell.is_open()) else { return Ok(false) };
        let Some((channel, data)) = payload.split_first() else { return Ok(false) };
        let length = u32::try_from(data.len()).map_err(|_| AgentError::Unruly(stream))?;
        cell.allowance = cell.allowance.checked_sub(length).ok_or(AgentError::Unruly(stream))?;
        if cell.reset != Told::No {
            // Nobody reads it: what was under way when the host gave up.
            return Ok(true);
        }
        match Channel::of(*channel) {
            Some(Channel::Output) => cell.output.extend_from_slice(data),
            Some(Channel::Error) => cell.error.extend_from_slice(data),
            Some(Channel::Input) | None => return Err(AgentError::Unruly(stream)),
        }
        cell.doors.readable.notify_one();
        Ok(length > 0)
    }

    pub(crate) fn process_ended(&self) {
        self.process_ends.send_replace(());
    }

    pub(crate) fn process_ends(&self) -> watch::Receiver<()> {
        self.process_ends.subscribe()
    }

    /// The conversation is over.
    pub(crate) fn close(&self) {
        let mut cells = self.lock();
        cells.closed = true;
        for cell in cells.by_number.values_mut() {
            cell.end.get_or_insert(Err(Lost));
            cell.doors.readable.notify_one();
            cell.doors.writable.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cells> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a stream, and says whether it has something to say then.
    fn change<T>(&self, number: u16, change: impl FnOnce(&mut Cell) -> (T, bool)) -> Option<T> {
        let (value, speaks) = change(self.lock().by_number.get_mut(&number)?);
        if speaks {
            self.wake.notify_one();
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests;
