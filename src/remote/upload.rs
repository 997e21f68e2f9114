//! Puts the result of a compile on a remote.
//!
//! Blobs come first, then the result that names them, then the path set that leads to it (NET-05). If one blob
//! is not confirmed, no result is written, so no reader finds a result without its blobs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::{AccessKind, Content, Digest, DigestFunction, Hash, Store, StoreError};
use kache_proto::reapi::{ActionResult, OutputFile};
use kache_remote::{Remote, RemoteError, RequestContext};
use thiserror::Error;

use super::blocking::with_store;
use super::damaged::DamagedBlobs;
use super::handle::RemoteHandle;
use super::path_sets::add_path_set;
use super::record;
use super::result::{SharedResult, named_blobs};
use crate::action::{FullAction, PathSet};
use crate::lookup::{Disagreement, quarantine};

/// The size up to which blobs go out together with others.
const SMALL_BYTES_MAX: u64 = 1 << 20;

/// An action with its command, as remotes keep them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionMessages {
    /// The digest of the action.
    pub digest: Digest<ActionMessage>,
    /// The encoded action.
    pub action: Bytes,
    /// The encoded command, with its digest.
    pub command: (Digest, Bytes),
}

impl From<&FullAction> for ActionMessages {
    fn from(full: &FullAction) -> Self {
        let command = (full.command.digest().coerce(), full.command.bytes().clone());
        ActionMessages { digest: full.digest, action: full.action.bytes().clone(), command }
    }
}

impl ActionMessages {
    /// Returns both messages with their digests.
    pub fn blobs(&self) -> [(Digest, Bytes); 2] {
        [(self.digest.coerce(), self.action.clone()), self.command.clone()]
    }
}

/// A result to upload. All its digests have the remote's function.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// The name of the crate or file, for logs.
    pub name: String,
    /// The id of the build session that made the result; empty if it is not known.
    pub invocation_id: String,
    /// The kind of action, for the server's log.
    pub mnemonic: Cow<'static, str>,
    /// The query, as the action under whose digest the path sets lie.
    pub query: ActionMessages,
    /// The action.
    pub action: ActionMessages,
    /// The names of what the compile looked at.
    pub path_set: PathSet,
    /// The result and its blobs.
    pub shared: SharedResult,
    /// The paths of outputs that may differ from run to run.
    pub unstable: Vec<String>,
    /// Whether no other compile waits for the result, because it is a program or has debugging information of
    /// its own. Such results are uploaded last.
    pub is_leaf: bool,
    /// The inputs of the action; `None` if they are not uploaded.
    pub inputs: Option<UploadInputs>,
}

/// The contents of an action's input root, but for the toolchain, with their digests in the remote's function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadInputs {
    /// Directories, and files that exist in no checkout.
    pub messages: Vec<(Digest, Bytes)>,
    /// Files of the checkout, which the store has: the digest in the remote's function, and that of the store.
    pub stored: Vec<(Digest, Digest)>,
}

impl Upload {
    /// Returns the sum of the sizes of all outputs.
    pub fn size_bytes(&self) -> u64 {
        self.shared.stored.iter().map(|(shared, _)| shared.size_bytes).sum()
    }
}

/// How an upload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadOutcome {
    /// The remote has the result now.
    Uploaded,
    /// The remote had an equal result.
    WasThere,
    /// The remote has a result with other outputs for the same action, which stays there. This is the first
    /// output that differs.
    Differs(String),
}

/// Why a result is not on the remote.
#[derive(Debug, Error)]
pub enum UploadError {
    /// The remote failed, or refused a part of it.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A blob of the result was evicted before it was uploaded.
    #[error("`{0}` is not in the store any more")]
    Gone(Digest),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Uploads the result that the store has for `own_action`, unless the remote has one. If that one has other outputs,
/// the action is quarantined here: nobody can tell which of the two is right.
pub(super) async fn upload_or_quarantine(
    handle: &RemoteHandle,
    store: &Arc<Store>,
    own_action: Hash,
    one: &Upload,
) -> Result<UploadOutcome, UploadError> {
    let outcome = upload(&*handle.writer, store, one, &handle.damaged).await?;
    if let UploadOutcome::Differs(output) = &outcome {
        let disagreement = Disagreement { output: output.clone(), bytes: None };
        let quarantine =
            move |store: &Store| quarantine(store.actions(), &record::own_action(own_action), &disagreement);
        if let Err(error) = with_store(store, quarantine).await {
            tracing::warn!("failed to quarantine the action of `{}`: {error}", one.name);
        }
    }
    Ok(outcome)
}

/// Uploads a result, unless the remote has one for the action. Blobs that are damaged there are replaced.
pub async fn upload(
    remote: &dyn Remote,
    store: &Arc<Store>,
    upload: &Upload,
    damaged: &DamagedBlobs,
) -> Result<UploadOutcome, UploadError> {
    let action = upload.action.digest;
    let action_id = action.hash.to_hex();
    let (invocation_id, mnemonic) = (upload.invocation_id.clone(), upload.mnemonic.clone());
    let context = RequestContext { action_id, invocation_id, mnemonic, replaces: false };
    let existing = remote.get_result(&action, &context).await?;
    if let Some(output) = existing.as_ref().and_then(|there| first_difference(there, upload)) {
        return Ok(UploadOutcome::Differs(output));
    }
    write_blobs(remote, store, upload, damaged, &context).await?;
    let is_whole = match &existing {
        None => false,
        Some(existing) => is_complete(remote, existing, action.function, &context).await?,
    };
    if !is_whole {
        remote.put_result(&action, &upload.shared.result, &context).await?;
    }
    add_path_set(remote, &upload.query.digest, upload.path_set.clone(), &context).await?;
    Ok(if is_whole { UploadOutcome::WasThere } else { UploadOutcome::Uploaded })
}

/// Returns the first output that differs between a result on the remote and the upload. Those that may differ
/// from run to run are not compared.
fn first_difference(there: &ActionResult, upload: &Upload) -> Option<String> {
    let outputs = |result: &ActionResult| -> BTreeMap<String, Option<String>> {
        let files = result.output_files.iter().filter(|file| !upload.unstable.contains(&file.path));
        let hash = |file: &OutputFile| file.digest.as_ref().map(|digest| digest.hash.clone());
        files.map(|file| (file.path.clone(), hash(file))).collect()
    };
    let (there, here) = (outputs(there), outputs(&upload.shared.result));
    let differs = |path: &&String| there.get(*path) != here.get(*path);
    there.keys().chain(here.keys()).find(differs).cloned()
}

/// Whether the remote has every blob that a result of it names.
async fn is_complete(
    remote: &dyn Remote,
    result: &ActionResult,
    function: DigestFunction,
    context: &RequestContext,
) -> Result<bool, RemoteError> {
    let Some(blobs) = named_blobs(result, function) else { return Ok(false) };
    let missing = remote.find_missing(&blobs, context).await?;
    Ok(!missing.contains(&true))
}

/// Writes those blobs that the remote does not have. Every one that the result names is confirmed when this returns
/// `Ok`.
async fn write_blobs(
    remote: &dyn Remote,
    store: &Arc<Store>,
    upload: &Upload,
    damaged: &DamagedBlobs,
    context: &RequestContext,
) -> Result<(), UploadError> {
    let messages = [&upload.query, &upload.action].into_iter().flat_map(ActionMessages::blobs);
    let mut ready: Vec<(Digest, Bytes)> = messages.chain(upload.shared.messages.iter().cloned()).collect();
    let mut stored = upload.shared.stored.clone();
    if let Some(inputs) = &upload.inputs {
        ready.extend(inputs.messages.iter().cloned());
        stored.extend(present(store, &inputs.stored).await?);
    }
    let all: Vec<Digest> =
        ready.iter().map(|(digest, _)| *digest).chain(stored.iter().map(|(digest, _)| *digest)).collect();
    let mut missing = remote.find_missing(&all, context).await?;
    let replaced = damaged.among(&all);
    for (digest, is_missing) in all.iter().zip(&mut missing) {
        *is_missing |= replaced.contains(digest);
    }
    let (ready_missing, stored_missing) = missing.split_at_checked(ready.len()).unwrap_or((&missing, &[]));
    let is_missing = |is_missing: &bool| *is_missing;
    let small = ready
        .into_iter()
        .zip(ready_missing)
        .filter(|(_, missing)| is_missing(missing))
        .map(|((digest, bytes), _)| (digest, Content::Memory(bytes)));
    let wanted = stored
        .iter()
        .zip(stored_missing)
        .filter(|(_, missing)| is_missing(missing))
        .map(|(one, _)| *one)
        .collect();
    let blobs = small.chain(open(store, wanted).await?).collect();
    let context = RequestContext { replaces: !replaced.is_empty(), ..context.clone() };
    write_all(remote, blobs, &context).await?;
    damaged.forget(&replaced);
    Ok(())
}

/// Writes blobs, the small ones together and each of the large ones by itself.
pub(super) async fn write_all(
    remote: &dyn Remote,
    blobs: Vec<(Digest, Content)>,
    context: &RequestContext,
) -> Result<(), RemoteError> {
    let (small, large): (Vec<_>, Vec<_>) =
        blobs.into_iter().partition(|(digest, _)| digest.size_bytes <= SMALL_BYTES_MAX);
    for outcome in remote.write(&small, context).await {
        outcome?;
    }
    for blob in large {
        for outcome in remote.write(&[blob], context).await {
            outcome?;
        }
    }
    Ok(())
}

/// Returns those inputs that the store still has. The result is good without the others.
async fn present(
    store: &Arc<Store>,
    inputs: &[(Digest, Digest)],
) -> Result<Vec<(Digest, Digest)>, UploadError> {
    let inputs = inputs.to_vec();
    let find = move |store: &Store| {
        let own: Vec<Digest> = inputs.iter().map(|(_, own)| *own).collect();
        let missing = store.blobs().find_missing(&own, AccessKind::Use)?;
        Ok(inputs.into_iter().zip(missing).filter(|(_, missing)| !missing).map(|(one, _)| one).collect())
    };
    with_store(store, find).await
}

/// Opens blobs of the store, which cannot be evicted from under the upload then (STO-04).
async fn open(
    store: &Arc<Store>,
    wanted: Vec<(Digest, Digest)>,
) -> Result<Vec<(Digest, Content)>, UploadError> {
    let open = move |store: &Store| {
        let open_one = |(shared, own): (Digest, Digest)| {
            let content = store.blobs().open(&own, AccessKind::Use)?.ok_or(UploadError::Gone(own))?;
            Ok((shared, content))
        };
        wanted.into_iter().map(open_one).collect()
    };
    with_store(store, open).await
}
