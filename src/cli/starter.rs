//! From a configuration to a starter: what a daemon is started with.

use std::time::Instant;

use kache_client::{START_WAIT_MAX, Starter, engine_path};

use super::failure::Failure;
use crate::config::Settings;

/// How a daemon with these settings is started. They travel in its environment, which holds
/// nothing else (DMN-01).
pub(super) fn starter(settings: &Settings) -> Result<Starter, Failure> {
    Ok(Starter {
        address: settings.address.clone(),
        engine: engine_path().map_err(Failure::new)?,
        args: ["daemon", "run", "--detach"].map(Into::into).to_vec(),
        environment: settings.to_variables(),
    })
}

/// The moment after which starting is given up.
pub(super) fn deadline() -> Instant {
    Instant::now() + START_WAIT_MAX
}
