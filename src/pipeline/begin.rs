//! The first half of a call: from the request to a reply, a compile, or a wait for another compile.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, Hash, Store};
use kache_client::without_incremental;
use kache_proto::reapi::ActionResult;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::answer::{CallReply, NextStep};
use super::build_hooks::EditDecision;
use super::call_state::{CallClient, CurrentObservations, KeyedCall, QueryHash, RunningCompile, WaitingCall};
use super::coalescer::{Coalescer, Join, Leader, LeaderOutcome};
use super::command;
use super::outputs_in_progress::OutputsInProgress;
use super::phases::Phases;
use super::prepare::Prepared;
use super::recorder::Recorder;
use super::slot::StoreSlot;
use super::verify::{Sampler, Verification};
use crate::compile::Fallbacks;
use crate::config::{CallConfigs, CompileSettings};
use crate::events::{Event, Outcome, Phase, UPLOADED};
use crate::inputs::{DiskWorld, InputKind, is_script};
use crate::invocation::{Bypass, Call, Reason};
use crate::lookup::{self, Found, LookupError, ResultOrigin, Uploads};
use crate::observer::{Observer, Watching};
use crate::outputs;
use crate::progress;
use crate::restore;
use crate::shared::SharedFiles;

/// The file in the cache directory that keeps the memos of files from one daemon to the next.
const MEMOS: &str = "memos";

/// How often the memos are saved while results are stored. If a daemon is killed, the next one
/// hashes again the files whose memos were not saved.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Everything that calls share.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) recorder: Recorder,
    pub(super) configs: CallConfigs,
    coalescer: Coalescer<QueryHash, CurrentObservations>,
    pub(super) outputs: OutputsInProgress,
    pub(super) shared: SharedFiles,
    /// Whether restored files may be hard links to inodes that several checkouts share. Only a
    /// daemon may share them, because it stays and checks them.
    pub(super) shares_inodes: bool,
    sampler: Sampler,
    fallbacks: Fallbacks,
    pub(super) observer: Observer,
    store: watch::Receiver<StoreSlot>,
    cache_dir: PathBuf,
    pub(super) uploads: Uploads,
    world: OnceLock<DiskWorld>,
    saved_at: Mutex<Instant>,
}

impl Pipeline {
    /// Creates the pipeline of a daemon, for the store in this cache directory.
    pub fn new(cache_dir: PathBuf, store: watch::Receiver<StoreSlot>) -> Self {
        Pipeline {
            recorder: Recorder::new(cache_dir.clone()),
            configs: CallConfigs::new(),
            coalescer: Coalescer::default(),
            outputs: OutputsInProgress::default(),
            shared: SharedFiles::new(&cache_dir),
            shares_inodes: true,
            sampler: Sampler::default(),
            fallbacks: Fallbacks::new(),
            observer: Observer::new(&cache_dir),
            store,
            cache_dir,
            uploads: Uploads::default(),
            world: OnceLock::new(),
            saved_at: Mutex::new(Instant::now()),
        }
    }

    /// Creates the pipeline of a process that answers one call and exits.
    pub fn of_one_call(cache_dir: PathBuf, store: watch::Receiver<StoreSlot>) -> Self {
        Pipeline { shares_inodes: false, ..Pipeline::new(cache_dir, store) }
    }

    /// Sets whether compiles take results that clients have uploaded.
    pub fn with_uploads(self, uploads: Uploads) -> Self {
        Pipeline { uploads, ..self }
    }

    /// Decides how to answer a call.
    pub fn begin(&self, call: Arc<Call>, client: CallClient) -> NextStep {
        self.look_up_or_compile(WaitingCall { call, client, phases: Phases::begin() }, None)
    }

    /// Decides how to answer a follower's call, once its leader has ended.
    pub fn resume(&self, mut waiting: WaitingCall, leader_outcome: LeaderOutcome) -> NextStep {
        waiting.phases.end(Phase::Wait);
        self.look_up_or_compile(waiting, Some(leader_outcome))
    }

    /// Records a call that the caller does not want to cache, and returns the reply to it.
    pub fn pass_on(&self, call: Arc<Call>, client: Option<i32>, why: Bypass) -> CallReply {
        let settings = self.settings(&call).ok();
        let client = CallClient::without_build(client);
        self.record_bypass(WaitingCall { call, client, phases: Phases::begin() }, settings.as_deref(), why)
    }

    /// Saves the memos of files, if they were not saved for a while.
    pub(super) fn save_if_due(&self) {
        let mut saved_at = self.saved_at.lock();
        if saved_at.elapsed() >= SAVE_EVERY {
            *saved_at = Instant::now();
            drop(saved_at);
            self.save();
        }
    }

    /// Saves the memos of files.
    pub fn save(&self) {
        if let Some(world) = self.world.get()
            && let Err(error) = world.save()
        {
            tracing::warn!("failed to save the digests of known files: {error}");
        }
    }

    /// Hashes the inputs of a call, so that their digests are known when the store is open.
    pub fn warm_up(&self, call: &Call) {
        if let Ok(settings) = self.settings(call) {
            let _ = self.prepare(call, &settings, &mut Phases::begin());
        }
    }

    /// Reads the memos of files that other processes have saved since this one began.
    pub fn reload_memos(&self) {
        if let Some(world) = self.world.get() {
            world.load_snapshot();
        }
    }

    /// Closes the event log and saves the memos of files, so that another process can use both. The
    /// next call opens the log again.
    pub fn release_files(&self) {
        self.recorder.close();
        self.save();
    }

    pub(super) fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    pub(super) fn world(&self) -> &DiskWorld {
        self.world.get_or_init(|| DiskWorld::open(self.cache_dir.join(MEMOS)))
    }

    /// The store, if it is open; else why the call has to be passed on.
    pub fn store(&self) -> Result<Arc<Store>, Bypass> {
        let why = match &*self.store.borrow() {
            StoreSlot::Open(store) => return Ok(Arc::clone(store)),
            StoreSlot::Opening => "it is still being opened".to_owned(),
            StoreSlot::Unusable(why) => why.clone(),
        };
        Err(Bypass::new(Reason::StoreUnusable, why))
    }

    /// Everything from the settings to the decision. `leader_outcome` is `None` for a call that has
    /// not waited for a leader.
    fn look_up_or_compile(&self, waiting: WaitingCall, leader_outcome: Option<LeaderOutcome>) -> NextStep {
        // A follower comes here for the second time. Its settings and inputs are read again, because
        // they may have changed while it waited.
        let WaitingCall { call, client, mut phases } = waiting;
        let settings = match self.settings(&call) {
            Ok(settings) => settings,
            Err(why) => {
                let call = WaitingCall { call, client, phases };
                return NextStep::Answer(self.record_bypass(call, None, why));
            }
        };
        let prepared =
            self.store().and_then(|store| Ok((store, self.prepare(&call, &settings, &mut phases)?)));
        match prepared {
            Ok((store, prepared)) => {
                let keyed = KeyedCall { call, client, settings, prepared, phases };
                self.look_up(&store, keyed, leader_outcome)
            }
            Err(why) => {
                let call = WaitingCall { call, client, phases };
                NextStep::Answer(self.record_bypass(call, Some(&settings), why))
            }
        }
    }

    /// Looks up the result and restores it. On a miss, and where the lookup or the restore failed, the
    /// call compiles; the event then says why.
    fn look_up(
        &self,
        store: &Store,
        mut keyed: KeyedCall,
        leader_outcome: Option<LeaderOutcome>,
    ) -> NextStep {
        let outcome = self.find_keyed(&mut keyed, store);
        let mut event = keyed.event(Outcome::Miss);
        match outcome {
            Ok(Found::Hit { action, result, origin }) => {
                event.action = action.hash.to_hex();
                if origin == ResultOrigin::Uploaded {
                    UPLOADED.clone_into(&mut event.reason);
                }
                // A former follower's hit is counted apart: without its leader it would be a miss.
                event.outcome = if leader_outcome.is_some() { Outcome::Dup } else { Outcome::LocalHit };
                match self.restore_hit(store, &mut keyed, &mut event, (action.hash, &result)) {
                    Ok(reply) => return self.answer_hit(reply, keyed, action, result),
                    // The lookup has just found this blob. A tool must have written to it through a
                    // hard link in a checkout, so that the store no longer serves it.
                    Err(restore::RestoreError::Gone { .. }) => {
                        event.note_unusable_result(&action.hash.to_hex());
                    }
                    Err(error) => {
                        event.outcome = Outcome::Error;
                        event.reason = "restore".to_owned();
                        event.detail = error.to_string();
                    }
                }
            }
            Ok(Found::Miss(miss)) => event.note_miss(&miss),
            Err(error) => {
                event.outcome = Outcome::Error;
                event.reason = "lookup".to_owned();
                event.detail = error.to_string();
            }
        }
        match keyed.client.build.decide(&keyed) {
            EditDecision::Shared => self.lead_or_follow(store, keyed, event, leader_outcome),
            decision => self.compile(keyed, event, &decision, None),
        }
    }

    /// Reads the settings of a call and makes its key. The error is the reason to pass the call on.
    pub fn key(&self, call: Arc<Call>, client: CallClient) -> Result<KeyedCall, Bypass> {
        let mut phases = Phases::begin();
        let settings = self.settings(&call)?;
        let prepared = self.prepare(&call, &settings, &mut phases)?;
        Ok(KeyedCall { call, client, settings, prepared, phases })
    }

    /// Looks up the result of a call whose key is known.
    pub fn find_keyed(&self, keyed: &mut KeyedCall, store: &Store) -> Result<Found, LookupError> {
        let found = self.find(&keyed.call, &keyed.prepared, store);
        keyed.phases.end(Phase::Lookup);
        found
    }

    /// Looks up the result of a call.
    pub(super) fn find(&self, call: &Call, prepared: &Prepared, store: &Store) -> Result<Found, LookupError> {
        lookup::find(&prepared.task, &call.env, self.world(), store.actions(), self.uploads)
    }

    /// The answer to a hit. One in `cache.verify_sample` hits is verified afterwards.
    fn answer_hit(
        &self,
        reply: CallReply,
        keyed: KeyedCall,
        action: Digest<ActionMessage>,
        result: Box<ActionResult>,
    ) -> NextStep {
        if !keyed.prepared.is_probe && self.take_sample(&keyed.settings) {
            let verification = Verification::of(keyed, action, result);
            return NextStep::AnswerThenVerify(reply, Box::new(verification));
        }
        NextStep::Answer(reply)
    }

    /// Counts a hit, and returns whether it is to be verified.
    pub fn take_sample(&self, settings: &CompileSettings) -> bool {
        settings.verify_sample.is_some_and(|one_in| self.sampler.count(one_in.get()))
    }

    /// Restores the result of an action, records the event and tells every part of kache that keeps
    /// track of restored files. After an error nothing of the result is left in the checkout, and no
    /// event is recorded.
    pub fn restore_hit(
        &self,
        store: &Store,
        keyed: &mut KeyedCall,
        event: &mut Event,
        (action, result): (Hash, &ActionResult),
    ) -> Result<CallReply, restore::RestoreError> {
        let (task, staging) = (&keyed.prepared.task, &keyed.client.staging);
        let most = self.most_shared(&keyed.settings);
        let source = restore::RestoreSource { files: store.files(), blobs: store.blobs(), most };
        let restored = restore::restore(task, result, source, staging);
        // Before anything else is done with them: if the daemon ended now, no later daemon would check
        // shared files that are not recorded.
        if let Ok(restored) = &restored {
            self.note_shared(task, &restored.shared, &restored.placed);
        }
        keyed.phases.end(Phase::Restore);
        let restored = restored?;
        for file in &restored.placed {
            self.world().note_placed(&file.path, file.digest, file.seen);
            if let Some(made) = &keyed.prepared.inputs.made_crate {
                self.world().note_crate(made, &file.path, &file.digest);
            }
        }
        event.restored_bytes = restored.bytes;
        event.shared_bytes = restored.shared_bytes;
        event.compile_time = restored.compile_time;
        keyed.write_times(event);
        self.recorder.record(event);
        self.report_progress(&keyed.call, &keyed.client, &keyed.settings, event);
        keyed.client.build.restored(keyed, action, &restored.placed);
        Ok(CallReply::Done { messages: restored.messages, exit_code: restored.exit_code })
    }

    /// Compiles after a miss, or follows a call that compiles the same.
    fn lead_or_follow(
        &self,
        store: &Store,
        keyed: KeyedCall,
        event: Event,
        leader_outcome: Option<LeaderOutcome>,
    ) -> NextStep {
        let key = event.query.clone();
        // If the leader that this call waited for stored nothing, the next one would not either. The
        // call then compiles at once, beside its former fellow followers.
        let leader = match leader_outcome {
            Some(LeaderOutcome::NotStored) => None,
            _ => match self.join(store, &keyed, &key) {
                Join::Leader(leader) => Some(leader),
                Join::Follower(follower) => {
                    let KeyedCall { call, client, phases, .. } = keyed;
                    return NextStep::Wait(follower, Box::new(WaitingCall { call, client, phases }));
                }
            },
        };
        self.compile(keyed, event, &EditDecision::Shared, leader)
    }

    /// Prepares the compiler's run. There is no leader for a crate that is being edited: its result is
    /// not stored, so a follower would wait in vain.
    fn compile(
        &self,
        keyed: KeyedCall,
        mut event: Event,
        decision: &EditDecision,
        leader: Option<Leader<QueryHash, CurrentObservations>>,
    ) -> NextStep {
        if let EditDecision::Local { why, .. } = decision
            && event.outcome == Outcome::Miss
        {
            event.outcome = Outcome::Passthrough;
            Reason::Editing.name().clone_into(&mut event.reason);
            event.detail.clone_from(why);
        }
        let prepared = &keyed.prepared;
        let is_incremental = matches!(decision, EditDecision::Local { is_incremental: true, .. });
        let mut command = command::compiler_command(&keyed.call, prepared, is_incremental);
        let watching = self.watch(&keyed.call, prepared, decision);
        if let Watching::With(watch) = &watching {
            command.variables = watch.variables();
        }
        // Asked before the compiler runs, because the answer depends on files of an earlier compile.
        let is_rebuild = outputs::is_rebuild(&prepared.task);
        let outputs = self.outputs.begin(&prepared.task);
        let hooks = keyed.client.build.compile_begins(&keyed, decision);
        if let Some(leader) = &leader {
            leader.begin_compiling();
        }
        let is_shared = *decision == EditDecision::Shared;
        let compile =
            RunningCompile { keyed, event, is_rebuild, is_shared, watching, outputs, leader, hooks };
        NextStep::Run(command, Box::new(compile))
    }

    /// Sets up the observer for a compile whose result may be stored. A probe needs none, because
    /// everything that it reads is known beforehand.
    fn watch(&self, call: &Call, prepared: &Prepared, decision: &EditDecision) -> Watching {
        if !matches!(decision, EditDecision::Shared) || prepared.is_probe {
            return Watching::Without;
        }
        let Prepared { inputs, task, .. } = prepared;
        let linkers = inputs.files.iter().filter(|input| input.kind == InputKind::LinkToolchain);
        // On some systems libraries have the execute permission, too; a linker does not run them.
        let is_program = |path: &PathBuf| !path.as_os_str().as_bytes().windows(3).any(|part| part == b".so");
        let linkers = linkers.filter(|input| input.is_executable);
        let linkers = linkers.filter_map(|input| task.roots.locate(&input.path)).filter(is_program);
        let programs: Vec<PathBuf> =
            std::iter::once(inputs.toolchain.driver.clone()).chain(linkers).collect();
        let watching = self.observer.watch(&programs, &call.env);
        let script = programs.iter().skip(1).find(|program| is_script(program));
        match (watching, script) {
            (Watching::Without, Some(script)) => {
                Watching::Failed(format!("the linker `{}` is a script", script.display()))
            }
            (watching, _) => watching,
        }
    }

    /// Becomes a leader of this query, or follows one that makes the same observations now. Calls of
    /// one query with different modules see different values, and do not wait for each other.
    fn join(
        &self,
        store: &Store,
        keyed: &KeyedCall,
        key: &QueryHash,
    ) -> Join<QueryHash, CurrentObservations> {
        let task = &keyed.prepared.task;
        let env = &keyed.call.env;
        let (world, actions) = (self.world(), store.actions());
        // After an error the call follows, which is safe: a follower looks up the result again.
        let observations = lookup::observe_newest_set(task, env, world, actions).unwrap_or_default();
        self.coalescer.join_if(key, Arc::new(observations), |leader| {
            lookup::are_current(task, env, world, leader).unwrap_or(true)
        })
    }

    /// Prints a line about the call for the user, if the settings ask for one.
    pub(super) fn report_progress(
        &self,
        call: &Call,
        client: &CallClient,
        settings: &CompileSettings,
        event: &Event,
    ) {
        if !progress::is_wanted(settings.progress, call.env.get("CI")) {
            return;
        }
        match (client.pid, client.build.cargo_pid()) {
            (Some(pid), _) => progress::print_for_client(settings.progress, pid, event),
            (None, Some(pid)) => progress::print_for_cargo(settings.progress, pid, event),
            (None, None) => {}
        }
    }

    /// Records a bypass and returns the reply. `settings` is `None` where they cannot be read; then
    /// no line is printed, and no other wrapper runs in kache's place.
    fn record_bypass(&self, call: WaitingCall, settings: Option<&CompileSettings>, why: Bypass) -> CallReply {
        let WaitingCall { call, client, phases } = call;
        let outcome = match why.reason {
            Reason::InternalError => Outcome::Error,
            _ => Outcome::Passthrough,
        };
        let mut event = Event::new(SystemTime::now(), name_of(&call), outcome);
        event.version = version_of(&call);
        why.reason.name().clone_into(&mut event.reason);
        event.detail.clone_from(&why.detail);
        if why.reason == Reason::Question {
            "probe".clone_into(&mut event.kind);
            event.probe_runs = 1;
        } else {
            event.compiler_runs = 1;
        }
        event.cwd = call.cwd.display().to_string();
        event.elapsed = phases.elapsed();
        event.phases = phases.into_done();
        self.recorder.record(&event);
        if let Some(settings) = settings {
            self.report_progress(&call, &client, settings, &event);
        }
        // Incremental outputs differ from run to run. If only some builds wrote them, the keys of
        // crates that use them would change for no reason.
        let argv = without_incremental(&call.argv);
        let argv = match settings.and_then(|settings| settings.fallback.as_deref()) {
            Some(wrapper) => self.fallbacks.before(argv, wrapper, call.env.get("PATH")),
            None => argv,
        };
        CallReply::PassOn { argv, why }
    }
}

/// Returns the reply to a call that is passed on without an event, because recording one may block.
pub fn pass_on_unrecorded(call: &Call, why: Bypass) -> CallReply {
    CallReply::PassOn { argv: without_incremental(&call.argv), why }
}

/// The name of a call whose command line was not parsed: the crate's, or else the program's.
fn name_of(call: &Call) -> String {
    let mut words = call.argv.iter();
    let named = words.by_ref().find(|word| *word == "--crate-name").and_then(|_| words.next());
    let program = || call.argv.first().map(PathBuf::from)?.file_name().map(ToOwned::to_owned);
    named.cloned().or_else(program).unwrap_or_default().to_string_lossy().into_owned()
}

fn version_of(call: &Call) -> String {
    call.env.get("CARGO_PKG_VERSION").map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
}
