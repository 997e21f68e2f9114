//! `ByteStream.Write`: uploads of blobs of any size.
//!
//! Receiving and storing overlap: while a blocking thread hashes and writes earlier parts, the
//! next messages are collected, up to `GATHERED_BYTES_MAX`. For a blob that is already stored
//! the response is sent at once, without waiting for its bytes.
//!
//! [`UploadProgress`] checks the fields of the messages, and is pure. It tolerates what proxies
//! in use do: `resource_name` may be left out after the first message, `finish_write` may be
//! left out when the stream ends, and `write_offset` may stay zero. The digest is what decides.
//!
//! Invariant: a blob becomes visible only after its last byte came and its digest was right.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Response;
use hyper::body::Incoming;
use kache_cas::{BlobWriter, Digest, StoreError};
use kache_proto::bytestream::{WriteRequest, WriteResponse};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use super::bytestream::{is_stored, of_name_error};
use super::cas::of_decompress_error;
use super::context::{Backend, MemoryReservation, RequestContext};
use super::grpc_response::{self as response, ResponseBody};
use super::message::{self, MessageReader};
use super::offload::{self, INLINE_BYTES_MAX};
use super::resource_name::{Compression, ResourceName};
use super::status::{of_store_error, over_limit};
use super::zstd_blob::ZstdDecompressor;

/// How many bytes of one upload are held while an earlier part is being stored.
const GATHERED_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The committed size that REAPI prescribes for a compressed blob that is already stored.
const COMMITTED_SIZE_UNKNOWN: i64 = -1;

/// Handles a `Write` request, which uploads one blob.
pub(super) async fn write(
    context: &RequestContext,
    body: Incoming,
) -> Result<Response<ResponseBody>, Status> {
    let mut messages = MessageReader::gathered(body, &context.shared);
    let first = next(&mut messages).await?;
    let (first, room) = first.ok_or_else(|| Status::invalid_argument("the upload has no message"))?;
    if !context.access.may_write() {
        return Err(Status::permission_denied("these credentials may only read and may not upload"));
    }
    let name = ResourceName::for_write(&first.resource_name).map_err(|error| of_name_error(&error))?;
    check_size(context, &name.digest)?;
    let mut progress = UploadProgress::new(first.resource_name.clone(), name);
    // The client stops sending when it gets a response, so a blob that is already stored is not transferred again.
    if is_stored(context, &name.digest).await? {
        return Ok(committed(progress.committed_early()));
    }
    progress.accept(&first)?;
    if name.compression == Compression::Identity && name.digest.size_bytes <= INLINE_BYTES_MAX {
        store_small(context, &mut messages, &mut progress, first.data).await?;
    } else {
        let mut gathered = Gathered::default();
        gathered.push(first.data, room);
        let store = Arc::clone(&context.shared.store);
        store_large(store, &mut messages, &mut progress, gathered).await?;
    }
    Ok(committed(progress.committed()))
}

fn committed(committed_size: i64) -> Response<ResponseBody> {
    response::message(&WriteResponse { committed_size })
}

async fn next(
    messages: &mut MessageReader<'_, Incoming>,
) -> Result<Option<(WriteRequest, MemoryReservation)>, Status> {
    let Some(received) = messages.next().await? else { return Ok(None) };
    Ok(Some((message::decode(received.bytes)?, received.room)))
}

fn check_size(context: &RequestContext, digest: &Digest) -> Result<(), Status> {
    let limit = context.limits().blob_bytes_max;
    if digest.size_bytes <= limit {
        return Ok(());
    }
    let what = format!("a blob of {} bytes", digest.size_bytes);
    Err(over_limit(Code::InvalidArgument, &what, "max_cas_blob_size_bytes", limit))
}

/// How much of an upload was received, and whether the fields of its messages are consistent.
struct UploadProgress {
    resource_name: String,
    name: ResourceName,
    received_bytes: u64,
    is_finished: bool,
}

impl UploadProgress {
    fn new(resource_name: String, name: ResourceName) -> Self {
        UploadProgress { resource_name, name, received_bytes: 0, is_finished: false }
    }

    /// Checks the next message and counts its bytes.
    fn accept(&mut self, request: &WriteRequest) -> Result<(), Status> {
        if self.is_finished {
            return Err(Status::invalid_argument("a message came after `finish_write`"));
        }
        if !request.resource_name.is_empty() && request.resource_name != self.resource_name {
            return Err(Status::invalid_argument("`resource_name` changed during the upload"));
        }
        self.check_offset(request.write_offset)?;
        self.received_bytes += request.data.len() as u64;
        let size_bytes = self.name.digest.size_bytes;
        if self.name.compression == Compression::Identity && self.received_bytes > size_bytes {
            return Err(self.wrong_length());
        }
        self.is_finished = request.finish_write;
        Ok(())
    }

    /// The offset counts bytes as they are sent, compressed if they are. Some proxies leave it
    /// zero.
    fn check_offset(&self, offset: i64) -> Result<(), Status> {
        let expected = self.received_bytes;
        if offset == 0 || u64::try_from(offset) == Ok(expected) {
            return Ok(());
        }
        Err(Status::invalid_argument(format!(
            "`write_offset` is {offset} and should be {expected}; an interrupted upload starts again at 0"
        )))
    }

    /// Notes the end of the upload, and checks that an uncompressed one has all its bytes.
    fn end(&mut self) -> Result<(), Status> {
        let is_short = self.name.compression == Compression::Identity
            && self.received_bytes < self.name.digest.size_bytes;
        self.is_finished = true;
        if is_short { Err(self.wrong_length()) } else { Ok(()) }
    }

    fn wrong_length(&self) -> Status {
        let claimed = self.name.digest;
        of_store_error(&StoreError::Length { claimed, received_bytes: self.received_bytes })
    }

    fn committed(&self) -> i64 {
        i64::try_from(self.received_bytes).unwrap_or(i64::MAX)
    }

    fn committed_early(&self) -> i64 {
        match self.name.compression {
            Compression::Identity => i64::try_from(self.name.digest.size_bytes).unwrap_or(i64::MAX),
            Compression::Zstd => COMMITTED_SIZE_UNKNOWN,
        }
    }
}

/// Collects a small blob and stores it, on this thread unless the store says that it may block.
async fn store_small(
    context: &RequestContext,
    messages: &mut MessageReader<'_, Incoming>,
    progress: &mut UploadProgress,
    first: Bytes,
) -> Result<(), Status> {
    let mut whole = Some(first);
    let mut joined = BytesMut::new();
    while !progress.is_finished {
        let Some((request, _room)) = next(messages).await? else { break };
        progress.accept(&request)?;
        // Most small uploads are a single message, whose bytes are then used without a copy.
        if let Some(first) = whole.take_if(|_| !request.data.is_empty()) {
            joined.extend_from_slice(&first);
        }
        joined.extend_from_slice(&request.data);
    }
    progress.end()?;
    let bytes = whole.unwrap_or_else(|| joined.freeze());
    let (store, blob) = (&context.shared.store, [(progress.name.digest, bytes)]);
    let insert = move |store: &dyn Backend| store.blobs().insert(&blob);
    let outcomes = offload::run(false, store, insert).await?;
    outcomes.into_iter().collect::<Result<(), _>>().map_err(|error| of_store_error(&error))
}

/// Parts of an upload that wait to be stored.
#[derive(Default)]
struct Gathered {
    parts: Vec<(Bytes, MemoryReservation)>,
    bytes: usize,
}

impl Gathered {
    fn push(&mut self, part: Bytes, room: MemoryReservation) {
        if !part.is_empty() {
            self.bytes += part.len();
            self.parts.push((part, room));
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= GATHERED_BYTES_MAX
    }
}

/// Decompresses an upload if needed, and writes it to the store. Its calls block.
struct WriteSink {
    writer: Box<dyn BlobWriter>,
    decompressor: Option<ZstdDecompressor>,
}

impl WriteSink {
    fn create(store: &dyn Backend, name: ResourceName) -> Result<Self, Status> {
        let writer = store.blobs().create(&name.digest).map_err(|error| of_store_error(&error))?;
        let decompressor = match name.compression {
            Compression::Identity => None,
            Compression::Zstd => {
                Some(ZstdDecompressor::new(name.digest).map_err(|error| of_decompress_error(&error))?)
            }
        };
        Ok(WriteSink { writer, decompressor })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let writer = &mut self.writer;
        match &mut self.decompressor {
            None => writer.write(bytes).map_err(|error| of_store_error(&error)),
            Some(decompressor) => decompressor
                .feed(bytes, |part| writer.write(part))
                .map_err(|error| of_decompress_error(&error)),
        }
    }

    fn commit(self) -> Result<(), Status> {
        if let Some(decompressor) = &self.decompressor {
            decompressor.finish().map_err(|error| of_decompress_error(&error))?;
        }
        self.writer.commit().map(drop).map_err(|error| of_store_error(&error))
    }
}

/// Receives an upload and stores it at the same time; returns when all of it is stored.
///
/// One of two things holds: either the sink is on a blocking thread (`storing`), or it is here
/// (`sink`, `is_idle`) and waits for bytes. Messages are received in both cases, until
/// `gathered` is full. Once the upload is finished, the sink takes the last bytes and commits.
async fn store_large(
    store: Arc<dyn Backend>,
    messages: &mut MessageReader<'_, Incoming>,
    progress: &mut UploadProgress,
    mut gathered: Gathered,
) -> Result<(), Status> {
    let name = progress.name;
    // Creating the writer may block on the disk. Messages are received meanwhile.
    let mut storing = spawn(move || WriteSink::create(&*store, name));
    let mut is_idle = false;
    let mut sink = None;
    loop {
        if let Some(mut idle) = sink.take_if(|_| progress.is_finished || gathered.bytes > 0) {
            let parts = std::mem::take(&mut gathered).parts;
            if progress.is_finished {
                return joined(
                    spawn(move || store_parts(&mut idle, parts).and_then(|()| idle.commit())).await,
                );
            }
            storing = spawn(move || store_parts(&mut idle, parts).map(|()| idle));
            is_idle = false;
        }
        tokio::select! {
            // A sink that has become idle takes the gathered bytes before more are received.
            biased;
            stored = &mut storing, if !is_idle => {
                sink = Some(joined(stored)?);
                is_idle = true;
            }
            request = next(messages), if !progress.is_finished && !gathered.is_full() => match request? {
                Some((request, room)) => {
                    progress.accept(&request)?;
                    gathered.push(request.data, room);
                }
                None => progress.end()?,
            },
        }
        if progress.is_finished {
            // After `finish_write` the stream may still be open, but the length is final.
            progress.end()?;
        }
    }
}

fn store_parts(sink: &mut WriteSink, parts: Vec<(Bytes, MemoryReservation)>) -> Result<(), Status> {
    parts.into_iter().try_for_each(|(part, _room)| sink.take(&part))
}

fn spawn<T, F>(work: F) -> JoinHandle<Result<T, Status>>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Status> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
}

fn joined<T>(outcome: Result<Result<T, Status>, tokio::task::JoinError>) -> Result<T, Status> {
    outcome.unwrap_or_else(|error| {
        tracing::error!(%error, "the task that stores an upload died");
        Err(Status::internal("failed to store the upload; see the log of the daemon"))
    })
}

#[cfg(test)]
mod tests {
    use kache_cas::DigestFunction;

    use super::*;

    fn progress(compression: Compression) -> UploadProgress {
        let digest = Digest::of(DigestFunction::Sha256, b"0123456789");
        UploadProgress::new("name".to_owned(), ResourceName { digest, compression })
    }

    fn part(resource_name: &str, write_offset: i64, data: &'static [u8], finish_write: bool) -> WriteRequest {
        let (resource_name, data) = (resource_name.to_owned(), Bytes::from_static(data));
        WriteRequest { resource_name, write_offset, data, finish_write }
    }

    #[test]
    fn messages_of_existing_clients_are_accepted() {
        // Bazel names it once, Buck2 each time, bazel-remote leaves the offset at zero.
        for (name, second_offset) in [("", 4), ("name", 4), ("", 0)] {
            let mut progress = progress(Compression::Identity);
            progress.accept(&part("name", 0, b"0123", false)).unwrap();
            progress.accept(&part(name, second_offset, b"456789", true)).unwrap();
            progress.end().unwrap();
            assert_eq!(progress.committed(), 10);
        }
    }

    #[test]
    fn inconsistent_messages_are_refused() {
        for (compression, first, second) in [
            (Compression::Identity, part("name", 0, b"0123", true), part("", 4, b"4", false)),
            (Compression::Identity, part("name", 0, b"0123", false), part("other", 4, b"4", false)),
            (Compression::Identity, part("name", 0, b"0123", false), part("", 3, b"4", false)),
            (Compression::Identity, part("name", 0, b"0123", false), part("", -4, b"4", false)),
            (Compression::Identity, part("name", 0, b"0123", false), part("", 4, b"4567890", false)),
            (Compression::Zstd, part("name", 0, b"0123", false), part("", 9, b"4", false)),
        ] {
            let mut progress = progress(compression);
            progress.accept(&first).unwrap();
            let status = progress.accept(&second).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{second:?}");
        }
        let mut short = progress(Compression::Identity);
        short.accept(&part("name", 0, b"012345678", false)).unwrap();
        assert_eq!(short.end().unwrap_err().code(), Code::InvalidArgument);
        let resumed = progress(Compression::Identity).accept(&part("name", 5, b"", false)).unwrap_err();
        assert!(resumed.message().contains("starts again at 0"), "{resumed}");
    }

    #[test]
    fn committed_sizes_are_those_that_clients_check() {
        assert_eq!(progress(Compression::Identity).committed_early(), 10);
        assert_eq!(progress(Compression::Zstd).committed_early(), -1);
        let mut compressed = progress(Compression::Zstd);
        compressed.accept(&part("name", 0, b"any number of bytes", true)).unwrap();
        assert_eq!(compressed.committed(), 19);
    }
}
