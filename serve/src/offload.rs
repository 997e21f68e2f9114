//! Decides which store calls run on the connection's thread and which on a blocking thread.
//!
//! A lookup in the index takes microseconds, less than handing it to another thread. Reading,
//! writing or hashing many bytes would delay the other requests of the thread. While the store
//! says that even small calls may block (`BlobStore::may_block`), all calls go to blocking
//! threads, so that no hit waits for an eviction (STO-10).

use std::sync::Arc;

use kache_cas::StoreError;
use tonic::Status;

use super::context::Backend;

/// Up to this many bytes are read, written or hashed on the connection's thread, which takes as
/// long as handing them to another one.
pub(super) const INLINE_BYTES_MAX: u64 = 64 * 1024;

/// Up to this many digests are looked up on the connection's thread.
pub(super) const INLINE_DIGESTS_MAX: usize = 2_000;

/// What a client is told about a call that panicked.
const WHY: &str = "a call panicked; see the log of the daemon";

/// A store call panicked on a blocking thread, which logged why.
#[derive(Debug)]
pub(super) struct StoreCallPanicked;

impl From<StoreCallPanicked> for Status {
    fn from(_: StoreCallPanicked) -> Self {
        Status::internal(WHY)
    }
}

impl From<StoreCallPanicked> for StoreError {
    fn from(_: StoreCallPanicked) -> Self {
        StoreError::Database { doing: "use the store", message: WHY.to_owned() }
    }
}

/// Runs `work` with the store: on a blocking thread if it is heavy or if even small calls may block
/// at the moment, and on this one otherwise.
pub(super) async fn run<T, F>(
    is_heavy: bool,
    store: &Arc<dyn Backend>,
    work: F,
) -> Result<T, StoreCallPanicked>
where
    T: Send + 'static,
    F: FnOnce(&dyn Backend) -> T + Send + 'static,
{
    if !is_heavy && !store.blobs().may_block() {
        return Ok(work(&**store));
    }
    let store = Arc::clone(store);
    on_blocking_thread(move || work(&*store)).await
}

/// Runs `work` on a blocking thread. A panic there becomes an error.
pub(super) async fn on_blocking_thread<T, F>(work: F) -> Result<T, StoreCallPanicked>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a store call panicked");
        StoreCallPanicked
    })
}
