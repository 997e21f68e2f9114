//! The breaker of the store: tells whether the store's disk hangs, so that calls do not wait for it.
//!
//! Work may take long for many reasons: a large file, a busy machine, a checkout on a slow disk. So the
//! time that work takes does not show that the store hangs. When work is about to exceed its limit,
//! the daemon probes the store with one small write and one small read.
//!
//! Invariant (DMN-03): the breaker trips if, and only if, a probe does not end within [`PROBE_MAX`], and
//! it stays tripped until that probe ends. The breaker knows nothing of calls.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::pipeline::StoreSlot;

/// The time within which a store that does not hang answers a probe.
pub(super) const PROBE_MAX: Duration = Duration::from_millis(900);

/// The name of the file in the cache directory that a probe writes and removes again.
const PROBE_FILE: &str = "write-probe";

/// Makes one small write and one small read in the store, and ends when both have succeeded or failed.
/// While the store is not open, calls still write to the event log, so a file is written beside it.
fn probe(cache_dir: &Path, slot: &StoreSlot) {
    // An error is an answer, too.
    if let StoreSlot::Open(store) = slot {
        let _ = store.probe();
        return;
    }
    let path = cache_dir.join(PROBE_FILE);
    let write = || File::create(&path)?.write_all(b"\n");
    let _ = write().and_then(|()| std::fs::remove_file(&path));
}

/// The breaker of one store.
pub(super) struct StoreBreaker {
    cache_dir: PathBuf,
    store: watch::Receiver<StoreSlot>,
    state: watch::Sender<BreakerState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakerState {
    /// The last probe ended in time, or there was none.
    Closed,
    /// A probe is under way.
    Probing,
    /// A probe is under way and has exceeded its limit.
    Tripped,
}

impl StoreBreaker {
    /// Creates the breaker of the store in this cache directory.
    pub(super) fn new(cache_dir: PathBuf, store: watch::Receiver<StoreSlot>) -> StoreBreaker {
        StoreBreaker { cache_dir, store, state: watch::Sender::new(BreakerState::Closed) }
    }

    /// Begins a probe and returns at once. Does nothing while another probe is under way.
    pub(super) fn probe(&self) {
        let begins = self.state.send_if_modified(|state| {
            let is_closed = *state == BreakerState::Closed;
            if is_closed {
                *state = BreakerState::Probing;
            }
            is_closed
        });
        if !begins {
            return;
        }
        let (running, mut ended) = oneshot::channel::<()>();
        let (cache_dir, slot) = (self.cache_dir.clone(), self.store.borrow().clone());
        let work = move || {
            probe(&cache_dir, &slot);
            drop(running);
        };
        // It is a thread of its own, because a runtime that ends waits for the threads of its pool.
        if let Err(error) = thread::Builder::new().name("store-probe".to_owned()).spawn(work) {
            // `running` was dropped with the closure, so the task below closes the breaker again.
            tracing::warn!("failed to start a thread that probes the store: {error}");
        }
        let state = self.state.clone();
        tokio::spawn(async move {
            if tokio::time::timeout(PROBE_MAX, &mut ended).await.is_err() {
                tracing::warn!("the store does not answer: calls go on without the cache");
                state.send_replace(BreakerState::Tripped);
                let _ = ended.await;
                tracing::info!("the store answers again");
            }
            state.send_replace(BreakerState::Closed);
        });
    }

    /// Returns whether the store does not answer at present.
    pub(super) fn is_tripped(&self) -> bool {
        *self.state.borrow() == BreakerState::Tripped
    }

    /// Waits until the breaker trips.
    pub(super) async fn tripped(&self) {
        // An error would mean that the sender is dropped, but `self` owns it.
        let _ = self.state.subscribe().wait_for(|state| *state == BreakerState::Tripped).await;
    }
}
