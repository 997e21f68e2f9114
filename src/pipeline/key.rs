//! The stages from a call to its key.

use std::ops::ControlFlow;
use std::sync::Arc;

use kache_cas::Store;

use super::answer::NextStep;
use super::bypass;
use super::call_state::{CallClient, ConfiguredCall, KeyedCall, ParsedCompile, ReceivedCall};
use super::context::Pipeline;
use super::phases::Phases;
use super::prepare::{key_command, parse_command};
use crate::invocation::{Bypass, Call};

/// Stage: reads the settings of a call, and takes the store, which has to be open.
pub(super) fn configure(
    pipeline: &Pipeline,
    received: ReceivedCall,
) -> ControlFlow<NextStep, (Arc<Store>, ConfiguredCall)> {
    let settings = match pipeline.settings(&received.call) {
        Ok(settings) => settings,
        Err(why) => {
            return ControlFlow::Break(NextStep::Answer(bypass::pass_on(pipeline, received, None, why)));
        }
    };
    pipeline.prepare_for_remotes(&settings);
    let configured = ConfiguredCall { received, settings };
    match pipeline.store() {
        Ok(store) => ControlFlow::Continue((store, configured)),
        Err(why) => ControlFlow::Break(bypass::pass_on_configured(pipeline, configured, why)),
    }
}

/// Stage: parses the command line, and checks that the settings let the call be cached.
pub(super) fn parse(
    pipeline: &Pipeline,
    mut configured: ConfiguredCall,
) -> ControlFlow<NextStep, ParsedCompile> {
    let ConfiguredCall { received, settings } = &mut configured;
    match parse_command(&received.call, settings, &mut received.phases) {
        Ok(command) => ControlFlow::Continue(ParsedCompile { configured, command }),
        Err(why) => ControlFlow::Break(bypass::pass_on_configured(pipeline, configured, why)),
    }
}

/// Stage: gathers and hashes the inputs, and makes the key.
pub(super) fn key(pipeline: &Pipeline, parsed: ParsedCompile) -> ControlFlow<NextStep, KeyedCall> {
    let ParsedCompile { mut configured, command } = parsed;
    let ConfiguredCall { received, settings } = &mut configured;
    match key_command(command, pipeline.world(), &received.call, settings, &mut received.phases) {
        Ok(prepared) => ControlFlow::Continue(configured.with_key(prepared)),
        Err(why) => ControlFlow::Break(bypass::pass_on_configured(pipeline, configured, why)),
    }
}

/// Makes the key of a call that no client waits for. The error is the reason why it has none; it is
/// not recorded. This reads and hashes inputs, so it may block.
pub fn key_unrecorded(pipeline: &Pipeline, call: Arc<Call>, client: CallClient) -> Result<KeyedCall, Bypass> {
    let settings = pipeline.settings(&call)?;
    let mut phases = Phases::begin();
    let command = parse_command(&call, &settings, &mut phases)?;
    let prepared = key_command(command, pipeline.world(), &call, &settings, &mut phases)?;
    let prepared = Arc::new(prepared);
    Ok(KeyedCall { call, client, settings, prepared, phases, remote_trouble: String::new() })
}
