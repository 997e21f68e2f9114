//! gRPC's framing on the way out: messages to frames, statuses to trailers.
//!
//! It is ours and not tonic's so that bytes of the store are sent from where they lie: a
//! stored result or a chunk of a file is one frame, never copied behind a prefix of its own.
//! HTTP/1.1 answers pass through the same [`Body`], so that one connection serves both.

use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Frame, SizeHint};
use kache_proto::Message;
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::context::Room;
use super::http_reply::{BodyError, Reply};
use super::traffic::OpenRequest;

/// Answers above this are watched: a client that does not take them is cut off.
const WATCHED_BYTES_MIN: usize = 64 * 1024;

/// Messages with their prefix, ready to be sent.
pub(super) type FramedStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// One byte that says whether the message is compressed, four with its length.
pub(super) const PREFIX_BYTES: usize = 5;

/// A stored message is copied behind its prefix up to this length: two frames cost more.
const COPIED_BYTES_MAX: usize = 32 * 1024;

/// The body of every answer.
pub(super) struct Body {
    kind: Kind,
    /// The request is open until its last byte is handed over.
    request: Option<OpenRequest>,
}

enum Kind {
    /// Nothing, or nothing more.
    Done,
    /// One message and a good end.
    Message { parts: [Bytes; 2], _room: Room },
    /// Any number of messages, and an end that they decide.
    Messages(FramedStream),
    /// An HTTP answer.
    Plain(Reply),
}

/// Nothing.
impl Default for Body {
    fn default() -> Self {
        Body::of(Kind::Done)
    }
}

impl Body {
    fn of(kind: Kind) -> Self {
        Body { kind, request: None }
    }

    /// The body of an HTTP answer.
    pub(super) fn plain(body: Reply) -> Self {
        Body::of(Kind::Plain(body))
    }

    /// Keeps the request open until the body is sent.
    pub(super) fn of_request(self, request: OpenRequest) -> Self {
        let is_large = match &self.kind {
            Kind::Done => false,
            Kind::Message { parts, .. } => parts.iter().any(|part| part.len() > WATCHED_BYTES_MIN),
            Kind::Messages(_) | Kind::Plain(_) => true,
        };
        Body { request: Some(request.watched(is_large)), ..self }
    }

    fn step(&mut self, task: &mut Task<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.kind {
            Kind::Done => Poll::Ready(None),
            Kind::Message { parts, .. } => {
                let [first, second] = parts;
                let part = std::mem::take(if first.is_empty() { second } else { first });
                if !part.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(part))));
                }
                self.kind = Kind::Done;
                Poll::Ready(Some(Ok(Frame::trailers(trailers(&Status::ok(""))))))
            }
            Kind::Messages(stream) => match stream.as_mut().poll_next(task) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(Ok(framed))) => Poll::Ready(Some(Ok(Frame::data(framed)))),
                Poll::Ready(end) => {
                    let status = end.and_then(Result::err).unwrap_or_else(|| Status::ok(""));
                    self.kind = Kind::Done;
                    Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))))
                }
            },
            Kind::Plain(body) => http_body::Body::poll_frame(Pin::new(body), task),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(request) = &this.request {
            request.is_taking();
        }
        let step = this.step(task);
        if let (Poll::Ready(Some(Ok(_))), Some(request)) = (&step, &this.request) {
            request.is_given();
        }
        step
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Done => true,
            Kind::Plain(body) => body.is_end_stream(),
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Done => SizeHint::with_exact(0),
            Kind::Plain(body) => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

/// An answer of one message.
pub(super) fn message<M: Message>(message: &M) -> Response<Body> {
    roomy(message, Room::none())
}

/// An answer of one message, large enough to have needed room.
pub(super) fn roomy<M: Message>(message: &M, room: Room) -> Response<Body> {
    good(Kind::Message { parts: [framed(message), Bytes::new()], _room: room })
}

/// An answer of one message that is encoded already.
pub(super) fn encoded(message: Bytes) -> Response<Body> {
    let mut prefix = BytesMut::with_capacity(PREFIX_BYTES + COPIED_BYTES_MAX.min(message.len()));
    put_prefix(&mut prefix, message.len());
    let parts = if message.len() <= COPIED_BYTES_MAX {
        prefix.put_slice(&message);
        [prefix.freeze(), Bytes::new()]
    } else {
        [prefix.freeze(), message]
    };
    good(Kind::Message { parts, _room: Room::none() })
}

/// An answer of any number of messages.
pub(super) fn messages(stream: FramedStream) -> Response<Body> {
    good(Kind::Messages(stream))
}

/// A message behind its prefix.
pub(super) fn framed<M: Message>(message: &M) -> Bytes {
    let len = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + len);
    put_prefix(&mut framed, len);
    message.encode(&mut framed).expect("a `BytesMut` grows as needed");
    framed.freeze()
}

/// Writes the prefix of an uncompressed message of this length.
pub(super) fn put_prefix(to: &mut BytesMut, len: usize) {
    to.put_u8(0);
    to.put_u32(u32::try_from(len).expect("messages are bounded far below 4 GiB"));
}

fn good(kind: Kind) -> Response<Body> {
    let mut response = Response::new(Body::of(kind));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// An answer that is nothing but a status.
pub(super) fn status(status: &Status) -> Response<Body> {
    let mut response = good(Kind::Done);
    put_status(response.headers_mut(), status);
    if status.code() == Code::Unimplemented {
        let identity = HeaderValue::from_static("identity");
        response.headers_mut().insert("grpc-accept-encoding", identity);
    }
    response
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    put_status(&mut trailers, status);
    trailers
}

/// A message that cannot be put into a header is left out; the code always goes.
fn put_status(headers: &mut HeaderMap, status: &Status) {
    if status.code() == Code::Ok {
        headers.insert("grpc-status", HeaderValue::from_static("0"));
    } else if status.add_header(headers).is_err() {
        headers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
}
