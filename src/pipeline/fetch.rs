//! Asks remotes for the result of a call before it compiles.
//!
//! A result that is found comes into the store, with a trail and the compiler's notes, as if this machine had
//! made it, but under a key of its own (`kache_cas::FETCHED`). Then the call looks its result up again. So a
//! fetched result takes the same way into the checkout as any other.
//!
//! While a call waits for a remote it holds no thread. What reads files or the store runs on threads that may
//! block.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kache_cas::{AccessKind, Digest, DigestFunction, Store, StoreError, with_causes};
use kache_proto::reapi::ActionResult;
use kache_remote::RemoteError;
use tokio::task::{JoinSet, spawn_blocking};

use super::answer::NextStep;
use super::call_state::{LookedUpCall, MissedCall, PlannedCompile};
use super::coalescer::LeaderOutcome;
use super::context::Pipeline;
use super::hit::{look_up, restore};
use super::miss::compile;
use super::prepare::Prepared;
use super::share::{SharedCall, SharedParts, copy_up};
use super::tiers::ask_in_order;
use crate::action::{self, Observation, ObservationSet, PathSets, Query};
use crate::compiler::CallKind;
use crate::events::{Outcome, Phase};
use crate::invocation::Call;
use crate::lookup::{self, fetched_key, is_quarantined, learn};
use crate::remote::download::{NamesByDigest, download};
use crate::remote::{
    ActionMessages, AskedRemote, CheckedResult, PulledResults, RemoteHandle, Translator, check,
    read_path_sets, record, to_shared,
};

/// A call that asks remotes before it compiles.
#[derive(Debug)]
pub struct RemoteLookup {
    planned: PlannedCompile,
    remotes: Vec<Arc<AskedRemote>>,
    /// Those as well that were not asked.
    all: Vec<Arc<AskedRemote>>,
}

/// The parts of a call that steps on other threads need.
#[derive(Clone)]
struct LookupSubject {
    pipeline: Arc<Pipeline>,
    store: Arc<Store>,
    call: SharedCall,
    /// Whether a result of one of the remotes is being stored or was.
    is_taken: Arc<AtomicBool>,
}

/// An action that may be the call's, because the checkout has everything that one of the path sets names.
struct Candidate {
    /// The observations of this checkout, with digests of the store's function.
    observations: Vec<Observation>,
    /// The action in the remote's function.
    action: ActionMessages,
}

/// Stage: lets a call that leads a compile ask remotes first. A question to the compiler asks none, because
/// the compiler answers faster.
pub(super) fn ask_remotes(
    pipeline: &Pipeline,
    mut planned: PlannedCompile,
) -> ControlFlow<NextStep, PlannedCompile> {
    let keyed = &planned.missed.keyed;
    let is_question = keyed.prepared.compiler.facts().kind == CallKind::Question;
    if planned.leader.is_none() || is_question || !pipeline.uses_remotes() {
        return ControlFlow::Continue(planned);
    }
    let session = pipeline.remote_session(&keyed.client);
    let handles = pulled_results(pipeline).into_iter().chain(pipeline.remotes_of(&keyed.settings));
    let readable = handles.filter(|handle| handle.reads);
    let all: Vec<_> = readable.map(|handle| Arc::new(AskedRemote::new(&handle, &session))).collect();
    let remotes: Vec<_> = all.iter().filter(|asked| asked.is_usable()).cloned().collect();
    if remotes.is_empty() {
        planned.note_trouble(&all);
        return ControlFlow::Continue(planned);
    }
    // Followers wait for the answer of a remote as they do for a compile.
    if let Some(leader) = &planned.leader {
        leader.begin_compiling();
    }
    let lookup = RemoteLookup { planned, remotes, all };
    ControlFlow::Break(NextStep::AskRemotes(Box::new(lookup)))
}

/// Returns the results that `kache sync --pull` has brought into the store. They are asked for before any
/// remote.
fn pulled_results(pipeline: &Pipeline) -> Vec<Arc<RemoteHandle>> {
    let Ok(store) = pipeline.store() else { return Vec::new() };
    let found = PulledResults::all_in(&store).unwrap_or_else(|error| {
        tracing::warn!("the results of `kache sync` are not used: {}", with_causes(&error));
        Vec::new()
    });
    found.into_iter().map(PulledResults::into_handle).collect()
}

impl PlannedCompile {
    /// Notes in the call's event which remotes it goes on without.
    fn note_trouble(&mut self, remotes: &[Arc<AskedRemote>]) {
        let given_up: Vec<String> = remotes.iter().filter_map(|asked| asked.given_up()).collect();
        let MissedCall { keyed, event } = &mut self.missed;
        keyed.remote_trouble = given_up.join("; ");
        event.remote_trouble.clone_from(&keyed.remote_trouble);
    }
}

impl RemoteLookup {
    /// Asks the remotes. Returns whether the store has the call's result now.
    pub async fn ask(&self, pipeline: &Arc<Pipeline>) -> bool {
        let Ok(store) = pipeline.store() else { return false };
        let subject = LookupSubject {
            pipeline: Arc::clone(pipeline),
            store,
            call: SharedCall::of(pipeline, &self.planned.missed.keyed),
            is_taken: Arc::default(),
        };
        let fetch = |asked: &Arc<AskedRemote>| subject.clone().fetch_or_log(Arc::clone(asked));
        ask_in_order(&self.remotes, fetch).await
    }

    /// Continues the call after the remotes were asked: restores the result that is in the store now, or
    /// compiles.
    pub fn proceed(self, pipeline: &Pipeline, is_fetched: bool) -> NextStep {
        let mut planned = self.planned;
        planned.missed.keyed.phases.end(Phase::Remote);
        planned.note_trouble(&self.all);
        let store = match pipeline.store() {
            Ok(store) if is_fetched => store,
            _ => return compile(pipeline, planned),
        };
        let PlannedCompile { missed: MissedCall { keyed, .. }, decision, leader } = planned;
        let LookedUpCall { keyed, found } = look_up(pipeline, &store, keyed);
        let restored = restore(pipeline, &store, LookedUpCall { keyed, found }, Outcome::RemoteHit);
        match restored {
            ControlFlow::Break(answer) => {
                if let Some(leader) = leader {
                    leader.finish(LeaderOutcome::Stored);
                }
                answer
            }
            ControlFlow::Continue(missed) => compile(pipeline, PlannedCompile { missed, decision, leader }),
        }
    }
}

impl LookupSubject {
    async fn fetch_or_log(self, asked: Arc<AskedRemote>) -> bool {
        self.fetch_from(&asked).await.unwrap_or_else(|why| {
            let name = &self.call.prepared.task.label.name;
            tracing::debug!("`{name}` is not fetched from {}: {why}", asked.handle().name);
            false
        })
    }

    async fn fetch_from(&self, asked: &AskedRemote) -> Result<bool, String> {
        let text = |error: RemoteError| error.to_string();
        let function = asked.capabilities().await.map_err(text)?.function;
        let Some(query) = self.blocking(move |subject| subject.shared_query(function)).await? else {
            return Err("an input has changed".to_owned());
        };
        let mnemonic = self.call.prepared.compiler.facts().mnemonic;
        let handle = asked.handle();
        let context = asked.context(mnemonic, String::new());
        let sets = read_path_sets(&*handle.remote, &query.digest, &context);
        let sets = asked.lookup(sets).await.map_err(text)?;
        let (query_messages, candidates) = self
            .blocking(move |subject| {
                let messages = query.messages().map(|full| ActionMessages::from(&full));
                messages.map(|messages| (messages, subject.candidates(&query, &sets)))
            })
            .await?
            .map_err(|error| error.to_string())?;
        let results = results(asked, &candidates, mnemonic).await.map_err(text)?;
        for (candidate, result) in candidates.into_iter().zip(results) {
            let Some(result) = result else { continue };
            let taken = self.take(asked, (query_messages.clone(), candidate), &result, mnemonic).await;
            match taken {
                Ok(false) => {}
                // Another path set may lead to a result that can be used, unless the remote does not answer.
                Err(why) if handle.trouble().is_none() => {
                    tracing::debug!("a result of {} is not used: {why}", handle.name);
                }
                taken => return taken,
            }
        }
        Ok(false)
    }

    /// Downloads the result of a candidate and stores it. Returns `false` if the action is quarantined here.
    async fn take(
        &self,
        asked: &AskedRemote,
        (query, candidate): (ActionMessages, Candidate),
        result: &ActionResult,
        mnemonic: &'static str,
    ) -> Result<bool, String> {
        let action = candidate.action.digest;
        let checked =
            check(&self.call.prepared.task, result, action.function).map_err(|why| why.to_string())?;
        let context = asked.context(mnemonic, action.hash.to_hex());
        let names = download(asked, &self.store, &checked, &context).await;
        let names = names.map_err(|error| error.to_string())?;
        if self.is_taken.swap(true, Ordering::Relaxed) {
            return Err("another remote was faster".to_owned());
        }
        let source = Arc::clone(asked.handle());
        let accept = move |subject: &LookupSubject| {
            let accepted = subject.accept(&source, query, candidate, &checked, &names);
            if accepted != Ok(true) {
                subject.is_taken.store(false, Ordering::Relaxed);
            }
            accepted
        };
        self.blocking(accept).await?
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LookupSubject) -> T + Send + 'static,
    ) -> Result<T, String> {
        let subject = self.clone();
        spawn_blocking(move || work(&subject)).await.map_err(|error| error.to_string())
    }

    /// Makes the query in a remote's function; `None` if an input has changed since the query was made.
    fn shared_query(&self, function: DigestFunction) -> Option<Query> {
        shared_query(&self.pipeline, &self.call.call, &self.call.prepared, function)
    }

    /// Evaluates path sets in this checkout. Two sets that lead to the same action are one candidate.
    fn candidates(&self, query: &Query, sets: &PathSets) -> Vec<Candidate> {
        let LookupSubject { pipeline, call: SharedCall { call, prepared, .. }, .. } = self;
        let world = pipeline.world();
        let Ok(observed) = lookup::observe_path_sets(sets, &prepared.task, &call.env, world) else {
            return Vec::new();
        };
        let translator =
            Translator { task: &prepared.task, env: &call.env, world, function: query.digest.function };
        let mut candidates: Vec<Candidate> = Vec::new();
        for observations in observed.into_iter().flatten() {
            let Ok(Some(translated)) = translator.observations(&observations) else { continue };
            let Ok(full) = action::complete(query, &translated) else { continue };
            if candidates.iter().all(|other| other.action.digest != full.digest) {
                candidates.push(Candidate { observations, action: ActionMessages::from(&full) });
            }
        }
        candidates
    }

    /// Stores a result whose blobs are in the store. Returns `false` if the action is quarantined here.
    fn accept(
        &self,
        source: &RemoteHandle,
        query: ActionMessages,
        candidate: Candidate,
        checked: &CheckedResult,
        names: &NamesByDigest,
    ) -> Result<bool, String> {
        let LookupSubject { pipeline, store, call: SharedCall { prepared, .. }, .. } = self;
        let text = |error: StoreError| with_causes(&error);
        let full =
            action::complete(&prepared.query, &candidate.observations).map_err(|why| why.to_string())?;
        if is_quarantined(store.actions(), &full.digest).map_err(text)?.is_some() {
            return Ok(false);
        }
        let function = full.digest.function;
        let own = |digest: &Digest| names.get(digest).and_then(|names| names.digest(function));
        let message = |digest: &Digest| {
            let content = store.blobs().open(digest, AccessKind::Use).ok()??;
            content.read_all().ok()
        };
        let result = checked.to_stored(&own, &message).ok_or("a blob is not in the store any more")?;
        names.values().for_each(|names| pipeline.world().note_names(names));
        for outcome in store.blobs().insert(&full.blobs().collect::<Vec<_>>()) {
            outcome.map_err(text)?;
        }
        store.actions().put(&fetched_key(&full.digest), &result).map_err(text)?;
        let outputs = checked.outputs.iter();
        let outputs: Vec<_> = outputs.filter_map(|one| Some((one.kind, own(&one.digest)?))).collect();
        if let Some(notes) = &checked.notes {
            let locators = prepared.compiler.locators();
            locators.accept_notes(&outputs, notes, store.actions()).map_err(text)?;
        }
        let observations = &candidate.observations;
        let parts = SharedParts { action: &full.digest, observations, result: &result, outputs };
        let twins: HashMap<Digest, Digest> =
            names.iter().filter_map(|(shared, names)| Some((names.digest(function)?, *shared))).collect();
        let twin = |own: &Digest| twins.get(own).copied();
        if let Some(shared) = to_shared(&result, checked.notes.as_ref(), query.digest.function, &twin) {
            let form = self.call.upload((query, candidate.action), &parts, shared);
            record::save(store.actions(), &full.digest, &form).map_err(text)?;
        }
        copy_up(pipeline, store, &self.call, source, &parts);
        // Last, because lookups begin with the trail.
        let set = ObservationSet { observations: candidate.observations, action: full.digest };
        learn(store.actions(), &prepared.query.digest, set).map_err(text)?;
        Ok(true)
    }
}

/// Makes the query of a call in a remote's function; `None` if an input has changed since the query was made.
/// It may hash the toolchain.
pub(super) fn shared_query(
    pipeline: &Pipeline,
    call: &Call,
    prepared: &Prepared,
    function: DigestFunction,
) -> Option<Query> {
    let Prepared { compiler, inputs, query, task, .. } = prepared;
    let world = pipeline.world();
    if function != world.function() {
        world.compute_twins();
        if world.known_twin(&inputs.toolchain.tree.coerce(), function).is_none() {
            compiler.toolchain_files(call, world, function).ok()?;
        }
    }
    let translated = Translator { task, env: &call.env, world, function }.inputs(inputs).ok()??;
    query.shared(&translated).ok()
}

/// Asks for the results of all candidates at once, and returns them in their order.
async fn results(
    asked: &AskedRemote,
    candidates: &[Candidate],
    mnemonic: &'static str,
) -> Result<Vec<Option<ActionResult>>, RemoteError> {
    let mut requests = JoinSet::new();
    for (index, Candidate { action, .. }) in candidates.iter().enumerate() {
        let (remote, action) = (Arc::clone(&asked.handle().remote), action.digest);
        let context = asked.context(mnemonic, action.hash.to_hex());
        requests.spawn(async move { (index, remote.get_result(&action, &context).await) });
    }
    let mut results: Vec<Option<ActionResult>> = vec![None; candidates.len()];
    let all = async {
        while let Some(Ok((index, result))) = requests.join_next().await {
            results[index] = result?;
        }
        Ok(())
    };
    asked.lookup(all).await?;
    Ok(results)
}
