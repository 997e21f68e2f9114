//! Makes uploads of a result that was stored: one that was compiled here, or one that was fetched and lies on no
//! faster remote.
//!
//! This runs on the thread that has stored the result, beside the build, because the inputs have to be
//! translated before they change. The upload itself happens later (`remote::queue`).

use std::sync::Arc;

use kache_cas::digest::ActionMessage;
use kache_cas::{AccessKind, Digest, DigestFunction, Hasher, Store};
use kache_proto::reapi::ActionResult;
use tokio::runtime::Handle;

use super::call_state::KeyedCall;
use super::context::Pipeline;
use super::fetch::shared_query;
use super::prepare::Prepared;
use super::share_inputs::InputSubject;
use crate::action::{self, Observation, OutputKind, PathSet};
use crate::compiler::CallKind;
use crate::config::CompileSettings;
use crate::invocation::Call;
use crate::lookup::action_key;
use crate::publish::Stored;
use crate::remote::builds::WorkspaceName;
use crate::remote::{
    ActionMessages, RemoteHandle, SharedResult, Translator, Upload, WaitingUpload, to_shared,
};

/// The size of the pieces in which a blob is read to be hashed.
const READ_BYTES: usize = 256 << 10;

/// The parts of a call from which uploads of its result are made.
#[derive(Clone, Debug)]
pub(super) struct SharedCall {
    pub(super) call: Arc<Call>,
    settings: Arc<CompileSettings>,
    pub(super) prepared: Arc<Prepared>,
    /// The id of the call's build session.
    pub(super) invocation_id: String,
}

impl SharedCall {
    pub(super) fn of(pipeline: &Pipeline, keyed: &KeyedCall) -> SharedCall {
        SharedCall {
            call: Arc::clone(&keyed.call),
            settings: Arc::clone(&keyed.settings),
            prepared: Arc::clone(&keyed.prepared),
            invocation_id: pipeline.remote_session(&keyed.client).id().to_owned(),
        }
    }

    /// Makes an upload of these parts, without inputs. `keys` are the query and the action in the remote's function.
    pub(super) fn upload(
        &self,
        (query, action): (ActionMessages, ActionMessages),
        parts: &SharedParts<'_>,
        shared: SharedResult,
    ) -> Upload {
        let SharedCall { call, prepared, invocation_id, .. } = self;
        Upload {
            name: prepared.task.label.name.clone(),
            invocation_id: invocation_id.clone(),
            mnemonic: prepared.compiler.facts().mnemonic.into(),
            query,
            action,
            path_set: PathSet::of(parts.observations, &call.env),
            shared,
            unstable: prepared.task.unstable_paths(),
            is_leaf: parts.outputs.iter().any(|(kind, _)| kind.is_leaf()),
            inputs: None,
        }
    }
}

/// The parts of a stored result of which uploads are made.
pub(super) struct SharedParts<'a> {
    pub(super) action: &'a Digest<ActionMessage>,
    pub(super) observations: &'a [Observation],
    pub(super) result: &'a ActionResult,
    pub(super) outputs: Vec<(OutputKind, Digest)>,
}

/// Notes the uploads of a call's result, one for each remote that takes results. From now on they count as waiting,
/// so that nobody who sees the stored result takes the remotes for up to date.
pub(super) fn note_uploads(pipeline: &Pipeline, call: &SharedCall) -> Vec<WaitingUpload> {
    if call.prepared.compiler.facts().kind == CallKind::Question || pipeline.upload_queue().is_none() {
        return Vec::new();
    }
    let remotes = pipeline.remotes_of(&call.settings);
    remotes.iter().filter(|handle| handle.takes_results()).map(RemoteHandle::note_upload).collect()
}

impl Pipeline {
    /// Queues the uploads of the list of a workspace's builds, one for each remote that takes results.
    pub fn share_builds(&self, settings: &CompileSettings, workspace: &WorkspaceName) {
        let Some(queue) = self.upload_queue() else { return };
        for handle in self.remotes_of(settings).iter().filter(|handle| handle.takes_results()) {
            queue.push_builds(handle.note_upload(), workspace.hash());
        }
    }
}

/// Queues the uploads of a result.
pub(super) fn share(
    pipeline: &Pipeline,
    store: &Store,
    call: &SharedCall,
    stored: &Stored,
    uploads: Vec<WaitingUpload>,
) {
    if uploads.is_empty() {
        return;
    }
    let Some(result) = stored_result(store, &stored.action) else { return };
    let outputs = call.prepared.task.outputs.iter().filter_map(|output| {
        let known = stored.outputs.iter().find(|known| known.path == output.path)?;
        Some((output.kind, known.digest))
    });
    let (action, observations) = (&stored.action, &stored.observations);
    let parts = SharedParts { action, observations, result: &result, outputs: outputs.collect() };
    for waiting in uploads {
        ask_for_function(waiting.handle());
        queue(pipeline, store, call, &parts, waiting);
    }
}

fn stored_result(store: &Store, action: &Digest<ActionMessage>) -> Option<ActionResult> {
    store.actions().get(&action_key(action), AccessKind::Use).ok()??.decode().ok()
}

/// Queues the uploads of a result that was fetched from `source` to the remotes that are asked before it. The call
/// waits for this, so it asks no remote for anything.
pub(super) fn copy_up(
    pipeline: &Pipeline,
    store: &Store,
    call: &SharedCall,
    source: &RemoteHandle,
    parts: &SharedParts<'_>,
) {
    let remotes = pipeline.remotes_of(&call.settings);
    // What `kache sync` has fetched is on no remote of this list.
    let Some(rank) = remotes.iter().position(|handle| handle.id == source.id) else { return };
    for handle in remotes.iter().take(rank).filter(|handle| handle.takes_results()) {
        queue(pipeline, store, call, parts, handle.note_upload());
    }
}

/// Queues the upload of a result to one remote. As long as the remote has not told its function, every function is
/// possible, and the upload is made for each of them: the inputs may have changed when the remote tells it.
fn queue(
    pipeline: &Pipeline,
    store: &Store,
    call: &SharedCall,
    parts: &SharedParts<'_>,
    waiting: WaitingUpload,
) {
    let Some(queue) = pipeline.upload_queue() else { return };
    let handle = Arc::clone(waiting.handle());
    let functions = handle.function().map_or_else(|| DigestFunction::ALL.to_vec(), |one| vec![one]);
    let mut waiting = Some(waiting);
    for function in functions {
        match upload(pipeline, store, call, parts, (function, handle.uploads_inputs)) {
            Some(upload) => {
                share_toolchain(pipeline, store, call, &handle, function);
                let waiting = waiting.take().unwrap_or_else(|| handle.note_upload());
                queue.push(waiting, store, &upload, parts.action);
            }
            None => tracing::debug!(
                "`{}` is not uploaded to {}: it or an input has changed",
                call.prepared.task.label.name,
                handle.name
            ),
        }
    }
}

/// Asks a remote for the function of its digests if no lookup has done so, because results are only written to it.
fn ask_for_function(handle: &Arc<RemoteHandle>) {
    if handle.function().is_none()
        && handle.trouble().is_none()
        && let Ok(runtime) = Handle::try_current()
    {
        // An error is noted as the remote's trouble.
        let _ = runtime.block_on(handle.capabilities());
    }
}

/// Queues the upload of the call's toolchain, if the remote gets inputs and was not asked for it lately.
fn share_toolchain(
    pipeline: &Pipeline,
    store: &Store,
    SharedCall { call, prepared, .. }: &SharedCall,
    handle: &Arc<RemoteHandle>,
    function: DigestFunction,
) {
    let (Some(queue), true) = (pipeline.upload_queue(), handle.uploads_inputs) else { return };
    let (world, own) = (pipeline.world(), prepared.inputs.toolchain.tree);
    let twin = world.known_twin(&own.coerce(), function);
    if !twin.is_some_and(|twin| handle.begin_toolchain(twin.hash)) {
        return;
    }
    match prepared.compiler.toolchain_files(call, world, function) {
        Ok(files) => queue.push_toolchain(handle.note_upload(), store, &files),
        Err(why) => tracing::warn!("a toolchain is not uploaded to {}: {why}", handle.name),
    }
}

/// Makes the upload of a result for a remote with this function. `None` if something has changed since the
/// result was stored, or if such a result is never shared.
fn upload(
    pipeline: &Pipeline,
    store: &Store,
    shared_call: &SharedCall,
    parts: &SharedParts<'_>,
    (function, with_inputs): (DigestFunction, bool),
) -> Option<Upload> {
    let SharedCall { call, prepared, .. } = shared_call;
    let Prepared { compiler, task, .. } = &**prepared;
    let world = pipeline.world();
    let query = shared_query(pipeline, call, prepared, function)?;
    let translator = Translator { task, env: &call.env, world, function };
    let observations = translator.observations(parts.observations).ok()??;
    let action = action::complete(&query, &observations).ok()?;
    let notes = compiler.locators().notes(&parts.outputs, store.actions()).ok()?;
    let twin = |digest: &Digest| blob_twin(pipeline, store, digest, function);
    let full_query = query.messages().ok()?;
    let inputs = with_inputs.then(|| {
        let subject = InputSubject { pipeline, store, task, function };
        subject.gather([&full_query, &action], &prepared.inputs.files, parts.observations)
    });
    let shared = to_shared(parts.result, notes.as_ref(), function, &twin)?;
    let keys = (ActionMessages::from(&full_query), ActionMessages::from(&action));
    Some(Upload { inputs, ..shared_call.upload(keys, parts, shared) })
}

/// Returns the digest of a stored blob in another function. Reads the blob if nothing else knows it.
fn blob_twin(
    pipeline: &Pipeline,
    store: &Store,
    digest: &Digest,
    function: DigestFunction,
) -> Option<Digest> {
    let world = pipeline.world();
    let named = || store.blobs().names_of(digest).ok()??.digest(function);
    if let Some(twin) = world.known_twin(digest, function).or_else(named) {
        return Some(twin);
    }
    let content = store.blobs().open(digest, AccessKind::Use).ok()??;
    let mut hasher = Hasher::new(function);
    while hasher.size_bytes() < content.size_bytes() {
        hasher.update(&content.read_at(hasher.size_bytes(), READ_BYTES).ok()?);
    }
    let names = hasher.finish();
    world.note_names(&names);
    names.digest(function)
}
