//! The sending end of the queue, and the state that both ends share.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, Hash, Store};
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use super::dir::{UploadItem, WaitingDir};
use super::schedule::{QueuedUpload, Schedule};
use super::worker::UploadWorker;
use crate::inputs::ToolchainFiles;
use crate::remote::failure::TransferFailure;
use crate::remote::handle::{RemoteHandle, WaitingUpload};
use crate::remote::upload::Upload;
use crate::remote::{record, toolchain};

/// One part in this many of the store's limit may be results that wait for a remote.
pub(super) const LIMIT_SHARE: u64 = 8;

/// The number of ends that a slow receiver may miss.
const ENDS_MAX: usize = 4096;

/// The end of one attempt to make an upload.
#[derive(Clone, Debug)]
pub struct UploadEnd {
    /// The id of the remote.
    pub remote: String,
    /// The upload.
    pub item: UploadItem,
    /// Why it was not made; `None` if the remote has it now.
    pub failure: Option<TransferFailure>,
}

#[derive(Debug)]
pub(super) struct QueueState {
    pub(super) schedule: Mutex<Schedule>,
    pub(super) dir: WaitingDir,
    pub(super) ends: broadcast::Sender<UploadEnd>,
}

/// The sending end of the queue.
#[derive(Clone, Debug)]
pub struct UploadQueue {
    state: Arc<QueueState>,
    changed: Arc<Notify>,
}

/// Creates the queue of a cache directory.
pub fn upload_queue(cache_dir: &Path) -> (UploadQueue, UploadWorker) {
    let (ends, _) = broadcast::channel(ENDS_MAX);
    let state = Arc::new(QueueState { schedule: Mutex::default(), dir: WaitingDir::new(cache_dir), ends });
    let changed = Arc::<Notify>::default();
    let worker = UploadWorker::new(&state, &changed);
    (UploadQueue { state, changed }, worker)
}

impl UploadQueue {
    /// Makes a remote known, so that the uploads which wait for it begin.
    pub fn add_remote(&self, handle: &Arc<RemoteHandle>) {
        if handle.writes && self.state.schedule.lock().add_remote(handle) {
            self.changed.notify_one();
        }
    }

    /// Adds the result that the store has for `own_action`. The upload is dropped if the store cannot take its
    /// record. It blocks on the disk.
    pub fn push(
        &self,
        waiting: WaitingUpload,
        store: &Store,
        upload: &Upload,
        own_action: &Digest<ActionMessage>,
    ) {
        if let Err(error) = record::save(store.actions(), own_action, upload) {
            tracing::warn!("`{}` is not uploaded: {error}", upload.name);
            return;
        }
        let item =
            UploadItem::Result { own_action: own_action.hash, function: upload.action.digest.function };
        let (size_bytes, is_leaf) = (upload.size_bytes(), upload.is_leaf);
        let since = SystemTime::now();
        let queued =
            QueuedUpload { item, size_bytes, is_leaf, since, leased: None, not_before: None, waiting };
        self.add(queued, store.limit_bytes() / LIMIT_SHARE);
    }

    /// Adds the files of a toolchain. It blocks on the disk.
    pub fn push_toolchain(&self, waiting: WaitingUpload, store: &Store, files: &ToolchainFiles) {
        if let Err(error) = toolchain::save(store.actions(), files) {
            tracing::warn!("a toolchain is not uploaded: {error}");
            return;
        }
        let item = UploadItem::Toolchain { tree: files.tree.hash, function: files.tree.function };
        let since = SystemTime::now();
        let queued = QueuedUpload {
            item,
            size_bytes: 0,
            is_leaf: false,
            since,
            leased: None,
            not_before: None,
            waiting,
        };
        self.add(queued, u64::MAX);
    }

    /// Adds the list of a workspace's last builds, which the store has. It blocks on the disk.
    pub fn push_builds(&self, waiting: WaitingUpload, workspace: Hash) {
        let item = UploadItem::Builds { workspace };
        let since = SystemTime::now();
        let queued = QueuedUpload {
            item,
            size_bytes: 0,
            is_leaf: false,
            since,
            leased: None,
            not_before: None,
            waiting,
        };
        self.add(queued, u64::MAX);
    }

    /// Returns the ends of uploads from now on.
    pub fn ends(&self) -> broadcast::Receiver<UploadEnd> {
        self.state.ends.subscribe()
    }

    /// Returns how many uploads wait for a remote or are under way; `None` while those are read that an earlier
    /// daemon left.
    pub fn count(&self, handle: &RemoteHandle) -> Option<usize> {
        self.state.schedule.lock().count(&handle.id)
    }

    /// Whether uploads wait for a remote and none of them is tried at present.
    pub fn is_stuck(&self, handle: &RemoteHandle) -> bool {
        self.state.schedule.lock().is_stuck(&handle.id, Instant::now())
    }

    /// Asks a remote again that has refused uploads.
    pub fn resume(&self, handle: &RemoteHandle) {
        self.state.schedule.lock().resume(&handle.id);
        self.changed.notify_one();
    }

    fn add(&self, queued: QueuedUpload, bytes_max: u64) {
        let (item, handle) = (queued.item, Arc::clone(queued.waiting.handle()));
        if let Err(error) = self.state.dir.add(&handle.id, item) {
            // The upload is made all the same, unless the daemon ends before.
            tracing::debug!("an upload to {} will not outlive the daemon: {error}", handle.name);
        }
        let dropped = self.state.schedule.lock().add(queued, bytes_max);
        for upload in dropped {
            self.state.drop_upload(&upload, "too many wait");
        }
        self.changed.notify_one();
    }
}

impl QueueState {
    pub(super) fn drop_upload(&self, upload: &QueuedUpload, why: &str) {
        let handle = upload.waiting.handle();
        handle.note_dropped(why);
        self.forget(&handle.id, upload.item);
    }

    /// Removes what an upload has left on the disk.
    pub(super) fn forget(&self, remote: &str, item: UploadItem) {
        if let Err(error) = self.dir.remove(remote, item) {
            tracing::debug!("failed to remove an upload from the queue: {error}");
        }
    }
}
