//! The store in memory: what the traits mean, with nothing in the way. For tests.
//!
//! It keeps every promise of the traits, limit and leases included, except to outlive the
//! process, so that whatever stands in front of a store can be tested without a disk, and
//! so that `disk` has something to be compared with. It knows no volume, and its files are
//! copies.

mod catalog;
mod files;
mod state;
mod store;

pub use store::MemoryStore;

#[cfg(test)]
mod tests;
