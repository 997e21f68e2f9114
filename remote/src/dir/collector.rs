//! Begins collections of a folder, beside the writes that make them necessary.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;

use super::collection::{COLLECT_EVERY, Collected, Collection};
use super::folder::Folder;

/// Collects a folder on a thread of its own, at most one at once. A folder that hangs keeps that thread.
#[derive(Debug)]
pub(super) struct Collector {
    size_bytes_max: Option<u64>,
    /// When a collection is due next; `None` while one is running.
    due: Mutex<Option<Instant>>,
}

impl Collector {
    /// Makes the collector of a folder that may have this size.
    pub(super) fn new(size_bytes_max: Option<u64>) -> Arc<Collector> {
        Arc::new(Collector { size_bytes_max, due: Mutex::new(Some(Instant::now())) })
    }

    /// Begins a collection in the background if one is due.
    pub(super) fn after_write(self: &Arc<Self>, folder: &Arc<Folder>) {
        let begins = self.due.lock().take_if(|due| *due <= Instant::now()).is_some();
        if !begins {
            return;
        }
        let (collector, folder) = (Arc::clone(self), Arc::clone(folder));
        let body = move || {
            if let Err(error) = collector.collect(folder) {
                tracing::warn!("failed to collect the shared folder: {error}");
            }
            *collector.due.lock() = Some(Instant::now() + COLLECT_EVERY);
        };
        if let Err(error) = thread::Builder::new().name("kache-dir-gc".to_owned()).spawn(body) {
            tracing::warn!("failed to collect the shared folder: {error}");
            *self.due.lock() = Some(Instant::now() + COLLECT_EVERY);
        }
    }

    /// Collects now, unless a machine has done so lately. Blocks.
    pub(super) fn collect(&self, folder: Arc<Folder>) -> std::io::Result<Option<Collected>> {
        let Some(collection) = Collection::begin(&folder)? else { return Ok(None) };
        // From here on the collection ends when the remote is closed.
        drop(folder);
        collection.run(self.size_bytes_max).map(Some)
    }
}
