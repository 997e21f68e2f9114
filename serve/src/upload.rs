//! The body of an HTTP upload: received within limits, decompressed if needed, and written on
//! blocking threads.
//!
//! It knows no paths and no HTTP statuses. The store checks that the bytes match their digest
//! before the blob becomes visible.
//!
//! Invariant: a body that is cut short, stalls or is too long leaves nothing in the store.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use kache_cas::{BlobWriter, Digest, StoreError};
use thiserror::Error;

use super::zstd_blob::{DecompressError, ZstdDecompressor, decompress};

/// How many bytes are collected before a blocking thread writes them.
const PIECE_BYTES: usize = 128 * 1024;

/// By how many bytes the compressed body of a small blob may exceed the blob: frames have heads,
/// and some clients put skippable frames between them.
const FRAMING_BYTES_MAX: u64 = 64 * 1024;

/// How many bytes of a refused body are read. A client that is still sending when the connection
/// is closed may never see the response.
const DRAIN_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How long a refused body is read.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Why an upload failed.
#[derive(Debug, Error)]
pub enum UploadError {
    /// The client closed the connection.
    #[error("the upload was cut short")]
    CutShort,
    /// The client sent nothing for too long.
    #[error("nothing was sent for {} seconds (`stream_idle_max`)", idle.as_secs())]
    Stalled {
        /// The limit that it exceeded.
        idle: Duration,
    },
    /// The body is longer than a limit.
    #[error("the body is longer than `{limit}` ({limit_bytes} bytes) allows")]
    TooLong {
        /// The name of the limit.
        limit: &'static str,
        /// The value of the limit in bytes.
        limit_bytes: u64,
    },
    /// The body does not decompress to a blob of the stated size.
    #[error("{0}")]
    Zstd(String),
    /// The store failed, or refused the blob.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DecompressError> for UploadError {
    fn from(error: DecompressError) -> Self {
        match error {
            DecompressError::Store(error) => UploadError::Store(error),
            error => UploadError::Zstd(error.to_string()),
        }
    }
}

/// Reads the body of a request within limits.
pub struct Upload<B> {
    body: B,
    idle_max: Duration,
    received_bytes: u64,
    /// Whether more may come: the body has neither ended nor failed.
    is_open: bool,
}

impl<B> Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Wraps the body of a request. `idle_max` is the longest time that the client may send nothing.
    pub fn new(body: B, idle_max: Duration) -> Self {
        let is_open = !body.is_end_stream();
        Upload { body, idle_max, received_bytes: 0, is_open }
    }

    /// How many bytes were received so far, compressed if they are.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Waits for the next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, UploadError> {
        let next = self.next_data().await;
        match &next {
            Ok(Some(bytes)) => self.received_bytes += bytes.len() as u64,
            Ok(None) | Err(_) => self.is_open = false,
        }
        next
    }

    async fn next_data(&mut self) -> Result<Option<Bytes>, UploadError> {
        loop {
            let frame = tokio::time::timeout(self.idle_max, self.body.frame()).await;
            let frame = frame.map_err(|_| UploadError::Stalled { idle: self.idle_max })?;
            let Some(frame) = frame else { return Ok(None) };
            // Frames that hold trailers are ignored.
            if let Ok(bytes) = frame.map_err(|_| UploadError::CutShort)?.into_data() {
                return Ok(Some(bytes));
            }
        }
    }

    /// Waits for at least `PIECE_BYTES`; for fewer only at the end, and none after it.
    async fn next_piece(&mut self) -> Result<Bytes, UploadError> {
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        if first.len() >= PIECE_BYTES {
            return Ok(first);
        }
        let mut piece = BytesMut::from(first);
        while piece.len() < PIECE_BYTES {
            match self.next().await? {
                Some(bytes) => piece.extend_from_slice(&bytes),
                None => break,
            }
        }
        Ok(piece.freeze())
    }

    /// Receives all of a small body.
    pub async fn collect(&mut self, limit: &'static str, limit_bytes: u64) -> Result<Bytes, UploadError> {
        let mut all = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            if (all.len() + bytes.len()) as u64 > limit_bytes {
                return Err(UploadError::TooLong { limit, limit_bytes });
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }

    /// Receives all of a small blob, and decompresses it if needed.
    pub async fn collect_blob(&mut self, digest: Digest, is_compressed: bool) -> Result<Bytes, UploadError> {
        if !is_compressed {
            return self.collect("X-Digest-SizeBytes", digest.size_bytes).await;
        }
        // Incompressible bytes do not become fewer, and framing comes on top.
        let packed = self.collect("FRAMING_BYTES_MAX", digest.size_bytes + FRAMING_BYTES_MAX).await?;
        Ok(decompress(digest, &packed)?)
    }

    /// Writes the body to the store. `Ok` means that the whole blob is stored.
    pub async fn store(
        &mut self,
        digest: Digest,
        is_compressed: bool,
        writer: Box<dyn BlobWriter>,
    ) -> Result<(), UploadError> {
        let decompressor = is_compressed.then(|| ZstdDecompressor::new(digest)).transpose()?;
        let mut sink = UploadSink { writer, decompressor };
        loop {
            let piece = self.next_piece().await?;
            let is_last = piece.is_empty();
            // The sink moves to the blocking thread and back, so that only one thread at a time writes, in the
            // order of the pieces.
            let work = move || {
                if is_last { sink.finish().map(|()| None) } else { sink.push(&piece).map(|()| Some(sink)) }
            };
            match tokio::task::spawn_blocking(work).await.map_err(|_| UploadError::CutShort)?? {
                Some(returned) => sink = returned,
                None => return Ok(()),
            }
        }
    }

    /// Reads and discards the rest of a refused body, within limits.
    pub async fn drain(&mut self) {
        let reading = async {
            while self.is_open && self.received_bytes < DRAIN_BYTES_MAX {
                // The end and an error both clear `is_open`.
                let _ = self.next().await;
            }
        };
        // After that time the connection is closed, whatever the client still sends.
        let _ = tokio::time::timeout(DRAIN_TIME_MAX, reading).await;
    }

    /// Reads and discards all of a body whose blob is already stored.
    pub async fn skip(&mut self) -> Result<(), UploadError> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

/// Decompresses the pieces of a blob if needed, and writes them to the store. Both refuse more
/// bytes than the digest states. Its calls block.
struct UploadSink {
    writer: Box<dyn BlobWriter>,
    decompressor: Option<ZstdDecompressor>,
}

impl UploadSink {
    fn push(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        let UploadSink { writer, decompressor } = self;
        match decompressor {
            None => writer.write(bytes)?,
            Some(decompressor) => decompressor.feed(bytes, |part| writer.write(part))?,
        }
        Ok(())
    }

    fn finish(self) -> Result<(), UploadError> {
        if let Some(decompressor) = self.decompressor {
            decompressor.finish()?;
        }
        self.writer.commit()?;
        Ok(())
    }
}
