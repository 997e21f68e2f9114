//! Which store calls are made on the spot and which on a thread that may block.
//!
//! A lookup in the index costs microseconds, less than handing it over; reading, writing or
//! hashing a lot of bytes would keep a worker from its other requests. While the store says
//! that even small calls may take long (`BlobStore::may_block`), all of them are handed over,
//! so that nobody's hit waits for somebody's eviction (STO-10).

use tonic::Status;

/// Up to this many bytes are read, written or hashed on the spot: it takes as long as
/// handing them over.
pub(super) const INLINE_BYTES_MAX: u64 = 64 * 1024;

/// Up to this many digests are looked up on the spot.
pub(super) const INLINE_DIGESTS_MAX: usize = 2_000;

/// Runs this here, or where it may block.
pub(super) async fn run<T, F>(is_heavy: bool, work: F) -> Result<T, Status>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    if !is_heavy {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a store call did not end");
        Status::internal("the store call did not end; the daemon's log says more")
    })
}
