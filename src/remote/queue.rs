//! The uploads that wait for their remotes. No build waits for them (NET-04).

use std::sync::Arc;

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, Store};
use kache_remote::RemoteError;
use tokio::sync::{Semaphore, mpsc};

use super::handle::RemoteHandle;
use super::upload::{Upload, UploadError, UploadOutcome, upload};

/// The number of uploads that may wait. Beyond it, further ones are dropped.
const QUEUED_MAX: usize = 4096;

/// The number of uploads that are under way at once.
const AT_ONCE_MAX: usize = 4;

/// An upload with its remote.
#[derive(Debug)]
pub struct QueuedUpload {
    /// The remote that gets the result.
    pub handle: Arc<RemoteHandle>,
    /// The result.
    pub upload: Upload,
    /// The action of the same compile in the store.
    pub own_action: Digest<ActionMessage>,
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
    /// Adds an upload. It is dropped if too many wait.
    pub fn push(&self, queued: QueuedUpload) {
        if let Err(error) = self.sender.try_send(queued) {
            let (mpsc::error::TrySendError::Full(queued) | mpsc::error::TrySendError::Closed(queued)) = error;
            tracing::warn!("`{}` is not uploaded: too many uploads wait", queued.upload.name);
        }
    }
}

impl UploadWorker {
    /// Uploads everything that comes in, until the queue is dropped. `store` returns the store while it is
    /// open. `differs` is told of an action for which a remote has another result.
    pub async fn run(
        mut self,
        store: impl Fn() -> Option<Arc<Store>>,
        differs: impl Fn(&Digest<ActionMessage>) + Clone + Send + 'static,
    ) {
        let at_once = Arc::new(Semaphore::new(AT_ONCE_MAX));
        while let Some(queued) = self.receiver.recv().await {
            let Ok(permit) = Arc::clone(&at_once).acquire_owned().await else { return };
            let Some(store) = store() else { continue };
            let differs = differs.clone();
            tokio::spawn(async move {
                if send(&queued, &store).await == Some(UploadOutcome::Differs) {
                    differs(&queued.own_action);
                }
                drop(permit);
            });
        }
    }
}

async fn send(queued: &QueuedUpload, store: &Arc<Store>) -> Option<UploadOutcome> {
    let QueuedUpload { handle, upload: one, .. } = queued;
    if let Some(trouble) = handle.trouble() {
        tracing::debug!("`{}` is not uploaded to {}: {trouble}", one.name, handle.name);
        return None;
    }
    match upload(&*handle.remote, store, one).await {
        Ok(outcome) => Some(outcome),
        Err(error) => {
            if let UploadError::Remote(error) = &error {
                let _ = handle.note::<()>(Err::<(), RemoteError>(error.clone()));
            }
            tracing::warn!("`{}` is not uploaded to {}: {error}", one.name, handle.name);
            None
        }
    }
}
