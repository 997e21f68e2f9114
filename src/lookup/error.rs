//! Errors of a lookup. A miss is not an error.

use kache_cas::StoreError;
use thiserror::Error;

use crate::inputs::WorldError;

/// A lookup that failed. The compiler runs, and nothing is deleted from the store (STO-08).
#[derive(Debug, Error)]
pub enum LookupError {
    /// The store failed.
    #[error("failed to look up a result: {0}")]
    Store(#[from] StoreError),
    /// The state of a file could not be read.
    #[error(transparent)]
    World(#[from] WorldError),
}
