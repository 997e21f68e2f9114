//! A body on its way in over HTTP: waited for within limits, unpacked if need be, and
//! written off the runtime.
//!
//! It knows no paths and no statuses beyond its own [`UploadError`]. Whether the bytes are
//! what their name says is checked by the store, before anything becomes visible.
//!
//! Invariant: a body that breaks off, stalls or does not fit leaves nothing behind.

use std::io::{self, Write};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use kache_cas::{BlobWriter, Digest, StoreError};
use thiserror::Error;

/// How much is gathered before a thread is bothered to write it.
const PIECE_BYTES: usize = 128 * 1024;

/// The largest window a zstd frame may ask for: 8 MiB, what level 19 uses. It is what an
/// upload may cost in memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

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
    /// It is longer than the size that was stated.
    #[error("the body is longer than the {size_bytes} bytes that were stated")]
    LongerThanStated {
        /// What was stated.
        size_bytes: u64,
    },
    /// It is no zstd stream.
    #[error("the body is not zstd, or asks for a window above 2^{ZSTD_WINDOW_LOG_MAX} bytes: {0}")]
    Zstd(io::Error),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
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
        Upload { body, idle_max, received_bytes: 0, is_open: true }
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

    /// All of a small body, unpacked.
    pub async fn collect(
        &mut self,
        is_compressed: bool,
        limit: &'static str,
        limit_bytes: u64,
    ) -> Result<Bytes, UploadError> {
        let too_long = || UploadError::TooLong { limit, limit_bytes };
        let packed_bytes_max = limit_bytes + if is_compressed { FRAMING_BYTES_MAX } else { 0 };
        let mut all = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            if (all.len() + bytes.len()) as u64 > packed_bytes_max {
                return Err(too_long());
            }
            all.extend_from_slice(&bytes);
        }
        let all = all.freeze();
        if !is_compressed {
            return Ok(all);
        }
        let mut unpacker = Unpacker::new(Bounded { bytes: Vec::new(), limit_bytes })?;
        unpacker.push(&all).and_then(|()| unpacker.flush()).map_err(|error| match error {
            UploadError::LongerThanStated { .. } => too_long(),
            error => error,
        })?;
        Ok(Bytes::from(unpacker.into_sink().bytes))
    }

    /// Streams the body into the store. `Ok` means that it is there, whole.
    pub async fn store(
        &mut self,
        digest: Digest,
        is_compressed: bool,
        writer: Box<dyn BlobWriter>,
    ) -> Result<(), UploadError> {
        let sink = Sized { writer, size_bytes: digest.size_bytes, written_bytes: 0, failure: None };
        let mut target =
            if is_compressed { Target::Compressed(Unpacker::new(sink)?) } else { Target::Plain(sink) };
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

/// Where the pieces of a blob go.
enum Target {
    Plain(Sized),
    Compressed(Unpacker<Sized>),
}

impl Target {
    fn push(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        match self {
            Target::Plain(sink) => sink.write_all(bytes).map_err(|error| sink.failure(error)),
            Target::Compressed(unpacker) => unpacker.push(bytes),
        }
    }

    fn finish(self) -> Result<(), UploadError> {
        let sink = match self {
            Target::Plain(sink) => sink,
            Target::Compressed(mut unpacker) => {
                unpacker.flush()?;
                unpacker.into_sink()
            }
        };
        sink.writer.commit()?;
        Ok(())
    }
}

/// Something that can say why writing to it failed.
trait Sink: Write {
    fn failure(&mut self, error: io::Error) -> UploadError;
}

/// A blob's writer that takes no more than its size, so that a small body cannot unpack
/// into a full disk.
struct Sized {
    writer: Box<dyn BlobWriter>,
    size_bytes: u64,
    written_bytes: u64,
    failure: Option<UploadError>,
}

impl Write for Sized {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written_bytes + bytes.len() as u64 > self.size_bytes {
            self.failure = Some(UploadError::LongerThanStated { size_bytes: self.size_bytes });
            return Err(io::Error::other("too long"));
        }
        if let Err(error) = self.writer.write(bytes) {
            self.failure = Some(UploadError::Store(error));
            return Err(io::Error::other("the store failed"));
        }
        self.written_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Sized {
    fn failure(&mut self, error: io::Error) -> UploadError {
        self.failure.take().unwrap_or(UploadError::Zstd(error))
    }
}

/// Memory that takes no more than a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit_bytes: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + bytes.len()) as u64 > self.limit_bytes {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Bounded {
    fn failure(&mut self, error: io::Error) -> UploadError {
        match error.kind() {
            io::ErrorKind::FileTooLarge => UploadError::LongerThanStated { size_bytes: self.limit_bytes },
            _ => UploadError::Zstd(error),
        }
    }
}

/// Unpacks zstd, any number of frames, skippable ones too.
struct Unpacker<W: Sink>(zstd::stream::write::Decoder<'static, W>);

impl<W: Sink> Unpacker<W> {
    fn new(sink: W) -> Result<Self, UploadError> {
        let mut decoder = zstd::stream::write::Decoder::new(sink).map_err(UploadError::Zstd)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(UploadError::Zstd)?;
        Ok(Unpacker(decoder))
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        self.0.write_all(bytes).map_err(|error| self.0.get_mut().failure(error))
    }

    fn flush(&mut self) -> Result<(), UploadError> {
        self.0.flush().map_err(|error| self.0.get_mut().failure(error))
    }

    fn into_sink(self) -> W {
        self.0.into_inner()
    }
}
