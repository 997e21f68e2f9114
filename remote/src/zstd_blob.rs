//! Compresses and decompresses blobs on their way with zstd.
//!
//! A blob may arrive in several frames, with skippable ones among them: some servers send the file in which
//! they store it. The digest states the length, so decompression stops as soon as more comes out.
//!
//! Pure: bytes in, bytes out. It hashes nothing.

use bytes::{Buf as _, Bytes};
use zstd::stream::raw::{DParameter, Decoder, Encoder, InBuffer, Operation as _, OutBuffer};

use crate::error::RemoteError;

/// Frames that need a larger window (32 MiB) are refused: a window is memory. Level 19, the highest that
/// needs no special flag, uses 8 MiB.
const WINDOW_LOG_MAX: u32 = 25;

/// The most bytes of one decompressed piece.
const PIECE_BYTES: usize = 128 * 1024;

/// Decompresses one blob piece by piece.
pub(crate) struct Decompressor {
    decoder: Decoder<'static>,
    size_bytes: u64,
    written_bytes: u64,
    /// Whether the bytes so far end with the end of a frame; `false` before the first byte.
    is_at_end: bool,
    /// Whether the decoder may hold output that did not fit in the last piece.
    has_more: bool,
}

impl Decompressor {
    /// Begins to decompress a blob of this size.
    pub(crate) fn new(size_bytes: u64) -> Result<Decompressor, RemoteError> {
        let mut decoder = Decoder::new().map_err(|error| damaged(&error))?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(|error| damaged(&error))?;
        Ok(Decompressor { decoder, size_bytes, written_bytes: 0, is_at_end: false, has_more: false })
    }

    /// Returns the next decompressed piece, and removes what it consumed from `input`. An empty piece means
    /// that the decoder needs more input.
    pub(crate) fn next(&mut self, input: &mut Bytes) -> Result<Bytes, RemoteError> {
        while !input.is_empty() || self.has_more {
            let piece = self.step(input)?;
            if !piece.is_empty() {
                return Ok(piece);
            }
        }
        Ok(Bytes::new())
    }

    fn step(&mut self, input: &mut Bytes) -> Result<Bytes, RemoteError> {
        let left = usize::try_from(self.size_bytes - self.written_bytes).unwrap_or(usize::MAX);
        let mut buffer = vec![0; left.saturating_add(1).min(PIECE_BYTES)];
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around(buffer.as_mut_slice());
        let hint = self.decoder.run(&mut from, &mut to).map_err(|error| damaged(&error))?;
        let (consumed, len) = (from.pos(), to.pos());
        self.is_at_end = hint == 0;
        self.has_more = len == buffer.len() && !self.is_at_end;
        self.written_bytes += len as u64;
        if self.written_bytes > self.size_bytes {
            return Err(too_long(self.size_bytes));
        }
        input.advance(consumed);
        buffer.truncate(len);
        Ok(Bytes::from(buffer))
    }

    /// Checks that the last frame is complete, after all bytes were decompressed.
    pub(crate) fn finish(&self) -> Result<(), RemoteError> {
        if self.is_at_end || self.size_bytes == 0 {
            return Ok(());
        }
        Err(RemoteError::malformed("the compressed bytes end in the middle of a frame"))
    }
}

/// Creates the error for a blob of which more bytes come than its digest states.
pub(crate) fn too_long(size_bytes: u64) -> RemoteError {
    RemoteError::malformed(format!("more bytes arrive than the {size_bytes} bytes of the blob"))
}

fn damaged(error: &std::io::Error) -> RemoteError {
    RemoteError::malformed(format!("the compressed bytes are damaged: {error}"))
}

/// Decompresses a small blob in one step. The output may be shorter than `size_bytes`, and is never longer.
pub(crate) fn decompress(size_bytes: u64, mut bytes: Bytes) -> Result<Bytes, RemoteError> {
    let mut decompressor = Decompressor::new(size_bytes)?;
    let mut whole = Vec::new();
    loop {
        let piece = decompressor.next(&mut bytes)?;
        if piece.is_empty() {
            break;
        }
        whole.extend_from_slice(&piece);
    }
    decompressor.finish()?;
    Ok(Bytes::from(whole))
}

/// Compresses a small blob in one step; `None` if it would not become smaller.
pub(crate) fn compress(bytes: &[u8], level: i32) -> Option<Bytes> {
    let compressed = zstd::bulk::compress(bytes, level).ok()?;
    (compressed.len() < bytes.len()).then(|| Bytes::from(compressed))
}

/// Compresses one blob piece by piece, to one frame.
pub(crate) struct Compressor(Encoder<'static>);

impl Compressor {
    /// Begins a frame.
    pub(crate) fn new(level: i32) -> std::io::Result<Compressor> {
        Ok(Compressor(Encoder::new(level)?))
    }

    /// Compresses the next bytes and appends the output to `to`. The encoder may hold back some.
    pub(crate) fn feed(&mut self, bytes: &[u8], to: &mut Vec<u8>) -> std::io::Result<()> {
        let mut input = InBuffer::around(bytes);
        while input.pos() < bytes.len() {
            to.reserve(PIECE_BYTES);
            let len = to.len();
            self.0.run(&mut input, &mut OutBuffer::around_pos(to, len))?;
        }
        Ok(())
    }

    /// Ends the frame and appends the rest of it to `to`.
    pub(crate) fn finish(&mut self, to: &mut Vec<u8>) -> std::io::Result<()> {
        loop {
            to.reserve(PIECE_BYTES);
            let len = to.len();
            if self.0.finish(&mut OutBuffer::around_pos(to, len), true)? == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i / 7 % 251) as u8).collect()
    }

    /// A frame without content (RFC 8878).
    fn skippable() -> Vec<u8> {
        [&[0x5a, 0x2a, 0x4d, 0x18, 9, 0, 0, 0][..], b"somewhere"].concat()
    }

    fn in_parts(size: u64, compressed: &[u8], part: usize) -> Result<Vec<u8>, RemoteError> {
        let mut decompressor = Decompressor::new(size)?;
        let mut whole = Vec::new();
        for bytes in compressed.chunks(part) {
            let mut input = Bytes::copy_from_slice(bytes);
            loop {
                let piece = decompressor.next(&mut input)?;
                if piece.is_empty() {
                    break;
                }
                assert!(piece.len() <= PIECE_BYTES);
                whole.extend_from_slice(&piece);
            }
        }
        decompressor.finish().map(|()| whole)
    }

    #[test]
    fn blobs_survive_compression_in_pieces_of_any_size() {
        for len in [1, 1000, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 1] {
            let bytes = sample(len);
            let mut compressor = Compressor::new(3).unwrap();
            let mut compressed = Vec::new();
            bytes.chunks(50_000).for_each(|part| compressor.feed(part, &mut compressed).unwrap());
            compressor.finish(&mut compressed).unwrap();
            for part in [1, 777, usize::MAX] {
                assert_eq!(in_parts(len as u64, &compressed, part).unwrap(), bytes, "{len} {part}");
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
            assert_eq!(in_parts(300_000, &compressed, part).unwrap(), bytes, "{part}");
        }
        assert_eq!(decompress(300_000, Bytes::from(compressed)).unwrap(), bytes);
    }

    #[test]
    fn damaged_and_incomplete_frames_are_refused() {
        let bytes = sample(10_000);
        let compressed = zstd::bulk::compress(&bytes, 3).unwrap();
        let cut = &compressed[..compressed.len() - 1];
        let garbage = [&compressed, &b"garbage"[..]].concat();
        for wrong in [cut, b"", b"not zstd at all", &garbage] {
            let outcome = decompress(10_000, Bytes::copy_from_slice(wrong));
            assert!(matches!(outcome, Err(RemoteError::Malformed { .. })), "{outcome:?}");
        }
    }

    #[test]
    fn a_bomb_ends_at_the_size_that_it_claims() {
        let bomb = Bytes::from(zstd::bulk::compress(&vec![0; 64 * 1024 * 1024], 19).unwrap());
        for size in [0, 1, 1000, PIECE_BYTES as u64] {
            let error = decompress(size, bomb.clone()).unwrap_err();
            assert!(error.to_string().contains("more bytes arrive"), "{size}: {error}");
        }
    }

    #[test]
    fn a_frame_that_wants_much_memory_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        std::io::Write::write_all(&mut encoder, &sample(1000)).unwrap();
        assert!(decompress(1000, Bytes::from(encoder.finish().unwrap())).is_err());
    }

    #[test]
    fn blobs_that_would_not_shrink_are_not_compressed() {
        assert!(compress(b"ab", 3).is_none());
        assert!(compress(&sample(4096), 3).is_some());
    }
}
