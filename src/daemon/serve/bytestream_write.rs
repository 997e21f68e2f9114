//! `ByteStream.Write`: uploads of blobs of any size.
//!
//! Receiving and storing overlap: while a thread that may block hashes and writes what came,
//! the next messages are gathered, up to a bound. A blob that is already there is answered
//! for at once, without waiting for its bytes.
//!
//! What is checked of a client's account of itself is checked by [`Progress`], which is pure.
//! It is as tolerant as the proxies in the field need: `resource_name` may be left out after
//! the first message, `finish_write` may be left out when the stream ends, and
//! `write_offset` may stay zero. The digest decides in the end.
//!
//! Invariant: nothing is visible before the last byte came and the digest was right.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Response;
use hyper::body::Incoming;
use kache_cas::{BlobWriter, Digest, StoreError};
use kache_proto::bytestream::{WriteRequest, WriteResponse};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use super::bytestream::{is_there, of_name_error};
use super::cas::of_unzip_error;
use super::context::{Backend, Context, Room};
use super::message::{self, Messages};
use super::offload::{self, INLINE_BYTES_MAX};
use super::reply::{self, Body};
use super::resource_name::{Coding, ResourceName};
use super::status::{of_store_error, over_limit};
use super::zstd_blob::Unzip;

/// What may wait in memory for one upload while an earlier part is stored.
const GATHERED_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What is answered for a compressed blob that was there already.
const ALREADY_THERE: i64 = -1;

/// `Write`.
pub(super) async fn write(context: &Context, body: Incoming) -> Result<Response<Body>, Status> {
    let mut messages = Messages::gathered(body, &context.shared);
    let first = next(&mut messages).await?;
    let (first, room) = first.ok_or_else(|| Status::invalid_argument("the upload has no message"))?;
    if !context.access.may_write() {
        return Err(Status::permission_denied("this caller may only read; uploads are for others"));
    }
    let name = ResourceName::for_write(&first.resource_name).map_err(|error| of_name_error(&error))?;
    check_size(context, &name.digest)?;
    let mut progress = Progress::new(first.resource_name.clone(), name);
    if is_there(context, &name.digest).await? {
        return Ok(committed(progress.committed_early()));
    }
    progress.accept(&first)?;
    if name.coding == Coding::Identity && name.digest.size_bytes <= INLINE_BYTES_MAX {
        store_small(context, &mut messages, &mut progress, first.data).await?;
    } else {
        let mut gathered = Gathered::default();
        gathered.push(first.data, room);
        let store = Arc::clone(&context.shared.store);
        store_large(store, &mut messages, &mut progress, gathered).await?;
    }
    Ok(committed(progress.committed()))
}

fn committed(committed_size: i64) -> Response<Body> {
    reply::message(&WriteResponse { committed_size })
}

async fn next(messages: &mut Messages<'_, Incoming>) -> Result<Option<(WriteRequest, Room)>, Status> {
    let Some(received) = messages.next().await? else { return Ok(None) };
    Ok(Some((message::decode(received.bytes)?, received.room)))
}

fn check_size(context: &Context, digest: &Digest) -> Result<(), Status> {
    let limit = context.limits().blob_bytes_max;
    if digest.size_bytes <= limit {
        return Ok(());
    }
    let what = format!("a blob of {} bytes", digest.size_bytes);
    Err(over_limit(Code::InvalidArgument, &what, "max_cas_blob_size_bytes", limit))
}

/// How far an upload is, and whether what the client says of it fits.
struct Progress {
    resource_name: String,
    name: ResourceName,
    received_bytes: u64,
    is_finished: bool,
}

impl Progress {
    fn new(resource_name: String, name: ResourceName) -> Self {
        Progress { resource_name, name, received_bytes: 0, is_finished: false }
    }

    /// Takes note of the next message.
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
        if self.name.coding == Coding::Identity && self.received_bytes > size_bytes {
            return Err(self.wrong_length());
        }
        self.is_finished = request.finish_write;
        Ok(())
    }

    /// The offset counts the bytes sent, compressed ones too. Some proxies leave it zero.
    fn check_offset(&self, offset: i64) -> Result<(), Status> {
        let expected = self.received_bytes;
        if offset == 0 || u64::try_from(offset) == Ok(expected) {
            return Ok(());
        }
        Err(Status::invalid_argument(format!(
            "`write_offset` is {offset} and should be {expected}; an upload that broke off starts again at 0"
        )))
    }

    /// The stream ended, with `finish_write` or without.
    fn end(&mut self) -> Result<(), Status> {
        let is_short =
            self.name.coding == Coding::Identity && self.received_bytes < self.name.digest.size_bytes;
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
        match self.name.coding {
            Coding::Identity => i64::try_from(self.name.digest.size_bytes).unwrap_or(i64::MAX),
            Coding::Zstd => ALREADY_THERE,
        }
    }
}

/// Gathers a small blob and stores it, mostly on the spot.
async fn store_small(
    context: &Context,
    messages: &mut Messages<'_, Incoming>,
    progress: &mut Progress,
    first: Bytes,
) -> Result<(), Status> {
    let mut whole = Some(first);
    let mut joined = BytesMut::new();
    while !progress.is_finished {
        let Some((request, _room)) = next(messages).await? else { break };
        progress.accept(&request)?;
        if let Some(first) = whole.take_if(|_| !request.data.is_empty()) {
            joined.extend_from_slice(&first);
        }
        joined.extend_from_slice(&request.data);
    }
    progress.end()?;
    let bytes = whole.unwrap_or_else(|| joined.freeze());
    let (store, blob) = (&context.shared.store, [(progress.name.digest, bytes)]);
    let insert = move |store: &dyn Backend| store.blobs().insert(&blob);
    let outcomes = offload::run(context.blobs().may_block(), store, insert).await?;
    outcomes.into_iter().collect::<Result<(), _>>().map_err(|error| of_store_error(&error))
}

/// Parts of an upload that wait to be stored.
#[derive(Default)]
struct Gathered {
    parts: Vec<(Bytes, Room)>,
    bytes: usize,
}

impl Gathered {
    fn push(&mut self, part: Bytes, room: Room) {
        if !part.is_empty() {
            self.bytes += part.len();
            self.parts.push((part, room));
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= GATHERED_BYTES_MAX
    }
}

/// Where an upload's bytes go.
struct Sink {
    writer: Box<dyn BlobWriter>,
    unzip: Option<Unzip>,
}

impl Sink {
    fn create(store: &dyn Backend, name: ResourceName) -> Result<Self, Status> {
        let writer = store.blobs().create(&name.digest).map_err(|error| of_store_error(&error))?;
        let unzip = match name.coding {
            Coding::Identity => None,
            Coding::Zstd => Some(Unzip::new(name.digest).map_err(|error| of_unzip_error(&error))?),
        };
        Ok(Sink { writer, unzip })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let writer = &mut self.writer;
        match &mut self.unzip {
            None => writer.write(bytes).map_err(|error| of_store_error(&error)),
            Some(unzip) => {
                unzip.feed(bytes, |part| writer.write(part)).map_err(|error| of_unzip_error(&error))
            }
        }
    }

    fn commit(self) -> Result<(), Status> {
        if let Some(unzip) = &self.unzip {
            unzip.finish().map_err(|error| of_unzip_error(&error))?;
        }
        self.writer.commit().map(drop).map_err(|error| of_store_error(&error))
    }
}

/// Receives and stores at the same time, until all is stored.
async fn store_large(
    store: Arc<dyn Backend>,
    messages: &mut Messages<'_, Incoming>,
    progress: &mut Progress,
    mut gathered: Gathered,
) -> Result<(), Status> {
    let name = progress.name;
    let mut storing = spawn(move || Sink::create(&*store, name));
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
            // With `finish_write` the stream need not have ended, but the length is decided.
            progress.end()?;
        }
    }
}

fn store_parts(sink: &mut Sink, parts: Vec<(Bytes, Room)>) -> Result<(), Status> {
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
        tracing::error!(%error, "storing an upload did not end");
        Err(Status::internal("storing the upload did not end; the daemon's log says more"))
    })
}

#[cfg(test)]
mod tests {
    use kache_cas::DigestFunction;

    use super::*;

    fn progress(coding: Coding) -> Progress {
        let digest = Digest::of(DigestFunction::Sha256, b"0123456789");
        Progress::new("name".to_owned(), ResourceName { digest, coding })
    }

    fn part(resource_name: &str, write_offset: i64, data: &'static [u8], finish_write: bool) -> WriteRequest {
        let (resource_name, data) = (resource_name.to_owned(), Bytes::from_static(data));
        WriteRequest { resource_name, write_offset, data, finish_write }
    }

    #[test]
    fn what_clients_in_the_field_send_is_accepted() {
        // Bazel names it once, Buck2 each time, bazel-remote leaves the offset at zero.
        for (name, second_offset) in [("", 4), ("name", 4), ("", 0)] {
            let mut progress = progress(Coding::Identity);
            progress.accept(&part("name", 0, b"0123", false)).unwrap();
            progress.accept(&part(name, second_offset, b"456789", true)).unwrap();
            progress.end().unwrap();
            assert_eq!(progress.committed(), 10);
        }
    }

    #[test]
    fn what_makes_no_sense_is_not() {
        for (coding, first, second) in [
            (Coding::Identity, part("name", 0, b"0123", true), part("", 4, b"4", false)),
            (Coding::Identity, part("name", 0, b"0123", false), part("other", 4, b"4", false)),
            (Coding::Identity, part("name", 0, b"0123", false), part("", 3, b"4", false)),
            (Coding::Identity, part("name", 0, b"0123", false), part("", -4, b"4", false)),
            (Coding::Identity, part("name", 0, b"0123", false), part("", 4, b"4567890", false)),
            (Coding::Zstd, part("name", 0, b"0123", false), part("", 9, b"4", false)),
        ] {
            let mut progress = progress(coding);
            progress.accept(&first).unwrap();
            let status = progress.accept(&second).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{second:?}");
        }
        let mut short = progress(Coding::Identity);
        short.accept(&part("name", 0, b"012345678", false)).unwrap();
        assert_eq!(short.end().unwrap_err().code(), Code::InvalidArgument);
        let resumed = progress(Coding::Identity).accept(&part("name", 5, b"", false)).unwrap_err();
        assert!(resumed.message().contains("starts again at 0"), "{resumed}");
    }

    #[test]
    fn committed_sizes_are_what_clients_check() {
        assert_eq!(progress(Coding::Identity).committed_early(), 10);
        assert_eq!(progress(Coding::Zstd).committed_early(), -1);
        let mut zipped = progress(Coding::Zstd);
        zipped.accept(&part("name", 0, b"any number of bytes", true)).unwrap();
        assert_eq!(zipped.committed(), 19);
    }
}
