//! Finds the result of a call, restores it and answers the call with it.

use std::ops::ControlFlow;

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, Hash, Store, with_causes};
use kache_proto::reapi::ActionResult;

use super::answer::{CallReply, NextStep};
use super::call_state::{KeyedCall, LookedUpCall, MissedCall};
use super::context::Pipeline;
use super::prepare::Prepared;
use super::verify::Verification;
use crate::events::{Event, EventReason, Outcome, Phase};
use crate::invocation::Call;
use crate::lookup::{self, LookupError, LookupOutcome, ResultOrigin};
use crate::restore;

/// Stage: looks up the result of a call.
pub fn look_up(pipeline: &Pipeline, store: &Store, mut keyed: KeyedCall) -> LookedUpCall {
    let found = find(pipeline, store, &keyed.call, &keyed.prepared);
    keyed.phases.end(Phase::Lookup);
    LookedUpCall { keyed, found }
}

/// Stage: restores the result and answers the call. On a miss, and where the lookup or the restore
/// failed, the call goes on, and its event says why. `hit` is the outcome that a hit is recorded as.
pub(super) fn restore(
    pipeline: &Pipeline,
    store: &Store,
    LookedUpCall { mut keyed, found }: LookedUpCall,
    hit: Outcome,
) -> ControlFlow<NextStep, MissedCall> {
    let mut event = keyed.event(Outcome::Miss);
    match found {
        Ok(LookupOutcome::Hit { action, result, origin }) => {
            event.action = Some(action.hash);
            if origin == ResultOrigin::Uploaded {
                event.reason = Some(EventReason::Uploaded);
            }
            event.outcome = hit;
            match restore_result(pipeline, store, &mut keyed, &mut event, (action.hash, &result)) {
                Ok(reply) => return ControlFlow::Break(answer(pipeline, reply, keyed, action, result)),
                // The lookup has just found this blob. A tool must have written to it through a
                // hard link in a checkout, so that the store no longer serves it.
                Err(restore::RestoreError::Gone { .. }) => {
                    event.note_unusable_result(action.hash);
                }
                Err(error) => {
                    event.outcome = Outcome::Error;
                    event.reason = Some(EventReason::RestoreFailed);
                    event.detail = with_causes(&error);
                }
            }
        }
        Ok(LookupOutcome::Miss(miss)) => event.note_miss(&miss),
        Err(error) => {
            event.outcome = Outcome::Error;
            event.reason = Some(EventReason::LookupFailed);
            event.detail = with_causes(&error);
        }
    }
    ControlFlow::Continue(MissedCall { keyed, event })
}

/// Looks up the result of a compile.
pub(super) fn find(
    pipeline: &Pipeline,
    store: &Store,
    call: &Call,
    prepared: &Prepared,
) -> Result<LookupOutcome, LookupError> {
    lookup::find(&prepared.task, &call.env, pipeline.world(), store.actions(), pipeline.uploads)
}

/// Restores the result of an action, records the event and tells every part of kache that keeps
/// track of restored files. After an error nothing of the result is left in the checkout, and no
/// event is recorded.
pub fn restore_result(
    pipeline: &Pipeline,
    store: &Store,
    keyed: &mut KeyedCall,
    event: &mut Event,
    (action, result): (Hash, &ActionResult),
) -> Result<CallReply, restore::RestoreError> {
    let (task, staging) = (&keyed.prepared.task, &keyed.client.staging);
    let most = pipeline.shared.most(&keyed.settings);
    let source = restore::RestoreSource { files: store.files(), blobs: store.blobs(), most };
    let restored = restore::restore(task, result, source, staging);
    // Before anything else is done with them: if the daemon ended now, no later daemon would check
    // shared files that are not recorded.
    if let Ok(restored) = &restored {
        pipeline.shared.note(task, &restored.shared, &restored.placed);
    }
    keyed.phases.end(Phase::Restore);
    let restored = restored?;
    for file in &restored.placed {
        pipeline.world().note_placed(&file.path, file.digest, file.seen);
        if let Some(made) = &keyed.prepared.inputs.made_crate {
            pipeline.world().note_crate(made, &file.path, &file.digest);
        }
    }
    event.restored_bytes = restored.bytes;
    event.shared_bytes = restored.shared_bytes;
    event.compile_time = restored.compile_time;
    keyed.write_times(event);
    pipeline.recorder.record_call(&keyed.call, &keyed.client, Some(&keyed.settings), event);
    keyed.client.build.restored(keyed, action, &restored.placed);
    Ok(CallReply::Done { messages: restored.messages, exit_code: restored.exit_code })
}

/// The answer to a hit. One in `cache.verify_sample` hits is verified afterwards.
fn answer(
    pipeline: &Pipeline,
    reply: CallReply,
    keyed: KeyedCall,
    action: Digest<ActionMessage>,
    result: Box<ActionResult>,
) -> NextStep {
    if !keyed.prepared.is_probe() && pipeline.take_sample(&keyed.settings) {
        let verification = Verification::of(keyed, action, result);
        return NextStep::AnswerThenVerify(reply, Box::new(verification));
    }
    NextStep::Answer(reply)
}
