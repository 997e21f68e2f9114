//! What the daemon says of itself: from its parts to the message, in one place.

use std::time::Duration;

use kache_cas::Store;
use kache_client::control::{DaemonStatus, StoreStatus};

use super::activity::ActivityCount;
use super::core::{Core, Identity, StoreState};

/// What never changes while it lives.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) identity: Identity,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) cache_dir: String,
    pub(super) listening: Vec<String>,
    pub(super) log_file: String,
    /// What went wrong at the start and is no reason not to run.
    pub(super) troubles: Vec<String>,
    pub(super) limit_bytes: u64,
}

/// The whole of it.
pub(super) fn compose(
    facts: &Facts,
    core: &Core,
    store: Option<&Store>,
    count: ActivityCount,
    uptime: Duration,
) -> DaemonStatus {
    let held = store.map(Store::status).unwrap_or_default();
    let mut troubles: Vec<_> = core.troubles().into_iter().chain(facts.troubles.clone()).collect();
    for trouble in held.troubles {
        // What upkeep met, the store may have noted too.
        if !troubles.contains(&trouble) {
            troubles.push(trouble);
        }
    }
    let limit_bytes = if store.is_some() { held.limit_bytes } else { facts.limit_bytes };
    DaemonStatus {
        pid: facts.identity.pid,
        version: facts.identity.version.clone(),
        uptime_s: uptime.as_secs(),
        idle_timeout_s: facts.idle_timeout.map_or(0, |timeout| timeout.as_secs()),
        cache_dir: facts.cache_dir.clone(),
        listening: facts.listening.clone(),
        store: Some(StoreStatus {
            physical_bytes: held.physical_bytes,
            logical_bytes: held.logical_bytes,
            limit_bytes,
            blobs: held.blobs,
            action_results: held.action_results,
            troubles,
        }),
        connections_open: count.connections_open,
        requests_in_flight: count.requests_in_flight,
        store_state: word(core.store()).to_owned(),
        log_file: facts.log_file.clone(),
    }
}

fn word(state: &StoreState) -> &'static str {
    match state {
        StoreState::Opening => "opening",
        StoreState::Open => "open",
        StoreState::Unusable { .. } => "unusable",
        StoreState::Closed => "closing",
    }
}
