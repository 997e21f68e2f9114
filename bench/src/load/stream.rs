//! One request and its response, as far as they were sent and received.

use std::time::Instant;

use bytes::Bytes;

use super::outbox::Outbox;
use crate::http2::frame;

/// The length of the header of each gRPC message: a flag and the message's length.
const MESSAGE_HEADER_LEN: usize = 5;

/// A request: its gRPC messages with their headers, in pieces that may begin and end anywhere.
pub(crate) struct Request {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Request {
    /// A request of these pieces, one after another.
    pub(crate) fn new(pieces: Vec<Bytes>) -> Request {
        let len = pieces.iter().map(Bytes::len).sum();
        Request { pieces, len }
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All bytes in one vector.
    #[cfg(test)]
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        self.pieces.concat()
    }
}

/// The lengths of a response, and its body if that is kept.
#[derive(Debug, Default)]
pub(crate) struct Response {
    /// The number of messages.
    pub(crate) messages: u64,
    /// The length of all messages together.
    pub(crate) message_bytes: u64,
    /// The length of the data in all messages, if they are `ReadResponse`s.
    pub(crate) data_bytes: u64,
    /// The messages with their gRPC headers. Empty if bodies are not kept.
    pub(crate) body: Vec<u8>,
}

/// A request that waits for its response.
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) client: usize,
    pub(crate) started: Instant,
    /// How much the client may still send.
    pub(crate) window: i64,
    /// How much the server has sent since its window was last enlarged.
    pub(crate) received_bytes: u32,
    pub(crate) response: Response,
    request: Request,
    piece: usize,
    sent_of_piece: usize,
    sent: usize,
    header: [u8; MESSAGE_HEADER_LEN],
    header_len: usize,
    message_left: usize,
}

impl Stream {
    pub(crate) fn new(id: u32, client: usize, request: Request, window: i64) -> Stream {
        Stream {
            id,
            client,
            started: Instant::now(),
            window,
            received_bytes: 0,
            response: Response::default(),
            request,
            piece: 0,
            sent_of_piece: 0,
            sent: 0,
            header: [0; MESSAGE_HEADER_LEN],
            header_len: 0,
            message_left: 0,
        }
    }

    /// The number of bytes of the request that are not sent yet.
    pub(crate) fn unsent(&self) -> usize {
        self.request.len() - self.sent
    }

    /// Puts one DATA frame of at most `len_max` bytes into the outbox, and returns its length.
    pub(crate) fn put_data(&mut self, outbox: &mut Outbox, len_max: usize) -> usize {
        let len = self.unsent().min(len_max).min(frame::FRAME_LEN_MAX);
        let flags = if len == self.unsent() { frame::END_STREAM } else { 0 };
        let header = frame::Header { len, kind: frame::DATA, flags, stream: self.id };
        outbox.copy(|out| out.extend_from_slice(&header.bytes()));
        let mut left = len;
        while left > 0 {
            let piece = &self.request.pieces[self.piece];
            let part = left.min(piece.len() - self.sent_of_piece);
            outbox.share(piece.slice(self.sent_of_piece..self.sent_of_piece + part));
            self.sent_of_piece += part;
            left -= part;
            if self.sent_of_piece == piece.len() {
                (self.piece, self.sent_of_piece) = (self.piece + 1, 0);
            }
        }
        self.sent += len;
        self.window -= len as i64;
        len
    }

    /// Parses the payload of a DATA frame.
    pub(crate) fn take_data(&mut self, payload: &[u8], collect: bool) {
        if collect {
            self.response.body.extend_from_slice(payload);
        }
        let mut rest = payload;
        while !rest.is_empty() {
            let of_message = self.message_left.min(rest.len());
            self.message_left -= of_message;
            rest = &rest[of_message..];
            if self.message_left == 0 && !rest.is_empty() {
                rest = self.take_message_header(rest);
            }
        }
    }

    fn take_message_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let part = bytes.len().min(MESSAGE_HEADER_LEN - self.header_len);
        self.header[self.header_len..self.header_len + part].copy_from_slice(&bytes[..part]);
        self.header_len += part;
        if self.header_len == MESSAGE_HEADER_LEN {
            self.header_len = 0;
            self.message_left = frame::u32_at(&self.header, 1) as usize;
            self.response.messages += 1;
            self.response.message_bytes += self.message_left as u64;
            self.response.data_bytes += data_len(self.message_left) as u64;
        }
        &bytes[part..]
    }

    /// Whether the last message is complete.
    pub(crate) fn is_whole(&self) -> bool {
        self.message_left == 0 && self.header_len == 0
    }
}

/// The length of the data in a `ReadResponse` of this length that has no other field. One byte of the message is
/// the field's number, and one to five are the data's length.
fn data_len(message_len: usize) -> usize {
    let fits = |length_len: &usize| {
        let data = message_len.saturating_sub(1 + length_len);
        crate::wire::varint_len(data as u64) == *length_len
    };
    (1..=5).find(fits).map_or(0, |length_len| message_len.saturating_sub(1 + length_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_for_every_size_of_frames() {
        let mut body = Vec::new();
        for len in [0usize, 3, 130, 70_000] {
            let data = vec![7; len];
            let message = crate::wire::Message::default().bytes(10, &data).framed();
            body.extend_from_slice(&message);
        }
        for cut in [1, 4, 5, 6, 1000, 16_384] {
            let mut stream = Stream::new(1, 0, Request::new(Vec::new()), 0);
            body.chunks(cut).for_each(|chunk| stream.take_data(chunk, true));
            assert!(stream.is_whole() && stream.response.body == body);
            assert_eq!((stream.response.messages, stream.response.data_bytes), (4, 70_133));
        }
    }
}
