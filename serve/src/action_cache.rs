//! REAPI `ActionCache`: looks action results up and stores them.
//!
//! A stored result is sent in its stored encoding, unless the client asked for outputs to be
//! inlined. The store guarantees that a result is complete (STO-03); it is not checked here.

use bytes::Bytes;
use http::Response;
use hyper::body::Incoming;
use kache_cas::{AccessKind, BlobStore, DigestFunction, StoredResult};
use kache_proto::Message as _;
use kache_proto::reapi::{ActionResult, Digest, GetActionResultRequest, UpdateActionResultRequest};
use tonic::{Code, Status};

use super::context::{Backend, RequestContext};
use super::grpc_response::{self as response, ResponseBody};
use super::status::{of_store_error, over_limit};
use super::{message, offload, results, wire_digest};

/// How many bytes inlining a blob adds to the message besides the blob: a tag and a length.
const INLINE_OVERHEAD_BYTES: usize = 8;

/// Handles a `GetActionResult` request.
pub(super) async fn get(context: &RequestContext, body: Incoming) -> Result<Response<ResponseBody>, Status> {
    let (request, _room) = message::only::<GetActionResultRequest, _>(body, &context.shared).await?;
    let wire = request.action_digest.as_ref();
    let key = wire_digest::action_key(&request.instance_name, request.digest_function, wire)?;
    let (store, function) = (&context.shared.store, key.function);
    // To tell whether a result is complete, the store may have to hash blobs first (STO-01),
    // so this may go to a blocking thread.
    let get = move |store: &dyn Backend| results::get(store.actions(), &key, AccessKind::Promise);
    let stored = offload::run(false, store, get).await?;
    let stored = stored.map_err(|error| of_store_error(&error))?;
    let stored = stored.ok_or_else(|| Status::not_found("there is no complete result of this action"))?;
    if request.inline_stdout || request.inline_stderr || !request.inline_output_files.is_empty() {
        let bytes_max = context.limits().action_result_bytes_max;
        let inline =
            move |store: &dyn Backend| inlined(store.blobs(), function, &request, &stored, bytes_max);
        return offload::run(false, &context.shared.store, inline).await?;
    }
    Ok(response::encoded(&stored.encoded))
}

/// The result with the requested outputs inlined, as far as they fit one message of `bytes_max`.
/// A client fetches the others by their digests.
fn inlined(
    blobs: &dyn BlobStore,
    function: DigestFunction,
    request: &GetActionResultRequest,
    stored: &StoredResult,
    bytes_max: usize,
) -> Result<Response<ResponseBody>, Status> {
    let mut result = stored.decode().map_err(|error| of_store_error(&error))?;
    let budget = bytes_max.saturating_sub(stored.encoded.len());
    let mut inliner = Inliner { blobs, function, budget };
    if request.inline_stdout && result.stdout_raw.is_empty() {
        result.stdout_raw = inliner.fetch(result.stdout_digest.as_ref());
    }
    if request.inline_stderr && result.stderr_raw.is_empty() {
        result.stderr_raw = inliner.fetch(result.stderr_digest.as_ref());
    }
    for file in &mut result.output_files {
        if file.contents.is_empty() && request.inline_output_files.contains(&file.path) {
            file.contents = inliner.fetch(file.digest.as_ref());
        }
    }
    Ok(response::message(&result))
}

struct Inliner<'a> {
    blobs: &'a dyn BlobStore,
    function: DigestFunction,
    budget: usize,
}

impl Inliner<'_> {
    /// The blob's bytes, or no bytes if it does not fit or cannot be read. REAPI lets a server
    /// inline nothing, so that is never an error.
    fn fetch(&mut self, digest: Option<&Digest>) -> Bytes {
        self.try_fetch(digest).unwrap_or_default()
    }

    fn try_fetch(&mut self, digest: Option<&Digest>) -> Option<Bytes> {
        let digest = wire_digest::digest(self.function, digest?).ok()?;
        let size = usize::try_from(digest.size_bytes).ok().filter(|size| *size > 0)?;
        let budget = self.budget.checked_sub(size.checked_add(INLINE_OVERHEAD_BYTES)?)?;
        // Looking the result up has extended the lease of this blob already.
        let content = self.blobs.open(&digest, AccessKind::Peek).ok()??;
        let bytes = content.read_all().ok()?;
        self.budget = budget;
        Some(bytes)
    }
}

/// Handles an `UpdateActionResult` request.
pub(super) async fn update(
    context: &RequestContext,
    body: Incoming,
) -> Result<Response<ResponseBody>, Status> {
    let (request, _room) = message::only::<UpdateActionResultRequest, _>(body, &context.shared).await?;
    if !context.access.may_write() {
        return Err(Status::permission_denied(
            "these credentials may only read and may not store action results",
        ));
    }
    let wire = request.action_digest.as_ref();
    let key = wire_digest::action_key(&request.instance_name, request.digest_function, wire)?;
    let result =
        request.action_result.ok_or_else(|| Status::invalid_argument("`action_result` is not set"))?;
    check_size(context, &result)?;
    let put = move |store: &dyn Backend| store.actions().put(&key, &result);
    let stored = offload::run(false, &context.shared.store, put).await?;
    let stored = stored.map_err(|error| of_store_error(&error))?;
    Ok(response::encoded(&stored.encoded))
}

fn check_size(context: &RequestContext, result: &ActionResult) -> Result<(), Status> {
    let (len, limit) = (result.encoded_len(), context.limits().action_result_bytes_max);
    if len <= limit {
        return Ok(());
    }
    let what = format!("an action result of {len} bytes");
    Err(over_limit(Code::InvalidArgument, &what, "action_result_bytes_max", limit))
}
