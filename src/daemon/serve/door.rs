//! One connection: HTTP/2 or HTTP/1.1, gRPC or plain, told apart as they come.
//!
//! It owns how a connection is driven, watched and drained, and which handler a request goes
//! to. It does not accept connections, knows no TLS, and leaves deadlines of the byte stream
//! itself to `stream`. gRPC's methods are dispatched here and not by generated servers,
//! because those copy each message at least once on its way.
//!
//! Invariant: no handler runs before `Peer::admit` granted at least reading.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method as HttpMethod, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{Code, Status};

use super::admission::{Peer, Refusal};
use super::attentive::Attentive;
use super::coalesce::Coalesced;
use super::context::{Context, Shared};
use super::inline::InPlace;
use super::limits::Limits;
use super::listen::{Door, Stream};
use super::meters::Method;
use super::reply::{self, Body};
use super::traffic::{Traffic, Verdict};
use super::{action_cache, bytestream, bytestream_write, capabilities, cas, health, request_metadata, tree};
use crate::daemon::Draining;

/// How much a client may send on one stream before we have taken any of it in: about what
/// one upload gathers.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// The same for all streams of a connection. It bounds what a flooding client makes us hold.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// The largest frame that a client may send. Clients that make use of it save headers.
const FRAME_BYTES_MAX: u32 = 256 * 1024;

/// What may wait to be sent on one stream.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// What HTTP/1.1 reads and writes at once. A head must fit it; bodies go through in parts.
const HTTP_1_BUFFER_BYTES: usize = 128 * 1024;

/// A peer that is gone without a word is noticed by this.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// How long it has to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What serves both protocols on every connection.
#[derive(Clone)]
pub struct BothProtocols {
    shared: Arc<Shared>,
}

impl BothProtocols {
    /// A door to this store.
    pub fn new(shared: Arc<Shared>) -> Self {
        BothProtocols { shared }
    }
}

impl Door for BothProtocols {
    async fn serve(&self, stream: Stream, peer: Peer, draining: Draining) {
        serve(stream, Context::new(Arc::clone(&self.shared), peer, draining)).await;
    }
}

/// Serves one connection to its end. The stream is past TLS, and has its own deadlines.
pub async fn serve<S>(stream: S, context: Context)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let traffic = Traffic::new(Instant::now());
    let mut draining = context.draining.clone();
    let limits = context.limits().clone();
    let service = {
        let (context, traffic) = (context.clone(), Arc::clone(&traffic));
        service_fn(move |request| {
            let (context, traffic) = (context.clone(), Arc::clone(&traffic));
            async move { Ok::<_, Infallible>(answer(context, &traffic, request).await) }
        })
    };
    let builder = builder(&limits);
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(Coalesced::new(Attentive::new(stream))), service));
    let mut leave_by = None;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %context.peer.name, %error, "a connection broke off");
                }
                return;
            }
            () = draining.begun(), if leave_by.is_none() => {
                leave_by = Some(Instant::now() + limits.drain_max);
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(watch_interval(&limits)) => {}
        }
        if let Some(why) = reason_to_close(&traffic, &limits, leave_by) {
            tracing::info!(peer = %context.peer.name, "closing a connection: {why}");
            return;
        }
    }
}

/// A limit is noticed within a quarter of its time.
fn watch_interval(limits: &Limits) -> Duration {
    let shortest = limits.stream_idle_max.min(limits.header_wait_max).min(limits.connection_idle_max);
    shortest.min(limits.drain_max) / 4
}

fn reason_to_close(traffic: &Traffic, limits: &Limits, leave_by: Option<Instant>) -> Option<&'static str> {
    if leave_by.is_some_and(|by| Instant::now() > by) {
        return Some("its requests did not end in time (`drain_max`)");
    }
    match traffic.verdict(limits, Instant::now()) {
        Verdict::Fine => None,
        Verdict::Idle => Some("nothing was asked for (`header_wait_max`, `connection_idle_max`)"),
        Verdict::Stalled => Some("the client takes nothing of a download (`stream_idle_max`)"),
    }
}

fn builder(limits: &Limits) -> auto::Builder<InPlace> {
    let mut builder = auto::Builder::new(InPlace);
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(limits.streams_per_connection_max)
        .max_header_list_size(limits.header_bytes_max)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_wait_max)
        .max_buf_size(HTTP_1_BUFFER_BYTES);
    builder
}

/// Answers one request, whatever its protocol.
async fn answer(context: Context, traffic: &Arc<Traffic>, request: Request<Incoming>) -> Response<Body> {
    let open = traffic.request(context.shared.activity.request());
    let admitted = context.peer.admit(request.uri(), request.headers()).await;
    match &admitted {
        Ok(_) => traffic.admitted(),
        Err(refusal) => context.shared.metrics.refused(refusal.label()),
    }
    // What is boxed is seldom or takes long: its size would be moved about with every lookup.
    let response = match (is_grpc(&request), admitted) {
        (true, Ok(access)) => grpc(Ok(()), &context.with_access(access), request).await,
        (true, Err(refusal)) => grpc(Err(refusal), &context, request).await,
        (false, Ok(access)) => {
            let context = context.with_access(access);
            Box::pin(super::http::handle(request, &context)).await.map(Body::plain)
        }
        (false, Err(refusal)) => {
            Box::pin(super::http::refuse(request, &refusal, &context)).await.map(Body::plain)
        }
    };
    response.map(|body| body.of_request(open))
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    request.version() == Version::HTTP_2
        && request.method() == HttpMethod::POST
        && content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

async fn grpc(
    admitted: Result<(), Refusal>,
    context: &Context,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let begun = Instant::now();
    let path = head.uri.path();
    let method = method(path);
    let outcome = match admitted {
        Ok(()) => dispatch(context, method, path, body).await,
        Err(refusal) => Err(of_refusal(&refusal)),
    };
    let code = outcome.as_ref().map_or_else(Status::code, |_| Code::Ok);
    context.shared.meters.count(method, code);
    context.shared.meters.took(method, begun.elapsed());
    tracing::debug!(
        method = method.name(),
        ?code,
        elapsed_us = begun.elapsed().as_micros(),
        from = request_metadata::line(&head.headers),
        "answered"
    );
    outcome.unwrap_or_else(|status| reply::status(&status))
}

fn of_refusal(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::Foreign(_) | Refusal::ReadOnly => Code::PermissionDenied,
        Refusal::Anonymous { .. } | Refusal::Wrong | Refusal::Malformed(_) => Code::Unauthenticated,
        Refusal::Elsewhere { .. } => Code::Unimplemented,
        Refusal::Busy(_) => Code::Unavailable,
    };
    Status::new(code, refusal.to_string())
}

fn method(path: &str) -> Method {
    match path {
        "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities" => Method::GetCapabilities,
        "/build.bazel.remote.execution.v2.ActionCache/GetActionResult" => Method::GetActionResult,
        "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult" => Method::UpdateActionResult,
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs" => {
            Method::FindMissingBlobs
        }
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs" => {
            Method::BatchUpdateBlobs
        }
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs" => Method::BatchReadBlobs,
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/GetTree" => Method::GetTree,
        "/google.bytestream.ByteStream/Read" => Method::Read,
        "/google.bytestream.ByteStream/Write" => Method::Write,
        "/google.bytestream.ByteStream/QueryWriteStatus" => Method::QueryWriteStatus,
        "/grpc.health.v1.Health/Check" => Method::HealthCheck,
        "/grpc.health.v1.Health/Watch" => Method::HealthWatch,
        _ => Method::Other,
    }
}

async fn dispatch(
    context: &Context,
    method: Method,
    path: &str,
    body: Incoming,
) -> Result<Response<Body>, Status> {
    match method {
        Method::GetCapabilities => capabilities::get(context, body).await,
        Method::GetActionResult => action_cache::get(context, body).await,
        Method::UpdateActionResult => Box::pin(action_cache::update(context, body)).await,
        Method::FindMissingBlobs => cas::find_missing(context, body).await,
        Method::BatchUpdateBlobs => Box::pin(cas::batch_update(context, body)).await,
        Method::BatchReadBlobs => cas::batch_read(context, body).await,
        Method::GetTree => Box::pin(tree::get(context, body)).await,
        Method::Read => bytestream::read(context, body).await,
        Method::Write => Box::pin(bytestream_write::write(context, body)).await,
        Method::QueryWriteStatus => bytestream::query_write_status(context, body).await,
        Method::HealthCheck => health::check(context, body).await,
        Method::HealthWatch => Box::pin(health::watch(context, body)).await,
        Method::Other => {
            let path: String = path.chars().take(120).collect();
            Err(Status::unimplemented(format!("`{path}` is not offered by this cache")))
        }
    }
}
