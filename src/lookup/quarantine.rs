//! Actions that are out of service because two runs of them disagreed (KEY-23).
//!
//! The record stands beside the action, not in its place: the result is taken away, and
//! whoever finds none, or has a new one to store, asks here. So a hit pays nothing for it.

use kache_cas::digest::ActionMessage;
use kache_cas::{ActionCache, Digest, StoreError};

use super::key::action_key;
use super::records::{read_record, remove_record, write_record};

/// What record this is, and the version of its form.
const PURPOSE: &str = "kache quarantine 1";

/// Where two results of one action part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The output, by its path in the result.
    pub output: String,
    /// How its bytes differ; none where only one of the two has this output.
    pub bytes: Option<DifferentBytes>,
}

/// How the bytes of two files differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DifferentBytes {
    /// The first that does.
    pub offset: u64,
    /// How many do, in place; what only the longer file has counts too.
    pub count: u64,
}

/// Takes an action out of service. The record first, so that no moment is without either.
pub fn quarantine(
    actions: &dyn ActionCache,
    action: &Digest<ActionMessage>,
    disagreement: &Disagreement,
) -> Result<(), StoreError> {
    let bytes = disagreement.bytes.map(|bytes| format!("{}/{}", bytes.offset, bytes.count));
    let text = format!("{} {}", bytes.unwrap_or_default(), disagreement.output);
    write_record(actions, PURPOSE, action, text)?;
    actions.remove(&action_key(action)).map(drop)
}

/// Why an action is out of service; `None` if it is not.
pub fn is_quarantined(
    actions: &dyn ActionCache,
    action: &Digest<ActionMessage>,
) -> Result<Option<Disagreement>, StoreError> {
    let Some(text) = read_record(actions, PURPOSE, action)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&text);
    // A record that cannot be read is one all the same.
    let (bytes, output) = text.split_once(' ').unwrap_or(("", &text));
    Ok(Some(Disagreement { output: output.to_owned(), bytes: different_bytes(bytes) }))
}

fn different_bytes(text: &str) -> Option<DifferentBytes> {
    let (offset, count) = text.split_once('/')?;
    Some(DifferentBytes { offset: offset.parse().ok()?, count: count.parse().ok()? })
}

/// Puts an action back into service, for when whoever caused the disagreement is mended.
pub fn release(actions: &dyn ActionCache, action: &Digest<ActionMessage>) -> Result<bool, StoreError> {
    remove_record(actions, PURPOSE, action)
}
