//! The state of the store, as the pipeline sees it.

use std::sync::Arc;

use kache_cas::Store;

use crate::invocation::{Bypass, Reason};

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

impl StoreSlot {
    /// The store, if it is open; else why a call that needs it has to be passed on.
    pub(super) fn store(&self) -> Result<Arc<Store>, Bypass> {
        let why = match self {
            StoreSlot::Open(store) => return Ok(Arc::clone(store)),
            StoreSlot::Opening => "it is still being opened".to_owned(),
            StoreSlot::Unusable(why) => why.clone(),
        };
        Err(Bypass::new(Reason::StoreUnusable, why))
    }
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
