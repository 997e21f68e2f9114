//! Work on the store that may block on the disk, for tasks that may not.

use std::sync::Arc;

use kache_cas::{Store, StoreError};
use tokio::task::spawn_blocking;

/// Runs work on a thread that may block. A thread that ends early, which happens when the daemon leaves, counts as a
/// store that is being closed.
pub(super) async fn with_store<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Store) -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let store = Arc::clone(store);
    spawn_blocking(move || work(&store)).await.unwrap_or_else(|_| Err(StoreError::Closing.into()))
}
