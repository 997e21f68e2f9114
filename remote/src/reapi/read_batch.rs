//! Reads blobs into memory: small ones in batches, others each in a stream. Every blob is verified.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kache_cas::Digest;
use kache_proto::compressed_blob;
use kache_proto::reapi::batch_read_blobs_response::Response;
use kache_proto::reapi::compressor::Value as Compressor;
use kache_proto::reapi::{BatchReadBlobsRequest, BatchReadBlobsResponse};
use tokio::task::JoinSet;

use super::batches::plan;
use super::capabilities::Offer;
use super::names;
use super::read_stream;
use super::remote::{Shared, blocking, joined};
use super::statuses::{is_not_found, of_blob, of_status};
use crate::error::RemoteError;
use crate::options::Compression;
use crate::remote::RequestContext;

/// The blobs of one request, each with its bytes if the server has it.
type Found = Vec<(Digest, Option<Bytes>)>;

/// Reads blobs into memory, in the order of their digests.
pub(super) async fn read_small(
    shared: &Arc<Shared>,
    blobs: &[Digest],
    context: &RequestContext,
) -> Result<Vec<Option<Bytes>>, RemoteError> {
    let mut found: HashMap<Digest, Option<Bytes>> = HashMap::new();
    let mut asked = Vec::new();
    for digest in blobs {
        if found.contains_key(digest) {
            continue;
        }
        if digest.size_bytes == 0 {
            found.insert(*digest, Some(verified(digest, Bytes::new())?));
        } else {
            found.insert(*digest, None);
            asked.push(*digest);
        }
    }
    if !asked.is_empty() {
        let mut requests = begin(shared, &asked, context, shared.offer().await?);
        while let Some(outcome) = requests.join_next().await {
            found.extend(joined(outcome)??);
        }
    }
    Ok(blobs.iter().map(|digest| found.get(digest).cloned().flatten()).collect())
}

/// Begins one request for each batch and for each blob that fits in none.
fn begin(
    shared: &Arc<Shared>,
    asked: &[Digest],
    context: &RequestContext,
    offer: Offer,
) -> JoinSet<Result<Found, RemoteError>> {
    let plan = plan(offer.batch_limit, asked.iter().map(|digest| digest.size_bytes));
    let mut requests = JoinSet::new();
    for batch in plan.batches {
        let digests: Vec<Digest> = batch.into_iter().map(|item| asked[item]).collect();
        let (shared, context) = (Arc::clone(shared), context.clone());
        requests.spawn(async move { read_batch(&shared, digests, &context, offer).await });
    }
    for item in plan.streams {
        let (shared, context, digest) = (Arc::clone(shared), context.clone(), asked[item]);
        requests.spawn(async move {
            let bytes = read_stream::read_whole(&shared, &digest, &context).await?;
            let bytes = match bytes {
                Some(bytes) => Some(blocking(move || verified(&digest, bytes)).await??),
                None => None,
            };
            Ok(vec![(digest, bytes)])
        });
    }
    requests
}

async fn read_batch(
    shared: &Shared,
    digests: Vec<Digest>,
    context: &RequestContext,
    offer: Offer,
) -> Result<Found, RemoteError> {
    let _permit = shared.download().await;
    let is_zstd = offer.has_zstd && shared.compression != Compression::None;
    let message = BatchReadBlobsRequest {
        instance_name: shared.instance.clone(),
        digests: digests.iter().map(names::wire).collect(),
        acceptable_compressors: if is_zstd { vec![Compressor::Zstd as i32] } else { Vec::new() },
        digest_function: names::function_field(names::function_of(&digests)),
    };
    let response = shared.storage().batch_read_blobs(shared.metadata.request(message, context)).await;
    let response = response.map_err(|status| of_status("BatchReadBlobs", &status))?.into_inner();
    // Hashing four megabytes takes milliseconds, in which this thread would answer nobody.
    blocking(move || read_responses(digests, response)).await?
}

/// Finds the response for each digest, by hash and size.
fn read_responses(digests: Vec<Digest>, response: BatchReadBlobsResponse) -> Result<Found, RemoteError> {
    let function = names::function_of(&digests);
    let mut responses: HashMap<Digest, Response> = HashMap::new();
    for response in response.responses {
        if let Some(wire) = &response.digest
            && let Ok(digest) = Digest::parse(function, &wire.hash, wire.size_bytes)
        {
            responses.insert(digest, response);
        }
    }
    let read = |digest: Digest| match responses.remove(&digest) {
        Some(response) => Ok((digest, read_blob(&digest, response)?)),
        None => Err(RemoteError::malformed(format!("BatchReadBlobs: the response lacks {digest}"))),
    };
    digests.into_iter().map(read).collect()
}

fn read_blob(digest: &Digest, response: Response) -> Result<Option<Bytes>, RemoteError> {
    if is_not_found(response.status.as_ref()) {
        return Ok(None);
    }
    if let Some(error) = of_blob("BatchReadBlobs", response.status.as_ref()) {
        return Err(error);
    }
    let bytes = match Compressor::try_from(response.compressor) {
        Ok(Compressor::Identity) => response.data,
        Ok(Compressor::Zstd) => compressed_blob::decompress(digest.size_bytes, &response.data)?,
        _ => {
            let compressor = response.compressor;
            let message =
                format!("{digest} is compressed with compressor {compressor}, which nobody asked for");
            return Err(RemoteError::malformed(message));
        }
    };
    verified(digest, bytes).map(Some)
}

/// Checks the length and the hash of a blob.
fn verified(digest: &Digest, bytes: Bytes) -> Result<Bytes, RemoteError> {
    let len = bytes.len() as u64;
    if len != digest.size_bytes {
        return Err(RemoteError::malformed(format!("{digest} arrived with {len} bytes")));
    }
    if digest.function.hash(&bytes) != digest.hash {
        return Err(RemoteError::malformed(format!("{digest} arrived with other bytes")));
    }
    Ok(bytes)
}
