//! Stores one blob piece by piece.
//!
//! An upload always begins at the first byte. The pieces are read on threads that may block, one or two
//! ahead of what is sent.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kache_cas::{Content, Digest};
use kache_proto::bytestream::WriteRequest;
use kache_proto::compressed_blob::{Compressor, compress};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::capabilities::Offer;
use super::names;
use super::remote::{Shared, blocking};
use super::statuses::of_status;
use crate::error::RemoteError;
use crate::options::Compression;
use crate::remote::RequestContext;

/// The name of the request in errors.
const WHAT: &str = "ByteStream.Write";

/// How many bytes of the blob are read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// How many messages wait to be sent.
const MESSAGES_AHEAD: usize = 2;

/// Stores a blob. A response before the last piece means that the server has the blob already.
pub(super) async fn write(
    shared: &Shared,
    digest: &Digest,
    content: &Content,
    context: &RequestContext,
    offer: Offer,
) -> Result<(), RemoteError> {
    let _permit = shared.upload().await;
    let first = read_at(digest, content, 0).await?;
    let level = match shared.compression {
        Compression::Zstd(level) if offer.has_zstd => level_that_helps(&first, level).await?,
        _ => None,
    };
    let (sender, receiver) = mpsc::channel(MESSAGES_AHEAD);
    let request = shared.metadata.request(ReceiverStream::new(receiver), context);
    let mut client = shared.streams();
    let mut call = pin!(client.write(request));
    let sent_bytes = AtomicU64::new(0);
    let name = names::for_write(&shared.instance, digest, level.is_some());
    let messages = Messages { name, sender, sent_bytes: &sent_bytes };
    let mut sending = pin!(send(digest, content, first, level, messages));
    let mut is_sent = false;
    loop {
        tokio::select! {
            response = &mut call => break match response {
                Ok(response) => {
                    let committed = response.get_ref().committed_size;
                    check_committed(digest, committed, sent_bytes.load(Ordering::Relaxed), is_sent)
                }
                Err(status) if status.code() == Code::AlreadyExists => Ok(()),
                Err(status) => Err(of_status(WHAT, &status)),
            },
            // Without all of its bytes the upload must not end well, so the call is dropped.
            outcome = &mut sending, if !is_sent => {
                outcome?;
                is_sent = true;
            }
        }
    }
}

/// Checks the size that the server says it has stored. For a compressed upload, servers say the size of the
/// blob, the number of bytes that they received, or −1.
fn check_committed(digest: &Digest, committed: i64, sent: u64, is_sent: bool) -> Result<(), RemoteError> {
    let is_size = u64::try_from(committed) == Ok(digest.size_bytes);
    let is_all = is_sent && u64::try_from(committed) == Ok(sent);
    if committed == -1 || is_size || is_all {
        return Ok(());
    }
    Err(RemoteError::malformed(format!("{WHAT}: of {digest}, the server has stored {committed} bytes")))
}

/// Returns the level if compression makes the beginning of the blob smaller by a tenth.
async fn level_that_helps(first: &Bytes, level: i32) -> Result<Option<i32>, RemoteError> {
    let first = first.clone();
    let compressed = blocking(move || compress(&first, level).map(|compressed| (compressed, first))).await?;
    let helps = |(compressed, first): (Bytes, Bytes)| compressed.len() < first.len() / 10 * 9;
    Ok(compressed.is_some_and(helps).then_some(level))
}

async fn read_at(digest: &Digest, content: &Content, offset: u64) -> Result<Bytes, RemoteError> {
    let (digest, content) = (*digest, content.clone());
    let read = move || content.read_at(offset, PIECE_BYTES);
    blocking(read).await?.map_err(|error| local(&digest, &error))
}

/// Sends a blob whose first piece was read already. Returns early if the server reads no more.
async fn send(
    digest: &Digest,
    content: &Content,
    first: Bytes,
    level: Option<i32>,
    mut messages: Messages<'_>,
) -> Result<(), RemoteError> {
    let mut compressor = level.map(Compressor::new).transpose().map_err(|error| local(digest, &error))?;
    let (mut piece, mut offset) = (first, 0);
    loop {
        offset += piece.len() as u64;
        let is_last = offset >= digest.size_bytes;
        if let Some(encoder) = compressor {
            let encoded = blocking(move || encode(encoder, &piece, is_last)).await?;
            let (encoder, data) = encoded.map_err(|error| local(digest, &error))?;
            (compressor, piece) = (Some(encoder), data);
        }
        if !messages.send(piece, is_last).await || is_last {
            return Ok(());
        }
        piece = read_at(digest, content, offset).await?;
    }
}

/// Compresses one piece, and gives the compressor back.
fn encode(mut compressor: Compressor, piece: &[u8], is_last: bool) -> io::Result<(Compressor, Bytes)> {
    let mut data = Vec::new();
    compressor.feed(piece, &mut data)?;
    if is_last {
        compressor.finish(&mut data)?;
    }
    Ok((compressor, Bytes::from(data)))
}

fn local(digest: &Digest, error: &io::Error) -> RemoteError {
    RemoteError::local(format!("{digest}: {error}"))
}

/// The messages of one upload. The request ends when they are dropped.
struct Messages<'a> {
    /// The name of the resource, which stands in the first message only.
    name: String,
    sender: mpsc::Sender<WriteRequest>,
    /// The bytes in all messages so far.
    sent_bytes: &'a AtomicU64,
}

impl Messages<'_> {
    /// Sends a message. Returns whether the server still reads. An encoder that holds back all of its output
    /// gives an empty piece, which is not sent.
    async fn send(&mut self, data: Bytes, is_last: bool) -> bool {
        if data.is_empty() && !is_last {
            return true;
        }
        let offset = self.sent_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        let message = WriteRequest {
            resource_name: std::mem::take(&mut self.name),
            write_offset: i64::try_from(offset).unwrap_or(i64::MAX),
            finish_write: is_last,
            data,
        };
        self.sender.send(message).await.is_ok()
    }
}
