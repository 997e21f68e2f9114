//! Keeps the path sets of a query on a remote.
//!
//! Small sets ride in the metadata of a result that names no outputs, so that one request is enough on every
//! server. Larger ones are a blob, because some servers refuse large results.

use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::encoding::wire_digest;
use kache_cas::{Content, Digest, DigestFunction, Hash};
use kache_proto::reapi::{ActionResult, Digest as WireDigest, ExecutedActionMetadata};
use kache_proto::well_known::Any;
use kache_remote::{Remote, RemoteError, RequestContext};

use crate::action::{PathSet, PathSets};

/// The type of the sets in `auxiliary_metadata`.
const SETS_TYPE: &str = "type.googleapis.com/kache.PathSets";

/// The largest encoded sets that ride in the metadata.
const INLINE_BYTES_MAX: usize = 32 << 10;

/// The largest encoded sets that are read.
const BYTES_MAX: u64 = 8 << 20;

/// Reads the path sets of a query; empty ones if the remote has none, or none that this version can read.
pub async fn read_path_sets(
    remote: &dyn Remote,
    query: &Digest<ActionMessage>,
    context: &RequestContext,
) -> Result<PathSets, RemoteError> {
    let Some(result) = remote.get_result(query, context).await? else { return Ok(PathSets::default()) };
    let inline = result.execution_metadata.iter().flat_map(|metadata| &metadata.auxiliary_metadata);
    let inline =
        inline.filter(|any| any.type_url == SETS_TYPE).map(|any| Bytes::from(any.value.clone())).next();
    let bytes = match (inline, &result.stdout_digest) {
        (Some(bytes), _) => Some(bytes),
        (None, Some(digest)) => read_blob(remote, query.function, digest, context).await?,
        (None, None) => None,
    };
    Ok(bytes.and_then(|bytes| PathSets::decode(&bytes).ok()).unwrap_or_default())
}

async fn read_blob(
    remote: &dyn Remote,
    function: DigestFunction,
    digest: &WireDigest,
    context: &RequestContext,
) -> Result<Option<Bytes>, RemoteError> {
    let hash: Option<Hash> = digest.hash.parse().ok();
    let size = u64::try_from(digest.size_bytes).ok().filter(|size| (1..=BYTES_MAX).contains(size));
    let (Some(hash), Some(size)) = (hash, size) else { return Ok(None) };
    let read = remote.read_small(&[Digest::new(function, hash, size)], context).await?;
    Ok(read.into_iter().next().flatten())
}

/// Adds a set to those of a query, unless it is among them. The remote must have the query's own action and
/// command. Two writers at once may lose one of their sets, which the next compile adds again.
pub async fn add_path_set(
    remote: &dyn Remote,
    query: &Digest<ActionMessage>,
    set: PathSet,
    context: &RequestContext,
) -> Result<(), RemoteError> {
    let mut sets = read_path_sets(remote, query, context).await?;
    if !sets.add(set) {
        return Ok(());
    }
    let bytes = Bytes::from(sets.encode());
    let mut metadata = ExecutedActionMetadata { worker: "kache".to_owned(), ..Default::default() };
    let mut result = ActionResult::default();
    if bytes.len() <= INLINE_BYTES_MAX {
        metadata.auxiliary_metadata.push(Any { type_url: SETS_TYPE.to_owned(), value: bytes.to_vec() });
    } else {
        let digest = Digest::of(query.function, &bytes);
        let written = remote.write(&[(digest, Content::Memory(bytes))], context).await;
        written.into_iter().collect::<Result<(), RemoteError>>()?;
        result.stdout_digest = Some(wire_digest(&digest));
    }
    result.execution_metadata = Some(metadata);
    remote.put_result(query, &result, context).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kache_remote::memory::MemoryRemote;

    use super::*;
    use crate::action::Observation;
    use crate::roles::{Role, RolePath};

    fn set(names: std::ops::Range<usize>) -> PathSet {
        let path = |index| RolePath::new(Role::Workspace, format!("{index:x}/{}.rs", "x".repeat(index % 60)));
        let absent = |index| Observation::Absent { path: path(index).unwrap() };
        PathSet::of(&names.map(absent).collect::<Vec<_>>(), &BTreeMap::new())
    }

    #[tokio::test]
    async fn net_05_small_and_large_sets_are_read_as_they_were_written() {
        for function in DigestFunction::ALL {
            let remote = MemoryRemote::new(function);
            let query = Digest::of(function, b"query");
            let context = RequestContext::default();
            let read = async || read_path_sets(&remote, &query, &context).await.unwrap().sets;
            assert_eq!(read().await, []);
            add_path_set(&remote, &query, set(0..3), &context).await.unwrap();
            assert_eq!(read().await, [set(0..3)]);
            add_path_set(&remote, &query, set(0..3000), &context).await.unwrap();
            assert_eq!(read().await, [set(0..3000), set(0..3)]);
            remote.take_requests();
            add_path_set(&remote, &query, set(0..3), &context).await.unwrap();
            assert_eq!(remote.take_requests(), ["get_result", "read_small"]);
            let results = remote.results();
            let raw = |result: &ActionResult| !result.stdout_raw.is_empty() || !result.stderr_raw.is_empty();
            assert!(results.iter().all(|(_, result)| !raw(result) && result.execution_metadata.is_some()));
        }
    }
}
