//! How commands start a daemon: its program, arguments and environment.

use std::time::Instant;

use kache_client::{START_WAIT_MAX, Starter, engine_path};

use super::failure::Failure;
use crate::config::Settings;

/// Returns a starter for a daemon with these settings. They are handed over in its environment,
/// which holds nothing else (DMN-01).
pub(super) fn starter(settings: &Settings) -> Result<Starter, Failure> {
    Ok(Starter {
        address: settings.address.clone(),
        engine: engine_path().map_err(Failure::new)?,
        args: ["daemon", "run", "--detach"].map(Into::into).to_vec(),
        environment: settings.to_variables(),
    })
}

/// Returns the moment at which a command stops waiting for a daemon to start or to stop.
pub(super) fn deadline() -> Instant {
    Instant::now() + START_WAIT_MAX
}
