//! Reads and updates trails in the action cache.
//!
//! A trail is kept as an action result that names no outputs, under the digest of its query. A trail
//! that cannot be read, because it is damaged or of a newer version, counts as absent; the next compile
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
