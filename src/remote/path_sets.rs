//! Keeps the path sets of a query on a remote.

use kache_cas::Digest;
use kache_cas::digest::ActionMessage;
use kache_remote::{Remote, RemoteError, RequestContext};

use super::note::{read_note, write_note};
use crate::action::{PathSet, PathSets};

/// The type of the sets in a note.
const SETS_TYPE: &str = "type.googleapis.com/kache.PathSets";

/// Reads the path sets of a query; empty ones if the remote has none, or none that this version can read.
pub async fn read_path_sets(
    remote: &dyn Remote,
    query: &Digest<ActionMessage>,
    context: &RequestContext,
) -> Result<PathSets, RemoteError> {
    let bytes = read_note(remote, query, SETS_TYPE, context).await?;
    Ok(bytes.and_then(|bytes| PathSets::decode(&bytes).ok()).unwrap_or_default())
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
    write_note(remote, query, SETS_TYPE, sets.encode().into(), context).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kache_cas::DigestFunction;
    use kache_proto::reapi::ActionResult;
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
