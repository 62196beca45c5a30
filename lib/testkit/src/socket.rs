//! The WebSocket form of exec, as a client speaks it.

use std::path::Path;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// How long the server may say nothing: an emulated guest may be slow.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

const CONTROL: u8 = 3;

/// What the server says.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// A message beside the data.
    Control(Value),
    /// What the program writes to its standard output.
    Output(Vec<u8>),
    /// What it writes to its standard error.
    Error(Vec<u8>),
}

/// One program and its conversation.
#[derive(Debug)]
pub struct Socket(WebSocketStream<UnixStream>);

impl Socket {
    /// Asks for a program, and says nothing else yet.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or does not speak as it should.
    pub async fn open(socket: &Path, id: &str, request: &Value) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).await?;
        let url = format!("ws://localhost/instances/{id}/exec");
        let (stream, _) = tokio_tungstenite::client_async(url, stream).await.context("upgrade")?;
        let mut socket = Self(stream);
        socket.control(request).await?;
        Ok(socket)
    }

    /// Says something beside the data.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or does not speak as it should.
    pub async fn control(&mut self, value: &Value) -> anyhow::Result<()> {
        self.say(CONTROL, value.to_string().as_bytes()).await
    }

    /// Gives the program some input.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or does not speak as it should.
    pub async fn input(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.say(0, bytes).await
    }

    async fn say(&mut self, channel: u8, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.0.send(Message::Binary([&[channel], bytes].concat().into())).await?)
    }

    /// The next message; none once the server has closed.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or does not speak as it should.
    pub async fn next(&mut self) -> anyhow::Result<Option<Said>> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await.context("nothing is said")?;
            let bytes = match next {
                None | Some(Ok(Message::Close(_))) => return Ok(None),
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(other)) => anyhow::bail!("{other:?}"),
                Some(Err(error)) => return Err(error.into()),
            };
            let (channel, rest) = bytes.split_first().context("an empty message")?;
            return Ok(Some(match channel {
                1 => Said::Output(rest.to_vec()),
                2 => Said::Error(rest.to_vec()),
                3 => Said::Control(serde_json::from_slice(rest)?),
                other => anyhow::bail!("channel {other}"),
            }));
        }
    }

    /// The process, once it has been started.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or does not speak as it should.
    pub async fn started(&mut self) -> anyhow::Result<u64> {
        match self.next().await? {
            Some(Said::Control(value)) if value["type"] == "started" => value["pid"].as_u64().context("no pid"),
            other => anyhow::bail!("{other:?}"),
        }
    }

    /// Reads on until the output holds a text; all of it.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or does not speak as it should.
    pub async fn until(&mut self, text: &str) -> anyhow::Result<String> {
        let mut seen = String::new();
        while !seen.contains(text) {
            match self.next().await? {
                Some(Said::Output(bytes)) => seen.push_str(&String::from_utf8_lossy(&bytes)),
                other => anyhow::bail!("{other:?} after {seen:?}"),
            }
        }
        Ok(seen)
    }

    /// Everything to the end: output, errors, the last message.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or does not speak as it should.
    pub async fn rest(&mut self) -> anyhow::Result<(Vec<u8>, Vec<u8>, Value)> {
        let (mut output, mut error, mut last) = (Vec::new(), Vec::new(), Value::Null);
        while let Some(said) = self.next().await? {
            match said {
                Said::Output(bytes) => output.extend(bytes),
                Said::Error(bytes) => error.extend(bytes),
                Said::Control(value) => last = value,
            }
        }
        Ok((output, error, last))
    }

    /// The two halves, for who talks and listens at once.
    pub fn split(
        self,
    ) -> (
        futures_util::stream::SplitSink<WebSocketStream<UnixStream>, Message>,
        futures_util::stream::SplitStream<WebSocketStream<UnixStream>>,
    ) {
        self.0.split()
    }
}
