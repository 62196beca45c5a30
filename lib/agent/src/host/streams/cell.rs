//! What is held of one stream, between the conversation and the stream's handle.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use super::{HOST_WINDOW, Lost, StreamEvent};
use crate::frame::{MAX_PAYLOAD, encode};
use crate::host::control_frame;
use crate::message::HostMessage;
use crate::stream::{Channel, MAX_DATA, StreamEnd, StreamOrder};

#[derive(Debug, Default)]
pub(super) struct Cell {
    /// The encoded message that opens it, until that is said.
    pub(super) opening: Option<Vec<u8>>,
    pub(super) orders: VecDeque<StreamOrder>,
    pub(super) waiting: VecDeque<u8>,
    pub(super) finish: Told,
    /// Nobody holds the handle any more.
    pub(super) reset: Told,
    /// What the guest takes.
    pub(super) credit: u32,
    /// What the guest may still send.
    pub(super) allowance: u32,
    /// What the reader has taken and the guest was not told.
    pub(super) taken: u32,
    pub(super) opened: Option<Option<u32>>,
    pub(super) told_opened: bool,
    pub(super) output: Vec<u8>,
    pub(super) error: Vec<u8>,
    pub(super) end: Option<Result<StreamEnd, Lost>>,
    pub(super) doors: Arc<Doors>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    #[default]
    No,
    Wanted,
    Said,
}

/// What a handle waits at: one waiter each.
#[derive(Debug, Default)]
pub(super) struct Doors {
    pub(super) readable: Notify,
    pub(super) writable: Notify,
}

pub(super) fn say(frames: &mut Vec<u8>, stream: u16, order: StreamOrder) {
    // A handful of numbers always fits a frame.
    frames.extend(control_frame(&HostMessage::Stream { stream, order }).unwrap_or_default());
}

impl Cell {
    pub(super) fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// Neither side has any use for its number.
    pub(super) fn is_over(&self) -> bool {
        self.reset != Told::No && self.end.is_some()
    }

    pub(super) fn speak(&mut self, number: u16, frames: &mut Vec<u8>) {
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
    pub(super) fn send_some(&mut self, number: u16, frames: &mut Vec<u8>) -> bool {
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
    pub(super) fn event(&mut self) -> Option<Result<StreamEvent, Lost>> {
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
