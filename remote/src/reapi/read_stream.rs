//! Reads one blob piece by piece, from its first byte on.
//!
//! The stream ends with an error as soon as more bytes arrive than the blob has, and if it ends early. Its
//! bytes are not hashed here.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use kache_cas::Digest;
use kache_proto::bytestream::{ReadRequest, ReadResponse};
use kache_proto::compressed_blob::Decompressor;
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Status, Streaming};

use super::names;
use super::remote::Shared;
use super::statuses::of_status;
use crate::decompression::next_piece;
use crate::error::RemoteError;
use crate::options::Compression;
use crate::remote::{BlobStream, RequestContext};

/// The name of the request in errors.
const WHAT: &str = "ByteStream.Read";

/// Begins to read a blob; `None` if the server does not have it.
pub(super) async fn read(
    shared: &Shared,
    blob: &Digest,
    context: &RequestContext,
) -> Result<Option<BlobStream>, RemoteError> {
    if blob.is_empty_blob() {
        return Ok(Some(Box::pin(tokio_stream::empty())));
    }
    let is_zstd = shared.offer().await?.has_zstd && shared.compression != Compression::None;
    let permit = shared.download().await;
    let resource_name = names::for_read(&shared.instance, blob, is_zstd);
    let message = ReadRequest { resource_name, ..ReadRequest::default() };
    // Some servers say NOT_FOUND with the first message only, so that one is read here.
    let first = match shared.streams().read(shared.metadata.request(message, context)).await {
        Ok(response) => {
            let mut messages = response.into_inner();
            messages.message().await.map(|first| (messages, first))
        }
        Err(status) => Err(status),
    };
    match first {
        Ok((messages, first)) => {
            let decompressor = is_zstd.then(|| Decompressor::new(blob.size_bytes)).transpose()?;
            let input = first.map(|message| message.data).unwrap_or_default();
            let left_bytes = blob.size_bytes;
            let pieces =
                Pieces { messages, decompressor, input, left_bytes, blob: *blob, is_over: false, permit };
            Ok(Some(Box::pin(pieces)))
        }
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(of_status(WHAT, &status)),
    }
}

/// Reads a whole blob into memory.
pub(super) async fn read_whole(
    shared: &Shared,
    blob: &Digest,
    context: &RequestContext,
) -> Result<Option<Bytes>, RemoteError> {
    let Some(mut pieces) = read(shared, blob, context).await? else { return Ok(None) };
    let mut whole = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        whole.extend_from_slice(&piece?);
    }
    Ok(Some(whole.freeze()))
}

/// The pieces of one blob.
struct Pieces {
    messages: Streaming<ReadResponse>,
    /// Decompresses the messages; `None` if they hold the blob as it is.
    decompressor: Option<Decompressor>,
    /// The bytes of the last message that were not returned yet.
    input: Bytes,
    /// How many bytes of the blob have not arrived yet.
    left_bytes: u64,
    blob: Digest,
    is_over: bool,
    /// Counts the stream as a download.
    #[expect(dead_code, reason = "it is held until the stream is dropped")]
    permit: OwnedSemaphorePermit,
}

impl Pieces {
    /// Takes the next piece from the last message; an empty one if the next message is needed.
    fn next_piece(&mut self) -> Result<Bytes, RemoteError> {
        let piece = match &mut self.decompressor {
            Some(decompressor) => next_piece(decompressor, &mut self.input)?,
            None => std::mem::take(&mut self.input),
        };
        let left = self.left_bytes.checked_sub(piece.len() as u64);
        self.left_bytes = left.ok_or_else(|| {
            let blob = self.blob;
            RemoteError::malformed(format!("{WHAT}: more bytes arrive than {blob} has"))
        })?;
        Ok(piece)
    }

    /// Checks that the blob is complete.
    fn finish(&self) -> Result<(), RemoteError> {
        if self.left_bytes > 0 {
            let (blob, left) = (self.blob, self.left_bytes);
            return Err(RemoteError::malformed(format!("{WHAT}: {blob} ends {left} bytes too early")));
        }
        Ok(self.decompressor.as_ref().map_or(Ok(()), Decompressor::finish)?)
    }

    /// Ends the stream with this outcome.
    fn end(&mut self, outcome: Result<(), RemoteError>) -> Option<Result<Bytes, RemoteError>> {
        self.is_over = true;
        outcome.err().map(Err)
    }

    fn next_message(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<ReadResponse, Status>>> {
        Pin::new(&mut self.messages).poll_next(task)
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, RemoteError>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        loop {
            match self.next_piece() {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Poll::Ready(Some(Ok(piece))),
                Err(error) => return Poll::Ready(self.end(Err(error))),
            }
            match ready!(self.next_message(task)) {
                Some(Ok(message)) => self.input = message.data,
                Some(Err(status)) => return Poll::Ready(self.end(Err(of_status(WHAT, &status)))),
                None => {
                    let outcome = self.finish();
                    return Poll::Ready(self.end(outcome));
                }
            }
        }
    }
}
