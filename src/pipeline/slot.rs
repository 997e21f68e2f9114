//! The state of the store, as the pipeline sees it.

use std::sync::Arc;

use kache_cas::Store;

/// The store, or why it cannot be used.
#[derive(Clone, Default)]
pub enum StoreSlot {
    /// The store is being opened.
    #[default]
    Opening,
    /// The store is open.
    Open(Arc<Store>),
    /// The store cannot be used, for this reason.
    Unusable(String),
}

impl std::fmt::Debug for StoreSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreSlot::Opening => f.write_str("Opening"),
            StoreSlot::Open(_) => f.write_str("Open"),
            StoreSlot::Unusable(why) => write!(f, "Unusable({why})"),
        }
    }
}
