//! Trails in the action cache: read, and merged on write.
//!
//! A trail is kept as an action result that names no outputs, under the digest of its query.
//! One that cannot be read (a newer version's, or damage) counts as none: the next compile
//! writes a new one.

use std::sync::{Mutex, PoisonError};

use kache_cas::digest::ActionMessage;
use kache_cas::{AccessKind, ActionCache};
use kache_cas::{Digest, StoreError};

use super::key::{action_key, uploaded_key};
use crate::action::{ObservationSet, Trail};

/// Held while a trail is read, changed and written, so that of two compiles of one query
/// neither forgets what the other has learnt. One for all queries: it is held for some
/// microseconds.
static WRITING: Mutex<()> = Mutex::new(());

/// The trail of a query.
pub fn read_trail(
    actions: &dyn ActionCache,
    query: &Digest<ActionMessage>,
    access: AccessKind,
) -> Result<Option<Trail>, StoreError> {
    let Some(stored) = actions.get(&action_key(query), access)? else { return Ok(None) };
    Ok(Trail::from_result(&stored.decode()?).ok())
}

/// The trail of a query as a client has uploaded it. Only for lookups that trust uploads.
pub fn read_uploaded_trail(
    actions: &dyn ActionCache,
    query: &Digest<ActionMessage>,
) -> Result<Option<Trail>, StoreError> {
    let Some(stored) = actions.get(&uploaded_key(query), AccessKind::Use)? else { return Ok(None) };
    Ok(Trail::from_result(&stored.decode()?).ok())
}

/// Takes a set to the front of its query's trail, and keeps the others.
pub fn learn(
    actions: &dyn ActionCache,
    query: &Digest<ActionMessage>,
    set: ObservationSet,
) -> Result<(), StoreError> {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut trail = read_trail(actions, query, AccessKind::Peek)?.unwrap_or_default();
    trail.promote(set);
    actions.put(&action_key(query), &trail.to_result()).map(drop)
}
