//! Asks a server which blobs it does not have.

use std::collections::HashSet;
use std::sync::Arc;

use kache_cas::Digest;
use kache_proto::reapi::FindMissingBlobsRequest;
use tokio::task::JoinSet;

use super::names;
use super::remote::{Shared, joined};
use super::statuses::of_status;
use crate::error::RemoteError;
use crate::remote::RequestContext;

/// The most digests of one request. They have 750 KB, far below what one message may have.
const DIGESTS_MAX: usize = 10_000;

/// Tells for each blob whether the server does not have it. The empty blob is never asked for.
pub(super) async fn find_missing(
    shared: &Arc<Shared>,
    blobs: &[Digest],
    context: &RequestContext,
) -> Result<Vec<bool>, RemoteError> {
    let mut seen = HashSet::new();
    let asked: Vec<Digest> =
        blobs.iter().filter(|digest| digest.size_bytes > 0 && seen.insert(**digest)).copied().collect();
    let mut requests = JoinSet::new();
    for digests in asked.chunks(DIGESTS_MAX) {
        let (shared, digests, context) = (Arc::clone(shared), digests.to_vec(), context.clone());
        requests.spawn(async move { ask(&shared, &digests, &context).await });
    }
    let mut missing = HashSet::new();
    while let Some(outcome) = requests.join_next().await {
        missing.extend(joined(outcome)??);
    }
    Ok(blobs.iter().map(|digest| missing.contains(digest)).collect())
}

/// Asks for some blobs and returns the missing ones. Digests that were not asked for change nothing.
async fn ask(
    shared: &Shared,
    digests: &[Digest],
    context: &RequestContext,
) -> Result<Vec<Digest>, RemoteError> {
    let function = names::function_of(digests);
    let message = FindMissingBlobsRequest {
        instance_name: shared.instance.clone(),
        blob_digests: digests.iter().map(names::wire).collect(),
        digest_function: names::function_field(function),
    };
    let response = shared.storage().find_missing_blobs(shared.metadata.request(message, context)).await;
    let response = response.map_err(|status| of_status("FindMissingBlobs", &status))?;
    let missing = response.into_inner().missing_blob_digests;
    let parse = |wire: kache_proto::reapi::Digest| Digest::parse(function, &wire.hash, wire.size_bytes);
    missing
        .into_iter()
        .map(parse)
        .collect::<Result<_, _>>()
        .map_err(|error| RemoteError::malformed(format!("FindMissingBlobs: {error}")))
}
