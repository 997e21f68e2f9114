//! Reads and updates trails in the action cache.
//!
//! A trail is kept as an action result that names no outputs, under the digest of its query. A trail
//! that cannot be read, because it is damaged or of another version, counts as absent; the next compile
//! writes a new one.

use kache_cas::digest::ActionMessage;
use kache_cas::{AccessKind, ActionCache};
use kache_cas::{Digest, StoreError};
use parking_lot::Mutex;

use super::key::{action_key, uploaded_key};
use crate::action::{ObservationSet, Trail};

/// Held while a trail is read, changed and written, so that two compiles of one query do not overwrite
/// each other's sets. One lock for all queries is enough, because it is held for microseconds.
static WRITING: Mutex<()> = Mutex::new(());

/// Reads the trail of a query; `None` if there is none.
pub fn read_trail(
    actions: &dyn ActionCache,
    query: &Digest<ActionMessage>,
    access: AccessKind,
) -> Result<Option<Trail>, StoreError> {
    let Some(stored) = actions.get(&action_key(query), access)? else { return Ok(None) };
    Ok(Trail::from_result(&stored.decode()?).ok())
}

/// Reads the uploaded trail of a query. Only lookups that trust uploads may use it.
pub fn read_uploaded_trail(
    actions: &dyn ActionCache,
    query: &Digest<ActionMessage>,
) -> Result<Option<Trail>, StoreError> {
    let Some(stored) = actions.get(&uploaded_key(query), AccessKind::Use)? else { return Ok(None) };
    Ok(Trail::from_result(&stored.decode()?).ok())
}

/// Puts a set at the front of its query's trail. The other sets stay.
pub fn learn(
    actions: &dyn ActionCache,
    query: &Digest<ActionMessage>,
    set: ObservationSet,
) -> Result<(), StoreError> {
    let _writing = WRITING.lock();
    let mut trail = read_trail(actions, query, AccessKind::Peek)?.unwrap_or_default();
    trail.promote(set);
    actions.put(&action_key(query), &trail.to_result()).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kache_cas::clock::SystemClock;
    use kache_cas::memory::MemoryStore;
    use kache_cas::{DigestFunction, Hash};
    use kache_proto::reapi::ActionResult;

    use super::*;
    use crate::action::Observation;
    use crate::roles::{Role, RolePath};

    /// Older versions wrote an encoding of their own after the byte with the version: here an empty trail,
    /// and one set with the absence of `src/m.rs` in the workspace.
    #[test]
    fn a_trail_of_an_older_version_counts_as_absent_and_is_replaced() {
        let store = MemoryStore::new(Arc::new(SystemClock));
        let digest = |name: &[u8]| Digest::of(DigestFunction::Blake3, name);
        let query = digest(b"query");
        let path = RolePath::new(Role::Workspace, "src/m.rs").unwrap();
        let set =
            ObservationSet { observations: vec![Observation::Absent { path }], action: digest(b"action") };
        let old_set = [&[3, 1, 1, 0, 0, 8], &b"src/m.rs"[..], &[1, 1], &[7; Hash::LEN], &[5, 1, 0]].concat();
        for old in [vec![1, 0, 0], vec![2, 0, 0], vec![3, 0, 0], old_set] {
            let old = ActionResult { stdout_raw: old.into(), ..ActionResult::default() };
            store.put(&action_key(&query), &old).unwrap();
            assert_eq!(read_trail(&store, &query, AccessKind::Use).unwrap(), None);
        }
        learn(&store, &query, set.clone()).unwrap();
        let read = read_trail(&store, &query, AccessKind::Use).unwrap();
        assert_eq!(read, Some(Trail { sets: vec![set] }));
    }
}
