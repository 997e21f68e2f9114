//! The store in memory, for tests: the plainest implementation of the traits.
//!
//! It keeps all promises of the traits, including limit and leases, but ends with the process. So
//! decorators can be tested without a disk, and `disk` can be compared with it. It knows no
//! volume, and the files that it places are copies.

mod catalog;
mod files;
mod state;
mod store;

pub use store::MemoryStore;

#[cfg(test)]
mod tests;
