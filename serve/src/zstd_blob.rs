//! Compressed blobs on their way to and from the store, which holds them uncompressed.

use bytes::Bytes;
use kache_cas::{Digest, StoreError};
use kache_proto::compressed_blob::{self, Compressor, DecompressError as CompressedBytesError, Decompressor};
use thiserror::Error;

/// The level of compression. The network is usually a local one, and at a higher level a
/// processor compresses less than such a network carries.
const LEVEL: i32 = 1;

/// Why compressed bytes do not become a blob of the store.
#[derive(Debug, Error)]
pub(super) enum DecompressError {
    /// The compressed bytes are not those of the blob.
    #[error("`{digest}`: {error}")]
    Bytes {
        /// The digest of the blob.
        digest: Digest,
        /// The reason why the bytes cannot be decompressed to the blob.
        error: CompressedBytesError,
    },
    /// The store could not write the decompressed bytes.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Decompresses one blob piece by piece.
pub(super) struct ZstdDecompressor {
    decompressor: Decompressor,
    digest: Digest,
    buffer: Vec<u8>,
}

impl ZstdDecompressor {
    /// Begins to decompress the blob with this digest.
    pub(super) fn new(digest: Digest) -> Result<Self, DecompressError> {
        let decompressor = Decompressor::new(digest.size_bytes).map_err(of_bytes(digest))?;
        let buffer = vec![0; decompressor.buffer_bytes()];
        Ok(ZstdDecompressor { decompressor, digest, buffer })
    }

    /// Decompresses the next bytes and calls `sink` with the output.
    pub(super) fn feed<F>(&mut self, mut bytes: &[u8], mut sink: F) -> Result<(), DecompressError>
    where
        F: FnMut(&[u8]) -> Result<(), StoreError>,
    {
        loop {
            let read = self.decompressor.read(&mut bytes, &mut self.buffer);
            match read.map_err(of_bytes(self.digest))? {
                0 => return Ok(()),
                len => sink(&self.buffer[..len])?,
            }
        }
    }

    /// Checks that the last frame is complete, after all bytes were fed.
    pub(super) fn finish(&self) -> Result<(), DecompressError> {
        self.decompressor.finish().map_err(of_bytes(self.digest))
    }
}

fn of_bytes(digest: Digest) -> impl Fn(CompressedBytesError) -> DecompressError {
    move |error| DecompressError::Bytes { digest, error }
}

/// Decompresses a small blob in one step. The output may be shorter than the digest states, which
/// the store checks; it is never longer.
pub(super) fn decompress(digest: Digest, bytes: &[u8]) -> Result<Bytes, DecompressError> {
    compressed_blob::decompress(digest.size_bytes, bytes).map_err(of_bytes(digest))
}

/// Compresses a small blob in one step; `None` if it would not become smaller.
pub(super) fn compress(bytes: &[u8]) -> Option<Bytes> {
    compressed_blob::compress(bytes, LEVEL)
}

/// Begins to compress one blob piece by piece.
pub(super) fn compressor() -> std::io::Result<Compressor> {
    Compressor::new(LEVEL)
}
