//! Passes calls on: the client runs the compiler as if kache were not there.

use std::path::PathBuf;
use std::time::SystemTime;

use kache_client::without_incremental;

use super::answer::{CallReply, NextStep};
use super::call_state::{ConfiguredCall, ReceivedCall};
use super::context::Pipeline;
use crate::config::CompileSettings;
use crate::events::{Event, EventReason, Outcome, PROBE};
use crate::invocation::{Bypass, Call, Reason};

/// Records a bypass and returns the reply. `settings` is `None` where they cannot be read; then
/// no line is printed, and no other wrapper runs in kache's place.
pub(super) fn pass_on(
    pipeline: &Pipeline,
    received: ReceivedCall,
    settings: Option<&CompileSettings>,
    why: Bypass,
) -> CallReply {
    let ReceivedCall { call, client, phases } = received;
    let outcome = match why.reason {
        Reason::InternalError => Outcome::Error,
        _ => Outcome::Passthrough,
    };
    let mut event = Event::new(SystemTime::now(), name_of(&call), outcome);
    event.version = version_of(&call);
    event.reason = Some(EventReason::Bypass(why.reason));
    event.detail.clone_from(&why.detail);
    if why.reason == Reason::Question {
        PROBE.clone_into(&mut event.kind);
        event.probe_runs = 1;
    } else {
        event.compiler_runs = 1;
    }
    event.cwd = call.cwd.display().to_string();
    event.elapsed = phases.elapsed();
    event.phases = phases.into_done();
    pipeline.recorder.record_call(&call, &client, settings, &event);
    // Incremental outputs differ from run to run. If only some builds wrote them, the keys of
    // crates that use them would change for no reason.
    let argv = without_incremental(&call.argv);
    let argv = match settings.and_then(|settings| settings.fallback.as_deref()) {
        Some(wrapper) => pipeline.fallbacks.before(argv, wrapper, call.env.get("PATH")),
        None => argv,
    };
    CallReply::PassOn { argv, why }
}

/// Passes on a call whose settings are known, as [`pass_on`] does.
pub(super) fn pass_on_configured(pipeline: &Pipeline, configured: ConfiguredCall, why: Bypass) -> NextStep {
    let ConfiguredCall { received, settings } = configured;
    NextStep::Answer(pass_on(pipeline, received, Some(&settings), why))
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
