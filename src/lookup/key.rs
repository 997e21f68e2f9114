//! Under which keys of the action cache kache keeps what.
//!
//! Results lie under their action's digest. What is no result of an action, such as the
//! record that one is out of service, lies under a digest of its own making, so that nobody
//! who asks for an action can get it.

use kache_cas::ActionKey;
use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, Hash};

/// The key of an action's result, and of a query's trail.
pub fn action_key(action: &Digest<ActionMessage>) -> ActionKey {
    ActionKey { instance: "".into(), function: action.function, hash: action.hash }
}

/// The key of a record about an action. The purpose keeps records of different kinds apart.
pub fn record_key(purpose: &str, action: &Digest<ActionMessage>) -> ActionKey {
    let mut name = Vec::with_capacity(purpose.len() + 1 + Hash::LEN);
    name.extend_from_slice(purpose.as_bytes());
    name.push(0);
    name.extend_from_slice(&action.hash.0);
    ActionKey { instance: "".into(), function: action.function, hash: action.function.hash(&name) }
}
