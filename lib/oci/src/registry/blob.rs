//! One layer's blob: hashed and counted while it arrives, and gone on with by range where it broke off.

use std::path::Path;
use std::sync::atomic::Ordering;

use reqwest::header::{CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Response, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use super::error::chain;
use super::{RegistryError, Repository, Transfer};
use crate::ContentError;
use crate::image::Blob;
use crate::manifest::Descriptor;
use crate::spool::{Hasher, Scratch};

/// How much is written between two looks at the free space.
const SPACE_GRAIN: u64 = 32 << 20;

/// Attempts in all, however much each of them brings.
const MAX_ATTEMPTS: u32 = 100;

/// What has arrived of a blob.
struct Arrived<'a> {
    descriptor: &'a Descriptor,
    transfer: &'a Transfer,
    path: &'a Path,
    file: File,
    hasher: Hasher,
    bytes: u64,
}

impl Arrived<'_> {
    fn io(&self, act: &'static str) -> impl FnOnce(std::io::Error) -> ContentError + use<> {
        ContentError::io(act, self.path)
    }

    async fn add(&mut self, chunk: &[u8], scratch: &Scratch) -> Result<(), ContentError> {
        let length = chunk.len() as u64;
        if self.bytes + length > self.descriptor.size {
            let subject = format!("the blob {}", self.descriptor.digest);
            return Err(ContentError::Size { subject, expected: self.descriptor.size });
        }
        if self.bytes % SPACE_GRAIN < length {
            scratch.check_space(SPACE_GRAIN.min(self.descriptor.size - self.bytes))?;
        }
        self.hasher.update(chunk);
        self.file.write_all(chunk).await.map_err(self.io("write"))?;
        self.bytes += length;
        self.transfer.done.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    async fn start_over(&mut self) -> Result<(), ContentError> {
        self.transfer.done.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
        self.hasher = Hasher::default();
        self.file.set_len(0).await.map_err(self.io("empty"))?;
        self.file.rewind().await.map_err(self.io("empty"))?;
        Ok(())
    }

    async fn finish(mut self) -> Result<Blob, ContentError> {
        self.file.flush().await.map_err(self.io("write"))?;
        let found = self.hasher.finish();
        if found != self.descriptor.digest {
            let subject = "a blob".to_owned();
            return Err(ContentError::Digest { subject, expected: self.descriptor.digest, found });
        }
        Ok(Blob { path: self.path.to_owned(), offset: 0, length: self.bytes, is_whole_file: true })
    }
}

impl Repository {
    pub(super) async fn download(
        &self,
        descriptor: &Descriptor,
        scratch: &Scratch,
        transfer: &Transfer,
    ) -> Result<Blob, RegistryError> {
        let path = scratch.blob(&descriptor.digest);
        let file = File::create(&path).await.map_err(ContentError::io("create", &path))?;
        let hasher = Hasher::default();
        let mut arrived = Arrived { descriptor, transfer, path: &path, file, hasher, bytes: 0 };
        let url = format!("{}/blobs/{}", self.base, descriptor.digest);
        let mut fruitless = 0;
        for _ in 0..MAX_ATTEMPTS {
            let before = arrived.bytes;
            let mut headers = HeaderMap::new();
            if before > 0 {
                headers.insert(RANGE, format!("bytes={before}-").parse().map_err(|_| self.protocol("a range"))?);
            }
            let answer = self.get(&url, &headers, &format!("blob {}", descriptor.digest)).await?;
            if before > 0 && !goes_on_at(&answer, before) {
                arrived.start_over().await?;
            }
            let detail = match self.receive(answer, &mut arrived, scratch).await? {
                Ok(()) if arrived.bytes == descriptor.size => return Ok(arrived.finish().await?),
                Ok(()) => format!("it sent {} of {} bytes", arrived.bytes, descriptor.size),
                Err(error) => chain(error),
            };
            if arrived.bytes > before {
                fruitless = 0;
            } else {
                self.pause(fruitless, detail).await?;
                fruitless += 1;
            }
        }
        Err(self.protocol(format!("the transfer of {} broke off {MAX_ATTEMPTS} times", descriptor.digest)))
    }

    /// Takes what comes; the inner error is the connection's.
    async fn receive(
        &self,
        mut answer: Response,
        arrived: &mut Arrived<'_>,
        scratch: &Scratch,
    ) -> Result<Result<(), reqwest::Error>, RegistryError> {
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => arrived.add(&chunk, scratch).await?,
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            }
        }
    }
}

/// Whether the answer begins where the last one broke off; a registry may ignore the range and send all.
fn goes_on_at(answer: &Response, offset: u64) -> bool {
    answer.status() == StatusCode::PARTIAL_CONTENT
        && answer
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.strip_prefix("bytes "))
            .and_then(|text| text.split('-').next())
            .and_then(|start| start.parse().ok())
            == Some(offset)
}
