//! `ByteStream` but for `Write`: downloads of blobs of any size, and how far an upload is.
//!
//! A download is read on the spot as far as the page cache holds it, and beyond that ahead by
//! one chunk on a thread that may block. Each chunk is sent from the buffer it was read into,
//! behind a prefix that was left room for. What was opened stays readable whatever is evicted
//! meanwhile (STO-04).

use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Response;
use hyper::body::Incoming;
use kache_cas::{AccessKind, Content, Digest};
use kache_proto::bytestream::{QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest};
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tonic::Status;

use super::context::{Backend, Context};
use super::message;
use super::offload::{self, INLINE_BYTES_MAX};
use super::reply::{self, Body, PREFIX_BYTES, put_prefix};
use super::resource_name::{Coding, NameError, ResourceName};
use super::status::of_store_error;
use super::zstd_blob::Zip;

/// What one message carries of a blob.
const CHUNK_BYTES: usize = 512 * 1024;

/// The same where it is read on the spot: it stays in the processor's cache until it is
/// sent, and no other request waits for long.
const CACHED_CHUNK_BYTES: usize = 128 * 1024;

/// `ReadResponse.data`: field 10, length-delimited.
const DATA_TAG: u8 = (10 << 3) | 2;

/// A tag and a length of at most four bytes.
const DATA_PREFIX_BYTES_MAX: usize = 5;

/// What is before a chunk's bytes at most.
const HEAD_BYTES_MAX: usize = PREFIX_BYTES + DATA_PREFIX_BYTES_MAX;

/// The status of a name that cannot be read.
pub(super) fn of_name_error(error: &NameError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// `Read`.
pub(super) async fn read(context: &Context, body: Incoming) -> Result<Response<Body>, Status> {
    let (request, _room) = message::only::<ReadRequest, _>(body, &context.shared).await?;
    let name = ResourceName::for_read(&request.resource_name).map_err(|error| of_name_error(&error))?;
    let range = range(&request, name)?;
    let is_heavy = name.coding == Coding::Zstd || name.digest.size_bytes > INLINE_BYTES_MAX;
    // Opening a large blob may mean hashing it first (STO-02), so that is not done here, and
    // the first chunk comes along.
    let begin = move |store: &dyn Backend| {
        let mut maker = Maker::new(open(store, &name.digest)?, name.coding, range)?;
        let first = maker.next().map_err(|error| failed(&error))?;
        Ok::<_, Status>((maker, first))
    };
    let (maker, first) = offload::run(is_heavy, &context.shared.store, begin).await??;
    if maker.is_over() {
        return Ok(reply::messages(Box::pin(tokio_stream::iter(first.map(Ok)))));
    }
    Ok(reply::messages(Box::pin(Download { first, rest: Rest::Here(maker) })))
}

/// Which bytes of the blob are asked for.
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
        _ if name.coding == Coding::Zstd => {
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
    content.ok_or_else(|| Status::not_found(format!("`{digest}` is not here")))
}

fn failed(error: &std::io::Error) -> Status {
    tracing::error!(%error, "failed to read a blob");
    Status::internal(format!("the store failed to read the blob: {error}"))
}

/// The bytes that are still to be sent.
struct Source {
    content: Content,
    at: u64,
    end: u64,
}

impl Source {
    /// The next chunk as a whole message; `None` after the last.
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

    /// The next chunk, if it is in memory.
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

/// Everything before the bytes of a `ReadResponse`.
fn put_head(to: &mut BytesMut, len: usize) {
    let data_len = prost::encoding::encoded_len_varint(len as u64) + len;
    put_prefix(to, 1 + data_len);
    to.put_u8(DATA_TAG);
    prost::encoding::encode_varint(len as u64, to);
}

/// Makes messages of a blob, where it may block.
enum Maker {
    Plain(Source),
    /// The encoder is gone once the frame has ended.
    Zipped(Source, Option<Zip>),
}

impl Maker {
    fn new(content: Content, coding: Coding, (at, end): (u64, u64)) -> Result<Self, Status> {
        let source = Source { content, at, end };
        match coding {
            Coding::Identity => Ok(Maker::Plain(source)),
            Coding::Zstd => {
                let zip = Zip::new().map_err(|error| Status::internal(format!("zstd failed: {error}")))?;
                Ok(Maker::Zipped(source, Some(zip)))
            }
        }
    }

    /// Whether nothing is left to be made.
    fn is_over(&self) -> bool {
        match self {
            Maker::Plain(source) => source.at == source.end,
            Maker::Zipped(_, zip) => zip.is_none(),
        }
    }

    /// The next message, if making it takes neither the disk nor long.
    fn next_cached(&mut self) -> Option<Bytes> {
        match self {
            Maker::Plain(source) => source.next_cached(),
            Maker::Zipped(..) => None,
        }
    }

    fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        match self {
            Maker::Plain(source) => source.next(),
            Maker::Zipped(source, zip) => next_zipped(source, zip),
        }
    }
}

/// Compresses until there is enough for a message.
fn next_zipped(source: &mut Source, zip: &mut Option<Zip>) -> std::io::Result<Option<Bytes>> {
    let Some(encoder) = zip else { return Ok(None) };
    let mut zipped = Vec::new();
    while source.at < source.end && zipped.len() < CHUNK_BYTES {
        let left = usize::try_from(source.end - source.at).unwrap_or(usize::MAX);
        let part = source.content.read_at(source.at, left.min(CHUNK_BYTES))?;
        encoder.feed(&part, &mut zipped)?;
        source.at += part.len() as u64;
    }
    if source.at == source.end {
        encoder.finish(&mut zipped)?;
        *zip = None;
    }
    let mut buffer = BytesMut::with_capacity(HEAD_BYTES_MAX + zipped.len());
    put_head(&mut buffer, zipped.len());
    buffer.put_slice(&zipped);
    Ok(Some(buffer.freeze()))
}

/// A maker when it is back, and what it made.
type Made = (Maker, std::io::Result<Option<Bytes>>);

/// The messages of a download. What is in memory is read when it is to be sent; else the
/// next is made while one is sent.
struct Download {
    first: Option<Bytes>,
    rest: Rest,
}

/// Where the maker is.
enum Rest {
    /// At hand.
    Here(Maker),
    /// Where it may block.
    Away(JoinHandle<Made>),
    /// Nowhere: all is made.
    Over,
}

fn make(mut maker: Maker) -> JoinHandle<Made> {
    tokio::task::spawn_blocking(move || {
        let made = maker.next();
        (maker, made)
    })
}

impl Stream for Download {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let mut away = match std::mem::replace(&mut self.rest, Rest::Over) {
            Rest::Over => return Poll::Ready(None),
            Rest::Away(handle) => handle,
            Rest::Here(mut maker) => {
                if let Some(message) = maker.next_cached() {
                    self.rest = if maker.is_over() { Rest::Over } else { Rest::Here(maker) };
                    return Poll::Ready(Some(Ok(message)));
                }
                make(maker)
            }
        };
        let Poll::Ready(joined) = Pin::new(&mut away).poll(task) else {
            self.rest = Rest::Away(away);
            return Poll::Pending;
        };
        Poll::Ready(match joined {
            Ok((maker, Ok(Some(message)))) => {
                // The disk was needed and will be again; it may as well work ahead.
                self.rest = if maker.is_over() { Rest::Over } else { Rest::Away(make(maker)) };
                Some(Ok(message))
            }
            Ok((_, Ok(None))) => None,
            Ok((_, Err(error))) => Some(Err(failed(&error))),
            Err(error) => Some(Err(Status::internal(format!("the download broke off: {error}")))),
        })
    }
}

/// Whether this blob needs no upload.
pub(super) async fn is_there(context: &Context, digest: &Digest) -> Result<bool, Status> {
    if digest.is_empty_blob() {
        return Ok(true);
    }
    let (store, digests) = (&context.shared.store, [*digest]);
    let find = move |store: &dyn Backend| store.blobs().find_missing(&digests, AccessKind::Promise);
    let missing = offload::run(context.blobs().may_block(), store, find).await?;
    Ok(missing.map_err(|error| of_store_error(&error))? == [false])
}

/// `QueryWriteStatus`: an upload is there as a whole or not at all.
pub(super) async fn query_write_status(context: &Context, body: Incoming) -> Result<Response<Body>, Status> {
    let (request, _room) = message::only::<QueryWriteStatusRequest, _>(body, &context.shared).await?;
    let name = ResourceName::for_write(&request.resource_name).map_err(|error| of_name_error(&error))?;
    let complete = is_there(context, &name.digest).await?;
    let size = i64::try_from(name.digest.size_bytes).unwrap_or(i64::MAX);
    let committed_size = if complete { size } else { 0 };
    Ok(reply::message(&QueryWriteStatusResponse { committed_size, complete }))
}
