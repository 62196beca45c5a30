//! An archive on its way from an asynchronous sender to a blocking reader, with a limit on silence.

use std::io::{self, Read};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

/// Chunks under way at once, and the size of each.
const CHUNKS: usize = 8;
const CHUNK_BYTES: usize = 256 << 10;

/// A chunk; an empty one is the end. A channel that closes without it is a sender that broke off.
type Chunk = io::Result<Vec<u8>>;

/// A blocking reader and the channel that feeds it.
pub(crate) fn channel() -> (mpsc::Sender<Chunk>, ChannelReader) {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    (sender, ChannelReader { receiver, chunk: Vec::new(), at: 0, ended: false })
}

/// Feeds the reader until the input ends, fails, falls silent, or the reader is gone.
pub(crate) async fn feed(mut input: impl AsyncRead + Unpin, to: mpsc::Sender<Chunk>, silence: Duration) {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let chunk = match tokio::time::timeout(silence, input.read_buf(&mut chunk)).await {
            Ok(Ok(_)) => Ok(chunk),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the sender fell silent")),
        };
        let was_last = chunk.as_ref().map_or(true, Vec::is_empty);
        if to.send(chunk).await.is_err() || was_last {
            return;
        }
    }
}

/// The blocking side.
#[derive(Debug)]
pub(crate) struct ChannelReader {
    receiver: mpsc::Receiver<Chunk>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() && !self.ended {
            self.chunk = self
                .receiver
                .blocking_recv()
                .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the sender broke off")))?;
            self.at = 0;
            self.ended = self.chunk.is_empty();
        }
        let length = Read::read(&mut &self.chunk[self.at..], buffer)?;
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(input: impl AsyncRead + Unpin + Send + 'static, silence: Duration) -> io::Result<Vec<u8>> {
        let (sender, mut reader) = channel();
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });
        feed(input, sender, silence).await;
        reading.await.unwrap()
    }

    #[tokio::test]
    async fn everything_arrives() {
        let bytes: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        let input = io::Cursor::new(bytes.clone());
        assert!(read_all(input, Duration::from_secs(9)).await.unwrap() == bytes);
    }

    #[tokio::test]
    async fn silence_and_breaking_off_are_errors() {
        let (_quiet, input) = tokio::io::duplex(64);
        let error = read_all(input, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let (sender, mut reader) = channel();
        drop(sender);
        let read = tokio::task::spawn_blocking(move || reader.read(&mut [0; 9])).await.unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
