//! Reads one blob from the body of a response, decompressed, and never more bytes than it has.

use bytes::{Bytes, BytesMut};
use kache_cas::Digest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::RemoteError;
use crate::http_client::ResponseBody;
use crate::remote::BlobStream;
use crate::zstd_pieces::ZstdPieces;

/// The number of pieces that are read before the caller has taken them.
const PIECES_AHEAD: usize = 2;

/// Reads one blob.
pub(crate) struct BlobReader {
    body: ResponseBody,
    zstd: Option<ZstdPieces>,
    digest: Digest,
    read_bytes: u64,
}

impl BlobReader {
    /// Begins to read the blob with this digest. `zstd` decompresses the body, if it is compressed.
    pub(crate) fn new(body: ResponseBody, zstd: Option<ZstdPieces>, digest: Digest) -> BlobReader {
        BlobReader { body, zstd, digest, read_bytes: 0 }
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
        let Some(zstd) = &mut self.zstd else { return self.body.next().await };
        loop {
            if let Some(output) = zstd.next_output()? {
                return Ok(Some(output));
            }
            match self.body.next().await? {
                Some(input) => zstd.feed(input),
                None => return zstd.finish().map(|()| None),
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
