//! The HTTP client of the backends that speak HTTP.
//!
//! It sends one request and returns its response. It never repeats a request that may have reached the
//! server. A request fails when no byte moves for the stall limit, or when its response is slower than the lowest
//! speed; there is no limit for the whole of it.
//! It follows redirects to the same scheme, host and port only, so that credentials go nowhere else. It
//! knows no status: the backends say what one means.

use std::error::Error;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::LOCATION;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kache_cas::Content;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::error::RemoteError;
use crate::http_connector::Connector;
use crate::options::{OptionsError, RemoteLimits, TlsOptions};
use crate::pace::Pace;
use crate::tls;
use crate::upload_body::{UploadBody, UploadProgress};

/// The number of redirects that one request follows.
const REDIRECTS_MAX: usize = 5;

/// The number of bytes of an upload that the system may hold after it has taken the last one.
const HELD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The slowest network for which an upload waits: 32 KiB a second.
const SLOWEST_BYTES_PER_SEC: u64 = 32 * 1024;

/// A request that the client can send, and send again to another path.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// The body; `None` for none.
    pub(crate) content: Option<Content>,
}

/// A response whose body has not been read yet.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ResponseBody,
}

/// The body of a response. While it exists, its request counts as under way.
pub(crate) struct ResponseBody {
    incoming: Incoming,
    pace: Pace,
    _permit: OwnedSemaphorePermit,
}

/// The client that sends all requests of one remote over HTTP.
pub(crate) struct HttpClient {
    client: Client<Connector, UploadBody>,
    permits: Arc<Semaphore>,
    concurrency: usize,
    stall: Duration,
    pace: Pace,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

impl HttpClient {
    /// Creates a client. It reads certificates only if it is to use TLS.
    pub(crate) fn new(
        uses_tls: bool,
        options: &TlsOptions,
        limits: &RemoteLimits,
    ) -> Result<HttpClient, OptionsError> {
        let tls = if uses_tls { Some(tls::client_config(options, &[b"h2", b"http/1.1"])?) } else { None };
        let connector = Connector { tls: tls.map(Arc::new), limit: limits.connect };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits.idle)
            .pool_max_idle_per_host(limits.concurrency.max(1))
            .build(connector);
        let concurrency = limits.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(concurrency));
        let pace = Pace::of(limits);
        Ok(HttpClient { client, permits, concurrency, stall: limits.stall, pace })
    }

    /// Returns the number of requests that are under way at once.
    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Sends a request and follows redirects.
    pub(crate) async fn send_and_follow(&self, mut request: Outgoing) -> Result<Response, RemoteError> {
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(request.clone()).await?;
            match redirect_target(&request, &response)? {
                Some(target) => request.uri = target,
                None => return Ok(response),
            }
        }
        Err(RemoteError::refused(format!("the remote redirects more than {REDIRECTS_MAX} times")))
    }

    /// Sends a request and returns its response, whatever the status is.
    pub(crate) async fn send(&self, request: Outgoing) -> Result<Response, RemoteError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let progress = Arc::new(UploadProgress::default());
        let patience = self.stall + time_for_held_bytes(request.content.as_ref());
        let mut message = Request::new(UploadBody::new(request.content, Arc::clone(&progress)));
        *message.method_mut() = request.method;
        *message.uri_mut() = request.uri;
        *message.headers_mut() = request.headers;
        let mut sending = pin!(self.client.request(message));
        let response = loop {
            let pieces = progress.pieces();
            match timeout(patience, &mut sending).await {
                Ok(response) => break response,
                Err(_) if progress.pieces() > pieces => {}
                Err(_) => return Err(stalled(patience)),
            }
        };
        let (parts, incoming) = response.map_err(|error| send_error(&error, &progress))?.into_parts();
        let body = ResponseBody { incoming, pace: self.pace, _permit: permit };
        Ok(Response { status: parts.status, headers: parts.headers, body })
    }
}

impl ResponseBody {
    /// Returns the next piece; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RemoteError> {
        loop {
            let begun = Instant::now();
            let frame = timeout(self.pace.left(), self.incoming.frame()).await;
            match frame.map_err(|_| RemoteError::unavailable(self.pace.failure()))? {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(RemoteError::unavailable(format!(
                        "the response broke off: {}",
                        causes(&error)
                    )));
                }
                // A frame without data holds trailers.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.pace.note(begun.elapsed(), bytes.len());
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Reads the whole body; `None` if it has more than `bytes_max` bytes.
    pub(crate) async fn read_at_most(&mut self, bytes_max: usize) -> Result<Option<Bytes>, RemoteError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > bytes_max {
                return Ok(None);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(Some(whole.freeze()))
    }

    /// Reads the beginning of a body that explains an error. What cannot be read is left out.
    pub(crate) async fn read_beginning(&mut self, bytes_max: usize) -> Bytes {
        let mut beginning = BytesMut::new();
        while let Ok(Some(piece)) = self.next().await {
            let left = bytes_max - beginning.len();
            beginning.extend_from_slice(&piece[..piece.len().min(left)]);
            if beginning.len() == bytes_max {
                break;
            }
        }
        beginning.freeze()
    }
}

/// Returns the time in which the system sends what it may hold of an upload. Nobody can see how far it is.
fn time_for_held_bytes(content: Option<&Content>) -> Duration {
    let held_bytes = content.map_or(0, Content::size_bytes).min(HELD_BYTES_MAX);
    Duration::from_secs(held_bytes / SLOWEST_BYTES_PER_SEC)
}

/// Returns where a response sends its request; `None` if it is no redirect.
fn redirect_target(request: &Outgoing, response: &Response) -> Result<Option<Uri>, RemoteError> {
    let is_redirect = match response.status.as_u16() {
        301 | 302 | 307 | 308 => true,
        // It asks for a GET, which would not upload anything.
        303 => request.content.is_none(),
        _ => false,
    };
    let Some(target) = response.headers.get(LOCATION).filter(|_| is_redirect) else { return Ok(None) };
    let target = target.to_str().ok().and_then(|target| resolve(&request.uri, target));
    let target = target.ok_or_else(|| RemoteError::malformed("it redirects to something that is no URL"))?;
    if origin(&target) == origin(&request.uri) {
        return Ok(Some(target));
    }
    let (scheme, host, port) = origin(&target);
    Err(RemoteError::refused(format!(
        "the remote redirects to {scheme}://{host}:{port} ({}); only redirects to the same host are followed",
        response.status
    )))
}

/// Makes a URL of the value of a `Location` header.
fn resolve(base: &Uri, target: &str) -> Option<Uri> {
    let target = target.split('#').next()?;
    if target.starts_with('/') && !target.starts_with("//") {
        let path = target.parse().ok()?;
        let mut parts = base.clone().into_parts();
        parts.path_and_query = Some(path);
        return Uri::from_parts(parts).ok();
    }
    let target =
        if target.starts_with("//") { format!("{}:{target}", base.scheme_str()?) } else { target.to_owned() };
    target.parse().ok().filter(|target: &Uri| target.scheme().is_some() && target.host().is_some())
}

fn origin(uri: &Uri) -> (String, String, u16) {
    let scheme = uri.scheme_str().unwrap_or_default().to_owned();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    (scheme, uri.host().unwrap_or_default().to_ascii_lowercase(), port)
}

fn stalled(stall: Duration) -> RemoteError {
    RemoteError::unavailable(format!("no byte was sent or received for {stall:?}"))
}

fn send_error(error: &hyper_util::client::legacy::Error, progress: &UploadProgress) -> RemoteError {
    match progress.failure() {
        Some(message) => RemoteError::local(message),
        None => RemoteError::unavailable(error.source().map_or_else(|| error.to_string(), causes)),
    }
}

/// Returns an error with its causes. hyper's errors leave them out.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
