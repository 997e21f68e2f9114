//! The Bazel HTTP cache protocol: `GET`, `HEAD` and `PUT` of `[/prefix]/{ac,cas}/{hash}`.
//!
//! A request comes in admitted; here it is read, looked up or stored, and answered. The same
//! store and the same checks as over gRPC: a result is answered only when it is complete
//! (STO-03), and a blob becomes visible only when its bytes are its name (STO-02). The
//! protocol has no digest functions and no sizes: hashes are SHA-256, and a blob's size is
//! looked up. `zstd` bodies are spoken as bazel-remote speaks them.
//!
//! It knows no sockets, no credentials and no gRPC.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use http_body::Body;
use kache_cas::{AccessKind, ActionKey, Digest, DigestFunction, Hash, StoreError};
use kache_proto::Message as _;
use kache_proto::reapi::ActionResult;

use super::admission::Refusal;
use super::context::Context;
use super::download::Plan;
use super::encodings::{self, Encoding};
use super::http_path::{self, PathError, Target};
use super::http_reply::{self as reply, DIGEST_SIZE, HttpResponse, Reply};
use super::metrics::{Operation, Outcome};
use super::pages;
use super::range::{self, Extent};
use super::results;
use super::upload::{Upload, UploadError};

/// A blob up to this size is read and sent at once, on the runtime.
const AT_ONCE_BYTES_MAX: u64 = 64 * 1024;

/// What bytes are, when nobody knows.
const BYTES: &str = "application/octet-stream";

/// Answers a request whose sender was granted `context.access`.
pub async fn handle<B>(request: Request<B>, context: &Context) -> HttpResponse
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
        Ok(target) if head.method == Method::GET => get(&target, &head.headers, context),
        Ok(target) if head.method == Method::HEAD => reply::without_body(get_headers(&target, context)),
        Ok(_) => method_not_allowed(&head.method),
    };
    log(&head, &response, context);
    timed.finish(outcome(response.status()));
    drain(&head.headers, &mut upload, &response).await;
    context.shared.metrics.received(upload.received_bytes());
    response
}

/// Answers a request that was not admitted.
pub async fn refuse<B>(request: Request<B>, refusal: &Refusal, context: &Context) -> HttpResponse
where
    B: Body<Data = Bytes> + Unpin + Send,
{
    let (head, body) = request.into_parts();
    let response = reply::refusal(refusal);
    drain(&head.headers, &mut Upload::new(body, context.limits().stream_idle_max), &response).await;
    response
}

fn log(head: &Parts, response: &HttpResponse, context: &Context) {
    tracing::debug!(
        method = %head.method, path = head.uri.path(), status = response.status().as_u16(),
        peer = %context.peer.name, "answered"
    );
}

/// Takes in what a refused client is still sending, lest it never sees the answer. One that
/// asked first (`Expect: 100-continue`) is sending nothing yet.
async fn drain<B>(headers: &HeaderMap, upload: &mut Upload<B>, response: &HttpResponse)
where
    B: Body<Data = Bytes> + Unpin + Send,
{
    let is_waiting = headers.contains_key(header::EXPECT) && upload.received_bytes() == 0;
    if !response.status().is_success() && !is_waiting {
        upload.drain().await;
    }
}

fn operation(target: Option<&Target>, is_put: bool) -> Operation {
    match (target, is_put) {
        (Some(Target::Action { .. }), false) => Operation::GetAction,
        (Some(Target::Action { .. }), true) => Operation::PutAction,
        (Some(Target::Blob { .. }), false) => Operation::GetBlob,
        (Some(Target::Blob { .. }), true) => Operation::PutBlob,
        (Some(Target::Status | Target::Metrics), _) => Operation::Page,
        (None, _) => Operation::Other,
    }
}

fn outcome(status: StatusCode) -> Outcome {
    match status {
        StatusCode::NOT_FOUND => Outcome::Miss,
        status if status.is_client_error() => Outcome::Refused,
        status if status.is_server_error() => Outcome::Failed,
        _ => Outcome::Ok,
    }
}

fn path_error(error: &PathError) -> HttpResponse {
    let status = match error {
        PathError::Unknown => StatusCode::NOT_FOUND,
        PathError::TooLong { .. } => StatusCode::URI_TOO_LONG,
        PathError::Hash { .. } | PathError::Instance { .. } | PathError::Name(_) => StatusCode::BAD_REQUEST,
    };
    reply::text(status, &error.to_string())
}

fn method_not_allowed(method: &Method) -> HttpResponse {
    let words = format!("`{method}` means nothing here: use `GET`, `HEAD` or `PUT`");
    let mut response = reply::text(StatusCode::METHOD_NOT_ALLOWED, &words);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, PUT"));
    response
}

fn get(target: &Target, headers: &HeaderMap, context: &Context) -> HttpResponse {
    match target {
        Target::Action { instance, hash } => {
            let response = get_action(instance, *hash, context);
            if response.status().is_success() {
                context.shared.metrics.sent(response.body().size_hint().lower());
            }
            response
        }
        Target::Blob { hash } => get_blob(*hash, headers, context),
        Target::Status => pages::status(context),
        Target::Metrics => pages::metrics(context),
    }
}

/// What a GET would say of itself. A blob that is there was promised by saying so.
fn get_headers(target: &Target, context: &Context) -> HttpResponse {
    match target {
        Target::Blob { hash } => match find_blob(*hash, context) {
            Ok(Some(digest)) => blob_reply(StatusCode::OK, &digest, Some(digest.size_bytes), empty()),
            Ok(None) => blob_miss(*hash),
            Err(error) => reply::of_store_error(&error),
        },
        Target::Action { instance, hash } => get_action(instance, *hash, context),
        Target::Status => pages::status(context),
        Target::Metrics => pages::metrics(context),
    }
}

fn empty() -> Reply {
    Reply::Whole(Bytes::new())
}

fn action_key(instance: &str, hash: Hash) -> ActionKey {
    ActionKey { instance: Arc::from(instance), function: DigestFunction::Sha256, hash }
}

fn get_action(instance: &str, hash: Hash, context: &Context) -> HttpResponse {
    match results::get(context.actions(), &action_key(instance, hash), AccessKind::Promise) {
        Ok(Some(result)) => reply::whole(StatusCode::OK, BYTES, result.encoded),
        Ok(None) => reply::miss(&format!("no complete action result is known for `{hash}`")),
        Err(error) => reply::of_store_error(&error),
    }
}

fn blob_miss(hash: Hash) -> HttpResponse {
    reply::miss(&format!("no blob with the SHA-256 `{hash}` is here"))
}

/// The whole name of a blob that is there, which the client may now rely on.
fn find_blob(hash: Hash, context: &Context) -> Result<Option<Digest>, StoreError> {
    let Some(digest) = blob_digest(hash, context)? else { return Ok(None) };
    let missing = context.blobs().find_missing(&[digest], AccessKind::Promise)?;
    Ok((missing == [false]).then_some(digest))
}

fn blob_digest(hash: Hash, context: &Context) -> Result<Option<Digest>, StoreError> {
    let size_bytes = context.blobs().size_of(DigestFunction::Sha256, hash)?;
    Ok(size_bytes.map(|size_bytes| Digest::new(DigestFunction::Sha256, hash, size_bytes)))
}

fn get_blob(hash: Hash, headers: &HeaderMap, context: &Context) -> HttpResponse {
    let opened = blob_digest(hash, context).and_then(|digest| match digest {
        Some(digest) => Ok(context.blobs().open(&digest, AccessKind::Use)?.map(|content| (digest, content))),
        None => Ok(None),
    });
    let (digest, content) = match opened {
        Ok(Some(opened)) => opened,
        Ok(None) => return blob_miss(hash),
        Err(error) => return reply::of_store_error(&error),
    };
    let extent = wanted_extent(headers, &digest);
    let is_compressed = extent == Extent::Whole && digest.size_bytes > 0 && encodings::accepts_zstd(headers);
    let metrics = Arc::clone(&context.shared.metrics);
    let plan = Plan {
        content,
        extent,
        is_compressed,
        idle_max: context.limits().stream_idle_max,
        on_sent: Box::new(move |bytes| metrics.sent(bytes)),
    };
    send_blob(plan, &digest)
}

/// A range counts only for the very blob its `If-Range` names, and blobs never change.
fn wanted_extent(headers: &HeaderMap, digest: &Digest) -> Extent {
    let is_other = headers.get(header::IF_RANGE).is_some_and(|tag| *tag != etag(digest));
    let range = headers.get(header::RANGE).filter(|_| !is_other);
    range::extent(range.map(|range| range.as_bytes()), digest.size_bytes)
}

fn etag(digest: &Digest) -> HeaderValue {
    HeaderValue::try_from(format!("\"{}\"", digest.hash)).expect("hexadecimal digits are valid in a header")
}

fn send_blob(plan: Plan, digest: &Digest) -> HttpResponse {
    let size_bytes = digest.size_bytes;
    match plan.extent {
        Extent::Unsatisfiable => {
            let mut response = reply::text(
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
            let mut response = blob_reply(StatusCode::OK, digest, None, Reply::Stream(plan.begin()));
            set(&mut response, header::CONTENT_ENCODING, "zstd".to_owned());
            // The tag is of other bytes than these.
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

/// The bytes themselves, at once where they are few.
fn blob_body(status: StatusCode, plan: Plan, digest: &Digest, len: u64) -> HttpResponse {
    if len > AT_ONCE_BYTES_MAX {
        return blob_reply(status, digest, Some(len), Reply::Stream(plan.begin()));
    }
    match plan.read_at_once() {
        Ok(bytes) => blob_reply(status, digest, Some(len), Reply::Whole(bytes)),
        Err(error) => {
            tracing::error!(%error, %digest, "failed to read a blob");
            reply::text(StatusCode::INTERNAL_SERVER_ERROR, &format!("failed to read the blob: {error}"))
        }
    }
}

fn blob_reply(status: StatusCode, digest: &Digest, len: Option<u64>, body: Reply) -> HttpResponse {
    let mut response = reply::with_body(status, BYTES, len, body);
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag(digest));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(DIGEST_SIZE, HeaderValue::from(digest.size_bytes));
    response
}

async fn put<B>(
    target: &Target,
    headers: &HeaderMap,
    upload: &mut Upload<B>,
    context: &Context,
) -> HttpResponse
where
    B: Body<Data = Bytes> + Unpin + Send,
{
    if !context.access.may_write() {
        context.shared.metrics.refused(Refusal::ReadOnly.label());
        return reply::refusal(&Refusal::ReadOnly);
    }
    let encoding = match encodings::of_body(headers) {
        Ok(encoding) => encoding,
        Err(why) => return reply::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why),
    };
    match target {
        Target::Action { .. } if encoding == Encoding::Zstd => {
            let words = "an action result is small: send it as it is, without `Content-Encoding`";
            reply::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, words)
        }
        Target::Action { instance, hash } => put_action(&action_key(instance, *hash), upload, context).await,
        Target::Blob { hash } => put_blob(*hash, encoding, headers, upload, context).await,
        Target::Status | Target::Metrics => method_not_allowed(&Method::PUT),
    }
}

async fn put_action<B>(key: &ActionKey, upload: &mut Upload<B>, context: &Context) -> HttpResponse
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
            return reply::text(StatusCode::BAD_REQUEST, &words);
        }
    };
    match context.actions().put(key, &result) {
        Ok(_) => reply::stored(),
        Err(error) => reply::of_store_error(&error),
    }
}

async fn put_blob<B>(
    hash: Hash,
    encoding: Encoding,
    headers: &HeaderMap,
    upload: &mut Upload<B>,
    context: &Context,
) -> HttpResponse
where
    B: Body<Data = Bytes> + Unpin + Send,
{
    let size_bytes = match encodings::stated_size(headers, encoding) {
        Ok(size_bytes) => size_bytes,
        Err(refused) => return reply::text(refused.status, refused.why),
    };
    let digest = Digest::new(DigestFunction::Sha256, hash, size_bytes);
    match store_blob(&digest, encoding, upload, context).await {
        Ok(()) => reply::stored(),
        Err(error) => upload_error(&error),
    }
}

async fn store_blob<B>(
    digest: &Digest,
    encoding: Encoding,
    upload: &mut Upload<B>,
    context: &Context,
) -> Result<(), UploadError>
where
    B: Body<Data = Bytes> + Unpin + Send,
{
    let limit_bytes = context.limits().blob_bytes_max;
    if digest.size_bytes > limit_bytes {
        let limit = "blob_bytes_max";
        return Err(StoreError::TooLarge { limit, limit_bytes, size_bytes: digest.size_bytes }.into());
    }
    // Bazel uploads everything again and again over HTTP, because it cannot ask.
    if context.blobs().find_missing(&[*digest], AccessKind::Promise)? == [false] {
        return upload.skip().await;
    }
    let is_compressed = encoding == Encoding::Zstd;
    if digest.size_bytes <= AT_ONCE_BYTES_MAX {
        let body = upload.collect_blob(*digest, is_compressed).await?;
        let outcome = context.blobs().insert(&[(*digest, body)]).pop();
        return Ok(outcome.expect("one blob has one outcome")?);
    }
    let writer = context.blobs().create(digest)?;
    upload.store(*digest, is_compressed, writer).await
}

fn upload_error(error: &UploadError) -> HttpResponse {
    let status = match error {
        UploadError::Store(error) => return reply::of_store_error(error),
        UploadError::BrokenOff | UploadError::Zstd(_) => StatusCode::BAD_REQUEST,
        UploadError::Stalled { .. } => StatusCode::REQUEST_TIMEOUT,
        UploadError::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
    };
    reply::text(status, &error.to_string())
}
