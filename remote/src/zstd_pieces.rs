//! Decompresses a blob piece by piece, as its compressed bytes arrive.
//!
//! Servers may send several frames, with skippable ones among them: bazel-remote sends the file in which it
//! stores a blob. The output comes in pieces of bounded size, so that the caller can stop at the first one
//! too many. It is pure: bytes in, bytes out.

use bytes::{Buf as _, Bytes};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

use crate::error::RemoteError;

/// Frames that need a larger window (128 MiB) are refused, because a window is memory. The highest level
/// of zstd uses this one.
const WINDOW_LOG_MAX: u32 = 27;

/// The size of the output buffer, in bytes.
const OUTPUT_BYTES: usize = 128 * 1024;

/// Decompresses one blob.
pub(crate) struct ZstdPieces {
    decoder: Decoder<'static>,
    input: Bytes,
    buffer: Vec<u8>,
    /// Whether the decoder may have output for which the buffer had no room.
    holds_output: bool,
    /// Whether the bytes so far end with the end of a frame; `false` before the first byte.
    is_at_end: bool,
}

impl ZstdPieces {
    /// Begins to decompress.
    pub(crate) fn new() -> Result<ZstdPieces, RemoteError> {
        let mut decoder = Decoder::new().map_err(damaged)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(damaged)?;
        Ok(ZstdPieces {
            decoder,
            input: Bytes::new(),
            buffer: vec![0; OUTPUT_BYTES],
            holds_output: false,
            is_at_end: false,
        })
    }

    /// Takes the next compressed bytes. All output for the earlier ones has been taken.
    pub(crate) fn feed(&mut self, input: Bytes) {
        self.input = input;
    }

    /// Returns the next output; `None` if that needs more input.
    pub(crate) fn next_output(&mut self) -> Result<Option<Bytes>, RemoteError> {
        while self.input.has_remaining() || self.holds_output {
            let mut input = InBuffer::around(&self.input[..]);
            let mut output = OutBuffer::around(self.buffer.as_mut_slice());
            let hint = self.decoder.run(&mut input, &mut output).map_err(damaged)?;
            let (used, made) = (input.pos(), output.pos());
            self.input.advance(used);
            self.is_at_end = hint == 0;
            self.holds_output = made == OUTPUT_BYTES && !self.is_at_end;
            if made > 0 {
                return Ok(Some(Bytes::copy_from_slice(&self.buffer[..made])));
            }
            if used == 0 {
                break;
            }
        }
        Ok(None)
    }

    /// Makes sure that the last frame is complete, after all input was fed and all output taken.
    pub(crate) fn finish(&self) -> Result<(), RemoteError> {
        if self.is_at_end {
            return Ok(());
        }
        Err(RemoteError::malformed("the compressed bytes end in the middle of a frame"))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is used with `map_err`")]
fn damaged(error: std::io::Error) -> RemoteError {
    RemoteError::malformed(format!("the compressed bytes are damaged: {error}"))
}
