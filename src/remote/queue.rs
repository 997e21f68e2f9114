//! The uploads that wait for their remotes. No build waits for them (NET-04).

use std::sync::Arc;

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, Store};
use kache_remote::RemoteError;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;

use super::handle::{RemoteHandle, WaitingUpload};
use super::upload::{Upload, UploadError, UploadOutcome, upload};
use crate::lookup::{Disagreement, quarantine};

/// The number of uploads that may wait. Beyond it, further ones are dropped.
const QUEUED_MAX: usize = 4096;

/// The number of uploads that are under way at once.
const AT_ONCE_MAX: usize = 4;

/// An upload that waits for its remote.
#[derive(Debug)]
struct QueuedUpload {
    waiting: WaitingUpload,
    upload: Upload,
    own_action: Digest<ActionMessage>,
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
}

/// Creates an empty queue.
pub fn upload_queue() -> (UploadQueue, UploadWorker) {
    let (sender, receiver) = mpsc::channel(QUEUED_MAX);
    (UploadQueue { sender }, UploadWorker { receiver })
}

impl UploadQueue {
    /// Adds an upload to this remote. `own_action` is the action of the same compile in the store. The upload is
    /// dropped if too many wait.
    pub fn push(&self, handle: &Arc<RemoteHandle>, upload: Upload, own_action: Digest<ActionMessage>) {
        let queued = QueuedUpload { waiting: handle.note_upload(), upload, own_action };
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
            tokio::spawn(async move {
                send(queued, &store).await;
                drop((store, guard, permit));
            });
        }
    }
}

/// Uploads one result. If the remote has another result for the action, the action is quarantined here: nobody
/// can tell which of the two is right.
async fn send(queued: QueuedUpload, store: &Arc<Store>) {
    let QueuedUpload { waiting, upload: one, own_action } = queued;
    let handle = waiting.handle();
    if let Some(trouble) = handle.trouble() {
        tracing::debug!("`{}` is not uploaded to {}: {trouble}", one.name, handle.name);
        return;
    }
    match upload(&*handle.writer, store, &one).await {
        Ok(UploadOutcome::Uploaded | UploadOutcome::WasThere) => {}
        Ok(UploadOutcome::Differs(output)) => {
            tracing::warn!("{} has another result of `{}`: `{output}` differs", handle.name, one.name);
            let store = Arc::clone(store);
            let disagreement = Disagreement { output, bytes: None };
            let quarantined =
                spawn_blocking(move || quarantine(store.actions(), &own_action, &disagreement)).await;
            if let Ok(Err(error)) = quarantined {
                tracing::warn!("failed to quarantine the action of `{}`: {error}", one.name);
            }
        }
        Err(error) => {
            if let UploadError::Remote(error) = &error {
                let _ = handle.note(Err::<(), RemoteError>(error.clone()));
            }
            tracing::warn!("`{}` is not uploaded to {}: {error}", one.name, handle.name);
        }
    }
}
