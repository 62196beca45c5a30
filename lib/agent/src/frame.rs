//! Frames: how messages lie on a byte stream that may begin in the middle of an old conversation.
//!
//! A frame is `DPA1`, the stream number as `u16` little-endian, two bytes that are zero, the payload's length as `u32`
//! little-endian, the payload. Stream 0 carries control messages as JSON. A virtio-serial port delivers what an
//! earlier client left behind, so a decoder that finds anything but a frame skips to the next magic.

/// The largest payload of one frame, in bytes.
pub const MAX_PAYLOAD: usize = 64 << 10;

const MAGIC: &[u8; 4] = b"DPA1";
const HEADER: usize = 12;

/// Why bytes cannot be framed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The payload is larger than a frame may be.
    #[error("a payload of {0} bytes does not fit a frame of {MAX_PAYLOAD}")]
    TooLarge(usize),
}

/// One frame's bytes.
///
/// # Errors
/// [`FrameError::TooLarge`].
pub fn encode(stream: u16, payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD);
    let length = length.ok_or(FrameError::TooLarge(payload.len()))?;
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(MAGIC);
    frame.extend_from_slice(&stream.to_le_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(payload);
    Ok(frame)
}

/// Finds frames in whatever bytes arrive. Holds at most one frame and one read's worth of bytes; each byte is looked at
/// a bounded number of times, whatever it is.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// What lies before was taken or skipped.
    start: usize,
}

impl Decoder {
    /// Takes bytes in. Drain with [`Decoder::next_frame`] before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame: its stream and payload. What is no frame is skipped.
    pub fn next_frame(&mut self) -> Option<(u16, Vec<u8>)> {
        loop {
            self.skip_to_magic();
            let rest = self.buffer.get(self.start..)?;
            let header = rest.get(..HEADER)?;
            let stream = u16::from_le_bytes([header[4], header[5]]);
            let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
            if length > MAX_PAYLOAD || header[6..8] != [0, 0] {
                self.start += 1;
                continue;
            }
            let payload = rest.get(HEADER..HEADER + length)?.to_vec();
            self.start += HEADER + length;
            return Some((stream, payload));
        }
    }

    /// How many bytes are held back: the beginning of a frame.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn skip_to_magic(&mut self) {
        let begins = |start: &usize| {
            let rest = &self.buffer[*start..];
            rest.starts_with(MAGIC) || (rest.len() < MAGIC.len() && MAGIC.starts_with(rest))
        };
        self.start = (self.start..self.buffer.len()).find(begins).unwrap_or(self.buffer.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_split_and_leading_garbage() {
        let mut bytes = b"old stuff DPADPA1".to_vec();
        bytes.extend(encode(0, b"one").unwrap());
        bytes.extend(encode(7, b"").unwrap());
        for chunk in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut frames = Vec::new();
            for part in bytes.chunks(chunk) {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [(0, b"one".to_vec()), (7, Vec::new())], "chunks of {chunk}");
        }
    }

    #[test]
    fn a_frame_larger_than_allowed_is_not_waited_for() {
        assert_eq!(encode(0, &vec![0; MAX_PAYLOAD + 1]), Err(FrameError::TooLarge(MAX_PAYLOAD + 1)));
        let mut decoder = Decoder::default();
        decoder.push(b"DPA1\0\0\0\0\xff\xff\xff\xff");
        decoder.push(&encode(0, b"next").unwrap());
        assert_eq!(decoder.next_frame(), Some((0, b"next".to_vec())));
    }
}
