//! Drives one connection, HTTP/2 or HTTP/1.1, and routes its requests, gRPC or plain HTTP.
//!
//! It owns when a connection is closed, and which handler a request goes to. It does not accept
//! connections, knows no TLS, and leaves the deadlines of the byte stream to `stream`. gRPC
//! methods are dispatched here and not by generated servers, because those copy each message at
//! least once.
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

use super::admission::{AdmissionError, Peer};
use super::batched_writes::BatchedWrites;
use super::context::{RequestContext, ServerState};
use super::grpc_metrics::GrpcMethod;
use super::grpc_response::{self as response, ResponseBody};
use super::inline::InlineExecutor;
use super::limits::ServeLimits;
use super::listen::{ConnectionHandler, Stream};
use super::traffic::{ConnectionState, Traffic};
use super::{action_cache, bytestream, bytestream_write, capabilities, cas, health, request_metadata, tree};
use crate::program::{DrainSignal, RequestInFlight};

/// How many bytes a client may send on one stream before the server has read any of them: as
/// many as one upload collects.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// The same for all streams of a connection together. It bounds the memory that a flooding
/// client can occupy.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// The largest frame that a client may send, in bytes. Larger frames need fewer headers.
const FRAME_BYTES_MAX: u32 = 256 * 1024;

/// How many bytes may wait to be sent on one stream.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// The buffer of an HTTP/1.1 connection. The head of a request must fit; a body is read in
/// parts.
const HTTP_1_BUFFER_BYTES: usize = 128 * 1024;

/// How often a client is pinged, to notice one that vanished without closing the connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// How long a client may take to answer a ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves both protocols on every connection.
#[derive(Clone)]
pub struct ProtocolRouter {
    shared: Arc<ServerState>,
}

impl ProtocolRouter {
    /// Returns a router that serves requests from this state.
    pub fn new(shared: Arc<ServerState>) -> Self {
        ProtocolRouter { shared }
    }
}

impl ConnectionHandler for ProtocolRouter {
    async fn serve(&self, stream: Stream, peer: Peer, draining: DrainSignal) {
        serve(stream, RequestContext::new(Arc::clone(&self.shared), peer, draining)).await;
    }
}

/// Serves one connection to its end. The stream has done its TLS handshake and has its own
/// deadlines. Besides the end of the connection, draining and the limits are watched for.
pub async fn serve<S>(stream: S, context: RequestContext)
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
    let mut connection = pin!(builder.serve_connection(TokioIo::new(BatchedWrites::new(stream)), service));
    let mut leave_by = None;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %context.peer.name, %error, "a connection failed");
                }
                return;
            }
            () = draining.begun(), if leave_by.is_none() => {
                // `graceful_shutdown` tells the client to send no more requests. The open ones are answered until
                // `drain_max`.
                leave_by = Some(Instant::now() + limits.drain_max);
                connection.as_mut().graceful_shutdown();
            }
            // hyper has no limits for idle connections and stalled downloads, so they are checked here.
            () = tokio::time::sleep(watch_interval(&limits)) => {}
        }
        if let Some(why) = reason_to_close(&traffic, &limits, leave_by) {
            tracing::info!(peer = %context.peer.name, "closing a connection: {why}");
            return;
        }
    }
}

/// How often the limits are checked: a quarter of the shortest one.
fn watch_interval(limits: &ServeLimits) -> Duration {
    let shortest = limits.stream_idle_max.min(limits.header_wait_max).min(limits.connection_idle_max);
    shortest.min(limits.drain_max) / 4
}

fn reason_to_close(
    traffic: &Traffic,
    limits: &ServeLimits,
    leave_by: Option<Instant>,
) -> Option<&'static str> {
    if leave_by.is_some_and(|by| Instant::now() > by) {
        return Some("its requests did not end in time (`drain_max`)");
    }
    match traffic.state(limits, Instant::now()) {
        ConnectionState::InUse => None,
        ConnectionState::Idle => Some("no request came (`header_wait_max`, `connection_idle_max`)"),
        ConnectionState::Stalled => Some("the client reads nothing of a download (`stream_idle_max`)"),
    }
}

fn builder(limits: &ServeLimits) -> auto::Builder<InlineExecutor> {
    let mut builder = auto::Builder::new(InlineExecutor);
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
async fn answer(
    context: RequestContext,
    traffic: &Arc<Traffic>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let open = traffic.request(RequestInFlight::count(&context.shared.activity));
    let admitted = context.peer.admit(request.uri(), request.headers()).await;
    match &admitted {
        Ok(_) => traffic.admitted(),
        Err(refusal) => context.shared.metrics.refused(refusal.label()),
    }
    // The boxed futures are large, and those requests are rare or slow. Unboxed, each lookup
    // would have to move a future of that size.
    let response = match (is_grpc(&request), admitted) {
        (true, Ok(access)) => grpc(Ok(()), &context.with_access(access), request).await,
        (true, Err(refusal)) => grpc(Err(refusal), &context, request).await,
        (false, Ok(access)) => {
            let context = context.with_access(access);
            Box::pin(super::http::handle(request, &context)).await.map(ResponseBody::plain)
        }
        (false, Err(refusal)) => {
            Box::pin(super::http::refuse(request, &refusal, &context)).await.map(ResponseBody::plain)
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
    admitted: Result<(), AdmissionError>,
    context: &RequestContext,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let (head, body) = request.into_parts();
    let begun = Instant::now();
    let path = head.uri.path();
    let method = method(path);
    let outcome = match admitted {
        Ok(()) => dispatch(context, method, path, body).await,
        Err(refusal) => Err(of_refusal(&refusal)),
    };
    let code = outcome.as_ref().map_or_else(Status::code, |_| Code::Ok);
    context.shared.grpc_metrics.count(method, code);
    context.shared.grpc_metrics.took(method, begun.elapsed());
    tracing::debug!(
        method = method.name(),
        ?code,
        elapsed_us = begun.elapsed().as_micros(),
        from = request_metadata::line(&head.headers),
        "answered"
    );
    outcome.unwrap_or_else(|status| response::status(&status))
}

fn of_refusal(refusal: &AdmissionError) -> Status {
    let code = match refusal {
        AdmissionError::Foreign(_) | AdmissionError::ReadOnly => Code::PermissionDenied,
        AdmissionError::Anonymous { .. } | AdmissionError::Wrong | AdmissionError::Malformed(_) => {
            Code::Unauthenticated
        }
        AdmissionError::Elsewhere { .. } => Code::Unimplemented,
        AdmissionError::Busy(_) => Code::Unavailable,
    };
    Status::new(code, refusal.to_string())
}

fn method(path: &str) -> GrpcMethod {
    match path {
        "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities" => GrpcMethod::GetCapabilities,
        "/build.bazel.remote.execution.v2.ActionCache/GetActionResult" => GrpcMethod::GetActionResult,
        "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult" => GrpcMethod::UpdateActionResult,
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs" => {
            GrpcMethod::FindMissingBlobs
        }
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs" => {
            GrpcMethod::BatchUpdateBlobs
        }
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs" => {
            GrpcMethod::BatchReadBlobs
        }
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/GetTree" => GrpcMethod::GetTree,
        "/google.bytestream.ByteStream/Read" => GrpcMethod::Read,
        "/google.bytestream.ByteStream/Write" => GrpcMethod::Write,
        "/google.bytestream.ByteStream/QueryWriteStatus" => GrpcMethod::QueryWriteStatus,
        "/grpc.health.v1.Health/Check" => GrpcMethod::HealthCheck,
        "/grpc.health.v1.Health/Watch" => GrpcMethod::HealthWatch,
        _ => GrpcMethod::Other,
    }
}

async fn dispatch(
    context: &RequestContext,
    method: GrpcMethod,
    path: &str,
    body: Incoming,
) -> Result<Response<ResponseBody>, Status> {
    match method {
        GrpcMethod::GetCapabilities => capabilities::get(context, body).await,
        GrpcMethod::GetActionResult => action_cache::get(context, body).await,
        GrpcMethod::UpdateActionResult => Box::pin(action_cache::update(context, body)).await,
        GrpcMethod::FindMissingBlobs => cas::find_missing(context, body).await,
        GrpcMethod::BatchUpdateBlobs => Box::pin(cas::batch_update(context, body)).await,
        GrpcMethod::BatchReadBlobs => cas::batch_read(context, body).await,
        GrpcMethod::GetTree => Box::pin(tree::get(context, body)).await,
        GrpcMethod::Read => bytestream::read(context, body).await,
        GrpcMethod::Write => Box::pin(bytestream_write::write(context, body)).await,
        GrpcMethod::QueryWriteStatus => bytestream::query_write_status(context, body).await,
        GrpcMethod::HealthCheck => health::check(context, body).await,
        GrpcMethod::HealthWatch => Box::pin(health::watch(context, body)).await,
        GrpcMethod::Other => {
            let path: String = path.chars().take(120).collect();
            Err(Status::unimplemented(format!("this cache does not offer `{path}`")))
        }
    }
}
