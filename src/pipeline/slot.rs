//! The store as the pipeline sees it: there, not yet there, or not to be had.

use std::sync::Arc;

use kache_cas::Store;

/// How the store is.
#[derive(Clone, Default)]
pub enum StoreSlot {
    /// It is being opened.
    #[default]
    Opening,
    /// It can be used.
    Open(Arc<Store>),
    /// It cannot, and why.
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
