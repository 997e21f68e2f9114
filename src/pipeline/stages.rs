//! The way of a call from the request to the answer, stage by stage.
//!
//! Each stage is a function from one type to the next. All of them get the [`Pipeline`] as their
//! context. A stage that ends the way early breaks with the next step of the caller.
//!
//! | stage | takes | gives | ends early with |
//! | --- | --- | --- | --- |
//! | receive | `Call`, [`CallClient`] | [`ReceivedCall`] | |
//! | configure | `ReceivedCall` | `ConfiguredCall` | a bypass |
//! | parse | `ConfiguredCall` | `ParsedCompile` | a bypass |
//! | key | `ParsedCompile` | `KeyedCall` | a bypass |
//! | look up | `KeyedCall` | `LookedUpCall` | |
//! | restore | `LookedUpCall` | `MissedCall` | the answer to a hit |
//! | coalesce | `MissedCall` | `PlannedCompile` | a wait for the leader |
//! | ask remotes | `PlannedCompile` | `PlannedCompile` | a wait for remotes ([`super::RemoteLookup`]) |
//! | compile | `PlannedCompile` | [`RunningCompile`] and the command that the client runs | |
//! | record | `RunningCompile`, [`Captured`] | [`Publishing`]; the client exits now | |
//! | observe | `Publishing` | the observer's record of what the compiler read | a refusal |
//! | store | `Publishing`, the record | `Stored` | a refusal |
//! | wake followers | `Publishing`, `Stored` or a refusal | | |
//! | share | `SharedCall`, `Stored` | the uploads that wait for their remotes | |
//!
//! Two invariants: every call is recorded as exactly one event, before it is answered (DMN-07); and
//! whatever fails here, the client runs the compiler. All functions may block on files and on the
//! store.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::answer::{CallReply, NextStep};
use super::bypass;
use super::call_state::{CallClient, ReceivedCall, RunningCompile};
use super::coalescer::{Follower, LeaderOutcome};
use super::context::Pipeline;
use super::fetch::ask_remotes;
use super::finish::{self, Publishing};
use super::hit::{look_up, restore};
use super::key::{configure, key, key_unrecorded, parse};
use super::miss::{coalesce, compile};
use super::phases::Phases;
use super::share::{note_uploads, share};
use crate::compile::Captured;
use crate::events::{NotStored, Outcome, Phase};
use crate::invocation::{Bypass, Call};
use crate::outputs::Staging;
use crate::publish::Stored;

impl Pipeline {
    /// Decides how to answer a call.
    pub fn begin(&self, call: Arc<Call>, client: CallClient) -> NextStep {
        let received = receive(call, client);
        either(answer(self, received, None))
    }

    /// Decides how to answer a follower's call, once its leader has ended. The call passes through all
    /// stages again, because its settings and inputs may have changed while it waited.
    pub fn resume(&self, mut received: ReceivedCall, leader_outcome: LeaderOutcome) -> NextStep {
        received.phases.end(Phase::Wait);
        either(answer(self, received, Some(leader_outcome)))
    }

    /// Records a call whose compiler has exited. The caller hands the returned value to
    /// [`Pipeline::publish`]. `is_whole` says whether `captured` holds all messages.
    pub fn finish(
        &self,
        compile: Box<RunningCompile>,
        captured: Captured,
        is_whole: bool,
        staging: &Staging,
    ) -> Publishing {
        finish::record(self, compile, captured, is_whole, staging)
    }

    /// Returns the results that have to be stored before this one, because it depends on their files.
    pub fn awaited(&self, publishing: &mut Publishing) -> Vec<Follower> {
        finish::awaited(self, publishing)
    }

    /// Stores a result, or records why it is not stored, and wakes the followers. It hashes the
    /// outputs, so it may take seconds; only followers wait for it.
    pub fn publish(&self, publishing: Publishing) {
        if publishing.is_shared() {
            let begun = Instant::now();
            let call = publishing.shared_call(self);
            match store_result(self, &publishing) {
                Ok(stored) => {
                    let uploads = note_uploads(self, &call);
                    finish::wake_followers(self, publishing, Ok(&stored), begun);
                    if let Ok(store) = self.store() {
                        share(self, &store, &call, &stored, uploads);
                    }
                }
                Err(why) => finish::wake_followers(self, publishing, Err(why), begun),
            }
        }
    }

    /// Records that a result is not stored because storing it, or a result that it depends on, would
    /// take too long.
    pub fn give_up(&self, publishing: &Publishing) {
        finish::give_up(self, publishing);
    }

    /// Records a call that the caller does not want to cache, and returns the reply to it.
    pub fn pass_on(&self, call: Arc<Call>, client: Option<i32>, why: Bypass) -> CallReply {
        let settings = self.settings(&call).ok();
        let received = receive(call, CallClient::without_build(client));
        bypass::pass_on(self, received, settings.as_deref(), why)
    }

    /// Hashes the inputs of a call, so that their digests are known when the store is open.
    pub fn warm_up(&self, call: &Arc<Call>) {
        let _ = key_unrecorded(self, Arc::clone(call), CallClient::without_build(None));
    }
}

fn receive(call: Arc<Call>, client: CallClient) -> ReceivedCall {
    ReceivedCall { call, client, phases: Phases::begin() }
}

/// The stages until the caller has something to do. `leader_outcome` is `None` for a call that has not
/// waited for a leader.
fn answer(
    pipeline: &Pipeline,
    received: ReceivedCall,
    leader_outcome: Option<LeaderOutcome>,
) -> ControlFlow<NextStep, NextStep> {
    let (store, configured) = configure(pipeline, received)?;
    let parsed = parse(pipeline, configured)?;
    let keyed = key(pipeline, parsed)?;
    let looked_up = look_up(pipeline, &store, keyed);
    // A former follower's hit is counted apart: without its leader it would be a miss.
    let hit = if leader_outcome.is_some() { Outcome::Dup } else { Outcome::LocalHit };
    let missed = restore(pipeline, &store, looked_up, hit)?;
    let planned = coalesce(pipeline, &store, missed, leader_outcome)?;
    let planned = ask_remotes(pipeline, planned)?;
    ControlFlow::Continue(compile(pipeline, planned))
}

/// The stages of a result that may be stored. The error is the reason why it is refused, as the event
/// log shows it.
fn store_result(pipeline: &Pipeline, publishing: &Publishing) -> Result<Stored, NotStored> {
    let store = finish::open_store(pipeline, publishing)?;
    let record = finish::observe(publishing)?;
    finish::store(pipeline, &store, publishing, record.as_deref())
}

fn either(step: ControlFlow<NextStep, NextStep>) -> NextStep {
    let (ControlFlow::Continue(step) | ControlFlow::Break(step)) = step;
    step
}
