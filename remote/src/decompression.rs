//! The pieces of a blob that arrives compressed.

use bytes::{Buf as _, Bytes};
use kache_proto::compressed_blob::{DecompressError, Decompressor};

use crate::error::RemoteError;

impl From<DecompressError> for RemoteError {
    fn from(error: DecompressError) -> Self {
        RemoteError::malformed(error.to_string())
    }
}

/// Returns the next decompressed piece, and removes what it has consumed from `input`. An empty piece means that
/// the decompressor needs more input.
pub(crate) fn next_piece(decompressor: &mut Decompressor, input: &mut Bytes) -> Result<Bytes, RemoteError> {
    let mut buffer = vec![0; decompressor.buffer_bytes()];
    let mut rest = &input[..];
    let len = decompressor.read(&mut rest, &mut buffer)?;
    let consumed = input.len() - rest.len();
    input.advance(consumed);
    buffer.truncate(len);
    Ok(Bytes::from(buffer))
}
