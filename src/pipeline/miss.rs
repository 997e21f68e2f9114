//! Compiles after a miss, or follows a call that compiles the same.

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use kache_cas::Store;

use super::answer::NextStep;
use super::build_hooks::EditDecision;
use super::call_state::{
    CurrentObservations, KeyedCall, MissedCall, PlannedCompile, QueryHash, ReceivedCall, RunningCompile,
};
use super::coalescer::{Join, LeaderOutcome};
use super::command;
use super::context::Pipeline;
use super::prepare::Prepared;
use crate::events::{EventReason, Outcome};
use crate::inputs::{InputKind, is_script};
use crate::invocation::{Call, Reason};
use crate::lookup;
use crate::observer::Watching;
use crate::outputs;

/// Stage: becomes the leader of a compile, or waits for the call that leads one with the same result.
/// `leader_outcome` is that of the leader for which this call has waited.
pub(super) fn coalesce(
    pipeline: &Pipeline,
    store: &Store,
    missed: MissedCall,
    leader_outcome: Option<LeaderOutcome>,
) -> ControlFlow<NextStep, PlannedCompile> {
    let decision = missed.keyed.client.build.decide(&missed.keyed);
    // The result of a crate that is being edited is not stored, so a follower would wait in vain. And
    // if the leader that this call waited for stored nothing, the next one would not either: the call
    // then compiles at once, beside its former fellow followers.
    if decision != EditDecision::Shared || leader_outcome == Some(LeaderOutcome::NotStored) {
        return ControlFlow::Continue(PlannedCompile { missed, decision, leader: None });
    }
    match join(pipeline, store, &missed) {
        Join::Leader(leader) => {
            ControlFlow::Continue(PlannedCompile { missed, decision, leader: Some(leader) })
        }
        Join::Follower(follower) => {
            let KeyedCall { call, client, phases, .. } = missed.keyed;
            ControlFlow::Break(NextStep::Wait(follower, Box::new(ReceivedCall { call, client, phases })))
        }
    }
}

/// Stage: prepares the compiler's run, which the client does.
pub(super) fn compile(pipeline: &Pipeline, planned: PlannedCompile) -> NextStep {
    let PlannedCompile { missed: MissedCall { keyed, mut event }, decision, leader } = planned;
    if let EditDecision::Local { why, .. } = &decision
        && event.outcome == Outcome::Miss
    {
        event.outcome = Outcome::Passthrough;
        event.reason = Some(EventReason::Bypass(Reason::Editing));
        event.detail.clone_from(why);
    }
    let prepared = &keyed.prepared;
    let is_incremental = matches!(decision, EditDecision::Local { is_incremental: true, .. });
    let mut command = command::compiler_command(&keyed.call, prepared, is_incremental);
    let watching = watch(pipeline, &keyed.call, prepared, &decision);
    if let Watching::With(watch) = &watching {
        command.variables = watch.variables();
    }
    // Asked before the compiler runs, because the answer depends on files of an earlier compile.
    let is_rebuild = outputs::is_rebuild(&prepared.task);
    let outputs = pipeline.outputs.begin(&prepared.task);
    let hooks = keyed.client.build.compile_begins(&keyed, &decision);
    if let Some(leader) = &leader {
        leader.begin_compiling();
    }
    let is_shared = decision == EditDecision::Shared;
    let compile = RunningCompile { keyed, event, is_rebuild, is_shared, watching, outputs, leader, hooks };
    NextStep::Run(command, Box::new(compile))
}

/// Becomes a leader of this query, or follows one that makes the same observations now. Calls of
/// one query with different modules see different values, and do not wait for each other.
fn join(
    pipeline: &Pipeline,
    store: &Store,
    MissedCall { keyed, .. }: &MissedCall,
) -> Join<QueryHash, CurrentObservations> {
    let task = &keyed.prepared.task;
    let env = &keyed.call.env;
    let (world, actions) = (pipeline.world(), store.actions());
    // After an error the call follows, which is safe: a follower looks up the result again.
    let observations = lookup::observe_newest_set(task, env, world, actions).unwrap_or_default();
    pipeline.coalescer.join_if(&task.query.hash, Arc::new(observations), |leader| {
        lookup::are_current(task, env, world, leader).unwrap_or(true)
    })
}

/// Sets up the observer for a compile whose result may be stored. A probe needs none, because
/// everything that it reads is known beforehand.
fn watch(pipeline: &Pipeline, call: &Call, prepared: &Prepared, decision: &EditDecision) -> Watching {
    if !matches!(decision, EditDecision::Shared) || prepared.is_probe() {
        return Watching::Without;
    }
    let Prepared { inputs, task, .. } = prepared;
    let linkers = inputs.files.iter().filter(|input| input.kind == InputKind::LinkToolchain);
    // On some systems libraries have the execute permission, too; a linker does not run them.
    let is_program = |path: &PathBuf| !path.as_os_str().as_bytes().windows(3).any(|part| part == b".so");
    let linkers = linkers.filter(|input| input.is_executable);
    let linkers = linkers.filter_map(|input| task.roots.locate(&input.path)).filter(is_program);
    let programs: Vec<PathBuf> = std::iter::once(inputs.toolchain.driver.clone()).chain(linkers).collect();
    let watching = pipeline.observer.watch(&programs, &call.env);
    let script = programs.iter().skip(1).find(|program| is_script(program));
    match (watching, script) {
        (Watching::Without, Some(script)) => {
            Watching::Failed(format!("the linker `{}` is a script", script.display()))
        }
        (watching, _) => watching,
    }
}
