//! Under which keys of the action cache results lie: their action's digest, and whether they were
//! made here or uploaded by a client.

use kache_cas::ActionKey;
use kache_cas::Digest;
use kache_cas::digest::ActionMessage;

/// The key of an action's result that was made here, and of a query's trail.
pub fn action_key(action: &Digest<ActionMessage>) -> ActionKey {
    ActionKey::made_here(action.function, action.hash)
}

/// The key of the same as a client uploads it through the served protocols, without an instance
/// name.
pub(super) fn uploaded_key(action: &Digest<ActionMessage>) -> ActionKey {
    ActionKey { instance: "".into(), function: action.function, hash: action.hash }
}
