//! What can go wrong in a lookup. Not finding anything does not.

use kache_cas::StoreError;
use thiserror::Error;

use crate::inputs::WorldError;

/// A lookup that could not be carried out. The compiler runs, and nothing is deleted
/// (STO-08).
#[derive(Debug, Error)]
pub enum LookupError {
    /// The store failed.
    #[error("failed to look up a result: {0}")]
    Store(#[from] StoreError),
    /// The state of a file could not be told.
    #[error(transparent)]
    World(#[from] WorldError),
}
