//! Eviction: what goes when there is not room for everything.

mod catalog;

pub use catalog::{ActionEntry, BlobEntry, Catalog, Usage};
