//! Under which keys of the action cache results lie: their action's digest.

use kache_cas::ActionKey;
use kache_cas::Digest;
use kache_cas::digest::ActionMessage;

/// The key of an action's result, and of a query's trail.
pub fn action_key(action: &Digest<ActionMessage>) -> ActionKey {
    ActionKey { instance: "".into(), function: action.function, hash: action.hash }
}
