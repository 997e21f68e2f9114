//! The Bazel HTTP cache protocol: `GET`, `HEAD` and `PUT` of `[/prefix]/{ac,cas}/{hash}`.
//!
//! It handles requests that were admitted, with the same store and the same checks as gRPC: a
//! result is returned only if it is complete (STO-03), and a blob becomes visible only if its
//! bytes match its digest (STO-02). The protocol has no digest functions and no sizes: hashes
//! are SHA-256, and the size of a blob is looked up. `zstd` bodies work as with bazel-remote.
//!
//! It knows no sockets, no credentials and no gRPC. While the store says that even small calls may
//! block, it calls the store on blocking threads (STO-10).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use http_body::Body;
use kache_cas::{AccessKind, ActionKey, Digest, DigestFunction, Hash, StoreError};
use kache_proto::Message as _;
use kache_proto::reapi::ActionResult;

use super::admission::AdmissionError;
use super::context::{Backend, RequestContext};
use super::download::DownloadPlan;
use super::encodings::{self, ContentEncoding};
use super::http_path::{self, HttpTarget, PathError};
use super::http_response::{self as response, DIGEST_SIZE, HttpBody, HttpResponse};
use super::metrics::{HttpOperation, HttpOutcome};
use super::offload;
use super::pages;
use super::range::{self, Extent};
use super::results;
use super::upload::{Upload, UploadError};

/// A blob of at most this size is read and sent on the connection's thread.
const AT_ONCE_BYTES_MAX: u64 = 64 * 1024;

/// The media type of blobs and results.
const BYTES: &str = "application/octet-stream";

/// Handles a request whose sender was granted `context.access`.
pub async fn handle<B>(request: Request<B>, context: &RequestContext) -> HttpResponse
where
    B: Body<Data = Bytes> + Unpin + Send,
{
    let (head, body) = request.into_parts();
    let mut upload = Upload::new(body, context.limits().stream_idle_max);
    let target = http_path::parse(head.uri.path());
    let is_put = head.method == Method::PUT;
    let timed = context.shared.metrics.begin(operation(target.as_ref().ok(), is_put));
    let response = match target {
        Err(error) => path_error(&error),
        Ok(target) if is_put => put(&target, &head.headers, &mut upload, context).await,
        Ok(target) if head.method == Method::GET => get(&target, &head.headers, context).await,
        Ok(target) if head.method == Method::HEAD => {
            response::without_body(get_headers(&target, context).await)
        }
        Ok(_) => method_not_allowed(&head.method),
    };
    log(&head, &response, context);
    timed.finish(outcome(response.status()));
    drain(&head.headers, &mut upload, &response).await;
    context.shared.metrics.received(upload.received_bytes());
    response
}

/// Responds to a request that was not admitted.
pub async fn refuse<B>(
    request: Request<B>,
    refusal: &AdmissionError,
    context: &RequestContext,
) -> HttpResponse
where
    B: Body<Data = Bytes> + Unpin + Send,
{
    let (head, body) = request.into_parts();
    let response = response::refusal(refusal);
    drain(&head.headers, &mut Upload::new(body, context.limits().stream_idle_max), &response).await;
    response
}

fn log(head: &Parts, response: &HttpResponse, context: &RequestContext) {
    tracing::debug!(
        method = %head.method, path = head.uri.path(), status = response.status().as_u16(),
        peer = %context.peer.name, "answered"
    );
}

/// Reads what a refused client is still sending: if the connection were closed before, the client
/// might never see the response. A client that sent `Expect: 100-continue` waits and sends
/// nothing yet.
async fn drain<B>(headers: &HeaderMap, upload: &mut Upload<B>, response: &HttpResponse)
where
    B: Body<Data = Bytes> + Unpin + Send,
{
    let is_waiting = headers.contains_key(header::EXPECT) && upload.received_bytes() == 0;
    if !response.status().is_success() && !is_waiting {
        upload.drain().await;
    }
}

fn operation(target: Option<&HttpTarget>, is_put: bool) -> HttpOperation {
    match (target, is_put) {
        (Some(HttpTarget::Action { .. }), false) => HttpOperation::GetAction,
        (Some(HttpTarget::Action { .. }), true) => HttpOperation::PutAction,
        (Some(HttpTarget::Blob { .. }), false) => HttpOperation::GetBlob,
        (Some(HttpTarget::Blob { .. }), true) => HttpOperation::PutBlob,
        (Some(HttpTarget::Status | HttpTarget::Metrics), _) => HttpOperation::Page,
        (None, _) => HttpOperation::Other,
    }
}

fn outcome(status: StatusCode) -> HttpOutcome {
    match status {
        StatusCode::NOT_FOUND => HttpOutcome::Miss,
        status if status.is_client_error() => HttpOutcome::Refused,
        status if status.is_server_error() => HttpOutcome::Failed,
        _ => HttpOutcome::Ok,
    }
}

fn path_error(error: &PathError) -> HttpResponse {
    let status = match error {
        PathError::Unknown => StatusCode::NOT_FOUND,
        PathError::TooLong { .. } => StatusCode::URI_TOO_LONG,
        PathError::Hash { .. } | PathError::Instance { .. } | PathError::Name(_) => StatusCode::BAD_REQUEST,
    };
    response::text(status, &error.to_string())
}

fn method_not_allowed(method: &Method) -> HttpResponse {
    let words = format!("`{method}` is not supported: use `GET`, `HEAD` or `PUT`");
    let mut response = response::text(StatusCode::METHOD_NOT_ALLOWED, &words);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, PUT"));
    response
}

/// Calls the store: usually on this thread, and on a blocking thread while the store says that
/// even small calls may block.
async fn call_store<T, F>(context: &RequestContext, call: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(&dyn Backend) -> Result<T, StoreError> + Send + 'static,
{
    offload::run(false, &context.shared.store, call).await?
}

async fn get(target: &HttpTarget, headers: &HeaderMap, context: &RequestContext) -> HttpResponse {
    match target {
        HttpTarget::Action { instance, hash } => {
            let response = get_action(instance, *hash, context).await;
            if response.status().is_success() {
                context.shared.metrics.sent(response.body().size_hint().lower());
            }
            response
        }
        HttpTarget::Blob { hash } => get_blob(*hash, headers, context).await,
        HttpTarget::Status => status_page(context).await,
        HttpTarget::Metrics => metrics_page(context).await,
    }
}

/// The response whose headers answer a HEAD. It extends the lease of a blob that exists.
async fn get_headers(target: &HttpTarget, context: &RequestContext) -> HttpResponse {
    match target {
        HttpTarget::Blob { hash } => {
            let hash = *hash;
            match call_store(context, move |store| find_blob(hash, store)).await {
                Ok(Some(digest)) => blob_reply(StatusCode::OK, &digest, Some(digest.size_bytes), empty()),
                Ok(None) => blob_miss(hash),
                Err(error) => response::of_store_error(&error),
            }
        }
        HttpTarget::Action { instance, hash } => get_action(instance, *hash, context).await,
        HttpTarget::Status => status_page(context).await,
        HttpTarget::Metrics => metrics_page(context).await,
    }
}

async fn status_page(context: &RequestContext) -> HttpResponse {
    match call_store(context, |store| Ok(store.status())).await {
        Ok(status) => pages::status(context, status),
        Err(error) => response::of_store_error(&error),
    }
}

async fn metrics_page(context: &RequestContext) -> HttpResponse {
    match call_store(context, |store| Ok((store.status(), store.counters()))).await {
        Ok((status, counters)) => pages::metrics(context, &status, &counters),
        Err(error) => response::of_store_error(&error),
    }
}

fn empty() -> HttpBody {
    HttpBody::Whole(Bytes::new())
}

fn action_key(instance: &str, hash: Hash) -> ActionKey {
    ActionKey { instance: Arc::from(instance), function: DigestFunction::Sha256, hash }
}

async fn get_action(instance: &str, hash: Hash, context: &RequestContext) -> HttpResponse {
    let key = action_key(instance, hash);
    let get = move |store: &dyn Backend| results::get(store.actions(), &key, AccessKind::Promise);
    match call_store(context, get).await {
        Ok(Some(result)) => response::whole(StatusCode::OK, BYTES, result.encoded),
        Ok(None) => response::miss(&format!("there is no complete action result for `{hash}`")),
        Err(error) => response::of_store_error(&error),
    }
}

fn blob_miss(hash: Hash) -> HttpResponse {
    response::miss(&format!("no blob with the SHA-256 `{hash}` is in the cache"))
}

/// The digest of a blob that exists, whose lease is then extended, so that the client may rely
/// on it.
fn find_blob(hash: Hash, store: &dyn Backend) -> Result<Option<Digest>, StoreError> {
    let Some(digest) = blob_digest(hash, store)? else { return Ok(None) };
    let missing = store.blobs().find_missing(&[digest], AccessKind::Promise)?;
    Ok((missing == [false]).then_some(digest))
}

/// The digest of a blob with this hash; `None` if the store has none.
fn blob_digest(hash: Hash, store: &dyn Backend) -> Result<Option<Digest>, StoreError> {
    let size_bytes = store.blobs().size_of(DigestFunction::Sha256, hash)?;
    Ok(size_bytes.map(|size_bytes| Digest::new(DigestFunction::Sha256, hash, size_bytes)))
}

async fn get_blob(hash: Hash, headers: &HeaderMap, context: &RequestContext) -> HttpResponse {
    let open = move |store: &dyn Backend| match blob_digest(hash, store)? {
        Some(digest) => Ok(store.blobs().open(&digest, AccessKind::Use)?.map(|content| (digest, content))),
        None => Ok(None),
    };
    let (digest, content) = match call_store(context, open).await {
        Ok(Some(opened)) => opened,
        Ok(None) => return blob_miss(hash),
        Err(error) => return response::of_store_error(&error),
    };
    let extent = wanted_extent(headers, &digest);
    let is_compressed = extent == Extent::Whole && digest.size_bytes > 0 && encodings::accepts_zstd(headers);
    let metrics = Arc::clone(&context.shared.metrics);
    let plan = DownloadPlan {
        content,
        extent,
        is_compressed,
        idle_max: context.limits().stream_idle_max,
        on_sent: Box::new(move |bytes| metrics.sent(bytes)),
    };
    send_blob(plan, &digest)
}

/// The part of the blob that the request wants. A `Range` counts only if `If-Range`, when there
/// is one, names this very blob.
fn wanted_extent(headers: &HeaderMap, digest: &Digest) -> Extent {
    let is_other = headers.get(header::IF_RANGE).is_some_and(|tag| *tag != etag(digest));
    let range = headers.get(header::RANGE).filter(|_| !is_other);
    range::extent(range.map(|range| range.as_bytes()), digest.size_bytes)
}

fn etag(digest: &Digest) -> HeaderValue {
    HeaderValue::try_from(format!("\"{}\"", digest.hash)).expect("hexadecimal digits are valid in a header")
}

fn send_blob(plan: DownloadPlan, digest: &Digest) -> HttpResponse {
    let size_bytes = digest.size_bytes;
    match plan.extent {
        Extent::Unsatisfiable => {
            let mut response = response::text(
                StatusCode::RANGE_NOT_SATISFIABLE,
                &format!("the range begins past the end: the blob has {size_bytes} bytes"),
            );
            set(&mut response, header::CONTENT_RANGE, format!("bytes */{size_bytes}"));
            response
        }
        Extent::Part { start, len } => {
            let end = start + len - 1;
            let mut response = blob_body(StatusCode::PARTIAL_CONTENT, plan, digest, len);
            set(&mut response, header::CONTENT_RANGE, format!("bytes {start}-{end}/{size_bytes}"));
            response
        }
        Extent::Whole if plan.is_compressed => {
            let mut response = blob_reply(StatusCode::OK, digest, None, HttpBody::Stream(plan.begin()));
            set(&mut response, header::CONTENT_ENCODING, "zstd".to_owned());
            // The entity tag belongs to the uncompressed bytes, so ranges do not apply either.
            response.headers_mut().remove(header::ETAG);
            response.headers_mut().remove(header::ACCEPT_RANGES);
            response
        }
        Extent::Whole => blob_body(StatusCode::OK, plan, digest, size_bytes),
    }
}

fn set(response: &mut HttpResponse, name: header::HeaderName, value: String) {
    let value = HeaderValue::try_from(value).expect("numbers and words are valid in a header");
    response.headers_mut().insert(name, value);
}

/// Sends uncompressed bytes, in one piece if they are few.
fn blob_body(status: StatusCode, plan: DownloadPlan, digest: &Digest, len: u64) -> HttpResponse {
    if len > AT_ONCE_BYTES_MAX {
        return blob_reply(status, digest, Some(len), HttpBody::Stream(plan.begin()));
    }
    match plan.read_at_once() {
        Ok(bytes) => blob_reply(status, digest, Some(len), HttpBody::Whole(bytes)),
        Err(error) => {
            tracing::error!(%error, %digest, "failed to read a blob");
            response::text(StatusCode::INTERNAL_SERVER_ERROR, &format!("failed to read the blob: {error}"))
        }
    }
}

fn blob_reply(status: StatusCode, digest: &Digest, len: Option<u64>, body: HttpBody) -> HttpResponse {
    let mut response = response::with_body(status, BYTES, len, body);
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag(digest));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(DIGEST_SIZE, HeaderValue::from(digest.size_bytes));
    response
}

async fn put<B>(
    target: &HttpTarget,
    headers: &HeaderMap,
    upload: &mut Upload<B>,
    context: &RequestContext,
) -> HttpResponse
where
    B: Body<Data = Bytes> + Unpin + Send,
{
    if !context.access.may_write() {
        context.shared.metrics.refused(AdmissionError::ReadOnly.label());
        return response::refusal(&AdmissionError::ReadOnly);
    }
    let encoding = match encodings::of_body(headers) {
        Ok(encoding) => encoding,
        Err(why) => return response::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why),
    };
    match target {
        HttpTarget::Action { .. } if encoding == ContentEncoding::Zstd => {
            let words = "an action result is small: send it as it is, without `Content-Encoding`";
            response::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, words)
        }
        HttpTarget::Action { instance, hash } => {
            put_action(action_key(instance, *hash), upload, context).await
        }
        HttpTarget::Blob { hash } => put_blob(*hash, encoding, headers, upload, context).await,
        HttpTarget::Status | HttpTarget::Metrics => method_not_allowed(&Method::PUT),
    }
}

async fn put_action<B>(key: ActionKey, upload: &mut Upload<B>, context: &RequestContext) -> HttpResponse
where
    B: Body<Data = Bytes> + Unpin + Send,
{
    let limit_bytes = context.limits().action_result_bytes_max as u64;
    let body = match upload.collect("action_result_bytes_max", limit_bytes).await {
        Ok(body) => body,
        Err(error) => return upload_error(&error),
    };
    let result = match ActionResult::decode(body) {
        Ok(result) => result,
        Err(error) => {
            let words = format!("the body is not an encoded `ActionResult`: {error}");
            return response::text(StatusCode::BAD_REQUEST, &words);
        }
    };
    match call_store(context, move |store| store.actions().put(&key, &result)).await {
        Ok(_) => response::stored(),
        Err(error) => response::of_store_error(&error),
    }
}

async fn put_blob<B>(
    hash: Hash,
    encoding: ContentEncoding,
    headers: &HeaderMap,
    upload: &mut Upload<B>,
    context: &RequestContext,
) -> HttpResponse
where
    B: Body<Data = Bytes> + Unpin + Send,
{
    let size_bytes = match encodings::stated_size(headers, encoding) {
        Ok(size_bytes) => size_bytes,
        Err(refused) => return response::text(refused.status, refused.why),
    };
    let digest = Digest::new(DigestFunction::Sha256, hash, size_bytes);
    match store_blob(&digest, encoding, upload, context).await {
        Ok(()) => response::stored(),
        Err(error) => upload_error(&error),
    }
}

async fn store_blob<B>(
    digest: &Digest,
    encoding: ContentEncoding,
    upload: &mut Upload<B>,
    context: &RequestContext,
) -> Result<(), UploadError>
where
    B: Body<Data = Bytes> + Unpin + Send,
{
    let limit_bytes = context.limits().blob_bytes_max;
    if digest.size_bytes > limit_bytes {
        let limit = "blob_bytes_max";
        return Err(StoreError::TooLarge { limit, limit_bytes, size_bytes: digest.size_bytes }.into());
    }
    // Over HTTP, Bazel uploads each output of each build, because it cannot ask what is missing.
    let digest = *digest;
    let find = move |store: &dyn Backend| store.blobs().find_missing(&[digest], AccessKind::Promise);
    if call_store(context, find).await? == [false] {
        return upload.skip().await;
    }
    let is_compressed = encoding == ContentEncoding::Zstd;
    if digest.size_bytes <= AT_ONCE_BYTES_MAX {
        let body = upload.collect_blob(digest, is_compressed).await?;
        let insert = move |store: &dyn Backend| {
            store.blobs().insert(&[(digest, body)]).pop().expect("one blob has one outcome")
        };
        return Ok(call_store(context, insert).await?);
    }
    let writer = call_store(context, move |store| store.blobs().create(&digest)).await?;
    upload.store(digest, is_compressed, writer).await
}

fn upload_error(error: &UploadError) -> HttpResponse {
    let status = match error {
        UploadError::Store(error) => return response::of_store_error(error),
        UploadError::CutShort | UploadError::Zstd(_) => StatusCode::BAD_REQUEST,
        UploadError::Stalled { .. } => StatusCode::REQUEST_TIMEOUT,
        UploadError::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
    };
    response::text(status, &error.to_string())
}
