//! Eviction: what goes when there is not room for everything.
//!
//! `plan` and `worth` decide and are pure; `sketch` counts who names what, in bounded
//! memory; `run` looks through a [`Catalog`] and deletes, one bounded step at a time. What
//! is live is derived anew in every round from the results that are there (STO-05). It
//! knows neither files nor a database.

mod catalog;
mod plan;
mod run;
mod sketch;
mod worth;

pub use catalog::{ActionEntry, BlobEntry, Catalog, Usage};
pub(crate) use plan::HIGH_MARK_PARTS;
pub use plan::{Evictable, EvictionCandidate, Selection, SizeLimits};
pub use run::{Evicted, EvictionStep, EvictionTarget, Evictor};
pub use worth::{REBUILD_MS_DEFAULT, Worth};
