//! Compresses and decompresses blobs with zstd. The store holds them uncompressed.
//!
//! An upload may consist of several frames, with skippable ones among them: some proxies send
//! the file in which they store a blob. The digest states the decompressed length, so
//! decompression stops when more comes out, and a decompression bomb has no effect.
//!
//! It is pure: bytes in, bytes out.

use bytes::Bytes;
use kache_cas::{Digest, StoreError};
use thiserror::Error;
use zstd::stream::raw::{DParameter, Decoder, Encoder, InBuffer, Operation as _, OutBuffer};

/// The level of compression. The network is usually a local one, and at a higher level a
/// processor compresses less than such a network carries.
pub(super) const LEVEL: i32 = 1;

/// Frames that need a larger window (32 MiB) are refused: a window is memory. Level 19, the
/// highest that needs no special flag, uses 8 MiB.
const WINDOW_LOG_MAX: u32 = 25;

/// The size of the output buffer, in bytes.
const OUTPUT_BYTES: usize = 128 * 1024;

/// Why compressed bytes cannot be decompressed to a blob.
#[derive(Debug, Error)]
pub(super) enum DecompressError {
    /// The bytes are not valid zstd.
    #[error("the compressed bytes are damaged: {0}")]
    Damaged(String),
    /// The last frame is incomplete.
    #[error("the compressed bytes end in the middle of a frame")]
    CutOff,
    /// More bytes come out than the digest states.
    #[error("more than the {size_bytes} bytes of `{digest}` come out of the compressed bytes")]
    TooLong {
        /// The digest of the blob.
        digest: Digest,
        /// The number of bytes that the blob has uncompressed.
        size_bytes: u64,
    },
    /// The store could not write the decompressed bytes.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Decompresses one blob piece by piece.
pub(super) struct ZstdDecompressor {
    decoder: Decoder<'static>,
    digest: Digest,
    written_bytes: u64,
    /// Whether the bytes so far end with the end of a frame; `false` before the first byte.
    is_at_end: bool,
    buffer: Vec<u8>,
}

impl ZstdDecompressor {
    /// Begins to decompress the blob with this digest.
    pub(super) fn new(digest: Digest) -> Result<Self, DecompressError> {
        let damaged = |error: std::io::Error| DecompressError::Damaged(error.to_string());
        let mut decoder = Decoder::new().map_err(damaged)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(damaged)?;
        let buffer_bytes = usize::try_from(digest.size_bytes + 1).unwrap_or(usize::MAX).min(OUTPUT_BYTES);
        Ok(ZstdDecompressor {
            decoder,
            digest,
            written_bytes: 0,
            is_at_end: false,
            buffer: vec![0; buffer_bytes],
        })
    }

    /// Decompresses the next bytes and calls `sink` with the output.
    pub(super) fn feed<F>(&mut self, bytes: &[u8], mut sink: F) -> Result<(), DecompressError>
    where
        F: FnMut(&[u8]) -> Result<(), StoreError>,
    {
        let mut input = InBuffer::around(bytes);
        loop {
            let mut output = OutBuffer::around(self.buffer.as_mut_slice());
            let hint = self
                .decoder
                .run(&mut input, &mut output)
                .map_err(|error| DecompressError::Damaged(error.to_string()))?;
            let len = output.pos();
            let is_full = len == self.buffer.len();
            self.is_at_end = hint == 0;
            self.written_bytes += len as u64;
            // Checked after each buffer, so that a small upload that decompresses to gigabytes ends here.
            if self.written_bytes > self.digest.size_bytes {
                return Err(DecompressError::TooLong {
                    digest: self.digest,
                    size_bytes: self.digest.size_bytes,
                });
            }
            sink(&self.buffer[..len])?;
            // A full buffer may mean that the decoder holds more output, so it runs again without new input.
            if input.pos() == bytes.len() && (!is_full || self.is_at_end) {
                return Ok(());
            }
        }
    }

    /// Checks that the last frame is complete, after all bytes were fed.
    pub(super) fn finish(&self) -> Result<(), DecompressError> {
        if self.is_at_end { Ok(()) } else { Err(DecompressError::CutOff) }
    }
}

/// Decompresses a small blob in one step. The output may be shorter than the digest states, which
/// the store checks; it is never longer.
pub(super) fn decompress(digest: Digest, bytes: &[u8]) -> Result<Bytes, DecompressError> {
    let mut whole = Vec::new();
    let mut decompressor = ZstdDecompressor::new(digest)?;
    decompressor.feed(bytes, |part| {
        whole.extend_from_slice(part);
        Ok(())
    })?;
    decompressor.finish()?;
    Ok(Bytes::from(whole))
}

/// Compresses a small blob in one step; `None` if it would not become smaller.
pub(super) fn compress(bytes: &[u8]) -> Option<Bytes> {
    let compressed = zstd::bulk::compress(bytes, LEVEL).ok()?;
    (compressed.len() < bytes.len()).then(|| Bytes::from(compressed))
}

/// Compresses one blob piece by piece, to one frame.
pub(super) struct ZstdCompressor {
    encoder: Encoder<'static>,
}

impl ZstdCompressor {
    /// Begins a zstd frame.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(ZstdCompressor { encoder: Encoder::new(LEVEL)? })
    }

    /// Compresses the next bytes and appends the output to `to`. The encoder may hold back some.
    pub(super) fn feed(&mut self, bytes: &[u8], to: &mut Vec<u8>) -> std::io::Result<()> {
        let mut input = InBuffer::around(bytes);
        while input.pos() < bytes.len() {
            to.reserve(OUTPUT_BYTES);
            let len = to.len();
            let mut output = OutBuffer::around_pos(to, len);
            self.encoder.run(&mut input, &mut output)?;
        }
        Ok(())
    }

    /// Ends the frame and appends the rest of it to `to`.
    pub(super) fn finish(&mut self, to: &mut Vec<u8>) -> std::io::Result<()> {
        loop {
            to.reserve(OUTPUT_BYTES);
            let len = to.len();
            let mut output = OutBuffer::around_pos(to, len);
            if self.encoder.finish(&mut output, true)? == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kache_cas::DigestFunction;

    use super::*;

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i / 7 % 251) as u8).collect()
    }

    fn digest(bytes: &[u8]) -> Digest {
        Digest::of(DigestFunction::Sha256, bytes)
    }

    /// A skippable frame (RFC 8878).
    fn skippable() -> Vec<u8> {
        let mut frame = vec![0x5a, 0x2a, 0x4d, 0x18, 9, 0, 0, 0];
        frame.extend_from_slice(b"somewhere");
        frame
    }

    fn feed_in_parts(digest: Digest, compressed: &[u8], part: usize) -> Result<Vec<u8>, DecompressError> {
        let mut out = Vec::new();
        let mut decompressor = ZstdDecompressor::new(digest)?;
        for bytes in compressed.chunks(part) {
            decompressor.feed(bytes, |part| {
                out.extend_from_slice(part);
                Ok(())
            })?;
        }
        decompressor.finish().map(|()| out)
    }

    #[test]
    fn blobs_survive_compression_in_pieces_of_any_size() {
        for len in [1, 1000, OUTPUT_BYTES, 3 * OUTPUT_BYTES + 1] {
            let bytes = sample(len);
            let mut compressor = ZstdCompressor::new().unwrap();
            let mut compressed = Vec::new();
            bytes.chunks(50_000).for_each(|part| compressor.feed(part, &mut compressed).unwrap());
            compressor.finish(&mut compressed).unwrap();
            for part in [1, 777, usize::MAX] {
                assert_eq!(feed_in_parts(digest(&bytes), &compressed, part).unwrap(), bytes, "{len} {part}");
            }
        }
    }

    #[test]
    fn frames_may_be_many_and_skippable() {
        let bytes = sample(300_000);
        let mut compressed = skippable();
        compressed.extend(zstd::bulk::compress(&bytes[..100_000], 3).unwrap());
        compressed.extend(skippable());
        compressed.extend(zstd::bulk::compress(&bytes[100_000..], 19).unwrap());
        compressed.extend(skippable());
        for part in [1, 4096, usize::MAX] {
            assert_eq!(feed_in_parts(digest(&bytes), &compressed, part).unwrap(), bytes, "{part}");
        }
        assert_eq!(decompress(digest(&bytes), &compressed).unwrap(), bytes);
    }

    #[test]
    fn damaged_and_incomplete_frames_are_refused() {
        let bytes = sample(10_000);
        let compressed = zstd::bulk::compress(&bytes, 3).unwrap();
        let cut = &compressed[..compressed.len() - 1];
        assert!(matches!(decompress(digest(&bytes), cut), Err(DecompressError::CutOff)));
        assert!(matches!(decompress(digest(&bytes), b""), Err(DecompressError::CutOff)));
        assert!(matches!(decompress(digest(&bytes), b"not zstd at all"), Err(DecompressError::Damaged(_))));
        let mut tail = compressed.clone();
        tail.extend_from_slice(b"garbage");
        assert!(matches!(
            decompress(digest(&bytes), &tail),
            Err(DecompressError::Damaged(_) | DecompressError::CutOff)
        ));
    }

    #[test]
    fn net_02_a_bomb_ends_soon_after_the_size_it_claims() {
        let bomb = zstd::bulk::compress(&vec![0; 64 * 1024 * 1024], 19).unwrap();
        for size in [0, 1, 1000, OUTPUT_BYTES as u64] {
            let claimed = Digest::new(DigestFunction::Sha256, digest(b"x").hash, size);
            let mut most = 0;
            let mut decompressor = ZstdDecompressor::new(claimed).unwrap();
            let outcome = decompressor.feed(&bomb, |part| {
                most += part.len() as u64;
                Ok(())
            });
            assert!(matches!(outcome, Err(DecompressError::TooLong { .. })), "{size}");
            assert!(most <= size, "{size}: {most}");
        }
    }

    #[test]
    fn net_02_a_frame_that_wants_much_memory_is_refused() {
        let bytes = sample(1000);
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        std::io::Write::write_all(&mut encoder, &bytes).unwrap();
        let compressed = encoder.finish().unwrap();
        assert!(matches!(decompress(digest(&bytes), &compressed), Err(DecompressError::Damaged(_))));
    }

    #[test]
    fn blobs_that_would_not_shrink_are_not_compressed() {
        assert!(compress(b"ab").is_none());
        assert!(compress(&sample(4096)).is_some());
    }
}
