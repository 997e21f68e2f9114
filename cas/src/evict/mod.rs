//! Eviction: removes the least worthy results and blobs to hold the size limit.
//!
//! `plan` and `worth` are pure and decide how much to free and in which order. `sketch` counts, in
//! bounded memory, how many results name a blob. `run` scans a [`Catalog`] and deletes, one bounded
//! step at a time. There are no stored reference counts: every round counts again, from the results
//! that exist (STO-05). Eviction knows neither files nor the database.

mod catalog;
mod plan;
mod run;
mod sketch;
mod worth;

pub use catalog::{ActionEntry, BlobEntry, Catalog, Usage};
pub(crate) use plan::HIGH_MARK_PARTS;
pub use plan::{Evictable, EvictionCandidate, EvictionSelection, SizeLimits};
pub use run::{Evicted, EvictionStep, EvictionTarget, Evictor};
pub use worth::{REBUILD_MS_DEFAULT, Worth};
