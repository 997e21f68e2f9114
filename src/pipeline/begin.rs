//! From a call to its answer.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, Store};
use kache_proto::reapi::ActionResult;
use tokio::sync::watch;

use super::answer::{Begun, Reply};
use super::editing::Course;
use super::edits::Edits;
use super::flights::{Boarding, Flights, Landing, Lead};
use super::outputs::Outputs;
use super::pending::{Client, FlightKey, Outlook, Pending, Ticket};
use super::phases::Phases;
use super::prepare::Prepared;
use super::recorder::Recorder;
use super::run;
use super::sessions::Sessions;
use super::sharing::LastChecks;
use super::slot::StoreSlot;
use super::verify::{Sampler, Verification};
use crate::compile::Fallbacks;
use crate::config::{CallConfigs, CompileSettings};
use crate::events::{Event, Outcome, Phase, UPLOADED};
use crate::inputs::{DiskWorld, InputKind, is_script};
use crate::invocation::{Bypass, Call, Reason};
use crate::lookup::{self, Found, LookupError, ResultOrigin, Uploads};
use crate::observer::{Observer, Watching};
use crate::progress;
use crate::restore::{self, Staging};
use crate::roles::Role;
use crate::shared::SharedFiles;

/// The file that what is known of files is kept in between two daemons.
const MEMOS: &str = "memos";

/// How often that is saved while results are stored. What a killed daemon has not saved is
/// hashed again.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// What runs calls.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) recorder: Recorder,
    pub(super) configs: CallConfigs,
    pub(super) flights: Flights<FlightKey, Outlook>,
    pub(super) outputs: Outputs,
    pub(super) edits: Edits,
    pub(super) sessions: Sessions,
    pub(super) shared: SharedFiles,
    /// Whether files may be other names of inodes that several checkouts have. Somebody has to
    /// stay and look after them.
    pub(super) shares_inodes: bool,
    pub(super) last_checks: LastChecks,
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
    /// For the store in this directory.
    pub fn new(cache_dir: PathBuf, store: watch::Receiver<StoreSlot>) -> Self {
        Pipeline {
            recorder: Recorder::new(cache_dir.clone()),
            configs: CallConfigs::new(),
            flights: Flights::default(),
            outputs: Outputs::default(),
            edits: Edits::default(),
            sessions: Sessions::default(),
            shared: SharedFiles::new(&cache_dir),
            shares_inodes: true,
            last_checks: LastChecks::default(),
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

    /// For a process that makes one call.
    pub fn of_one_call(cache_dir: PathBuf, store: watch::Receiver<StoreSlot>) -> Self {
        let pipeline = Pipeline::new(cache_dir, store);
        Pipeline { edits: Edits::shared(), sessions: Sessions::none(), shares_inodes: false, ..pipeline }
    }

    /// The same with `serve.trust_uploads` as it was configured.
    pub fn with_uploads(self, uploads: Uploads) -> Self {
        Pipeline { uploads, ..self }
    }

    /// Begins a call of this process.
    pub fn begin(&self, call: Arc<Call>, client: Option<i32>, staging: Staging) -> Begun {
        let (client, seeding) = self.meet(client, &call, staging);
        self.check_shared(&call, &client);
        let begun = self.go_on(Pending { call, client, phases: Phases::begin() }, None);
        match (begun, seeding) {
            (Begun::Answer(reply), Some(seeding)) => Begun::Seed(reply, seeding),
            (begun, _) => begun,
        }
    }

    /// Goes on with a call whose leader has landed.
    pub fn resume(&self, mut pending: Pending, landing: Landing) -> Begun {
        pending.phases.end(Phase::Wait);
        self.go_on(pending, Some(landing))
    }

    /// Puts a call on record that is passed on for a reason outside of it.
    pub fn stand_aside(&self, call: Arc<Call>, client: Option<i32>, why: Bypass) -> Reply {
        let settings = self.settings(&call).ok();
        let client = Client { pid: client, ..Client::default() };
        self.pass(Pending { call, client, phases: Phases::begin() }, settings.as_deref(), why)
    }

    /// Saves what is known of files, if that was not done for a while.
    pub(super) fn save_if_due(&self) {
        let mut saved_at = self.saved_at.lock().unwrap_or_else(PoisonError::into_inner);
        if saved_at.elapsed() >= SAVE_EVERY {
            *saved_at = Instant::now();
            drop(saved_at);
            self.save();
        }
    }

    /// Saves what is known of files.
    pub fn save(&self) {
        if let Some(world) = self.world.get()
            && let Err(error) = world.save()
        {
            tracing::warn!("failed to save what is known of files: {error}");
        }
    }

    /// Looks at everything that a call's key is made of, so that it is known by the time that
    /// the store is open.
    pub fn look_ahead(&self, call: &Call) {
        if let Ok(settings) = self.settings(call) {
            let _ = self.prepare(call, &settings, &mut Phases::begin());
        }
    }

    /// Learns what other processes have come to know of files since this one began.
    pub fn resume_after_others(&self) {
        if let Some(world) = self.world.get() {
            world.learn_from_others();
        }
    }

    /// Lets go of the log, and saves what is known of files.
    pub fn rest(&self) {
        self.recorder.rest();
        self.save();
    }

    pub(super) fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    pub(super) fn world(&self) -> &DiskWorld {
        self.world.get_or_init(|| DiskWorld::open(self.cache_dir.join(MEMOS)))
    }

    /// The store, while it can be used.
    pub(super) fn store(&self) -> Result<Arc<Store>, Bypass> {
        let why = match &*self.store.borrow() {
            StoreSlot::Open(store) => return Ok(Arc::clone(store)),
            StoreSlot::Opening => "it is still being opened".to_owned(),
            StoreSlot::Unusable(why) => why.clone(),
        };
        Err(Bypass::new(Reason::StoreUnusable, why))
    }

    fn go_on(&self, pending: Pending, landing: Option<Landing>) -> Begun {
        let Pending { call, client, mut phases } = pending;
        let settings = match self.settings(&call) {
            Ok(settings) => settings,
            Err(why) => return Begun::Answer(self.pass(Pending { call, client, phases }, None, why)),
        };
        let prepared =
            self.store().and_then(|store| Ok((store, self.prepare(&call, &settings, &mut phases)?)));
        match prepared {
            Ok((store, prepared)) => {
                let asked = Asked { call, client, settings, prepared, phases };
                self.look(&store, asked, landing)
            }
            Err(why) => Begun::Answer(self.pass(Pending { call, client, phases }, Some(&settings), why)),
        }
    }

    fn look(&self, store: &Store, mut asked: Asked, landing: Option<Landing>) -> Begun {
        let found = self.find(&asked.call, &asked.prepared, store);
        asked.phases.end(Phase::Lookup);
        let mut event = asked.event(Outcome::Miss);
        match found {
            Ok(Found::Hit { action, result, origin }) => {
                event.action = action.hash.to_hex();
                if origin == ResultOrigin::Uploaded {
                    UPLOADED.clone_into(&mut event.reason);
                }
                event.outcome = if landing.is_some() { Outcome::Dup } else { Outcome::LocalHit };
                match self.hit(store, &mut asked, &mut event, &result) {
                    Ok(reply) => {
                        if let Some(session) = &asked.client.session {
                            session.note(&asked.call, &asked.prepared, &asked.phases, action.hash);
                        }
                        return self.answered(reply, asked, action, result);
                    }
                    // The lookup has just seen it: a tool has written to it in a checkout.
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
        match self.edits.course(&asked.prepared, &asked.settings) {
            Course::Shared => self.board(store, asked, event, landing),
            course => self.run(asked, event, &course, None),
        }
    }

    /// What an earlier run of this left, if the world is still as that one saw it.
    pub(super) fn find(&self, call: &Call, prepared: &Prepared, store: &Store) -> Result<Found, LookupError> {
        lookup::find(&prepared.task, &call.env, self.world(), store.actions(), self.uploads)
    }

    /// A hit's answer; one in so many is looked into afterwards.
    fn answered(
        &self,
        reply: Reply,
        asked: Asked,
        action: Digest<ActionMessage>,
        result: Box<ActionResult>,
    ) -> Begun {
        if !asked.prepared.is_probe && self.is_sampled(&asked.settings) {
            let Asked { call, prepared, .. } = asked;
            return Begun::Verify(reply, Box::new(Verification { call, prepared, action, result }));
        }
        Begun::Answer(reply)
    }

    /// Whether it is this hit's turn to be looked into.
    pub(super) fn is_sampled(&self, settings: &CompileSettings) -> bool {
        settings.verify_sample.is_some_and(|one_in| self.sampler.takes(one_in.get()))
    }

    pub(super) fn hit(
        &self,
        store: &Store,
        asked: &mut Asked,
        event: &mut Event,
        result: &ActionResult,
    ) -> Result<Reply, restore::RestoreError> {
        let (task, staging) = (&asked.prepared.task, &asked.client.staging);
        let most = self.most_shared(&asked.settings);
        let source = restore::Source { files: store.files(), blobs: store.blobs(), most };
        let restored = restore::restore(task, result, source, staging);
        if let Ok(restored) = &restored {
            self.note_shared(task, &restored.shared, &restored.placed);
        }
        asked.phases.end(Phase::Restore);
        let restored = restored?;
        for file in &restored.placed {
            self.world().note_placed(&file.path, file.digest, file.seen);
        }
        if let Some(session) = &asked.client.session {
            session.note_programs(&asked.prepared.task, &restored.placed);
        }
        event.restored_bytes = restored.bytes;
        event.shared_bytes = restored.shared_bytes;
        event.compile_time = restored.compile_time;
        asked.close(event);
        self.recorder.record(event);
        self.tell(&asked.call, &asked.client, &asked.settings, event);
        self.edits.found(&asked.call, &asked.prepared, &asked.settings);
        Ok(Reply::Done { said: restored.said, exit_code: restored.exit_code })
    }

    /// A miss: compile, or wait for the one who does.
    fn board(&self, store: &Store, asked: Asked, event: Event, landing: Option<Landing>) -> Begun {
        let key = event.query.clone();
        // Whoever waited for a compile that came to nothing does not queue for another.
        let lead = match landing {
            Some(Landing::NotStored) => None,
            _ => match self.flight(store, &asked, &key) {
                Boarding::Lead(lead) => Some(lead),
                Boarding::Follow(follower) => {
                    let Asked { call, client, phases, .. } = asked;
                    return Begun::Wait(follower, Box::new(Pending { call, client, phases }));
                }
            },
        };
        self.run(asked, event, &Course::Shared, lead)
    }

    /// The compiler is to be run. A crate that is being edited is nobody's flight: whoever
    /// waited would get nothing.
    fn run(
        &self,
        asked: Asked,
        mut event: Event,
        course: &Course,
        lead: Option<Lead<FlightKey, Outlook>>,
    ) -> Begun {
        let Asked { call, client, settings, prepared, phases } = asked;
        if let Course::Own { why, .. } = course
            && event.outcome == Outcome::Miss
        {
            event.outcome = Outcome::Passthrough;
            Reason::Editing.name().clone_into(&mut event.reason);
            event.detail.clone_from(why);
        }
        let is_incremental = matches!(course, Course::Own { is_incremental: true, .. });
        let mut run = run::on_a_miss(&call, &prepared, is_incremental);
        let watching = self.watch(&call, &prepared, course);
        if let Watching::With(watch) = &watching {
            run.variables = watch.variables();
        }
        let is_rebuild = restore::is_rebuild(&prepared.task);
        let making = self.outputs.make(&prepared.task);
        let undertaking = self.edits.begin(&call, &prepared, course);
        let ticket = Ticket {
            call,
            client,
            settings,
            phases,
            event,
            prepared,
            is_rebuild,
            undertaking,
            watching,
            making,
            lead,
        };
        Begun::Run(run, Box::new(ticket))
    }

    /// Observes what may be stored. Of a question or a trial all that it reads is known.
    fn watch(&self, call: &Call, prepared: &Prepared, course: &Course) -> Watching {
        if !matches!(course, Course::Shared) || prepared.is_probe {
            return Watching::Without;
        }
        let Prepared { inputs, task, .. } = prepared;
        let linkers = inputs.files.iter().filter(|input| input.kind == InputKind::LinkToolchain);
        // Some systems let libraries be executed; whatever that would do, a linker does not.
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

    /// Leads, or follows a call that compiles the same as far as can be told before: one whose
    /// modules are others has nothing to wait for.
    fn flight(&self, store: &Store, asked: &Asked, key: &FlightKey) -> Boarding<FlightKey, Outlook> {
        let task = &asked.prepared.task;
        let env = &asked.call.env;
        let (world, actions) = (self.world(), store.actions());
        // What cannot be told makes it wait: it looks again afterwards.
        let outlook = lookup::outlook(task, env, world, actions).unwrap_or_default();
        self.flights.board_if(key, Arc::new(outlook), |leader| {
            lookup::shares_outlook(task, env, world, leader).unwrap_or(true)
        })
    }

    /// A line for people, if they want one.
    pub(super) fn tell(&self, call: &Call, client: &Client, settings: &CompileSettings, event: &Event) {
        if !progress::is_wanted(settings.progress, call.env.get("CI")) {
            return;
        }
        match client {
            Client { pid: Some(pid), .. } => progress::print_for_client(settings.progress, *pid, event),
            Client { session: Some(session), .. } => {
                progress::print_for_cargo(settings.progress, session.pid(), event);
            }
            Client { pid: None, session: None, .. } => {}
        }
    }

    /// Without settings, because there is a mistake in them, no line and no other wrapper was
    /// asked for.
    fn pass(&self, passed: Pending, settings: Option<&CompileSettings>, why: Bypass) -> Reply {
        let Pending { call, client, phases } = passed;
        let outcome = match why.reason {
            Reason::Trouble => Outcome::Error,
            _ => Outcome::Passthrough,
        };
        let mut event = Event::new(SystemTime::now(), name_of(&call), outcome);
        event.version = version_of(&call);
        why.reason.name().clone_into(&mut event.reason);
        event.detail.clone_from(&why.detail);
        if why.reason == Reason::Query {
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
            self.tell(&call, &client, settings, &event);
        }
        let argv = run::without_incremental(&call.argv);
        let argv = match settings.and_then(|settings| settings.fallback.as_deref()) {
            Some(wrapper) => self.fallbacks.before(argv, wrapper, call.env.get("PATH")),
            None => argv,
        };
        Reply::PassOn { argv, why }
    }
}

/// A call whose key is known.
pub(super) struct Asked {
    pub(super) call: Arc<Call>,
    pub(super) client: Client,
    pub(super) settings: Arc<CompileSettings>,
    pub(super) prepared: Prepared,
    pub(super) phases: Phases,
}

impl Asked {
    pub(super) fn event(&self, outcome: Outcome) -> Event {
        let task = &self.prepared.task;
        let mut event = Event::new(SystemTime::now(), task.label.crate_name.clone(), outcome);
        event.version.clone_from(&task.label.version);
        event.kind.clone_from(&task.label.kind);
        event.query = task.query.hash.to_hex();
        event.cwd = self.call.cwd.display().to_string();
        let root = task.roots.dir(Role::Workspace).or_else(|| task.roots.dir(Role::Target));
        event.root = root.map(|dir| dir.display().to_string()).unwrap_or_default();
        event.roots =
            task.roots.iter().map(|root| (root.role.dir_name(), root.dir.display().to_string())).collect();
        event
    }

    /// The times, when the call is about to be answered.
    fn close(&self, event: &mut Event) {
        event.at = SystemTime::now();
        event.elapsed = self.phases.elapsed();
        event.phases = self.phases.clone().into_done();
    }
}

/// A call that is passed on and leaves no event behind.
pub fn unrecorded(call: &Call, why: Bypass) -> Reply {
    Reply::PassOn { argv: run::without_incremental(&call.argv), why }
}

/// What a call is shown as where nothing better is known: the crate, or the program.
fn name_of(call: &Call) -> String {
    let mut words = call.argv.iter();
    let named = words.by_ref().find(|word| *word == "--crate-name").and_then(|_| words.next());
    let program = || call.argv.first().map(PathBuf::from)?.file_name().map(ToOwned::to_owned);
    named.cloned().or_else(program).unwrap_or_default().to_string_lossy().into_owned()
}

fn version_of(call: &Call) -> String {
    call.env.get("CARGO_PKG_VERSION").map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
}
