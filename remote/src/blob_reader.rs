//! Reads one blob from the body of a response, decompressed, and never more bytes than it has.

use bytes::{Bytes, BytesMut};
use kache_cas::Digest;
use kache_proto::compressed_blob::Decompressor;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::decompression::next_piece;
use crate::error::RemoteError;
use crate::http_client::ResponseBody;
use crate::remote::BlobStream;

/// The number of pieces that are read before the caller has taken them.
const PIECES_AHEAD: usize = 2;

/// The reader of one blob, whose body arrives over HTTP.
pub(crate) struct BlobReader {
    body: ResponseBody,
    /// Decompresses the body; `None` if it holds the blob as it is.
    decompressor: Option<Decompressor>,
    /// The compressed bytes that were received last, without those that were decompressed.
    input: Bytes,
    digest: Digest,
    read_bytes: u64,
}

impl BlobReader {
    /// Begins to read the blob with this digest from a body, which may be compressed.
    pub(crate) fn new(
        body: ResponseBody,
        is_compressed: bool,
        digest: Digest,
    ) -> Result<BlobReader, RemoteError> {
        let decompressor = is_compressed.then(|| Decompressor::new(digest.size_bytes)).transpose()?;
        Ok(BlobReader { body, decompressor, input: Bytes::new(), digest, read_bytes: 0 })
    }

    /// Returns the next piece; `None` after the last one. The pieces together have the length of the digest.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RemoteError> {
        let size_bytes = self.digest.size_bytes;
        let Some(piece) = self.next_unchecked().await? else {
            if self.read_bytes == size_bytes {
                return Ok(None);
            }
            let digest = self.digest;
            return Err(RemoteError::malformed(format!("{digest} ends after {} bytes", self.read_bytes)));
        };
        self.read_bytes += piece.len() as u64;
        if self.read_bytes > size_bytes {
            return Err(RemoteError::malformed(format!("{} is followed by more bytes", self.digest)));
        }
        Ok(Some(piece))
    }

    async fn next_unchecked(&mut self) -> Result<Option<Bytes>, RemoteError> {
        let Some(decompressor) = &mut self.decompressor else { return self.body.next().await };
        loop {
            let piece = next_piece(decompressor, &mut self.input)?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
            match self.body.next().await? {
                Some(input) => self.input = input,
                None => {
                    decompressor.finish()?;
                    return Ok(None);
                }
            }
        }
    }

    /// Reads the whole blob and verifies it.
    pub(crate) async fn read_all(mut self) -> Result<Bytes, RemoteError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next().await? {
            whole.extend_from_slice(&piece);
        }
        let whole = whole.freeze();
        if Digest::of(self.digest.function, &whole) != self.digest {
            return Err(RemoteError::malformed(format!("{} has other bytes", self.digest)));
        }
        Ok(whole)
    }

    /// Returns the pieces as a stream. A task reads them ahead; it ends when the stream is dropped.
    pub(crate) fn into_stream(mut self) -> BlobStream {
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        tokio::spawn(async move {
            loop {
                let piece = tokio::select! {
                    piece = self.next() => piece.transpose(),
                    () = sender.closed() => return,
                };
                let Some(piece) = piece else { return };
                let is_last = piece.is_err();
                if sender.send(piece).await.is_err() || is_last {
                    return;
                }
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}
