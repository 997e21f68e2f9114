//! Composes the daemon's status message from the state of its parts.

use std::time::Duration;

use kache_cas::Store;
use kache_client::control::{DaemonStatus, StoreStatus};

use super::activity::ActivityCount;
use super::core::{Core, Identity, StoreState};

/// The part of the status that does not change while the daemon lives.
#[derive(Clone, Debug)]
pub(super) struct DaemonInfo {
    pub(super) identity: Identity,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) cache_dir: String,
    /// The addresses of the served protocols.
    pub(super) listening: Vec<String>,
    /// The path of the log file; empty if there is none.
    pub(super) log_file: String,
    /// Problems at the start in spite of which the daemon runs.
    pub(super) troubles: Vec<String>,
    /// The configured size limit of the store.
    pub(super) limit_bytes: u64,
}

/// Returns the status message. `store` is `None` while the store is not open.
pub(super) fn compose(
    info: &DaemonInfo,
    core: &Core,
    store: Option<&Store>,
    count: ActivityCount,
    uptime: Duration,
) -> DaemonStatus {
    let held = store.map(Store::status).unwrap_or_default();
    let mut troubles: Vec<_> = core.troubles().into_iter().chain(info.troubles.clone()).collect();
    for trouble in held.troubles {
        // The core and the store may both report why upkeep failed.
        if !troubles.contains(&trouble) {
            troubles.push(trouble);
        }
    }
    let limit_bytes = if store.is_some() { held.limit_bytes } else { info.limit_bytes };
    DaemonStatus {
        pid: info.identity.pid,
        version: info.identity.version.clone(),
        uptime_s: uptime.as_secs(),
        idle_timeout_s: info.idle_timeout.map_or(0, |timeout| timeout.as_secs()),
        cache_dir: info.cache_dir.clone(),
        listening: info.listening.clone(),
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
        store_state: state_name(core.store()).to_owned(),
        log_file: info.log_file.clone(),
    }
}

fn state_name(state: &StoreState) -> &'static str {
    match state {
        StoreState::Opening => "opening",
        StoreState::Open => "open",
        StoreState::Unusable { .. } => "unusable",
        StoreState::Closed => "closing",
    }
}
