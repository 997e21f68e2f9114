//! Which store calls are made on the spot and which on a thread that may block.
//!
//! A lookup in the index costs microseconds, less than handing it over; reading, writing or
//! hashing a lot of bytes would keep a worker from its other requests. While the store says
//! that even small calls may take long (`BlobStore::may_block`), all of them are handed over,
//! so that nobody's hit waits for somebody's eviction (STO-10).

use std::sync::Arc;

use tonic::Status;

use super::context::Backend;

/// Up to this many bytes are read, written or hashed on the spot: it takes as long as
/// handing them over.
pub(super) const INLINE_BYTES_MAX: u64 = 64 * 1024;

/// Up to this many digests are looked up on the spot.
pub(super) const INLINE_DIGESTS_MAX: usize = 2_000;

/// Does this with the store here, or where it may block.
pub(super) async fn run<T, F>(is_heavy: bool, store: &Arc<dyn Backend>, work: F) -> Result<T, Status>
where
    T: Send + 'static,
    F: FnOnce(&dyn Backend) -> T + Send + 'static,
{
    if !is_heavy {
        return Ok(work(&**store));
    }
    let store = Arc::clone(store);
    elsewhere(move || work(&*store)).await
}

/// Does this where it may block.
pub(super) async fn elsewhere<T, F>(work: F) -> Result<T, Status>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a store call did not end");
        Status::internal("the store call did not end; the daemon's log says more")
    })
}
