//! The receiving end of the queue: does its work, one piece after the other.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use kache_cas::Store;
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::schedule::{Job, QueuedUpload};
use super::send;
use super::upload_queue::{LIMIT_SHARE, QueueState, UploadEnd};
use crate::remote::handle::RemoteHandle;

/// The interval at which the queue looks for uploads whose remote answers again.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// How long the uploads of a remote pause after it has refused one. A build does not ask it again.
const REFUSED_PAUSE: Duration = Duration::from_secs(10 * 60);

/// How long an upload pauses after an error of this machine.
const FAILED_PAUSE: Duration = Duration::from_secs(60);

/// The number of uploads that are under way at once.
const AT_ONCE_MAX: usize = 4;

/// The receiving end of the queue. It ends when all of the sending ends are dropped.
#[derive(Debug)]
pub struct UploadWorker {
    state: Weak<QueueState>,
    changed: Arc<Notify>,
}

impl UploadWorker {
    pub(super) fn new(state: &Arc<QueueState>, changed: &Arc<Notify>) -> UploadWorker {
        UploadWorker { state: Arc::downgrade(state), changed: Arc::clone(changed) }
    }

    /// Makes the uploads, until the queue is dropped. `store` returns the store, with a guard that keeps it open
    /// for one upload; `None` while it is not open.
    pub async fn run<G: Send + 'static>(self, store: impl Fn() -> Option<(Arc<Store>, G)>) {
        let at_once = Arc::new(Semaphore::new(AT_ONCE_MAX));
        loop {
            let Ok(permit) = Arc::clone(&at_once).acquire_owned().await else { return };
            let Some(state) = self.state.upgrade() else { return };
            // Without a store nothing can be sent, so nothing is taken.
            let opened = store();
            let job = opened.and_then(|opened| {
                let job = state.schedule.lock().next(Instant::now(), SystemTime::now())?;
                Some((job, opened))
            });
            let Some((job, (store, guard))) = job else {
                drop((state, permit));
                let _ = tokio::time::timeout(RETRY_EVERY, self.changed.notified()).await;
                continue;
            };
            let changed = Arc::clone(&self.changed);
            tokio::spawn(async move {
                do_job(&state, &store, job).await;
                drop((store, guard, permit));
                // What this upload has kept back may begin now.
                changed.notify_one();
            });
        }
    }
}

async fn do_job(state: &Arc<QueueState>, store: &Arc<Store>, job: Job) {
    match job {
        Job::Load(handle) => {
            let (state, store) = (Arc::clone(state), Arc::clone(store));
            let load = move || {
                load(&state, &store, &handle);
                state.schedule.lock().note_loaded(&handle.id);
            };
            // A panic in there loses the uploads of an earlier daemon and nothing else.
            let _ = spawn_blocking(load).await;
        }
        Job::Drop(upload) => {
            state.drop_upload(&upload, "it has waited too long");
            state.schedule.lock().end(&upload.waiting.handle().id, upload.item);
        }
        Job::Lease(handle, items) => {
            let store = Arc::clone(store);
            let lease = move || {
                for item in items {
                    if let Err(error) = send::lease(&store, item) {
                        tracing::debug!("the blobs of an upload to {} have no lease: {error}", handle.name);
                    }
                }
            };
            let _ = spawn_blocking(lease).await;
        }
        Job::Send(upload) => send(state, store, upload).await,
    }
}

/// Reads the uploads that an earlier daemon left for a remote.
fn load(state: &QueueState, store: &Store, handle: &Arc<RemoteHandle>) {
    let left = state.dir.list(&handle.id).unwrap_or_else(|error| {
        tracing::warn!("the uploads that wait for {} are not known: {error}", handle.name);
        Vec::new()
    });
    let bytes_max = store.limit_bytes() / LIMIT_SHARE;
    for (item, since) in left {
        if state.schedule.lock().has(&handle.id, item) {
            continue;
        }
        let Some((size_bytes, is_leaf)) = send::size(store, item) else {
            state.forget(&handle.id, item);
            continue;
        };
        let waiting = handle.note_upload();
        let queued = QueuedUpload { item, size_bytes, is_leaf, since, leased: None, waiting };
        let dropped = state.schedule.lock().add(queued, bytes_max);
        for upload in dropped {
            state.drop_upload(&upload, "too many wait");
        }
    }
}

/// Makes one upload. Puts it back if it may succeed later.
async fn send(state: &QueueState, store: &Arc<Store>, queued: QueuedUpload) {
    let (item, handle) = (queued.item, Arc::clone(queued.waiting.handle()));
    let outcome = send::send(&handle, store, item).await;
    let pause = match &outcome {
        Ok(()) => None,
        Err(send::SendError::Unreachable(_)) => Some(Duration::ZERO),
        Err(send::SendError::Refused(_)) => Some(REFUSED_PAUSE),
        Err(send::SendError::Here(_)) => Some(FAILED_PAUSE),
        Err(send::SendError::Never(_)) => None,
    };
    if let Ok(()) | Err(send::SendError::Refused(_)) = &outcome {
        let refused = outcome.as_ref().err().map(send::SendError::failure);
        handle.note_upload_refused(refused.map(|failure| &*failure.message));
    }
    let failure = outcome.err().map(send::SendError::into_failure);
    if let Some(failure) = &failure {
        tracing::warn!("a result is not uploaded to {}: {}", handle.name, failure.message);
    }
    // The end is told before the upload leaves the queue, so a receiver that sees an empty queue has every end; there may be no receiver.
    let _ = state.ends.send(UploadEnd { remote: handle.id.clone(), item, failure });
    match pause {
        Some(pause) => state.schedule.lock().put_back(queued, Some(Instant::now() + pause)),
        None => {
            state.forget(&handle.id, item);
            state.schedule.lock().end(&handle.id, item);
        }
    }
}
