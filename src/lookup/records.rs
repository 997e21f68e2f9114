//! Records about an action, a file or a build. A record is kept in the action cache as a result that
//! names no outputs.
//!
//! Records lie under an instance to which no client of the served protocols can write. The key of a
//! record is a digest of its purpose and its subject, so a lookup of an action never finds one. The
//! purpose tells the kinds of records apart and contains the version of their format.

use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::{AccessKind, ActionCache, ActionKey, Digest, Hash, StoreError};
use kache_proto::reapi::{ActionResult, ExecutedActionMetadata};

/// Reads the record about a subject; `None` if there is none.
pub fn read_record(
    actions: &dyn ActionCache,
    purpose: &str,
    about: &Digest<ActionMessage>,
) -> Result<Option<Bytes>, StoreError> {
    let stored = actions.get(&record_key(purpose, about), AccessKind::Use)?;
    stored.map(|stored| Ok(stored.decode()?.stdout_raw)).transpose()
}

/// Writes the record about a subject, in the place of an old one.
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

/// Removes the record about a subject. Returns whether there was one.
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
