//! Quarantined actions: two runs of them gave different outputs, so they are not served (KEY-23).
//!
//! The quarantine is a record under a key of its own, and the result of the action is removed. A lookup
//! reads the record only if it finds no result, and a publish before it stores one. So a hit costs
//! nothing more.

use kache_cas::digest::ActionMessage;
use kache_cas::{ActionCache, Digest, StoreError};

use super::key::{action_key, fetched_key};
use super::records::{read_record, remove_record, write_record};

/// The kind of the record and the version of its format.
const PURPOSE: &str = "kache quarantine 1";

/// The first difference between two results of one action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The output, by its path in the result.
    pub output: String,
    /// How its bytes differ; `None` if only one of the results has this output.
    pub bytes: Option<DifferentBytes>,
}

/// How the bytes of two files differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DifferentBytes {
    /// The position of the first different byte.
    pub offset: u64,
    /// The number of positions with different bytes. Bytes that only the longer file has count, too.
    pub count: u64,
}

/// Quarantines an action. The record is written before the result is removed, so that at no moment a
/// new result could be stored.
pub fn quarantine(
    actions: &dyn ActionCache,
    action: &Digest<ActionMessage>,
    disagreement: &Disagreement,
) -> Result<(), StoreError> {
    let bytes = disagreement.bytes.map(|bytes| format!("{}/{}", bytes.offset, bytes.count));
    let text = format!("{} {}", bytes.unwrap_or_default(), disagreement.output);
    write_record(actions, PURPOSE, action, text)?;
    actions.remove(&fetched_key(action))?;
    actions.remove(&action_key(action)).map(drop)
}

/// Returns why an action is quarantined; `None` if it is not.
pub fn is_quarantined(
    actions: &dyn ActionCache,
    action: &Digest<ActionMessage>,
) -> Result<Option<Disagreement>, StoreError> {
    let Some(text) = read_record(actions, PURPOSE, action)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&text);
    // A record in an unknown form still means that the action is quarantined.
    let (bytes, output) = text.split_once(' ').unwrap_or(("", &text));
    Ok(Some(Disagreement { output: output.to_owned(), bytes: different_bytes(bytes) }))
}

fn different_bytes(text: &str) -> Option<DifferentBytes> {
    let (offset, count) = text.split_once('/')?;
    Some(DifferentBytes { offset: offset.parse().ok()?, count: count.parse().ok()? })
}

/// Ends the quarantine of an action, for instance because the fault in the compiler was mended. Returns
/// whether the action was quarantined.
pub fn release(actions: &dyn ActionCache, action: &Digest<ActionMessage>) -> Result<bool, StoreError> {
    remove_record(actions, PURPOSE, action)
}
