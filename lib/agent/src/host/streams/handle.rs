//! The hold of whoever opened a stream: its reader, and its writers.

use std::sync::Arc;

use super::cell::{Doors, Told};
use super::{Board, HOST_WINDOW, Lost, StreamEvent};
use crate::stream::{StreamOrder, TtySize};

/// How many bytes of one stream wait to be sent.
pub(super) const MAX_WAITING: usize = 64 << 10;
/// How many orders of one stream wait to be sent.
pub(super) const MAX_ORDERS: usize = 16;

#[derive(Debug)]
pub(super) struct Handle {
    board: Arc<Board>,
    pub(super) number: u16,
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
pub struct Stream(pub(super) StreamWriter);

/// The way to a stream's guest. Keeps the stream open.
#[derive(Debug, Clone)]
pub struct StreamWriter(pub(super) Arc<Handle>);

impl Stream {
    pub(super) fn new(board: Arc<Board>, number: u16, doors: Arc<Doors>) -> Self {
        Self(StreamWriter(Arc::new(Handle { board, number, doors })))
    }

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
