//! The host's ends of a conversation's streams.
//!
//! Invariant: what is held of a stream is bounded by its windows, whatever the guest sends and however slowly its reader
//! takes it; control messages never wait behind data for longer than one batch takes; when the conversation ends, so does
//! each of its streams, at once. Knows nothing of what a stream is for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::{AgentError, StreamNews, control_frame};
use crate::frame::{MAX_PAYLOAD, encode};
use crate::message::HostMessage;
use crate::stream::{Channel, GUEST_WINDOW, MAX_DATA, MAX_STREAMS, MAX_WINDOW, Open, StreamEnd, StreamOrder, TtySize};

/// How many bytes a guest may send on a stream before its reader has taken some.
pub const HOST_WINDOW: u32 = 256 << 10;

/// How many bytes of one stream wait to be sent.
const MAX_WAITING: usize = 64 << 10;
/// How many orders of one stream wait to be sent.
const MAX_ORDERS: usize = 16;
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

#[derive(Debug, Default)]
struct Cell {
    /// The encoded message that opens it, until that is said.
    opening: Option<Vec<u8>>,
    orders: VecDeque<StreamOrder>,
    waiting: VecDeque<u8>,
    finish: Told,
    /// Nobody holds the handle any more.
    reset: Told,
    /// What the guest takes.
    credit: u32,
    /// What the guest may still send.
    allowance: u32,
    /// What the reader has taken and the guest was not told.
    taken: u32,
    opened: Option<Option<u32>>,
    told_opened: bool,
    output: Vec<u8>,
    error: Vec<u8>,
    end: Option<Result<StreamEnd, Lost>>,
    doors: Arc<Doors>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Told {
    #[default]
    No,
    Wanted,
    Said,
}

/// What a handle waits at: one waiter each.
#[derive(Debug, Default)]
struct Doors {
    readable: Notify,
    writable: Notify,
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
        Ok(Stream(StreamWriter(Arc::new(Handle { board: Arc::clone(self), number: stream, doors }))))
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

/// The least credit that is worth a message.
const LEAST_CREDIT: u32 = 1024;

fn say(frames: &mut Vec<u8>, stream: u16, order: StreamOrder) {
    // A handful of numbers always fits a frame.
    frames.extend(control_frame(&HostMessage::Stream { stream, order }).unwrap_or_default());
}

impl Cell {
    fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// Neither side has any use for its number.
    fn is_over(&self) -> bool {
        self.reset != Told::No && self.end.is_some()
    }

    fn speak(&mut self, number: u16, frames: &mut Vec<u8>) {
        if !self.is_open() {
            return;
        }
        if let Some(opening) = self.opening.take() {
            if self.reset != Told::No {
                // Nobody wants it, and the guest has never heard of it.
                self.end = Some(Ok(StreamEnd::Reset));
                return;
            }
            frames.extend(opening);
        }
        if self.reset == Told::Wanted {
            self.reset = Told::Said;
            say(frames, number, StreamOrder::Reset);
            return;
        }
        if self.taken >= HOST_WINDOW / 4 {
            let bytes = std::mem::take(&mut self.taken);
            self.allowance += bytes;
            say(frames, number, StreamOrder::Credit { bytes });
        }
        for order in self.orders.drain(..) {
            say(frames, number, order);
        }
    }

    /// One frame of data, as far as the credit goes; whether there was any.
    fn send_some(&mut self, number: u16, frames: &mut Vec<u8>) -> bool {
        const { assert!(MAX_DATA < MAX_PAYLOAD) };
        let count = self.waiting.len().min(self.credit as usize).min(MAX_DATA);
        if count == 0 || !self.is_open() || self.reset != Told::No {
            return false;
        }
        let mut payload = Vec::with_capacity(count + 1);
        payload.push(Channel::Input.byte());
        payload.extend(self.waiting.drain(..count));
        self.credit -= u32::try_from(count).unwrap_or(self.credit);
        frames.extend(encode(number, &payload).unwrap_or_default());
        self.doors.writable.notify_one();
        true
    }

    /// The next thing for the reader, in order: the beginning, data, the end. A lost conversation is told at once.
    fn event(&mut self) -> Option<Result<StreamEvent, Lost>> {
        if self.end == Some(Err(Lost)) {
            return Some(Err(Lost));
        }
        if let Some(pid) = self.opened.filter(|_| !std::mem::replace(&mut self.told_opened, true)) {
            return Some(Ok(StreamEvent::Opened(pid)));
        }
        for (channel, data) in [(Channel::Output, &mut self.output), (Channel::Error, &mut self.error)] {
            if !data.is_empty() {
                let data = std::mem::take(data);
                self.taken += u32::try_from(data.len()).unwrap_or(0);
                return Some(Ok(StreamEvent::Data(channel, data)));
            }
        }
        let end = self.end.take()?;
        self.end = Some(Err(Lost));
        Some(end.map(StreamEvent::Ended))
    }
}

#[derive(Debug)]
struct Handle {
    board: Arc<Board>,
    number: u16,
    doors: Arc<Doors>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.board.change(self.number, |cell| {
            cell.reset = Told::Wanted;
            (cell.output, cell.error, cell.waiting) = Default::default();
            ((), true)
        });
    }
}

/// A stream. Dropping it, and every writer to it, resets it.
#[derive(Debug)]
pub struct Stream(StreamWriter);

/// The way to a stream's guest. Keeps the stream open.
#[derive(Debug, Clone)]
pub struct StreamWriter(Arc<Handle>);

impl Stream {
    /// The next that comes of it. Cancel-safe. After the end it is [`Lost`].
    ///
    /// # Errors
    /// [`Lost`] when the conversation is over: at once, whatever else might have come.
    pub async fn next(&mut self) -> Result<StreamEvent, Lost> {
        loop {
            let Handle { board, number, doors } = &*self.0.0;
            let event = board.change(*number, |cell| {
                let event = cell.event();
                (event, cell.taken >= HOST_WINDOW / 4)
            });
            match event {
                None => return Err(Lost),
                Some(Some(event)) => return event,
                Some(None) => doors.readable.notified().await,
            }
        }
    }

    /// The way to its guest.
    #[must_use]
    pub fn writer(&self) -> StreamWriter {
        self.0.clone()
    }
}

impl StreamWriter {
    /// Sends data, as fast as the guest takes them. Cancel-safe in that it can be told how much was taken: what is left
    /// of `data` was not. Only one may write at a time.
    ///
    /// # Errors
    /// [`Lost`] when the stream is over: nobody takes it any more.
    pub async fn write(&self, data: &mut &[u8]) -> Result<(), Lost> {
        let Handle { board, number, doors } = &*self.0;
        while !data.is_empty() {
            let taken = board.change(*number, |cell| {
                if !cell.is_open() || cell.finish != Told::No {
                    return (None, false);
                }
                let count = data.len().min(MAX_WAITING - cell.waiting.len().min(MAX_WAITING));
                cell.waiting.extend(&data[..count]);
                (Some(count), count > 0)
            });
            let count = taken.flatten().ok_or(Lost)?;
            *data = &data[count..];
            if count == 0 {
                doors.writable.notified().await;
            }
        }
        Ok(())
    }

    /// The end of the input, behind all that was written.
    pub fn finish(&self) {
        let _ = self.0.board.change(self.0.number, |cell| {
            if cell.finish == Told::No {
                cell.finish = Told::Wanted;
            }
            ((), true)
        });
    }

    /// A signal for the process group; `false` when too many orders wait.
    #[must_use]
    pub fn signal(&self, signal: u8) -> bool {
        self.order(StreamOrder::Signal { signal })
    }

    /// The terminal has another size; `false` when too many orders wait.
    #[must_use]
    pub fn resize(&self, size: TtySize) -> bool {
        self.order(StreamOrder::Resize(size))
    }

    fn order(&self, order: StreamOrder) -> bool {
        let put = self.0.board.change(self.0.number, |cell| {
            let has_room = cell.orders.len() < MAX_ORDERS;
            if has_room {
                cell.orders.push_back(order);
            }
            (has_room, has_room)
        });
        put.unwrap_or(true)
    }
}

#[cfg(test)]
mod tests;
