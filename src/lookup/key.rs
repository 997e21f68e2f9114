//! The keys of results in the action cache: the digest of the action, and an instance that says
//! whether the result was made here or uploaded.

use kache_cas::ActionKey;
use kache_cas::Digest;
use kache_cas::digest::ActionMessage;

/// The key of a result, or of a trail, that was made here.
pub fn action_key(action: &Digest<ActionMessage>) -> ActionKey {
    ActionKey::made_here(action.function, action.hash)
}

/// The key of a result that was fetched from a remote.
pub fn fetched_key(action: &Digest<ActionMessage>) -> ActionKey {
    ActionKey::fetched(action.function, action.hash)
}

/// The key of a result, or of a trail, that a client uploads through the served protocols without an
/// instance name.
pub(super) fn uploaded_key(action: &Digest<ActionMessage>) -> ActionKey {
    ActionKey { instance: "".into(), function: action.function, hash: action.hash }
}
