//! Composes the daemon's status message from the state of its parts.
//!
//! The driver's loop may not ask the store, which may hang; a thread that may block does.

use std::sync::Arc;
use std::time::Duration;

use kache_cas::{Store, StoreStatus as HeldStatus};
use kache_client::control::{DaemonStatus, RemoteStatus, StoreStatus, reply};
use tokio::sync::mpsc::WeakSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::activity::ActivityCount;
use super::core::{Core, Identity, StoreState};
use crate::remote::RemoteHandle;

/// The time within which a store has to tell its size. It is shorter than the two seconds that a client
/// waits for the status.
const STORE_STATUS_MAX: Duration = Duration::from_millis(1_500);

/// The number of threads that may ask the store for its size at once. While it hangs and all of them are
/// held, the status is sent without asking it.
pub(super) const STATUSES_MAX: usize = 16;

/// The problem of a store that hangs.
const NO_ANSWER: &str = "it does not answer in time";

/// The name of the state of a store that cannot be used.
const UNUSABLE: &str = "unusable";

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

/// Returns the status message of a daemon whose store is not open.
pub(super) fn compose(
    info: &DaemonInfo,
    core: &Core,
    count: ActivityCount,
    uptime: Duration,
) -> DaemonStatus {
    let troubles = core.troubles().into_iter().chain(info.troubles.clone()).collect();
    DaemonStatus {
        pid: info.identity.pid,
        version: info.identity.version.clone(),
        uptime_s: uptime.as_secs(),
        idle_timeout_s: info.idle_timeout.map_or(0, |timeout| timeout.as_secs()),
        cache_dir: info.cache_dir.clone(),
        listening: info.listening.clone(),
        store: Some(StoreStatus { limit_bytes: info.limit_bytes, troubles, ..StoreStatus::default() }),
        connections_open: count.connections_open,
        requests_in_flight: count.requests_in_flight,
        store_state: state_name(core.store()).to_owned(),
        log_file: info.log_file.clone(),
        remotes: Vec::new(),
    }
}

/// Returns the status of a remote.
pub(super) fn remote(handle: &RemoteHandle) -> RemoteStatus {
    RemoteStatus {
        location: handle.name.clone(),
        reads: handle.reads,
        writes: handle.writes,
        trouble: handle.trouble().unwrap_or_default(),
        uploads_waiting: handle.uploads_waiting(),
        uploads_dropped: handle.uploads_dropped(),
        refusals: handle.refusals(),
    }
}

/// Completes the status of daemons whose store is open.
#[derive(Debug)]
pub(super) struct StatusHandler {
    free: Arc<Semaphore>,
}

impl Default for StatusHandler {
    fn default() -> Self {
        StatusHandler { free: Arc::new(Semaphore::new(STATUSES_MAX)) }
    }
}

impl StatusHandler {
    /// Asks the store on a thread that may block, and sends `status` with its answer. A store that does
    /// not answer within [`STORE_STATUS_MAX`] is reported as unusable.
    pub(super) fn begin(&self, store: Arc<Store>, status: DaemonStatus, replies: WeakSender<reply::Kind>) {
        let permit = Arc::clone(&self.free).try_acquire_owned();
        tokio::spawn(async move {
            let held = match permit {
                Ok(permit) => ask(store, permit).await,
                Err(_) => None,
            };
            let status = match held {
                Some(held) => with_store(status, held),
                None => without_answer(status),
            };
            // The reply is dropped if the client is gone or reads nothing.
            if let Some(replies) = replies.upgrade() {
                let _ = replies.try_send(reply::Kind::Status(Box::new(status)));
            }
        });
    }
}

/// Returns the status of the store; `None` if it does not answer in time.
async fn ask(store: Arc<Store>, permit: OwnedSemaphorePermit) -> Option<HeldStatus> {
    let asked = spawn_blocking(move || {
        let held = store.status();
        drop((store, permit));
        held
    });
    tokio::time::timeout(STORE_STATUS_MAX, asked).await.ok()?.ok()
}

fn with_store(mut status: DaemonStatus, held: HeldStatus) -> DaemonStatus {
    let mut troubles = status.store.take().unwrap_or_default().troubles;
    for trouble in held.troubles {
        // The core and the store may both report why upkeep failed.
        if !troubles.contains(&trouble) {
            troubles.push(trouble);
        }
    }
    let store = StoreStatus {
        physical_bytes: held.physical_bytes,
        logical_bytes: held.logical_bytes,
        limit_bytes: held.limit_bytes,
        blobs: held.blobs,
        action_results: held.action_results,
        troubles,
    };
    DaemonStatus { store: Some(store), ..status }
}

/// Returns the status of a store that does not answer. Its sizes are unknown and sent as 0, so the state says
/// that the store cannot be used.
fn without_answer(mut status: DaemonStatus) -> DaemonStatus {
    status.store.get_or_insert_default().troubles.push(NO_ANSWER.to_owned());
    DaemonStatus { store_state: UNUSABLE.to_owned(), ..status }
}

fn state_name(state: &StoreState) -> &'static str {
    match state {
        StoreState::Opening => "opening",
        StoreState::Open => "open",
        StoreState::Unusable { .. } => UNUSABLE,
        StoreState::Closed => "closing",
    }
}
