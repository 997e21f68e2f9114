//! The origin of a result: this machine made it or fetched it from a remote, or a client of the served protocols
//! uploaded it.
//!
//! Any client that reaches the served port may upload a result under the digest of any action. So uploads
//! have other keys than results of this machine (`kache_cas::MADE_HERE`), which no client can name. A compile
//! uses an upload only if the settings trust uploads. Notes, quarantine records and seeds are never read from
//! uploads.

use kache_cas::digest::ActionMessage;
use kache_cas::{AccessKind, ActionCache, Digest, StoredResult};

use super::error::LookupError;
use super::key::{action_key, fetched_key, uploaded_key};
use super::quarantine::is_quarantined;

/// Whether compiles use results that clients have uploaded: `serve.trust_uploads`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uploads {
    /// Compiles use no upload.
    #[default]
    Ignored,
    /// Compiles use an upload if this machine has made no result.
    Trusted,
}

/// The maker of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultOrigin {
    /// A compile on this machine.
    MadeHere,
    /// A compile on another machine, from a remote.
    Fetched,
    /// A client of the served protocols.
    Uploaded,
}

/// Returns the result of an action that a compile may use; `None` if there is none. A fetched result and an
/// upload are not used if the action is quarantined.
pub fn result_of(
    actions: &dyn ActionCache,
    action: &Digest<ActionMessage>,
    uploads: Uploads,
    access: AccessKind,
) -> Result<Option<(StoredResult, ResultOrigin)>, LookupError> {
    if let Some(stored) = actions.get(&action_key(action), access)? {
        return Ok(Some((stored, ResultOrigin::MadeHere)));
    }
    if is_quarantined(actions, action)?.is_some() {
        return Ok(None);
    }
    if let Some(stored) = actions.get(&fetched_key(action), access)? {
        return Ok(Some((stored, ResultOrigin::Fetched)));
    }
    if uploads == Uploads::Ignored {
        return Ok(None);
    }
    let uploaded = actions.get(&uploaded_key(action), access)?;
    Ok(uploaded.map(|stored| (stored, ResultOrigin::Uploaded)))
}
