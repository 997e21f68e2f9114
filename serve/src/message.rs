//! Reads gRPC messages from the frames of a request body.
//!
//! It replaces tonic's reader because of what an upload costs: a message that lies in one frame
//! is a slice of the network buffer, and any other one is copied only once. It refuses clients
//! that stall or send too much, with the name of the limit. It does not know what a message
//! means.
//!
//! Invariant: no memory is reserved for a message whose length exceeds the limits.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use kache_proto::Message;
use tonic::{Code, Status};

use super::context::{MemoryReservation, ServerState};
use super::status::over_limit;

/// The length of a message's prefix: one byte that says whether it is compressed, and four bytes
/// with its length.
const PREFIX_BYTES: usize = 5;

/// A complete message, with the memory that is reserved for it.
#[derive(Debug)]
pub(super) struct ReceivedMessage {
    /// The message as it was received, still encoded.
    pub(super) bytes: Bytes,
    /// Gives the memory back when it is dropped.
    pub(super) room: MemoryReservation,
}

/// The messages of one request.
pub(super) struct MessageReader<'a, B> {
    body: B,
    shared: &'a ServerState,
    frames: VecDeque<Bytes>,
    frames_bytes: usize,
    /// Whether many messages are held at once, so that memory is reserved for small ones, too.
    are_gathered: bool,
}

impl<'a, B> MessageReader<'a, B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// Reads the messages of this body.
    pub(super) fn new(body: B, shared: &'a ServerState) -> Self {
        MessageReader { body, shared, frames: VecDeque::new(), frames_bytes: 0, are_gathered: false }
    }

    /// Reads the messages of this body, of which the caller holds many at once.
    pub(super) fn gathered(body: B, shared: &'a ServerState) -> Self {
        MessageReader { are_gathered: true, ..MessageReader::new(body, shared) }
    }

    /// Waits for the next message; `None` at the end. Dropping the future loses no byte.
    pub(super) async fn next(&mut self) -> Result<Option<ReceivedMessage>, Status> {
        while self.frames_bytes < PREFIX_BYTES {
            if !self.fill().await? {
                return if self.frames_bytes == 0 { Ok(None) } else { Err(cut_off()) };
            }
        }
        let len = self.announced()?;
        let room = if self.are_gathered {
            self.shared.reserve_any(len).await?
        } else {
            self.shared.reserve(len).await?
        };
        while self.frames_bytes < PREFIX_BYTES + len {
            if !self.fill().await? {
                return Err(cut_off());
            }
        }
        drop(self.take(PREFIX_BYTES));
        Ok(Some(ReceivedMessage { bytes: self.take(len), room }))
    }

    /// Reads the length from the prefix, which has been received, and checks it.
    fn announced(&self) -> Result<usize, Status> {
        let mut prefix = [0; PREFIX_BYTES];
        let bytes = self.frames.iter().flat_map(|frame| frame.iter());
        prefix.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        match prefix[0] {
            0 => {}
            1 => {
                return Err(Status::unimplemented(
                    "compressed messages are not supported; blobs are compressed by `compressed-blobs/zstd`",
                ));
            }
            flag => return Err(Status::internal(format!("the message begins with the unknown flag {flag}"))),
        }
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let limit = self.shared.limits.message_bytes_max;
        if len > limit {
            let what = format!("a message of {len} bytes");
            return Err(over_limit(Code::ResourceExhausted, &what, "message_bytes_max", limit));
        }
        Ok(len)
    }

    /// Waits for one more frame with data. Returns `false` at the end of the body.
    async fn fill(&mut self) -> Result<bool, Status> {
        loop {
            match self.frame().await? {
                None => return Ok(false),
                Some(Err(error)) => {
                    return Err(Status::cancelled(format!("the upload was cut short: {error}")));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        self.frames_bytes += data.len();
                        self.frames.push_back(data);
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// Waits up to `stream_idle_max` for the next frame.
    async fn frame(&mut self) -> Result<Option<Result<Frame<Bytes>, B::Error>>, Status> {
        let idle_max = self.shared.limits.stream_idle_max;
        tokio::time::timeout(idle_max, self.body.frame()).await.map_err(|_| stalled(idle_max))
    }

    /// Takes the next `len` bytes, which have been received.
    fn take(&mut self, len: usize) -> Bytes {
        self.frames_bytes -= len;
        let Some(first) = self.frames.front_mut() else { return Bytes::new() };
        if first.len() > len {
            return first.split_to(len);
        }
        if first.len() == len {
            return self.frames.pop_front().unwrap_or_default();
        }
        let mut whole = BytesMut::with_capacity(len);
        while whole.len() < len {
            let Some(frame) = self.frames.front_mut() else { break };
            let part = frame.len().min(len - whole.len());
            whole.extend_from_slice(&frame[..part]);
            frame.advance(part);
            if frame.is_empty() {
                self.frames.pop_front();
            }
        }
        whole.freeze()
    }
}

fn cut_off() -> Status {
    Status::invalid_argument("the stream ended in the middle of a message")
}

fn stalled(idle_max: Duration) -> Status {
    let what = "the client sent nothing";
    over_limit(Code::DeadlineExceeded, what, "stream_idle_max", format!("{idle_max:?}"))
}

/// Reads the one message of a unary request, with the memory that is reserved for it.
pub(super) async fn only<M, B>(body: B, shared: &ServerState) -> Result<(M, MemoryReservation), Status>
where
    M: Message + Default,
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut messages = MessageReader::new(body, shared);
    let received = messages.next().await?.ok_or_else(|| Status::internal("the request has no message"))?;
    // The end of the body is read as well, so that the stream need not be reset.
    if !messages.body.is_end_stream() && messages.fill().await? {
        return Err(Status::internal("the request has more than one message"));
    }
    Ok((decode(received.bytes)?, received.room))
}

/// Decodes a message. Fails with `INVALID_ARGUMENT` if it is malformed.
pub(super) fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| Status::invalid_argument(format!("the message is malformed: {error}")))
}
