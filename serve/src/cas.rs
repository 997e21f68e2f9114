//! REAPI `ContentAddressableStorage` without `GetTree`: which blobs are missing, and batches of
//! small blobs.
//!
//! Each blob of a batch succeeds or fails by itself. The batch as a whole fails only if it
//! exceeds a limit, or if the caller may not store.

use bytes::Bytes;
use http::Response;
use hyper::body::Incoming;
use kache_cas::{AccessKind, BlobStore, Digest, DigestFunction, StoreError};
use kache_proto::reapi::compressor::Value as Compressor;
use kache_proto::reapi::{
    self, BatchReadBlobsRequest, BatchReadBlobsResponse, BatchUpdateBlobsRequest, BatchUpdateBlobsResponse,
    FindMissingBlobsRequest, FindMissingBlobsResponse, batch_read_blobs_response, batch_update_blobs_request,
    batch_update_blobs_response,
};
use tonic::{Code, Status};

use super::context::{Backend, RequestContext};
use super::grpc_response::{self as response, ResponseBody};
use super::offload::{self, INLINE_BYTES_MAX, INLINE_DIGESTS_MAX};
use super::status::{of_store_error, over_limit, to_message};
use super::zstd_blob::{self, DecompressError};
use super::{message, wire_digest};

/// Blobs with fewer bytes are sent uncompressed: compressing them would save no packet.
const COMPRESSED_BYTES_MIN: u64 = 512;

/// Handles a `FindMissingBlobs` request.
pub(super) async fn find_missing(
    context: &RequestContext,
    body: Incoming,
) -> Result<Response<ResponseBody>, Status> {
    let (request, _room) = message::only::<FindMissingBlobsRequest, _>(body, &context.shared).await?;
    wire_digest::check(&request.instance_name)?;
    let function = wire_digest::function(request.digest_function)?;
    let mut wire = request.blob_digests;
    check_count(context, wire.len())?;
    let digests: Vec<Digest> =
        wire.iter().map(|wire| wire_digest::digest(function, wire)).collect::<Result<_, _>>()?;
    let is_heavy = digests.len() > INLINE_DIGESTS_MAX;
    let find = move |store: &dyn Backend| store.blobs().find_missing(&digests, AccessKind::Promise);
    let missing =
        offload::run(is_heavy, &context.shared.store, find).await?.map_err(|error| of_store_error(&error))?;
    let mut is_missing = missing.into_iter();
    wire.retain(|_| is_missing.next().unwrap_or(true));
    Ok(response::message(&FindMissingBlobsResponse { missing_blob_digests: wire }))
}

fn check_count(context: &RequestContext, count: usize) -> Result<(), Status> {
    let limit = context.limits().batch_blobs_max;
    if count <= limit {
        return Ok(());
    }
    Err(over_limit(Code::InvalidArgument, &format!("{count} blobs in one batch"), "batch_blobs_max", limit))
}

fn check_bytes(context: &RequestContext, bytes: u64) -> Result<(), Status> {
    let limit = context.limits().batch_bytes_max;
    if bytes <= limit {
        return Ok(());
    }
    let what = format!("a batch of {bytes} bytes (larger blobs go by ByteStream)");
    Err(over_limit(Code::InvalidArgument, &what, "max_batch_total_size_bytes", limit))
}

/// Handles a `BatchUpdateBlobs` request.
pub(super) async fn batch_update(
    context: &RequestContext,
    body: Incoming,
) -> Result<Response<ResponseBody>, Status> {
    let (request, room) = message::only::<BatchUpdateBlobsRequest, _>(body, &context.shared).await?;
    if !context.access.may_write() {
        return Err(Status::permission_denied("these credentials may only read and may not upload"));
    }
    wire_digest::check(&request.instance_name)?;
    let function = wire_digest::function(request.digest_function)?;
    check_count(context, request.requests.len())?;
    let sent_bytes = request.requests.iter().map(|blob| blob.data.len() as u64).sum();
    check_bytes(context, sent_bytes)?;
    let is_compressed = request.requests.iter().any(|blob| blob.compressor == Compressor::Zstd as i32);
    let is_heavy = is_compressed || sent_bytes > INLINE_BYTES_MAX;
    let budget = context.limits().batch_decompressed_bytes_max;
    let update = move |store: &dyn Backend| {
        let responses = update_each(store.blobs(), function, request.requests, budget);
        drop(room);
        responses
    };
    let responses = offload::run(is_heavy, &context.shared.store, update).await?;
    Ok(response::message(&BatchUpdateBlobsResponse { responses }))
}

/// Stores all well-formed blobs with one call of the store, and returns a status for each blob.
fn update_each(
    store: &dyn BlobStore,
    function: DigestFunction,
    blobs: Vec<batch_update_blobs_request::Request>,
    mut budget: u64,
) -> Vec<batch_update_blobs_response::Response> {
    let mut responses = Vec::with_capacity(blobs.len());
    let mut good: Vec<(Digest, Bytes)> = Vec::with_capacity(blobs.len());
    let mut good_at = Vec::with_capacity(blobs.len());
    for (index, blob) in blobs.into_iter().enumerate() {
        let status = match plain(function, &blob, &mut budget) {
            Ok((digest, _)) if digest.is_empty_blob() => Status::ok(""),
            Ok(blob) => {
                good.push(blob);
                good_at.push(index);
                Status::ok("")
            }
            Err(status) => status,
        };
        let status = Some(to_message(&status));
        responses.push(batch_update_blobs_response::Response { digest: blob.digest, status });
    }
    for (outcome, index) in store.insert(&good).into_iter().zip(good_at) {
        if let Err(error) = outcome {
            responses[index].status = Some(to_message(&of_store_error(&error)));
        }
    }
    responses
}

/// The bytes of a blob, decompressed if needed. The decompressed size is taken from `budget`.
fn plain(
    function: DigestFunction,
    blob: &batch_update_blobs_request::Request,
    budget: &mut u64,
) -> Result<(Digest, Bytes), Status> {
    let digest = wire_digest::required(function, blob.digest.as_ref(), "digest")?;
    match Compressor::try_from(blob.compressor) {
        Ok(Compressor::Identity) => {}
        Ok(Compressor::Zstd) => {
            let what = "a batch, decompressed";
            let left = budget.checked_sub(digest.size_bytes).ok_or_else(|| {
                over_limit(Code::InvalidArgument, what, "batch_decompressed_bytes_max", "decompressed bytes")
            })?;
            *budget = left;
            let bytes =
                zstd_blob::decompress(digest, &blob.data).map_err(|error| of_decompress_error(&error))?;
            return checked(digest, bytes);
        }
        _ => return Err(Status::invalid_argument("the compressor is not supported; zstd is")),
    }
    checked(digest, blob.data.clone())
}

/// Checks the length, which is cheap, before the store hashes the bytes.
fn checked(digest: Digest, bytes: Bytes) -> Result<(Digest, Bytes), Status> {
    if bytes.len() as u64 == digest.size_bytes {
        return Ok((digest, bytes));
    }
    let error = StoreError::Length { claimed: digest, received_bytes: bytes.len() as u64 };
    Err(of_store_error(&error))
}

/// The status for a blob that could not be decompressed.
pub(super) fn of_decompress_error(error: &DecompressError) -> Status {
    match error {
        DecompressError::Store(error) => of_store_error(error),
        _ => Status::invalid_argument(error.to_string()),
    }
}

/// Handles a `BatchReadBlobs` request.
pub(super) async fn batch_read(
    context: &RequestContext,
    body: Incoming,
) -> Result<Response<ResponseBody>, Status> {
    let (request, _room) = message::only::<BatchReadBlobsRequest, _>(body, &context.shared).await?;
    wire_digest::check(&request.instance_name)?;
    let function = wire_digest::function(request.digest_function)?;
    check_count(context, request.digests.len())?;
    let size = |wire: &reapi::Digest| u64::try_from(wire.size_bytes).unwrap_or(0);
    let bytes = request.digests.iter().map(size).fold(0, u64::saturating_add);
    check_bytes(context, bytes)?;
    let room = context.shared.reserve(usize::try_from(bytes).unwrap_or(usize::MAX)).await?;
    let may_compress = request.acceptable_compressors.contains(&(Compressor::Zstd as i32));
    let read = move |store: &dyn Backend| {
        let read_one = |wire| read_one(store.blobs(), function, wire, may_compress);
        request.digests.into_iter().map(read_one).collect()
    };
    let responses =
        offload::run(may_compress || bytes > INLINE_BYTES_MAX, &context.shared.store, read).await?;
    Ok(response::reserved(&BatchReadBlobsResponse { responses }, room))
}

fn read_one(
    store: &dyn BlobStore,
    function: DigestFunction,
    wire: reapi::Digest,
    may_compress: bool,
) -> batch_read_blobs_response::Response {
    let (data, compressor, status) = match read_bytes(store, function, &wire) {
        Ok(bytes) if may_compress && bytes.len() as u64 >= COMPRESSED_BYTES_MIN => {
            match zstd_blob::compress(&bytes) {
                Some(compressed) => (compressed, Compressor::Zstd, Status::ok("")),
                None => (bytes, Compressor::Identity, Status::ok("")),
            }
        }
        Ok(bytes) => (bytes, Compressor::Identity, Status::ok("")),
        Err(status) => (Bytes::new(), Compressor::Identity, status),
    };
    let status = Some(to_message(&status));
    batch_read_blobs_response::Response { digest: Some(wire), data, status, compressor: compressor as i32 }
}

fn read_bytes(
    store: &dyn BlobStore,
    function: DigestFunction,
    wire: &reapi::Digest,
) -> Result<Bytes, Status> {
    let digest = wire_digest::digest(function, wire)?;
    if digest.is_empty_blob() {
        return Ok(Bytes::new());
    }
    let content = store.open(&digest, AccessKind::Use).map_err(|error| of_store_error(&error))?;
    let content = content.ok_or_else(|| Status::not_found(format!("`{digest}` is not in the cache")))?;
    content.read_all().map_err(|error| {
        tracing::error!(%error, %digest, "failed to read a blob");
        Status::internal(format!("the store failed to read `{digest}`: {error}"))
    })
}
