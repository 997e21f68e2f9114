//! Trails in the action cache: read, and merged on write.
//!
//! A trail is kept as an action result that names no outputs, under the digest of its query.
//! One that cannot be read (a newer version's, or damage) counts as none: the next compile
//! writes a new one.

use std::sync::{Mutex, PoisonError};

use kache_cas::digest::ActionMessage;
use kache_cas::{ActionCache, Mention};
use kache_cas::{Digest, StoreError};
use kache_proto::reapi::{ActionResult, ExecutedActionMetadata};

use super::key::action_key;
use super::trail_code;
use crate::action::{ObservationSet, Trail};

/// Tells a trail from a result.
const WORKER: &str = "kache-trail";

/// Held while a trail is read, changed and written, so that of two compiles of one query
/// neither forgets what the other has learnt. One for all queries: it is held for some
/// microseconds.
static WRITING: Mutex<()> = Mutex::new(());

/// The trail of a query.
pub fn read_trail(
    actions: &dyn ActionCache,
    query: &Digest<ActionMessage>,
    mention: Mention,
) -> Result<Option<Trail>, StoreError> {
    let Some(stored) = actions.get(&action_key(query), mention)? else { return Ok(None) };
    let result = stored.decode()?;
    let is_trail = result.execution_metadata.as_ref().is_some_and(|metadata| metadata.worker == WORKER);
    Ok(if is_trail { trail_code::decode(&result.stdout_raw) } else { None })
}

/// Takes a set to the front of its query's trail, and keeps the others.
pub fn learn(
    actions: &dyn ActionCache,
    query: &Digest<ActionMessage>,
    set: ObservationSet,
) -> Result<(), StoreError> {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut trail = read_trail(actions, query, Mention::Peek)?.unwrap_or_default();
    trail.promote(set);
    let metadata = ExecutedActionMetadata { worker: WORKER.to_owned(), ..Default::default() };
    let result = ActionResult {
        stdout_raw: trail_code::encode(&trail).into(),
        execution_metadata: Some(metadata),
        ..Default::default()
    };
    actions.put(&action_key(query), &result).map(drop)
}
