//! Records beside results: what is known of an action, a file or a build, kept in the action
//! cache as a result that names no outputs.
//!
//! They lie where no client of the served protocols can write. Each kind lies under digests of its
//! own making, so that a lookup of an action never finds one. The purpose keeps the kinds apart
//! and contains the version of their form.

use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::{AccessKind, ActionCache, ActionKey, Digest, Hash, StoreError};
use kache_proto::reapi::{ActionResult, ExecutedActionMetadata};

/// What is kept about this for this purpose.
pub fn read_record(
    actions: &dyn ActionCache,
    purpose: &str,
    about: &Digest<ActionMessage>,
) -> Result<Option<Bytes>, StoreError> {
    let stored = actions.get(&record_key(purpose, about), AccessKind::Use)?;
    stored.map(|stored| Ok(stored.decode()?.stdout_raw)).transpose()
}

/// Keeps this, in the place of what was kept.
pub fn write_record(
    actions: &dyn ActionCache,
    purpose: &str,
    about: &Digest<ActionMessage>,
    content: impl Into<Bytes>,
) -> Result<(), StoreError> {
    let metadata = ExecutedActionMetadata { worker: purpose.to_owned(), ..Default::default() };
    let record =
        ActionResult { stdout_raw: content.into(), execution_metadata: Some(metadata), ..Default::default() };
    actions.put(&record_key(purpose, about), &record).map(drop)
}

/// Forgets it. Whether it was there.
pub fn remove_record(
    actions: &dyn ActionCache,
    purpose: &str,
    about: &Digest<ActionMessage>,
) -> Result<bool, StoreError> {
    actions.remove(&record_key(purpose, about))
}

fn record_key(purpose: &str, about: &Digest<ActionMessage>) -> ActionKey {
    let mut name = Vec::with_capacity(purpose.len() + 1 + Hash::LEN);
    name.extend_from_slice(purpose.as_bytes());
    name.push(0);
    name.extend_from_slice(&about.hash.0);
    ActionKey::made_here(about.function, about.function.hash(&name))
}
