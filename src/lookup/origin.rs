//! The origin of a result: this machine made it, or a client of the served protocols uploaded it.
//!
//! Any client that reaches the served port may upload a result under any action's digest. So
//! uploads lie under other keys than what was made here (`kache_cas::MADE_HERE`), which no client
//! can name, and a compile takes an upload only where the settings trust them. Notes, quarantine
//! records and seeds are never taken from uploads.

use kache_cas::digest::ActionMessage;
use kache_cas::{AccessKind, ActionCache, Digest, StoredResult};

use super::error::LookupError;
use super::key::{action_key, uploaded_key};
use super::quarantine::is_quarantined;

/// Whether compiles take results that clients have uploaded: `serve.trust_uploads`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uploads {
    /// Compiles take no upload.
    #[default]
    Ignored,
    /// Compiles take an upload where no result was made here.
    Trusted,
}

/// The maker of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultOrigin {
    /// A compile on this machine.
    MadeHere,
    /// A client of the served protocols.
    Uploaded,
}

/// Returns the result of an action that a compile may take. An upload is not taken if the action is
/// quarantined.
pub fn result_of(
    actions: &dyn ActionCache,
    action: &Digest<ActionMessage>,
    uploads: Uploads,
    access: AccessKind,
) -> Result<Option<(StoredResult, ResultOrigin)>, LookupError> {
    if let Some(stored) = actions.get(&action_key(action), access)? {
        return Ok(Some((stored, ResultOrigin::MadeHere)));
    }
    if uploads == Uploads::Ignored || is_quarantined(actions, action)?.is_some() {
        return Ok(None);
    }
    let uploaded = actions.get(&uploaded_key(action), access)?;
    Ok(uploaded.map(|stored| (stored, ResultOrigin::Uploaded)))
}
