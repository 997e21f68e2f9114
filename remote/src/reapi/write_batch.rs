//! Stores blobs: small ones in batches, others each in a stream.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kache_cas::{Content, Digest};
use kache_proto::compressed_blob;
use kache_proto::reapi::batch_update_blobs_request::Request;
use kache_proto::reapi::compressor::Value as Compressor;
use kache_proto::reapi::{BatchUpdateBlobsRequest, BatchUpdateBlobsResponse};
use kache_proto::rpc;
use tokio::task::JoinSet;
use tonic::Code;

use super::batches::plan;
use super::capabilities::Offer;
use super::names;
use super::remote::{Shared, blocking, joined};
use super::statuses::{of_blob, of_status};
use super::write_stream;
use crate::error::RemoteError;
use crate::options::Compression;
use crate::remote::RequestContext;

/// The name of the request in errors.
const WHAT: &str = "BatchUpdateBlobs";

/// The outcome for one blob.
type Outcome = Result<(), RemoteError>;

/// A blob that is sent, with its position in the caller's list.
type Item = (usize, Digest, Content);

/// Stores blobs and returns the outcome for each, in their order.
pub(super) async fn write(
    shared: &Arc<Shared>,
    blobs: &[(Digest, Content)],
    context: &RequestContext,
) -> Vec<Outcome> {
    let offer = match shared.offer().await {
        Ok(offer) => offer,
        Err(error) => return vec![Err(error); blobs.len()],
    };
    let mut outcomes: Vec<Outcome> =
        blobs.iter().map(|(digest, content)| check(digest, content, offer)).collect();
    let items: Vec<Item> = blobs
        .iter()
        .enumerate()
        .filter(|(item, (digest, _))| digest.size_bytes > 0 && outcomes[*item].is_ok())
        .map(|(item, (digest, content))| (item, *digest, content.clone()))
        .collect();
    // If a task does not say what became of its blobs, they are not confirmed.
    for (item, ..) in &items {
        outcomes[*item] = Err(RemoteError::unavailable("this program is being stopped"));
    }
    let mut requests = begin(shared, &items, context, offer);
    while let Some(finished) = requests.join_next().await {
        for (item, outcome) in joined(finished).unwrap_or_default() {
            outcomes[item] = outcome;
        }
    }
    outcomes
}

/// Checks what needs no request. The empty blob needs none, because every server has it.
fn check(digest: &Digest, content: &Content, offer: Offer) -> Outcome {
    let size_bytes = content.size_bytes();
    if size_bytes != digest.size_bytes {
        return Err(RemoteError::local(format!("{digest} has {size_bytes} bytes here")));
    }
    match offer.blob_bytes_max {
        Some(max) if size_bytes > max => {
            Err(RemoteError::too_large(format!("{digest}: the server takes blobs of at most {max} bytes")))
        }
        _ => Ok(()),
    }
}

/// Begins one request for each batch and for each blob that fits in none.
fn begin(
    shared: &Arc<Shared>,
    items: &[Item],
    context: &RequestContext,
    offer: Offer,
) -> JoinSet<Vec<(usize, Outcome)>> {
    let plan = plan(offer.batch_limit, items.iter().map(|(_, digest, _)| digest.size_bytes));
    let mut requests = JoinSet::new();
    for batch in plan.batches {
        let batch: Vec<Item> = batch.into_iter().map(|item| items[item].clone()).collect();
        let (shared, context) = (Arc::clone(shared), context.clone());
        requests.spawn(async move { write_batch(&shared, batch, &context, offer).await });
    }
    for item in plan.streams {
        let (item, digest, content) = items[item].clone();
        let (shared, context) = (Arc::clone(shared), context.clone());
        requests.spawn(async move {
            let outcome = write_stream::write(&shared, &digest, &content, &context, offer).await;
            vec![(item, outcome)]
        });
    }
    requests
}

async fn write_batch(
    shared: &Shared,
    batch: Vec<Item>,
    context: &RequestContext,
    offer: Offer,
) -> Vec<(usize, Outcome)> {
    let _permit = shared.upload().await;
    let level = match shared.compression {
        Compression::Zstd(level) if offer.has_zstd_updates => Some(level),
        _ => None,
    };
    let items: Vec<(usize, Digest)> = batch.iter().map(|(item, digest, _)| (*item, *digest)).collect();
    let read = blocking(move || batch.iter().map(|item| read_blob(item, level)).collect::<Vec<_>>()).await;
    let read = match read {
        Ok(read) => read,
        Err(error) => return items.into_iter().map(|(item, _)| (item, Err(error.clone()))).collect(),
    };
    let mut failed: HashMap<usize, RemoteError> = HashMap::new();
    let mut requests = Vec::new();
    for ((item, _), read) in items.iter().zip(read) {
        match read {
            Ok(request) => requests.push(request),
            Err(error) => drop(failed.insert(*item, error)),
        }
    }
    let response = send(shared, &items, requests, context).await;
    let outcome = |(item, digest): (usize, Digest)| {
        let outcome = match (failed.remove(&item), &response) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(error.clone()),
            (None, Ok(statuses)) => outcome_of(&digest, statuses),
        };
        (item, outcome)
    };
    items.into_iter().map(outcome).collect()
}

/// Sends one batch and returns the status of each blob that the response names.
async fn send(
    shared: &Shared,
    items: &[(usize, Digest)],
    requests: Vec<Request>,
    context: &RequestContext,
) -> Result<HashMap<Digest, Option<rpc::Status>>, RemoteError> {
    if requests.is_empty() {
        return Ok(HashMap::new());
    }
    let function = items[0].1.function;
    let message = BatchUpdateBlobsRequest {
        instance_name: shared.instance.clone(),
        requests,
        digest_function: names::function_field(function),
    };
    let response = shared.storage().batch_update_blobs(shared.metadata.request(message, context)).await;
    let BatchUpdateBlobsResponse { responses } =
        response.map_err(|status| of_status(WHAT, &status))?.into_inner();
    let parse = |response: kache_proto::reapi::batch_update_blobs_response::Response| {
        let wire = response.digest?;
        let digest = Digest::parse(function, &wire.hash, wire.size_bytes).ok()?;
        Some((digest, response.status))
    };
    Ok(responses.into_iter().filter_map(parse).collect())
}

fn outcome_of(digest: &Digest, statuses: &HashMap<Digest, Option<rpc::Status>>) -> Outcome {
    match statuses.get(digest) {
        None => Err(RemoteError::malformed(format!("{WHAT}: the response lacks {digest}"))),
        Some(Some(status)) if Code::from_i32(status.code) == Code::AlreadyExists => Ok(()),
        Some(status) => of_blob(WHAT, status.as_ref()).map_or(Ok(()), Err),
    }
}

/// Reads a blob of this machine, and compresses it where that makes it smaller.
fn read_blob((_, digest, content): &Item, level: Option<i32>) -> Result<Request, RemoteError> {
    let bytes = content.read_all().map_err(|error| RemoteError::local(format!("{digest}: {error}")))?;
    let compressed: Option<Bytes> = level.and_then(|level| compressed_blob::compress(&bytes, level));
    let compressor = if compressed.is_some() { Compressor::Zstd } else { Compressor::Identity } as i32;
    Ok(Request { digest: Some(names::wire(digest)), data: compressed.unwrap_or(bytes), compressor })
}
