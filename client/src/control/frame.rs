//! One frame: a 4-byte big-endian length, then that many bytes of one message.
//!
//! Pure: it turns bytes into frames and frames into bytes, and owns no socket. Invariant: a frame
//! that announces more than [`FRAME_BYTES_MAX`] is refused by its header alone, and memory is
//! allocated for bytes that have arrived, never for bytes that were announced.

use kache_proto::Message;
use thiserror::Error;

/// The longest message. A request holds a program's arguments and environment, for which Linux
/// allows 2 MiB together at its usual stack limit. A reply holds the content of argument files,
/// which may be 8 MiB.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The size of the length at the beginning of a frame.
const HEADER_BYTES: usize = 4;

/// The reason why bytes are no frame.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The message is too large.
    #[error("a frame of {len} bytes is more than FRAME_BYTES_MAX ({FRAME_BYTES_MAX}) allows")]
    TooLarge {
        /// The length of the message that the header announces or that was to be sent.
        len: usize,
    },
    /// The stream ended in the middle of the frame.
    #[error("the stream ended inside a frame, after {have} bytes of it")]
    Cut {
        /// The number of bytes that arrived, with the header.
        have: usize,
    },
    /// The frame is complete and cannot be decoded.
    #[error("the frame does not hold the expected message: {why}")]
    Malformed {
        /// The error of the protobuf decoder.
        why: String,
    },
}

/// Encodes a message as a frame; fails if it is longer than [`FRAME_BYTES_MAX`].
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, FrameError> {
    let len = message.encoded_len();
    let header =
        u32::try_from(len).ok().filter(|_| len <= FRAME_BYTES_MAX).ok_or(FrameError::TooLarge { len })?;
    let mut frame = Vec::with_capacity(HEADER_BYTES + len);
    frame.extend_from_slice(&header.to_be_bytes());
    message.encode(&mut frame).expect("a Vec grows as it is written");
    Ok(frame)
}

/// Decodes the message in the body of a frame.
pub fn decode<M: Message + Default>(body: &[u8]) -> Result<M, FrameError> {
    M::decode(body).map_err(|error| FrameError::Malformed { why: error.to_string() })
}

/// Collects bytes as they arrive and returns frames as they become complete.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Adds the next bytes. Call [`Decoder::next_frame`] until it returns `None` before the next
    /// push, so that no more than one frame and one push are held in memory.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the body of the next frame; `None` if it is not complete.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let len = u32::from_be_bytes(*header) as usize;
        if len > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge { len });
        }
        if rest.len() < len {
            return Ok(None);
        }
        let body = rest[..len].to_vec();
        self.buffer.drain(..HEADER_BYTES + len);
        Ok(Some(body))
    }

    /// Checks at the end of the stream that no part of a frame is left over.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(FrameError::Cut { have: self.buffer.len() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kache_proto::control::Hello;

    fn hello(version: &str) -> Hello {
        Hello { protocol: 7, client_version: version.to_owned(), ..Hello::default() }
    }

    fn bodies(bytes: &[u8], chunk: usize) -> Result<Vec<Hello>, FrameError> {
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        for piece in bytes.chunks(chunk) {
            decoder.push(piece);
            while let Some(body) = decoder.next_frame()? {
                found.push(decode(&body)?);
            }
        }
        decoder.finish()?;
        Ok(found)
    }

    #[test]
    fn frames_survive_any_cutting_of_the_stream() {
        let messages = [hello("0.1.0"), Hello::default(), hello(&"x".repeat(300))];
        let bytes: Vec<u8> = messages.iter().flat_map(|message| encode(message).unwrap()).collect();
        for chunk in 1..=bytes.len() {
            assert_eq!(bodies(&bytes, chunk).unwrap(), messages, "in pieces of {chunk}");
        }
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_an_error() {
        let bytes = encode(&hello("0.1.0")).unwrap();
        for cut in 1..bytes.len() {
            assert_eq!(bodies(&bytes[..cut], 64), Err(FrameError::Cut { have: cut }));
        }
    }

    #[test]
    fn a_frame_that_is_too_large_is_refused_by_its_header() {
        let mut decoder = Decoder::default();
        decoder.push(&(FRAME_BYTES_MAX as u32 + 1).to_be_bytes());
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLarge { len: FRAME_BYTES_MAX + 1 }));
        let mut decoder = Decoder::default();
        decoder.push(&(FRAME_BYTES_MAX as u32).to_be_bytes());
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.buffer.capacity() < 1024, "no memory is allocated for announced bytes");
    }

    #[test]
    fn a_message_that_is_too_large_is_not_encoded() {
        let error = encode(&hello(&"x".repeat(FRAME_BYTES_MAX))).unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { .. }));
    }

    #[test]
    fn garbage_is_malformed() {
        assert!(matches!(decode::<Hello>(&[0xff; 9]), Err(FrameError::Malformed { .. })));
    }
}
