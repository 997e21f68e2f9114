//! Compresses and decompresses blobs on their way with zstd, for the server and for remotes.
//!
//! A blob may arrive in several frames, with skippable ones among them: some programs send the file in which
//! they store it. The digest states the length, so decompression stops when more comes out, and a
//! decompression bomb has no effect.
//!
//! It is pure: bytes in, bytes out.

use std::fmt;
use std::io;

use bytes::Bytes;
use zstd::stream::raw::{DParameter, Decoder, Encoder, InBuffer, Operation as _, OutBuffer};

/// Frames that need a larger window (32 MiB) are refused: a window is memory. Level 19, the highest that
/// needs no special flag, uses 8 MiB.
const WINDOW_LOG_MAX: u32 = 25;

/// The size of the buffers for output, in bytes.
pub const OUTPUT_BYTES: usize = 128 * 1024;

/// Why compressed bytes cannot be decompressed to a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecompressError {
    /// The bytes are not valid zstd.
    Damaged(String),
    /// The last frame is incomplete.
    CutOff,
    /// More bytes come out than the digest states: this number.
    TooLong(u64),
}

impl fmt::Display for DecompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecompressError::Damaged(error) => write!(f, "the compressed bytes are damaged: {error}"),
            DecompressError::CutOff => f.write_str("the compressed bytes end in the middle of a frame"),
            DecompressError::TooLong(size_bytes) => {
                write!(f, "more than the {size_bytes} bytes of the blob come out of the compressed bytes")
            }
        }
    }
}

impl std::error::Error for DecompressError {}

/// Decompresses one blob step by step.
pub struct Decompressor {
    decoder: Decoder<'static>,
    size_bytes: u64,
    written_bytes: u64,
    /// Whether the bytes so far end with the end of a frame; `false` before the first byte.
    is_at_end: bool,
    /// Whether the decoder may hold output for which the last buffer had no room.
    has_more: bool,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decompressor({} of {} bytes)", self.written_bytes, self.size_bytes)
    }
}

impl Decompressor {
    /// Begins to decompress a blob of this size.
    pub fn new(size_bytes: u64) -> Result<Decompressor, DecompressError> {
        let mut decoder = Decoder::new().map_err(|error| damaged(&error))?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(|error| damaged(&error))?;
        Ok(Decompressor { decoder, size_bytes, written_bytes: 0, is_at_end: false, has_more: false })
    }

    /// Returns the size of a buffer that is large enough for [`Decompressor::read`]: one byte more than the
    /// blob still has, at most [`OUTPUT_BYTES`].
    pub fn buffer_bytes(&self) -> usize {
        let left = usize::try_from(self.size_bytes - self.written_bytes).unwrap_or(usize::MAX);
        left.saturating_add(1).min(OUTPUT_BYTES)
    }

    /// Decompresses the next bytes into `buffer` and returns their number. Removes what it has consumed from
    /// the front of `input`. 0 means that `input` is empty and that the decoder needs more.
    pub fn read(&mut self, input: &mut &[u8], buffer: &mut [u8]) -> Result<usize, DecompressError> {
        // A full buffer may mean that the decoder holds more output, so it runs again without new input.
        while !input.is_empty() || self.has_more {
            let mut from = InBuffer::around(input);
            let mut to = OutBuffer::around(&mut *buffer);
            let hint = self.decoder.run(&mut from, &mut to).map_err(|error| damaged(&error))?;
            let (consumed, len) = (from.pos(), to.pos());
            *input = &input[consumed..];
            self.is_at_end = hint == 0;
            self.has_more = len == buffer.len() && !self.is_at_end;
            self.written_bytes += len as u64;
            // Checked after each buffer, so that a few bytes that decompress to gigabytes end here.
            if self.written_bytes > self.size_bytes {
                return Err(DecompressError::TooLong(self.size_bytes));
            }
            if len > 0 {
                return Ok(len);
            }
        }
        Ok(0)
    }

    /// Checks that the last frame is complete, after all bytes were decompressed.
    pub fn finish(&self) -> Result<(), DecompressError> {
        if self.is_at_end { Ok(()) } else { Err(DecompressError::CutOff) }
    }
}

fn damaged(error: &io::Error) -> DecompressError {
    DecompressError::Damaged(error.to_string())
}

/// Decompresses a small blob in one step. The output may be shorter than `size_bytes`, and is never longer.
pub fn decompress(size_bytes: u64, mut bytes: &[u8]) -> Result<Bytes, DecompressError> {
    let mut decompressor = Decompressor::new(size_bytes)?;
    let mut buffer = vec![0; decompressor.buffer_bytes()];
    let mut whole = Vec::new();
    loop {
        let len = decompressor.read(&mut bytes, &mut buffer)?;
        if len == 0 {
            break;
        }
        whole.extend_from_slice(&buffer[..len]);
    }
    decompressor.finish()?;
    Ok(Bytes::from(whole))
}

/// Compresses a small blob in one step; `None` if it would not become smaller.
pub fn compress(bytes: &[u8], level: i32) -> Option<Bytes> {
    let compressed = zstd::bulk::compress(bytes, level).ok()?;
    (compressed.len() < bytes.len()).then(|| Bytes::from(compressed))
}

/// Compresses one blob piece by piece, to one frame.
pub struct Compressor(Encoder<'static>);

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}

impl Compressor {
    /// Begins to write a frame with this level of compression.
    pub fn new(level: i32) -> io::Result<Compressor> {
        Ok(Compressor(Encoder::new(level)?))
    }

    /// Compresses the next bytes and appends the output to `to`. The encoder may hold back some.
    pub fn feed(&mut self, bytes: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
        let mut input = InBuffer::around(bytes);
        while input.pos() < bytes.len() {
            to.reserve(OUTPUT_BYTES);
            let len = to.len();
            self.0.run(&mut input, &mut OutBuffer::around_pos(to, len))?;
        }
        Ok(())
    }

    /// Ends the frame and appends the rest of it to `to`.
    pub fn finish(&mut self, to: &mut Vec<u8>) -> io::Result<()> {
        loop {
            to.reserve(OUTPUT_BYTES);
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

    /// A skippable frame (RFC 8878).
    fn skippable() -> Vec<u8> {
        [&[0x5a, 0x2a, 0x4d, 0x18, 9, 0, 0, 0][..], b"somewhere"].concat()
    }

    fn in_parts(size: u64, compressed: &[u8], part: usize) -> Result<Vec<u8>, DecompressError> {
        let mut decompressor = Decompressor::new(size)?;
        let mut whole = Vec::new();
        for mut input in compressed.chunks(part) {
            let mut buffer = vec![0; decompressor.buffer_bytes()];
            loop {
                let len = decompressor.read(&mut input, &mut buffer)?;
                if len == 0 {
                    break;
                }
                whole.extend_from_slice(&buffer[..len]);
            }
        }
        decompressor.finish().map(|()| whole)
    }

    #[test]
    fn blobs_survive_compression_in_pieces_of_any_size() {
        for len in [1, 1000, OUTPUT_BYTES, OUTPUT_BYTES + 1, 3 * OUTPUT_BYTES + 1] {
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
        assert_eq!(decompress(300_000, &compressed).unwrap(), bytes);
    }

    #[test]
    fn damaged_and_incomplete_frames_are_refused() {
        let bytes = sample(10_000);
        let compressed = zstd::bulk::compress(&bytes, 3).unwrap();
        let cut = &compressed[..compressed.len() - 1];
        assert_eq!(decompress(10_000, cut), Err(DecompressError::CutOff));
        assert_eq!(decompress(10_000, b""), Err(DecompressError::CutOff));
        assert!(matches!(decompress(10_000, b"not zstd at all"), Err(DecompressError::Damaged(_))));
        let tail = [&compressed, &b"garbage"[..]].concat();
        assert!(matches!(
            decompress(10_000, &tail),
            Err(DecompressError::Damaged(_) | DecompressError::CutOff)
        ));
    }

    #[test]
    fn net_02_a_bomb_ends_soon_after_the_size_it_claims() {
        let bomb = zstd::bulk::compress(&vec![0; 64 * 1024 * 1024], 19).unwrap();
        for size in [0, 1, 1000, OUTPUT_BYTES as u64] {
            let (mut decompressor, mut input) = (Decompressor::new(size).unwrap(), &bomb[..]);
            let mut most = 0;
            let outcome = loop {
                let mut buffer = vec![0; decompressor.buffer_bytes()];
                match decompressor.read(&mut input, &mut buffer) {
                    Ok(len) => most += len as u64,
                    Err(error) => break error,
                }
            };
            assert_eq!(outcome, DecompressError::TooLong(size));
            assert!(most <= size, "{size}: {most}");
        }
    }

    #[test]
    fn net_02_a_frame_that_wants_much_memory_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        io::Write::write_all(&mut encoder, &sample(1000)).unwrap();
        let compressed = encoder.finish().unwrap();
        assert!(matches!(decompress(1000, &compressed), Err(DecompressError::Damaged(_))));
    }

    #[test]
    fn blobs_that_would_not_shrink_are_not_compressed() {
        assert!(compress(b"ab", 3).is_none());
        assert!(compress(&sample(4096), 3).is_some());
    }
}
