//! zstd at the edge: blobs come and go compressed, and the store knows nothing of it.
//!
//! What comes in may be several frames, and skippable ones among them: some proxies send the
//! file they keep as it is. Its decompressed length is known from the digest, so a bomb ends
//! one byte after that.
//!
//! Nothing here waits or knows a stream of requests: bytes in, bytes out.

use bytes::Bytes;
use kache_cas::{Digest, StoreError};
use thiserror::Error;
use zstd::stream::raw::{DParameter, Decoder, Encoder, InBuffer, Operation as _, OutBuffer};

/// What is sent is compressed at this level: the network is mostly a local one, and above it
/// a core does less than such a network carries.
pub(super) const LEVEL: i32 = 1;

/// Frames that need a larger window (32 MiB) are refused: a window is memory. Level 19, the
/// highest that needs no special flag, uses 8 MiB.
const WINDOW_LOG_MAX: u32 = 25;

/// The unit of decompression.
const OUTPUT_BYTES: usize = 128 * 1024;

/// Why compressed bytes cannot be a blob.
#[derive(Debug, Error)]
pub(super) enum UnzipError {
    /// They are not zstd.
    #[error("the compressed bytes are damaged: {0}")]
    Damaged(String),
    /// The last frame is not whole.
    #[error("the compressed bytes end in the middle of a frame")]
    CutOff,
    /// More comes out than the digest says.
    #[error("more than the {size_bytes} bytes of `{digest}` come out of the compressed bytes")]
    TooLong {
        /// What the client said.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
    },
    /// Whoever was given the bytes could not take them.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Decompresses the bytes of one blob as they come.
pub(super) struct Unzip {
    decoder: Decoder<'static>,
    digest: Digest,
    written_bytes: u64,
    /// Whether what came so far ends with a frame. Nothing at all does not.
    is_at_end: bool,
    buffer: Vec<u8>,
}

impl Unzip {
    /// For a blob of this name.
    pub(super) fn new(digest: Digest) -> Result<Self, UnzipError> {
        let damaged = |error: std::io::Error| UnzipError::Damaged(error.to_string());
        let mut decoder = Decoder::new().map_err(damaged)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(damaged)?;
        let buffer_bytes = usize::try_from(digest.size_bytes + 1).unwrap_or(usize::MAX).min(OUTPUT_BYTES);
        Ok(Unzip { decoder, digest, written_bytes: 0, is_at_end: false, buffer: vec![0; buffer_bytes] })
    }

    /// Takes the next compressed bytes and gives what comes out to `sink`.
    pub(super) fn feed<F>(&mut self, bytes: &[u8], mut sink: F) -> Result<(), UnzipError>
    where
        F: FnMut(&[u8]) -> Result<(), StoreError>,
    {
        let mut input = InBuffer::around(bytes);
        loop {
            let mut output = OutBuffer::around(self.buffer.as_mut_slice());
            let hint = self
                .decoder
                .run(&mut input, &mut output)
                .map_err(|error| UnzipError::Damaged(error.to_string()))?;
            let len = output.pos();
            let is_full = len == self.buffer.len();
            self.is_at_end = hint == 0;
            self.written_bytes += len as u64;
            if self.written_bytes > self.digest.size_bytes {
                return Err(UnzipError::TooLong { digest: self.digest, size_bytes: self.digest.size_bytes });
            }
            sink(&self.buffer[..len])?;
            if input.pos() == bytes.len() && (!is_full || self.is_at_end) {
                return Ok(());
            }
        }
    }

    /// No more bytes will come.
    pub(super) fn finish(&self) -> Result<(), UnzipError> {
        if self.is_at_end { Ok(()) } else { Err(UnzipError::CutOff) }
    }
}

/// Decompresses a small blob in one step. It may be longer or shorter than its digest says
/// by what the store's own check sees; it is never much longer.
pub(super) fn unzip(digest: Digest, bytes: &[u8]) -> Result<Bytes, UnzipError> {
    let mut whole = Vec::new();
    let mut unzip = Unzip::new(digest)?;
    unzip.feed(bytes, |part| {
        whole.extend_from_slice(part);
        Ok(())
    })?;
    unzip.finish()?;
    Ok(Bytes::from(whole))
}

/// Compresses a small blob in one step; `None` where it would not get smaller.
pub(super) fn zip(bytes: &[u8]) -> Option<Bytes> {
    let zipped = zstd::bulk::compress(bytes, LEVEL).ok()?;
    (zipped.len() < bytes.len()).then(|| Bytes::from(zipped))
}

/// Compresses one blob as it is read.
pub(super) struct Zip {
    encoder: Encoder<'static>,
}

impl Zip {
    /// A new frame.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Zip { encoder: Encoder::new(LEVEL)? })
    }

    /// Compresses the next bytes behind what is in `to`. Much of it may stay inside.
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

    /// Ends the frame.
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

    /// What RFC 8878 lets anybody put between frames.
    fn skippable() -> Vec<u8> {
        let mut frame = vec![0x5a, 0x2a, 0x4d, 0x18, 9, 0, 0, 0];
        frame.extend_from_slice(b"somewhere");
        frame
    }

    fn feed_in_parts(digest: Digest, zipped: &[u8], part: usize) -> Result<Vec<u8>, UnzipError> {
        let mut out = Vec::new();
        let mut unzip = Unzip::new(digest)?;
        for bytes in zipped.chunks(part) {
            unzip.feed(bytes, |part| {
                out.extend_from_slice(part);
                Ok(())
            })?;
        }
        unzip.finish().map(|()| out)
    }

    #[test]
    fn what_is_zipped_is_unzipped_whatever_the_parts() {
        for len in [1, 1000, OUTPUT_BYTES, 3 * OUTPUT_BYTES + 1] {
            let bytes = sample(len);
            let mut zip = Zip::new().unwrap();
            let mut zipped = Vec::new();
            bytes.chunks(50_000).for_each(|part| zip.feed(part, &mut zipped).unwrap());
            zip.finish(&mut zipped).unwrap();
            for part in [1, 777, usize::MAX] {
                assert_eq!(feed_in_parts(digest(&bytes), &zipped, part).unwrap(), bytes, "{len} {part}");
            }
        }
    }

    #[test]
    fn frames_may_be_many_and_skippable() {
        let bytes = sample(300_000);
        let mut zipped = skippable();
        zipped.extend(zstd::bulk::compress(&bytes[..100_000], 3).unwrap());
        zipped.extend(skippable());
        zipped.extend(zstd::bulk::compress(&bytes[100_000..], 19).unwrap());
        zipped.extend(skippable());
        for part in [1, 4096, usize::MAX] {
            assert_eq!(feed_in_parts(digest(&bytes), &zipped, part).unwrap(), bytes, "{part}");
        }
        assert_eq!(unzip(digest(&bytes), &zipped).unwrap(), bytes);
    }

    #[test]
    fn damage_and_missing_ends_are_seen() {
        let bytes = sample(10_000);
        let zipped = zstd::bulk::compress(&bytes, 3).unwrap();
        let cut = &zipped[..zipped.len() - 1];
        assert!(matches!(unzip(digest(&bytes), cut), Err(UnzipError::CutOff)));
        assert!(matches!(unzip(digest(&bytes), b""), Err(UnzipError::CutOff)));
        assert!(matches!(unzip(digest(&bytes), b"not zstd at all"), Err(UnzipError::Damaged(_))));
        let mut tail = zipped.clone();
        tail.extend_from_slice(b"garbage");
        assert!(matches!(unzip(digest(&bytes), &tail), Err(UnzipError::Damaged(_) | UnzipError::CutOff)));
    }

    #[test]
    fn net_02_a_bomb_ends_soon_after_the_size_it_claims() {
        let bomb = zstd::bulk::compress(&vec![0; 64 * 1024 * 1024], 19).unwrap();
        for size in [0, 1, 1000, OUTPUT_BYTES as u64] {
            let claimed = Digest::new(DigestFunction::Sha256, digest(b"x").hash, size);
            let mut most = 0;
            let mut unzip = Unzip::new(claimed).unwrap();
            let outcome = unzip.feed(&bomb, |part| {
                most += part.len() as u64;
                Ok(())
            });
            assert!(matches!(outcome, Err(UnzipError::TooLong { .. })), "{size}");
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
        let zipped = encoder.finish().unwrap();
        assert!(matches!(unzip(digest(&bytes), &zipped), Err(UnzipError::Damaged(_))));
    }

    #[test]
    fn what_does_not_get_smaller_is_left_alone() {
        assert!(zip(b"ab").is_none());
        assert!(zip(&sample(4096)).is_some());
    }
}
