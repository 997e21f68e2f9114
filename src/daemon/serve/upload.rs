//! A body on its way in over HTTP: waited for within limits, unpacked if need be, and
//! written off the runtime.
//!
//! It knows no paths and no statuses beyond its own [`UploadError`]. Whether the bytes are
//! what their name says is checked by the store, before anything becomes visible.
//!
//! Invariant: a body that breaks off, stalls or does not fit leaves nothing behind.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use kache_cas::{BlobWriter, Digest, StoreError};
use thiserror::Error;

use super::zstd_blob::{Unzip, UnzipError, unzip};

/// How much is gathered before a thread is bothered to write it.
const PIECE_BYTES: usize = 128 * 1024;

/// By how much a small body may be longer compressed than it is: frames have heads, and
/// some clients put skippable ones between them.
const FRAMING_BYTES_MAX: u64 = 64 * 1024;

/// How much of a body nobody wants is read all the same. A client that is still sending
/// when the connection is closed may never see the answer.
const DRAIN_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How long that may take.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Why a body was not taken.
#[derive(Debug, Error)]
pub enum UploadError {
    /// The client went away.
    #[error("the upload broke off")]
    BrokenOff,
    /// It sent nothing for too long.
    #[error("nothing was sent for {} seconds (`stream_idle_max`)", idle.as_secs())]
    Stalled {
        /// For how long.
        idle: Duration,
    },
    /// It is longer than it may be.
    #[error("the body is longer than `{limit}` ({limit_bytes} bytes) allows")]
    TooLong {
        /// The name of the limit.
        limit: &'static str,
        /// Its value.
        limit_bytes: u64,
    },
    /// It is not what zstd makes of such a blob.
    #[error("{0}")]
    Zstd(String),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<UnzipError> for UploadError {
    fn from(error: UnzipError) -> Self {
        match error {
            UnzipError::Store(error) => UploadError::Store(error),
            error => UploadError::Zstd(error.to_string()),
        }
    }
}

/// The body of a request, waited for within limits.
pub struct Upload<B> {
    body: B,
    idle_max: Duration,
    received_bytes: u64,
    /// Whether more may still come: it has neither ended nor failed.
    is_open: bool,
}

impl<B> Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Takes the body of a request.
    pub fn new(body: B, idle_max: Duration) -> Self {
        let is_open = !body.is_end_stream();
        Upload { body, idle_max, received_bytes: 0, is_open }
    }

    /// How many bytes came so far, as they were sent.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// The next bytes; `None` at the end.
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
            // Trailers mean nothing here.
            if let Ok(bytes) = frame.map_err(|_| UploadError::BrokenOff)?.into_data() {
                return Ok(Some(bytes));
            }
        }
    }

    /// About `PIECE_BYTES`; fewer only at the end, none past it.
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

    /// All of a small body.
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

    /// All of a small blob, unpacked if need be.
    pub async fn collect_blob(&mut self, digest: Digest, is_compressed: bool) -> Result<Bytes, UploadError> {
        if !is_compressed {
            return self.collect("X-Digest-SizeBytes", digest.size_bytes).await;
        }
        let packed = self.collect("FRAMING_BYTES_MAX", digest.size_bytes + FRAMING_BYTES_MAX).await?;
        Ok(unzip(digest, &packed)?)
    }

    /// Streams the body into the store. `Ok` means that it is there, whole.
    pub async fn store(
        &mut self,
        digest: Digest,
        is_compressed: bool,
        writer: Box<dyn BlobWriter>,
    ) -> Result<(), UploadError> {
        let unzip = is_compressed.then(|| Unzip::new(digest)).transpose()?;
        let mut target = Target { writer, unzip };
        loop {
            let piece = self.next_piece().await?;
            let is_last = piece.is_empty();
            let work = move || {
                if is_last {
                    target.finish().map(|()| None)
                } else {
                    target.push(&piece).map(|()| Some(target))
                }
            };
            match tokio::task::spawn_blocking(work).await.map_err(|_| UploadError::BrokenOff)?? {
                Some(returned) => target = returned,
                None => return Ok(()),
            }
        }
    }

    /// Reads some of what is left and throws it away.
    pub async fn drain(&mut self) {
        let reading = async {
            while self.is_open && self.received_bytes < DRAIN_BYTES_MAX {
                // An end and a failure both close it.
                let _ = self.next().await;
            }
        };
        // Whatever is left after that is the client's loss.
        let _ = tokio::time::timeout(DRAIN_TIME_MAX, reading).await;
    }

    /// Reads a body whose blob is there already, to its end.
    pub async fn skip(&mut self) -> Result<(), UploadError> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

/// Where the pieces of a blob go. What becomes longer than the blob is stopped: by the
/// store, or while it is unpacked.
struct Target {
    writer: Box<dyn BlobWriter>,
    unzip: Option<Unzip>,
}

impl Target {
    fn push(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        let Target { writer, unzip } = self;
        match unzip {
            None => writer.write(bytes)?,
            Some(unzip) => unzip.feed(bytes, |part| writer.write(part))?,
        }
        Ok(())
    }

    fn finish(self) -> Result<(), UploadError> {
        if let Some(unzip) = self.unzip {
            unzip.finish()?;
        }
        self.writer.commit()?;
        Ok(())
    }
}
