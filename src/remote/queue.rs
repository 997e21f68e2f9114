//! The uploads that wait for their remotes. No build waits for them (NET-04).

use std::sync::Arc;
use std::time::Duration;

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, Store};
use kache_remote::RemoteError;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::handle::WaitingUpload;
use super::upload::{Upload, UploadError, UploadOutcome, upload};
use crate::lookup::{Disagreement, quarantine};

/// The number of uploads that may wait. Beyond it, further ones are dropped.
const QUEUED_MAX: usize = 4096;

/// The interval at which an upload is tried again while its remote does not answer.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// The time after which an upload is given up.
const AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// The number of uploads that are under way at once.
const AT_ONCE_MAX: usize = 4;

/// An upload that waits for its remote.
#[derive(Debug)]
struct QueuedUpload {
    waiting: WaitingUpload,
    upload: Box<Upload>,
    own_action: Digest<ActionMessage>,
    since: Instant,
}

/// The sending end of the queue.
#[derive(Clone, Debug)]
pub struct UploadQueue {
    sender: mpsc::Sender<QueuedUpload>,
}

/// The receiving end of the queue.
#[derive(Debug)]
pub struct UploadWorker {
    receiver: mpsc::Receiver<QueuedUpload>,
    /// Takes the uploads that are tried again. It is weak, so that the queue ends when its other end is dropped.
    again: mpsc::WeakSender<QueuedUpload>,
}

/// Creates an empty queue.
pub fn upload_queue() -> (UploadQueue, UploadWorker) {
    let (sender, receiver) = mpsc::channel(QUEUED_MAX);
    let again = sender.downgrade();
    (UploadQueue { sender }, UploadWorker { receiver, again })
}

impl UploadQueue {
    /// Adds an upload to the remote of `waiting`. `own_action` is the action of the same compile in the store. The
    /// upload is dropped if too many wait.
    pub fn push(&self, waiting: WaitingUpload, upload: Upload, own_action: Digest<ActionMessage>) {
        let queued = QueuedUpload { waiting, upload: Box::new(upload), own_action, since: Instant::now() };
        if let Err(error) = self.sender.try_send(queued) {
            let (mpsc::error::TrySendError::Full(queued) | mpsc::error::TrySendError::Closed(queued)) = error;
            tracing::warn!("`{}` is not uploaded: too many uploads wait", queued.upload.name);
        }
    }
}

impl UploadWorker {
    /// Uploads everything that comes in, until the queue is dropped. `store` returns the store, with a guard
    /// that keeps it open for one upload; `None` while it is not open, and then the upload is dropped.
    pub async fn run<G: Send + 'static>(mut self, store: impl Fn() -> Option<(Arc<Store>, G)>) {
        let at_once = Arc::new(Semaphore::new(AT_ONCE_MAX));
        while let Some(queued) = self.receiver.recv().await {
            let Ok(permit) = Arc::clone(&at_once).acquire_owned().await else { return };
            let Some((store, guard)) = store() else { continue };
            let again = self.again.clone();
            tokio::spawn(async move {
                let failed = send(queued, &store).await;
                drop((store, guard, permit));
                if let Some(failed) = failed {
                    tokio::time::sleep(RETRY_EVERY).await;
                    // A queue that is full or has ended has no room for it.
                    let _ = again.upgrade().map(|again| again.try_send(failed));
                }
            });
        }
    }
}

/// Uploads one result. Returns it if the remote does not answer, so that it is tried again. If the remote has
/// another result for the action, the action is quarantined here: nobody can tell which of the two is right.
async fn send(queued: QueuedUpload, store: &Arc<Store>) -> Option<QueuedUpload> {
    let QueuedUpload { waiting, upload: one, own_action, since } = &queued;
    let handle = waiting.handle();
    let may_retry = since.elapsed() < AGE_MAX;
    if handle.trouble().is_some() && may_retry {
        return Some(queued);
    }
    match upload(&*handle.writer, store, one).await {
        Ok(UploadOutcome::Uploaded | UploadOutcome::WasThere) => {}
        Err(UploadError::Remote(error)) if error.is_transient() && may_retry => {
            let _ = handle.note(Err::<(), RemoteError>(error));
            return Some(queued);
        }
        Ok(UploadOutcome::Differs(output)) => {
            tracing::warn!("{} has another result of `{}`: `{output}` differs", handle.name, one.name);
            let store = Arc::clone(store);
            let (own_action, disagreement) = (*own_action, Disagreement { output, bytes: None });
            let quarantined =
                spawn_blocking(move || quarantine(store.actions(), &own_action, &disagreement)).await;
            if let Ok(Err(error)) = quarantined {
                tracing::warn!("failed to quarantine the action of `{}`: {error}", one.name);
            }
        }
        Err(error) => tracing::warn!("`{}` is not uploaded to {}: {error}", one.name, handle.name),
    }
    None
}
