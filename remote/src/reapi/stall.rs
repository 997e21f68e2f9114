//! Ends requests that make no progress.
//!
//! Each request has a deadline, which every piece of its body and of its response moves into the future. So a
//! large blob over a slow network takes as long as it needs, and a server that hangs is noticed. The bodies
//! of requests are cut in small pieces, since the transport says only of whole pieces that they are on their
//! way. Responses have a lowest speed ([`Pace`]).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::liveness::Liveness;
use crate::error::RemoteError;
use crate::pace::Pace;
use crate::token_source::TokenSource;

/// The largest piece of a request's body.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// A header that this client has no use for. The library panics where it is not well-formed base64, and a
/// server must not be able to do that.
const STATUS_DETAILS: &str = "grpc-status-details-bin";

/// The error of a request that made no progress.
#[derive(Debug, Error)]
#[error("{0}")]
struct Stalled(String);

/// The deadline of one request.
struct Progress {
    deadline: Mutex<Instant>,
    stall: Duration,
}

impl Progress {
    fn move_deadline(&self) {
        self.wait_at_most(self.stall);
    }

    fn wait_at_most(&self, limit: Duration) {
        *self.deadline.lock() = Instant::now() + limit;
    }

    fn deadline(&self) -> Instant {
        *self.deadline.lock()
    }

    /// Returns when the deadline has passed.
    async fn stalled(&self) {
        loop {
            let deadline = self.deadline();
            tokio::time::sleep_until(deadline).await;
            if self.deadline() <= deadline {
                return;
            }
        }
    }
}

/// A channel whose requests end when they make no progress.
#[derive(Clone)]
pub(super) struct WatchedChannel {
    channel: Channel,
    connect: Duration,
    pace: Pace,
    liveness: Arc<Liveness>,
    tokens: Option<Arc<TokenSource>>,
}

impl WatchedChannel {
    /// Wraps a channel. A request may take `connect` longer until its first byte.
    pub(super) fn new(channel: Channel, connect: Duration, pace: Pace) -> WatchedChannel {
        // Twice, since the first of the requests may also have waited for the connection.
        let liveness = Arc::new(Liveness::new(2 * connect));
        WatchedChannel { channel, connect, pace, liveness, tokens: None }
    }

    /// Sets where the tokens of requests come from.
    pub(super) fn with_tokens(self, tokens: Option<Arc<TokenSource>>) -> WatchedChannel {
        WatchedChannel { tokens, ..self }
    }

    /// Sends a request, which may take `connect` longer until its first byte.
    async fn send(
        mut channel: Channel,
        request: Request<Body>,
        connect: Duration,
        pace: Pace,
        liveness: Arc<Liveness>,
    ) -> Result<Response<Body>, Status> {
        let stall = pace.left();
        let deadline = Mutex::new(Instant::now() + connect + stall);
        let progress = Arc::new(Progress { deadline, stall });
        let sent = |body| SentBody { body, rest: Bytes::new(), progress: Arc::clone(&progress) };
        let call = tower_service::Service::call(&mut channel, request.map(|body| Body::new(sent(body))));
        let open = liveness.begin();
        let outcome = tokio::select! {
            biased;
            outcome = call => outcome.map_err(|error| Status::from_error(error.into())),
            () = progress.stalled() => Err(Status::from_error(Box::new(Stalled(pace.failure())))),
        };
        open.end();
        match outcome {
            Ok(response) => Ok(received(response, progress, pace, liveness)),
            Err(status) => {
                liveness.set_broken();
                Err(status)
            }
        }
    }

    /// Whether a request failed in a way that makes a new connection advisable.
    pub(super) fn is_broken(&self) -> bool {
        self.liveness.is_broken()
    }
}

impl tower_service::Service<Request<Body>> for WatchedChannel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.channel.poll_ready(task).map_err(|error| Status::from_error(error.into()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The channel that was asked whether it is ready is the one to use.
        let other = self.channel.clone();
        let channel = std::mem::replace(&mut self.channel, other);
        let (connect, pace, liveness) = (self.connect, self.pace, Arc::clone(&self.liveness));
        let Some(tokens) = self.tokens.clone() else {
            return Box::pin(WatchedChannel::send(channel, request, connect, pace, liveness));
        };
        Box::pin(async move {
            let token = tokens.get().await.map_err(|error| status_of(&error))?;
            request.headers_mut().insert(AUTHORIZATION, token);
            let response = WatchedChannel::send(channel, request, connect, pace, liveness).await?;
            if is_unauthenticated(&response) {
                tokens.expire();
            }
            Ok(response)
        })
    }
}

fn status_of(error: &RemoteError) -> Status {
    let code = if error.is_transient() { Code::Unavailable } else { Code::Unauthenticated };
    Status::new(code, error.to_string())
}

/// Whether the server refused the token. Servers say so before they send a message.
fn is_unauthenticated(response: &Response<Body>) -> bool {
    let code = response.headers().get("grpc-status");
    response.status() == StatusCode::UNAUTHORIZED || code.is_some_and(|code| code == "16")
}

fn received(
    mut response: Response<Body>,
    progress: Arc<Progress>,
    pace: Pace,
    liveness: Arc<Liveness>,
) -> Response<Body> {
    progress.move_deadline();
    liveness.arrived();
    response.headers_mut().remove(STATUS_DETAILS);
    response.map(|body| {
        Body::new(ReceivedBody { body, begun: Instant::now(), timer: None, progress, pace, liveness })
    })
}

/// The body of a request, in small pieces.
struct SentBody {
    body: Body,
    rest: Bytes,
    progress: Arc<Progress>,
}

impl http_body::Body for SentBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(task)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        self.progress.move_deadline();
        let len = self.rest.len().min(PIECE_BYTES_MAX);
        let piece = self.rest.split_to(len);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

/// The body of a response. It ends with an error when nothing arrives for too long while somebody waits.
struct ReceivedBody {
    body: Body,
    /// When the wait began for the next piece.
    begun: Instant,
    /// Runs while somebody waits for the next piece.
    timer: Option<Pin<Box<Sleep>>>,
    progress: Arc<Progress>,
    pace: Pace,
    liveness: Arc<Liveness>,
}

impl ReceivedBody {
    /// Returns when the request made no progress for too long. The time begins with the first call.
    fn poll_stalled(&mut self, task: &mut Context<'_>) -> Poll<()> {
        let progress = &self.progress;
        let timer = self.timer.get_or_insert_with(|| {
            self.begun = Instant::now();
            progress.wait_at_most(self.pace.left());
            Box::pin(tokio::time::sleep_until(progress.deadline()))
        });
        loop {
            ready!(timer.as_mut().poll(task));
            let deadline = progress.deadline();
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            // A piece of the request was sent meanwhile.
            timer.as_mut().reset(deadline);
        }
    }
}

impl http_body::Body for ReceivedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(task) {
            let waited = self.timer.take().map_or(Duration::ZERO, |_| self.begun.elapsed());
            let bytes = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len);
            self.pace.note(waited, frame.as_ref().and_then(|frame| frame.as_ref().ok()).map_or(0, bytes));
            self.progress.move_deadline();
            self.liveness.arrived();
            return Poll::Ready(frame.map(|frame| frame.map(without_details)));
        }
        ready!(self.poll_stalled(task));
        self.liveness.set_broken();
        Poll::Ready(Some(Err(Status::from_error(Box::new(Stalled(self.pace.failure()))))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn without_details(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            trailers.remove(STATUS_DETAILS);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}
