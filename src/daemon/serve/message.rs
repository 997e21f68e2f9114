//! gRPC's framing on the way in: from the frames of a request body to whole messages.
//!
//! It is ours and not tonic's for what an upload costs: a message that lies in one frame is
//! handed on as a slice of the network buffer, and one that does not is copied once. It is
//! also where a client that stalls or sends too much is told so by the limit's name. What a
//! message means is not known here.
//!
//! Invariant: memory is only taken for a message whose length is within the limits.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use kache_proto::Message;
use tonic::{Code, Status};

use super::context::{Room, Shared};
use super::status::over_limit;

/// One byte that says whether the message is compressed, four with its length.
const PREFIX_BYTES: usize = 5;

/// A message that came in whole, with the room it occupies.
#[derive(Debug)]
pub(super) struct Received {
    /// The encoded message.
    pub(super) bytes: Bytes,
    /// Given back when this is dropped.
    pub(super) room: Room,
}

/// The messages of one request.
pub(super) struct Messages<'a, B> {
    body: B,
    shared: &'a Shared,
    frames: VecDeque<Bytes>,
    frames_bytes: usize,
    /// Whether messages are gathered, so that small ones need room as well.
    are_gathered: bool,
}

impl<'a, B> Messages<'a, B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// The messages in this body.
    pub(super) fn new(body: B, shared: &'a Shared) -> Self {
        Messages { body, shared, frames: VecDeque::new(), frames_bytes: 0, are_gathered: false }
    }

    /// The messages in this body, of which many will be held at once.
    pub(super) fn gathered(body: B, shared: &'a Shared) -> Self {
        Messages { are_gathered: true, ..Messages::new(body, shared) }
    }

    /// The next message; `None` at the end. Dropping the future loses no byte.
    pub(super) async fn next(&mut self) -> Result<Option<Received>, Status> {
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
        Ok(Some(Received { bytes: self.take(len), room }))
    }

    /// The length in the prefix at hand, checked.
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

    /// Takes one more frame in; whether there was one.
    async fn fill(&mut self) -> Result<bool, Status> {
        loop {
            match self.frame().await? {
                None => return Ok(false),
                Some(Err(error)) => return Err(Status::cancelled(format!("the upload broke off: {error}"))),
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

    /// The next frame, waited for as long as a client is. Most often it is there already, and
    /// a timer would cost more than taking it.
    async fn frame(&mut self) -> Result<Option<Result<Frame<Bytes>, B::Error>>, Status> {
        let mut frame = self.body.frame();
        if let Poll::Ready(frame) = poll_fn(|task| Poll::Ready(Pin::new(&mut frame).poll(task))).await {
            return Ok(frame);
        }
        let idle_max = self.shared.limits.stream_idle_max;
        tokio::time::timeout(idle_max, frame).await.map_err(|_| stalled(idle_max))
    }

    /// The next `len` bytes, which are there.
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

/// The one message of a unary request, with the room it occupies.
pub(super) async fn only<M, B>(body: B, shared: &Shared) -> Result<(M, Room), Status>
where
    M: Message + Default,
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut messages = Messages::new(body, shared);
    let received = messages.next().await?.ok_or_else(|| Status::internal("the request has no message"))?;
    // The end is waited for, so that the stream is closed in good order.
    if !messages.body.is_end_stream() && messages.fill().await? {
        return Err(Status::internal("the request has more than one message"));
    }
    Ok((decode(received.bytes)?, received.room))
}

/// Decodes a message.
pub(super) fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| Status::invalid_argument(format!("the message is malformed: {error}")))
}
