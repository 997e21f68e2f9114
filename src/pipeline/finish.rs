//! The stages of a call whose compiler has run: record the event, then store the result.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kache_cas::{Store, with_causes};

use super::call_state::{KeyedCall, RunningCompile};
use super::coalescer::{Follower, LeaderOutcome};
use super::context::Pipeline;
use super::prepare::Prepared;
use super::share::SharedCall;
use crate::action;
use crate::compile::{Captured, Exit};
use crate::events::{Amendment, CallId, NotStored, Outcome, Phase};
use crate::observer::Watching;
use crate::outputs::Staging;
use crate::publish::{self, OutputSnapshot, Publication, Published, Stored, Stores, Watched};

/// The shortest time that followers wait for a result to be stored. After that they compile.
const FOLLOWERS_WAIT_MIN: Duration = Duration::from_secs(3);

/// The longest time that other compiles wait for a result to be stored, and that storing it may take
/// before others are stored beside it.
pub const PUBLISH_MAX: Duration = Duration::from_secs(10);

/// A result that is to be stored.
#[derive(Debug)]
pub struct Publishing {
    compile: Box<RunningCompile>,
    call: Option<CallId>,
    captured: Captured,
    /// The outputs while the client still waited. If another process changes one of them before it is
    /// stored, the result is refused.
    snapshot: OutputSnapshot,
    /// Whether `captured` holds all messages of the compiler.
    is_whole: bool,
}

impl Publishing {
    /// Whether the result has to be stored before the client exits. That holds for probes: cargo and
    /// build scripts remove the outputs of a probe at once.
    pub fn is_urgent(&self) -> bool {
        self.compile.keyed.prepared.is_probe()
    }

    /// Returns the parts of the call from which uploads are made.
    pub(super) fn shared_call(&self, pipeline: &Pipeline) -> SharedCall {
        SharedCall::of(pipeline, &self.compile.keyed)
    }

    /// Whether the result may be stored at all.
    pub(super) fn is_shared(&self) -> bool {
        self.compile.is_shared
    }
}

/// Stage: records the event of a call whose compiler has exited. What is still to be changed beside
/// the outputs passes through the client's staging directory, so that nothing is changed once the
/// client has gone on.
pub(super) fn record(
    pipeline: &Pipeline,
    mut compile: Box<RunningCompile>,
    captured: Captured,
    is_whole: bool,
    staging: &Staging,
) -> Publishing {
    // A follower that waits as long as the compile took loses no more than it could have won.
    if let Some(leader) = &compile.leader {
        leader.begin_storing(captured.wall.clamp(FOLLOWERS_WAIT_MIN, PUBLISH_MAX));
    }
    compile.outputs.begin_storing(PUBLISH_MAX);
    let RunningCompile { keyed, hooks, event, .. } = &mut *compile;
    keyed.phases.end(Phase::Compile);
    let mut event = event.clone();
    keyed.write_times(&mut event);
    event.compile_time = captured.wall;
    let is_probe = keyed.prepared.is_probe();
    event.compiler_runs += u32::from(!is_probe);
    event.probe_runs += u32::from(is_probe);
    // A compile that fails is no miss: no cache could have had its result.
    if captured.exit != Exit::Code(0) && event.outcome == Outcome::Miss && !is_probe {
        event.outcome = Outcome::Skipped;
    }
    if captured.exit == Exit::Code(0)
        && let Err(error) = publish::amend_dep_info(&keyed.prepared.task, staging)
    {
        tracing::warn!("failed to add declared inputs to a dep-info: {error}");
    }
    let call = pipeline.recorder.record_call(&keyed.call, &keyed.client, Some(&keyed.settings), &event);
    // From here on the client may exit, and cargo with it. So the snapshot is taken now, before
    // another process can change the outputs, and the build learns that a result is to be stored.
    hooks.compiler_ended(keyed, staging);
    let snapshot = OutputSnapshot::take(&keyed.prepared.task, captured.started + captured.wall);
    Publishing { compile, call, captured, snapshot, is_whole }
}

/// Returns the results that have to be stored before this one, because it depends on their files.
pub(super) fn awaited(pipeline: &Pipeline, publishing: &mut Publishing) -> Vec<Follower> {
    if !publishing.is_shared() {
        return Vec::new();
    }
    let RunningCompile { keyed, outputs, .. } = &mut *publishing.compile;
    pipeline.outputs.awaited(&keyed.prepared.task, outputs)
}

/// Records that a result is not stored because storing it, or a result that it depends on, would
/// take too long.
pub(super) fn give_up(pipeline: &Pipeline, publishing: &Publishing) {
    if let Some(call) = publishing.call {
        let not_stored = Some(NotStored::TooLate);
        pipeline.recorder.amend(call, &Amendment { not_stored, ..Amendment::default() });
    }
}

/// Checks that the result can be stored, and returns the store. The error is the reason that the event
/// log shows, as for the stages after this one.
pub(super) fn open_store(pipeline: &Pipeline, publishing: &Publishing) -> Result<Arc<Store>, NotStored> {
    if !publishing.is_whole {
        return Err(NotStored::MessagesTooLong);
    }
    pipeline.store().map_err(NotStored::StoreUnusable)
}

/// Stage: reads what the compiler was seen to read; `None` if it was not observed, because all of it is
/// known beforehand.
pub(super) fn observe(publishing: &Publishing) -> Result<Option<Vec<u8>>, NotStored> {
    match &publishing.compile.watching {
        Watching::With(watch) => {
            let record = watch.read();
            Ok(Some(record.map_err(|error| NotStored::RecordUnreadable(error.to_string()))?))
        }
        Watching::Without => Ok(None),
        Watching::Failed(why) => Err(NotStored::NotObserved(why.clone())),
    }
}

/// Stage: stores the result under the action that its observations lead to.
pub(super) fn store(
    pipeline: &Pipeline,
    store: &Store,
    publishing: &Publishing,
    record: Option<&[u8]>,
) -> Result<Stored, NotStored> {
    let Publishing { compile, captured, .. } = publishing;
    let KeyedCall { call, settings, prepared, .. } = &compile.keyed;
    let Prepared { compiler, query, inputs, task, .. } = &**prepared;
    let in_cwd = |path: &PathBuf| call.cwd.join(path);
    let library_dirs: Vec<PathBuf> = compiler.facts().library_dirs.iter().map(in_cwd).collect();
    let temp_dir = call.env.path("TMPDIR").unwrap_or("/tmp".as_ref());
    let is_keyed = |name: &str| compiler.is_keyed(name, inputs, task);
    // The compiler opens the observer's own files, too. They are no inputs.
    let observer_files = [Some(pipeline.observer.dir()), compile.watching.library()];
    let observer_files: Vec<PathBuf> = observer_files.into_iter().flatten().map(Into::into).collect();
    let key = || action::explain_query(query);
    let watched = record.map(|record| Watched {
        record,
        rules: compiler.access_rules(),
        compiler: &inputs.toolchain.driver,
        sysroot: &inputs.toolchain.sysroot,
        library_dirs: &library_dirs,
        observer: &observer_files,
        temp_dir,
        is_keyed: &is_keyed,
        env: &call.env,
        known_linkers: compile.watching.recognised(),
        key: &key,
    });
    let complete = |seen: &[action::Observation]| action::complete(query, seen);
    let publication = Publication {
        task,
        inputs: &inputs.files,
        captured,
        snapshot: &publishing.snapshot,
        is_rebuild: compile.is_rebuild,
        most: pipeline.shared.most(settings),
        keeps_failures: prepared.is_probe(),
        names_in: pipeline.remote_function(settings),
        locators: compiler.locators(),
        watched,
        complete: &complete,
    };
    let stores = Stores { files: store.files(), blobs: store.blobs(), actions: store.actions() };
    match publish::publish(&publication, pipeline.world(), stores) {
        Ok(Published::Stored(stored)) => {
            for output in &stored.outputs {
                pipeline.world().note_placed(&output.path, output.digest, output.seen);
                if let Some(made) = &inputs.made_crate {
                    pipeline.world().note_crate(made, &output.path, &output.digest);
                }
            }
            pipeline.shared.note(task, &stored.shared, &stored.outputs);
            Ok(stored)
        }
        Ok(Published::Refused(refusal)) => Err(NotStored::Refused(refusal)),
        Err(error) => {
            let why = with_causes(&error);
            tracing::warn!("failed to store `{}`: {why}", task.label.name);
            Err(NotStored::Failed(why))
        }
    }
}

/// Stage: records whether the result is stored, or why it is not, and wakes the followers. `begun` is
/// when storing it began.
pub(super) fn wake_followers(
    pipeline: &Pipeline,
    mut publishing: Publishing,
    outcome: Result<&Stored, NotStored>,
    begun: Instant,
) {
    let leader = publishing.compile.leader.take();
    let (leader_outcome, amendment) = match outcome {
        Ok(stored) => {
            let keyed = &publishing.compile.keyed;
            keyed.client.build.stored(keyed, stored.action.hash, &stored.outputs);
            let action = Some(stored.action.hash);
            (LeaderOutcome::Stored, Amendment { action, stored_bytes: stored.bytes, ..Amendment::default() })
        }
        Err(why) => (LeaderOutcome::NotStored, Amendment { not_stored: Some(why), ..Amendment::default() }),
    };
    if let Some(call) = publishing.call {
        pipeline.recorder.amend(call, &Amendment { publish_time: begun.elapsed(), ..amendment });
    }
    // Last, because a follower looks up the result as soon as it wakes.
    if let Some(leader) = leader {
        leader.finish(leader_outcome);
    }
    pipeline.memos.save_if_due();
}
