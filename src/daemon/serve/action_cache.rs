//! `ActionCache`: results by action.
//!
//! A stored result is sent as the bytes it is kept as, unless the client asked for outputs
//! inside it. That a result is complete (STO-03) is the store's promise, not checked here.

use bytes::Bytes;
use http::Response;
use hyper::body::Incoming;
use kache_cas::{AccessKind, DigestFunction, StoredResult};
use kache_proto::Message as _;
use kache_proto::reapi::{ActionResult, Digest, GetActionResultRequest, UpdateActionResultRequest};
use tonic::{Code, Status};

use super::context::{Backend, Context};
use super::reply::{self, Body};
use super::status::{of_store_error, over_limit};
use super::{message, offload, results, wire_digest};

/// What inlining a blob costs besides its bytes: a tag and a length.
const INLINE_OVERHEAD_BYTES: usize = 8;

/// `GetActionResult`.
pub(super) async fn get(context: &Context, body: Incoming) -> Result<Response<Body>, Status> {
    let (request, _room) = message::only::<GetActionResultRequest, _>(body, &context.shared).await?;
    let wire = request.action_digest.as_ref();
    let key = wire_digest::action_key(&request.instance_name, request.digest_function, wire)?;
    let (store, function) = (&context.shared.store, key.function);
    // Whether a result is complete may depend on blobs that are still to be hashed.
    let get = move |store: &dyn Backend| results::get(store.actions(), &key, AccessKind::Promise);
    let stored = offload::run(context.blobs().may_block(), store, get).await?;
    let stored = stored.map_err(|error| of_store_error(&error))?;
    let stored = stored.ok_or_else(|| Status::not_found("there is no complete result of this action"))?;
    if request.inline_stdout || request.inline_stderr || !request.inline_output_files.is_empty() {
        return inlined(context, function, &request, &stored);
    }
    Ok(reply::encoded(stored.encoded))
}

/// The result with what was asked for inside it, as far as one message holds it. What does
/// not fit stays outside; the client has the digest.
fn inlined(
    context: &Context,
    function: DigestFunction,
    request: &GetActionResultRequest,
    stored: &StoredResult,
) -> Result<Response<Body>, Status> {
    let mut result = stored.decode().map_err(|error| of_store_error(&error))?;
    let budget = context.limits().action_result_bytes_max.saturating_sub(stored.encoded.len());
    let mut inliner = Inliner { context, function, budget };
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
    Ok(reply::message(&result))
}

struct Inliner<'a> {
    context: &'a Context,
    function: DigestFunction,
    budget: usize,
}

impl Inliner<'_> {
    /// The blob's bytes, or none: inlining is a courtesy, and never a reason to fail.
    fn fetch(&mut self, digest: Option<&Digest>) -> Bytes {
        self.try_fetch(digest).unwrap_or_default()
    }

    fn try_fetch(&mut self, digest: Option<&Digest>) -> Option<Bytes> {
        let digest = wire_digest::digest(self.function, digest?).ok()?;
        let size = usize::try_from(digest.size_bytes).ok().filter(|size| *size > 0)?;
        let budget = self.budget.checked_sub(size.checked_add(INLINE_OVERHEAD_BYTES)?)?;
        // Looking up the result has counted as an access of this blob already.
        let content = self.context.blobs().open(&digest, AccessKind::Peek).ok()??;
        let bytes = content.read_all().ok()?;
        self.budget = budget;
        Some(bytes)
    }
}

/// `UpdateActionResult`.
pub(super) async fn update(context: &Context, body: Incoming) -> Result<Response<Body>, Status> {
    let (request, _room) = message::only::<UpdateActionResultRequest, _>(body, &context.shared).await?;
    if !context.access.may_write() {
        return Err(Status::permission_denied("this caller may only read; action results are for others"));
    }
    let wire = request.action_digest.as_ref();
    let key = wire_digest::action_key(&request.instance_name, request.digest_function, wire)?;
    let result =
        request.action_result.ok_or_else(|| Status::invalid_argument("`action_result` is not set"))?;
    check_size(context, &result)?;
    let put = move |store: &dyn Backend| store.actions().put(&key, &result);
    let stored = offload::run(context.blobs().may_block(), &context.shared.store, put).await?;
    let stored = stored.map_err(|error| of_store_error(&error))?;
    Ok(reply::encoded(stored.encoded))
}

fn check_size(context: &Context, result: &ActionResult) -> Result<(), Status> {
    let (len, limit) = (result.encoded_len(), context.limits().action_result_bytes_max);
    if len <= limit {
        return Ok(());
    }
    let what = format!("an action result of {len} bytes");
    Err(over_limit(Code::InvalidArgument, &what, "action_result_bytes_max", limit))
}
