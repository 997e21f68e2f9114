//! `ByteStream.Read` and `QueryWriteStatus`: downloads of blobs of any size, and whether an
//! upload is complete.
//!
//! Chunks that are in the page cache are read on the connection's thread. Others are read on a
//! blocking thread, one chunk ahead of the one that is being sent. Each chunk is sent from the
//! buffer into which it was read: room for the message's head is left before it. An opened blob
//! stays readable even if it is evicted meanwhile (STO-04).

use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Response;
use hyper::body::Incoming;
use kache_cas::{AccessKind, Content, Digest};
use kache_proto::bytestream::{QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest};
use kache_proto::compressed_blob::Compressor;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tonic::Status;

use super::context::{Backend, RequestContext};
use super::grpc_response::{self as response, PREFIX_BYTES, ResponseBody, put_prefix};
use super::message;
use super::offload::{self, INLINE_BYTES_MAX};
use super::resource_name::{Compression, NameError, ResourceName};
use super::status::of_store_error;
use super::zstd_blob::compressor;

/// How many bytes of a blob one message carries.
const CHUNK_BYTES: usize = 512 * 1024;

/// The same for chunks that are read on the connection's thread. They are smaller, so that they
/// stay in the processor's cache until they are sent and delay other requests only briefly.
const CACHED_CHUNK_BYTES: usize = 128 * 1024;

/// `ReadResponse.data`: field 10, length-delimited.
const DATA_TAG: u8 = (10 << 3) | 2;

/// A tag and a length of at most four bytes.
const DATA_PREFIX_BYTES_MAX: usize = 5;

/// The most bytes that precede the bytes of a chunk in a message.
const HEAD_BYTES_MAX: usize = PREFIX_BYTES + DATA_PREFIX_BYTES_MAX;

/// The status for a malformed resource name.
pub(super) fn of_name_error(error: &NameError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Answers `Read`: sends a blob from an offset, in chunks.
pub(super) async fn read(context: &RequestContext, body: Incoming) -> Result<Response<ResponseBody>, Status> {
    let (request, _room) = message::only::<ReadRequest, _>(body, &context.shared).await?;
    let name = ResourceName::for_read(&request.resource_name).map_err(|error| of_name_error(&error))?;
    let range = range(&request, name)?;
    let is_heavy = name.compression == Compression::Zstd || name.digest.size_bytes > INLINE_BYTES_MAX;
    // Opening a large blob may mean hashing it first (STO-02), so that goes to a blocking
    // thread, and the first chunk is read there as well.
    let begin = move |store: &dyn Backend| {
        let mut producer = MessageProducer::new(open(store, &name.digest)?, name.compression, range)?;
        let first = producer.next().map_err(|error| failed(&error))?;
        Ok::<_, Status>((producer, first))
    };
    let (producer, first) = offload::run(is_heavy, &context.shared.store, begin).await??;
    if producer.is_over() {
        return Ok(response::messages(Box::pin(tokio_stream::iter(first.map(Ok)))));
    }
    Ok(response::messages(Box::pin(ReadStream { first, state: ProducerState::Idle(producer) })))
}

/// The requested part of the blob, as the offsets of its begin and end.
fn range(request: &ReadRequest, name: ResourceName) -> Result<(u64, u64), Status> {
    let size = name.digest.size_bytes;
    let start = u64::try_from(request.read_offset).ok().filter(|start| *start <= size).ok_or_else(|| {
        let offset = request.read_offset;
        Status::out_of_range(format!("`read_offset` is {offset}, outside the {size} bytes of the blob"))
    })?;
    let limit = u64::try_from(request.read_limit)
        .map_err(|_| Status::invalid_argument("`read_limit` is negative"))?;
    match limit {
        0 => Ok((start, size)),
        _ if name.compression == Compression::Zstd => {
            Err(Status::invalid_argument("`read_limit` cannot be used with `compressed-blobs`"))
        }
        _ => Ok((start, size.min(start.saturating_add(limit)))),
    }
}

fn open(store: &dyn Backend, digest: &Digest) -> Result<Content, Status> {
    if digest.is_empty_blob() {
        return Ok(Content::Memory(Bytes::new()));
    }
    let content = store.blobs().open(digest, AccessKind::Use).map_err(|error| of_store_error(&error))?;
    content.ok_or_else(|| Status::not_found(format!("`{digest}` is not in the cache")))
}

fn failed(error: &std::io::Error) -> Status {
    tracing::error!(%error, "failed to read a blob");
    Status::internal(format!("the store failed to read the blob: {error}"))
}

/// A blob with the range of it that is still to be sent.
struct BlobCursor {
    content: Content,
    at: u64,
    end: u64,
}

impl BlobCursor {
    /// Reads the next chunk and returns it as a message; `None` after the last. It may block.
    fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let len = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        if len == 0 {
            return Ok(None);
        }
        let mut buffer = BytesMut::with_capacity(HEAD_BYTES_MAX + len);
        put_head(&mut buffer, len);
        let head = buffer.len();
        match &self.content {
            Content::Memory(bytes) => {
                let start = usize::try_from(self.at).unwrap_or(usize::MAX);
                let part = bytes.get(start..start + len).ok_or(std::io::ErrorKind::UnexpectedEof)?;
                buffer.put_slice(part);
            }
            Content::File { file, .. } => {
                buffer.resize(head + len, 0);
                std::os::unix::fs::FileExt::read_exact_at(file.as_ref(), &mut buffer[head..], self.at)?;
            }
        }
        self.at += len as u64;
        Ok(Some(buffer.freeze()))
    }

    /// Reads the next chunk if the page cache holds it; never blocks.
    fn next_cached(&mut self) -> Option<Bytes> {
        let Content::File { file, .. } = &self.content else { return None };
        let len = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(CACHED_CHUNK_BYTES);
        let mut buffer = BytesMut::with_capacity(HEAD_BYTES_MAX + len);
        put_head(&mut buffer, len);
        if !kache_cas::read_if_cached(file, self.at, len, &mut buffer) {
            return None;
        }
        self.at += len as u64;
        Some(buffer.freeze())
    }
}

/// Writes what precedes the data of a `ReadResponse`: the gRPC prefix, the tag and the length.
fn put_head(to: &mut BytesMut, len: usize) {
    let data_len = prost::encoding::encoded_len_varint(len as u64) + len;
    put_prefix(to, 1 + data_len);
    to.put_u8(DATA_TAG);
    prost::encoding::encode_varint(len as u64, to);
}

/// Produces the messages of a download.
enum MessageProducer {
    Plain(BlobCursor),
    /// The compressor is `None` once the zstd frame has ended.
    Compressed(BlobCursor, Option<Compressor>),
}

impl MessageProducer {
    fn new(content: Content, compression: Compression, (at, end): (u64, u64)) -> Result<Self, Status> {
        let cursor = BlobCursor { content, at, end };
        match compression {
            Compression::Identity => Ok(MessageProducer::Plain(cursor)),
            Compression::Zstd => {
                let compressor =
                    compressor().map_err(|error| Status::internal(format!("zstd failed: {error}")))?;
                Ok(MessageProducer::Compressed(cursor, Some(compressor)))
            }
        }
    }

    /// Whether the last message was produced.
    fn is_over(&self) -> bool {
        match self {
            MessageProducer::Plain(cursor) => cursor.at == cursor.end,
            MessageProducer::Compressed(_, compressor) => compressor.is_none(),
        }
    }

    /// The next message, if producing it needs neither the disk nor much time.
    fn next_cached(&mut self) -> Option<Bytes> {
        match self {
            MessageProducer::Plain(cursor) => cursor.next_cached(),
            MessageProducer::Compressed(..) => None,
        }
    }

    fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        match self {
            MessageProducer::Plain(cursor) => cursor.next(),
            MessageProducer::Compressed(cursor, compressor) => next_compressed(cursor, compressor),
        }
    }
}

/// Compresses chunks until the output fills a message.
fn next_compressed(
    cursor: &mut BlobCursor,
    compressor: &mut Option<Compressor>,
) -> std::io::Result<Option<Bytes>> {
    let Some(encoder) = compressor else { return Ok(None) };
    let mut compressed = Vec::new();
    while cursor.at < cursor.end && compressed.len() < CHUNK_BYTES {
        let left = usize::try_from(cursor.end - cursor.at).unwrap_or(usize::MAX);
        let part = cursor.content.read_at(cursor.at, left.min(CHUNK_BYTES))?;
        encoder.feed(&part, &mut compressed)?;
        cursor.at += part.len() as u64;
    }
    if cursor.at == cursor.end {
        encoder.finish(&mut compressed)?;
        *compressor = None;
    }
    let mut buffer = BytesMut::with_capacity(HEAD_BYTES_MAX + compressed.len());
    put_head(&mut buffer, compressed.len());
    buffer.put_slice(&compressed);
    Ok(Some(buffer.freeze()))
}

/// A producer that has returned from a blocking thread, with the message that it produced.
type Produced = (MessageProducer, std::io::Result<Option<Bytes>>);

/// The messages of a download. A chunk in the page cache is read when it is due. Otherwise the
/// next message is produced on a blocking thread while one is being sent.
struct ReadStream {
    first: Option<Bytes>,
    state: ProducerState,
}

/// Where the producer of a download is.
enum ProducerState {
    /// Here, and doing nothing.
    Idle(MessageProducer),
    /// On a blocking thread, producing a message.
    Running(JoinHandle<Produced>),
    /// Dropped, because the last message was produced.
    Finished,
}

/// Produces the next message on a blocking thread.
fn produce(mut producer: MessageProducer) -> JoinHandle<Produced> {
    tokio::task::spawn_blocking(move || {
        let produced = producer.next();
        (producer, produced)
    })
}

impl Stream for ReadStream {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let mut running = match std::mem::replace(&mut self.state, ProducerState::Finished) {
            ProducerState::Finished => return Poll::Ready(None),
            ProducerState::Running(handle) => handle,
            ProducerState::Idle(mut producer) => {
                if let Some(message) = producer.next_cached() {
                    self.state = if producer.is_over() {
                        ProducerState::Finished
                    } else {
                        ProducerState::Idle(producer)
                    };
                    return Poll::Ready(Some(Ok(message)));
                }
                produce(producer)
            }
        };
        let Poll::Ready(joined) = Pin::new(&mut running).poll(task) else {
            self.state = ProducerState::Running(running);
            return Poll::Pending;
        };
        Poll::Ready(match joined {
            Ok((producer, Ok(Some(message)))) => {
                // This chunk was not in memory, so the next one is likely not to be either: read it
                // ahead.
                self.state = if producer.is_over() {
                    ProducerState::Finished
                } else {
                    ProducerState::Running(produce(producer))
                };
                Some(Ok(message))
            }
            Ok((_, Ok(None))) => None,
            Ok((_, Err(error))) => Some(Err(failed(&error))),
            Err(error) => Some(Err(Status::internal(format!("the download was cut short: {error}")))),
        })
    }
}

/// Whether the store has this blob, whose lease is then extended.
pub(super) async fn is_stored(context: &RequestContext, digest: &Digest) -> Result<bool, Status> {
    if digest.is_empty_blob() {
        return Ok(true);
    }
    let (store, digests) = (&context.shared.store, [*digest]);
    let find = move |store: &dyn Backend| store.blobs().find_missing(&digests, AccessKind::Promise);
    let missing = offload::run(false, store, find).await?;
    Ok(missing.map_err(|error| of_store_error(&error))? == [false])
}

/// `QueryWriteStatus`. A partial upload is not kept, so the committed size is the whole size or 0.
pub(super) async fn query_write_status(
    context: &RequestContext,
    body: Incoming,
) -> Result<Response<ResponseBody>, Status> {
    let (request, _room) = message::only::<QueryWriteStatusRequest, _>(body, &context.shared).await?;
    let name = ResourceName::for_write(&request.resource_name).map_err(|error| of_name_error(&error))?;
    let complete = is_stored(context, &name.digest).await?;
    let size = i64::try_from(name.digest.size_bytes).unwrap_or(i64::MAX);
    let committed_size = if complete { size } else { 0 };
    Ok(response::message(&QueryWriteStatusResponse { committed_size, complete }))
}
